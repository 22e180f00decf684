#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg-bind@.service under systemd with networkd: bound and up after boot and after re-creation
# needs: any
# tool: bind-dev
# timeout: 600
# smp: 1
# packages: systemd, udev
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/networkd.sh
. /lib/wgvrf/systemd.sh

router_world
tool_binds || skip "this wg has no bind-dev"
has_attr || udp_l3mdev_accept 1
networkd_config
systemd_setup systemd-networkd
capture_start decoy decoy up0 "udp port $PORT"

say "boot"
systemd_boot
wait_for "wg-bind@.service to bind the tunnel and bring it up" bound_and_up
wan_link
wait_for "networkd to put wan0 into the VRF" wan_ready
tunnel_works "after boot"
result boot works

say "the tunnel is deleted, and networkd makes it again"
index=$(index_of wg-cr02)
run ip link del wg-cr02
run inside systemctl --no-block restart systemd-networkd
is_new() {
	[ -e /sys/class/net/wg-cr02 ] && [ "$(index_of wg-cr02)" != "$index" ]
}
wait_for "networkd to make the tunnel again" is_new
wait_for "wg-bind@.service to bind the new tunnel and bring it up" bound_and_up
tunnel_works "after it was made again"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
result recreate works
