#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown-ng, FwMark only: late WAN, redial, setconf again, VRF made again
# needs: any
# tool: any
# timeout: 150
# smp: 1
# packages: ifupdown-ng
# suite: users, stock
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown-ng.sh

router_world
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023"
whole_life mark
