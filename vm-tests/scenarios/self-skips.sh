#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a scenario that cannot say anything as skipped
# suite: selftest
# kernels: debian-6.1
# expect: skipped no moon tonight
set -euo pipefail
. /lib/wgvrf/lib.sh
skip "no moon tonight"
