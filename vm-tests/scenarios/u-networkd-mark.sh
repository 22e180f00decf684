#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: systemd-networkd, FwMark only: late WAN, redial, setconf, changed files, VRF made again
# needs: any
# tool: any
# timeout: 150
# smp: 1
# packages: systemd
# memory: 1024
# suite: users, stock
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/networkd.sh

CONFIG=mark
router_world
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023"
networkd_config
networkd_mark
whole_life $CONFIG
