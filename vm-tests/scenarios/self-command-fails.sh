#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a command that fails without anybody looking
# suite: selftest
# kernels: debian-6.1
# expect: failed 'ip link set nonesuch up' ended with 1
set -euo pipefail
. /lib/wgvrf/lib.sh
ip link set nonesuch up
result survived yes
