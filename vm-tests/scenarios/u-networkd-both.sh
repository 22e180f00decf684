#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: systemd-networkd, FwMark and bind-dev: late WAN, redial, setconf, changed files, VRF made again
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: systemd
# memory: 1024
# suite: users, patched
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/networkd.sh

CONFIG=both
router_world
tool_binds || skip "this wg has no bind-dev"
# What automation sets again.
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023" "BindDev = vrf_external"
networkd_config
networkd_mark
whole_life $CONFIG
