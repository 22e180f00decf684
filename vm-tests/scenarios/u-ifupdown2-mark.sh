#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown2, FwMark only: late WAN, redial, setconf again, ifreload, VRF made again
# needs: any
# tool: any
# timeout: 200
# smp: 1
# packages: ifupdown2
# memory: 1024
# suite: users, stock
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown2.sh

router_world
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023"
whole_life mark
down_up mark
