#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports an assertion that does not hold
# suite: selftest
# kernels: debian-6.1
# expect: failed 1 is not 2
set -euo pipefail
. /lib/wgvrf/lib.sh
nested() {
	# From deep inside: a subshell of a function whose exit code is tested.
	(die "1 is not 2")
}
nested || say "still here"
sleep 5
result survived yes
