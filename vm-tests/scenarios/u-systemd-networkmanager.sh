#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg-bind@.service and its udev rule with NetworkManager: bound before anything leaves
# needs: any
# tool: bind-dev
# timeout: 600
# smp: 1
# packages: systemd, udev, network-manager, dbus
# memory: 1024
# suite: users, long
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/networkmanager.sh
. /lib/wgvrf/systemd.sh

router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1
networkmanager_config
systemd_setup dbus NetworkManager
if ! has_attr; then
	# NetworkManager sends before anybody can bind.
	cp /lib/wgvrf/examples/networkmanager/wg-cr02-rules.service /etc/systemd/system/
	run systemctl -q enable wg-cr02-rules.service
fi
cp /lib/wgvrf/examples/systemd/60-wg-bind.rules /etc/udev/rules.d/
# NetworkManager would have it started, and does without.
ln -s /dev/null /etc/systemd/system/systemd-hostnamed.service
capture_start decoy decoy up0 "udp port $PORT"

say "boot"
systemd_boot
wait_for "the tunnel to be bound and up" bound_and_up
wan_up
tunnel_works "after boot"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF at boot"
! binds_sockets || ! "$WG" show wg-cr02 | has 'receives: from everywhere' ||
	die "its sockets are not bound: $("$WG" show wg-cr02)"
result boot works
capture_start decoy decoy up0 "udp port $PORT"

say "the tunnel is deleted, and NetworkManager makes it again"
index=$(index_of wg-cr02)
run ip link del wg-cr02
made_again() {
	# It may do so by itself, or wait to be told.
	[ -e /sys/class/net/wg-cr02 ] || inside nmcli --wait 15 connection up wg-cr02
	[ -e /sys/class/net/wg-cr02 ] && [ "$(index_of wg-cr02)" != "$index" ]
}
wait_for "NetworkManager to make the tunnel again" made_again
wait_for "the new tunnel to be bound and up" bound_and_up
tunnel_works "after it was made again"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
result recreate works

if ! has_attr; then
	say "the service of the rules gets another mark: what wg added stays"
	own=$(our_rules)
	run inside systemctl stop wg-cr02-rules.service
	[ "$(our_rules)" = "$own" ] || die "wg had $own rules: $(policy)"
	! policy | has 'proto static' || die "its own rules stay: $(policy)"
	# The mark that step 3 of the migration writes into it.
	sed -i 's/0x770000ff/0x1023/' /etc/systemd/system/wg-cr02-rules.service
	run inside sh -c 'systemctl daemon-reload && systemctl start wg-cr02-rules.service'
	[ "$(policy | grep -c 'fwmark 0x1023 .*proto static')" = 4 ] || die "not its four rules: $(policy)"
	run inside systemctl stop wg-cr02-rules.service
	sed -i 's/0x1023/0x770000ff/' /etc/systemd/system/wg-cr02-rules.service
	# A unit with a rule of another table, and one less.
	sed 's/ExecStart=.*-4.*unreachable.*//' /etc/systemd/system/wg-cr02-rules.service >/etc/systemd/system/without.service
	sed 's/\(-6 rule add.*lookup\) 1023/\1 1024/' /etc/systemd/system/wg-cr02-rules.service >/etc/systemd/system/other.service
	run inside systemctl daemon-reload
	for unit in without other; do
		! run inside systemctl start $unit.service || die "$unit.service did not fail"
		[ "$(inside systemctl show --value -p Result $unit.service)" = exit-code ] || die "$unit.service failed otherwise"
		for family in -4 -6; do
			while ip $family rule del fwmark 0x770000ff protocol static; do :; done
		done
	done
	run inside systemctl start wg-cr02-rules.service
	[ "$(policy | grep -c 'proto static')" = 4 ] || die "not its four rules: $(policy)"
	# wg had taken the rules that went: the tunnel is closed until it is bound again.
	run "$WG" set wg-cr02 bind-dev vrf_external
	tunnel_works "after the service started again"
	result rules-again works
fi
