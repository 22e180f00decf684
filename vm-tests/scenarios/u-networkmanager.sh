#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: NetworkManager makes VRF, uplink and tunnel, wg binds it; reapply, modify, down and up, a restart
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: network-manager, dbus
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/networkmanager.sh

router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1

networkmanager_config
# The uplink is a profile, too.
sed -i '/^unmanaged-devices=/s/$/,except:interface-name:wan0/' /etc/NetworkManager/NetworkManager.conf
wan_ready() {
	ip route show table 1023 | has '^default via 198.51.100.1 dev wan0'
}
wan_comes() {
	wan_link
	wait_for "NetworkManager to put wan0 into the VRF" wan_ready
}
# They come when it runs, as the README of the examples says.
mkdir /tmp/examples
mv /etc/NetworkManager/system-connections /tmp/examples/networkmanager
mkdir /etc/NetworkManager/system-connections
dbus-daemon --system --fork --nopidfile
# No udev here: NetworkManager does without it where /sys is read-only, as in a container.
trap 'code=$?; [ $code = 0 ] || { tail -n 60 /tmp/nm.log; nmcli device; ip -br link; ip rule; "$WG" show; }' EXIT
manager() {
	unshare -m bash -c 'mount -o remount,bind,ro /sys && exec NetworkManager --no-daemon' >>/tmp/nm.log 2>&1 &
	manager=$!
	wait_for "NetworkManager to answer" nmcli --terse general status
}
manager_stop() {
	kill $manager
	wait $manager || true
}
nm() {
	run nmcli --wait 30 "$@" >/tmp/nmcli.log 2>&1 || die "nmcli $*: $(cat /tmp/nmcli.log)"
}
configured() {
	ip -4 addr show dev wg-cr02 | has ${INSIDE4%/*} && [ -n "$("$WG" show wg-cr02 peers)" ]
}
vrf_is_up() {
	ip link show vrf_external up | has vrf_external
}

capture_start eager decoy up0 "udp port $PORT"
seen() {
	[ "$(capture_count "$1")" -gt 0 ]
}
manager
(
	cd /tmp/examples
	install -m600 networkmanager/*.nmconnection /etc/NetworkManager/system-connections/
)
nm connection reload
wait_for "NetworkManager to make the VRF" vrf_is_up
wait_for "NetworkManager to make the tunnel" configured
say "$(nmcli --terse --fields NAME,TYPE,DEVICE,STATE connection show --active | tr '\n' ' ')"
# It brings up what it makes, and knows no binding.
wait_for "an encrypted packet in the default VRF" seen eager
capture_stop eager
result until-bound leaks
run "$WG" set wg-cr02 bind-dev vrf_external
wan_comes
tunnel_works "made by NetworkManager and bound by wg"
result up works
before=$(bound)
rules=$(policy)

# What nmcli asks for may be done after nmcli is back.
has_address() {
	ip -4 addr show dev wg-cr02 | has "$1"
}
shows() {
	local value
	value=$("$WG" show wg-cr02 "$1" | awk '{ print $NF }')
	echo "$1: $value"
	[ "$value" = "$2" ]
}
bound_is() {
	echo "bound: '$(bound)'"
	[ "$(bound)" = "$1" ]
}

# still WHAT: neither the binding nor the rules of the fallback were disturbed.
still() {
	wait_for "the binding of before" bound_is "$before"
	[ "$(bound)" = "$before" ] || die "$1: '$(bound)' instead of '$before'"
	[ "$(policy)" = "$rules" ] || die "$1 changed rules: $(policy)"
	tunnel_works "after $1"
}

say "NetworkManager sets its device again"
peer=wireguard-peer.$(cat /tmp/site2.pub)
profile=/etc/NetworkManager/system-connections/wg-cr02.nmconnection
nm device reapply wg-cr02
still "reapply without changes"
sed -i 's/^persistent-keepalive=.*/persistent-keepalive=7/' $profile
grep -qF "[$peer]" $profile || die "the profile is not as expected: $(cat $profile)"
nm connection load $profile
nm connection modify wg-cr02 ipv4.addresses "$INSIDE4,192.0.2.52/32"
nm device reapply wg-cr02
wait_for "reapply to set the address" has_address 192.0.2.52
still "reapply with an address and a peer changed"
result reapply kept

# The device stays: NetworkManager keeps the link and configures it again.
index=$(cat /sys/class/net/wg-cr02/ifindex)
nm connection up wg-cr02
wait_for "up to set the peer" shows persistent-keepalive 7
wait_for "NetworkManager to set the addresses" configured
if [ "$(cat /sys/class/net/wg-cr02/ifindex)" = "$index" ]; then
	still "up of the changed profile"
	result up-again kept
else
	result up-again "made anew"
fi

say "NetworkManager starts again"
manager_stop
: >/tmp/nm.log
manager
wait_for "NetworkManager to know its tunnel again" eval \
	"nmcli --terse --fields GENERAL.STATE device show wg-cr02 | has ':100'"
sleep 3
still "NetworkManager started again"
result restart kept

say "the VRF goes and NetworkManager makes it again"
capture_start decoy decoy up0 "udp port $PORT"
nm connection down vrf_external
# nmcli is back a moment before the device is gone.
wait_for "NetworkManager to delete the VRF" eval "[ ! -e /sys/class/net/vrf_external ]"
wan_down
if has_attr; then
	wait_for "the binding to be missing" bound_is "vrf_external (missing)"
fi
tunnel_lost "without its VRF"
nm connection up vrf_external
wan_comes
if ! has_attr && binds_sockets; then
	# The sockets are bound to the VRF that is gone.
	tunnel_lost "with a VRF that is made again"
	run "$WG" set wg-cr02 bind-dev vrf_external
fi
tunnel_works "after the VRF was made again"
wait_for "the binding of before" bound_is "$before"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
result recreate works

say "down deletes the device: a new one has to be bound again"
nm connection down wg-cr02
wait_for "NetworkManager to delete the tunnel" eval "[ ! -e /sys/class/net/wg-cr02 ]"
nm connection up wg-cr02
if has_attr; then
	wait_for "NetworkManager to configure the new device" configured
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "a new device is bound: $(bound)"
else
	# Its mark is in the profile, and the rules are still there.
	wait_for "the binding of before" bound_is "$before"
fi
run "$WG" set wg-cr02 bind-dev vrf_external
wait_for "the binding of before" bound_is "$before"
tunnel_works "bound again"

if ! has_attr; then
	say "the trap: a profile without the mark takes it away"
	sed -i '/^fwmark=/d' $profile
	nm connection load $profile
	nm connection up wg-cr02
	wait_for "NetworkManager to take the mark away" shows fwmark off
	# Nothing is steered any more, and wg says so.
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still shown as bound: $(bound)"
	result without-fwmark unbound
fi
