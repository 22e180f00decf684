#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown-ng, FwMark and BindDev: late WAN, redial, setconf again, VRF made again
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: ifupdown-ng
# suite: users, patched
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown-ng.sh

router_world
tool_binds || skip "this wg has no bind-dev"
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023" "BindDev = vrf_external"
whole_life both
