#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg-quick@.service with wg-quick-after-vrf.conf: waits for the VRF, and comes up when it gave up before
# needs: any
# tool: bind-dev
# timeout: 600
# smp: 1
# packages: systemd, udev, wireguard-tools
# memory: 1024
# suite: users, long
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/systemd.sh

router_world
tool_binds || skip "this wg has no bind-dev"
# wg-quick runs the one beside itself.
[ "$(readlink -f /usr/bin/wg)" = "$(readlink -f "$WG")" ] || ln -sf "$WG" /usr/bin/wg
binds_sockets || udp_l3mdev_accept 1
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external" "Address = $INSIDE4, $INSIDE6" "Table = off"
UNIT=wg-quick@wg-cr02.service
mkdir -p /etc/systemd/system/$UNIT.d
# unit_is PROPERTY VALUE
unit_is() {
	local value
	value=$(inside systemctl show --value -p "$1" $UNIT)
	echo "$1=$value"
	[ "$value" = "$2" ]
}
vrf_comes() {
	run ip link add vrf_external type vrf table 1023
	run ip link set vrf_external up
	wan_up
}
# vrf_goes: the interface went before.
vrf_goes() {
	run ip link del wan0
	run ip link del vrf_external
}
failed_before() {
	[ "$(inside systemctl show --value -p NRestarts $UNIT)" -ge 1 ]
}
systemd_setup
# The unit of this scenario is wg-quick's.
rm /etc/wireguard/wg-cr02.bind
run systemctl -q disable "$(systemd-escape --template=wg-bind@.service wg-cr02)"
cp /lib/wgvrf/examples/systemd/wg-quick-after-vrf.conf /etc/systemd/system/$UNIT.d/after-vrf.conf
run systemctl -q enable $UNIT
capture_start decoy decoy up0 "udp port $PORT"
systemd_boot

say "no VRF yet: the unit waits, and does not fail"
run inside systemctl --no-block start $UNIT
is_waiting() {
	inside systemctl --no-legend list-jobs | has "$UNIT .*waiting"
}
wait_for "the unit to wait" is_waiting
unit_is ActiveState inactive || die "it does not wait"
unit_is NRestarts 0 || die "it ran and failed"
[ ! -e /sys/class/net/wg-cr02 ] || die "the tunnel is there"
vrf_comes
wait_for "the unit to be started" unit_is ActiveState active
unit_is NRestarts 0 || die "it ran without the VRF"
tunnel_works "after the VRF came"
[[ $(bound) == vrf_external* ]] || die "bound: $(bound)"
result waits works

say "reload"
run inside systemctl reload $UNIT
[[ $(bound) == vrf_external* ]] || die "the reload unbound it: $(bound)"
tunnel_works "after a reload"
result reload works

say "the VRF comes when systemd gave up waiting: the unit fails, and is started again"
run inside systemctl stop $UNIT
[ ! -e /sys/class/net/wg-cr02 ] || die "the tunnel is there"
vrf_goes
run inside mkdir -p /etc/systemd/system/sys-subsystem-net-devices-vrf_external.device.d
printf '[Unit]\nJobRunningTimeoutSec=2\n' >/etc/systemd/system/sys-subsystem-net-devices-vrf_external.device.d/soon.conf
run inside systemctl daemon-reload
run inside systemctl --no-block start $UNIT
wait_for "the unit to fail" failed_before
vrf_comes
wait_for "the unit to be started again" unit_is ActiveState active
tunnel_works "after the VRF came late"
[[ $(bound) == vrf_external* ]] || die "bound: $(bound)"
result late works
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
