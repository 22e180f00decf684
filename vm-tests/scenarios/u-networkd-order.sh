#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: systemd-networkd, the tunnel before its VRF: what leaks until it is bound, and the remedy
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

router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1
networkd_config
mkdir /tmp/later
mv $ETC/*vrf_external* $ETC/*wan0* /tmp/later/
up() {
	[ -n "$(ip link show wg-cr02 up)" ]
}
seen() {
	[ "$(capture_count "$1")" -gt 0 ]
}
refused() {
	! bind_unit >/tmp/refused 2>&1 || die "bound to a device that is not there"
	cat /tmp/refused
	grep -q 'vrf_external' /tmp/refused || die "the error does not name the VRF: $(cat /tmp/refused)"
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "bound: $(bound)"
}

say "networkd ups what it makes: until it is bound, the tunnel is one of the default VRF"
# Without the ActivationPolicy of the example.
cp $ETC/20-wg-cr02.network /tmp/manual
sed -i '/^\[Link\]/d; /^ActivationPolicy=/d' $ETC/20-wg-cr02.network
! cmp -s $ETC/20-wg-cr02.network /tmp/manual || die "the example has no ActivationPolicy"
capture_start eager decoy up0 "udp port $PORT"
networkd
wait_for "networkd to make the tunnel" made
wait_for "networkd to up the tunnel" up
refused
wait_for "an encrypted packet in the default VRF" seen eager
capture_stop eager
result up-by-networkd leaks
networkd_stop
ip link del wg-cr02

say "the example: networkd makes it, a service binds it and ups it"
cp /tmp/manual $ETC/20-wg-cr02.network
capture_start patient decoy up0 "udp port $PORT"
: >/tmp/networkd.log
networkd
wait_for "networkd to make the tunnel" made
refused
sleep 5
! up || die "the tunnel is up, and not bound"
result bind-first refused

say "the VRF comes, and the unit that tries again binds"
networkd_stop
mv /tmp/later/* $ETC/
networkd
wait_for "networkd to make the VRF" vrf_is_there
bind_unit
wan_comes
tunnel_works "bound as soon as there was a VRF"
networkd_again
up || die "networkd took the tunnel down when it started again"
tunnel_works "after networkd started again"
capture_stop patient
assert_none patient "encrypted packets in the default VRF"
result up-by-unit works
