#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: rules before the l3mdev rule, as wg-quick adds them, in both orders, or to the VRF itself: no wrong VRF
# needs: attr
# tool: bind-dev
# timeout: 300
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

no_leak() {
	for i in main0 alt0; do
		capture_start "$i" r "$i" "udp port $RPORT or udp port $PPORT"
	done
	"$@"
	capture_stop all
	for i in main0 alt0; do
		assert_none "$i" "encrypted packets on $i"
	done
}

# As wg-quick: the tunnel's default route in a table of its own, all but its own packets go there.
# Main has a route to p of its own, which suppress_prefixlength does not suppress.
rules() {
	local family
	for family in 4 6; do
		ip -n r -$family rule "$1" not fwmark 51820 table 51820 $2
		ip -n r -$family rule "$1" table main suppress_prefixlength 0 $3
	done
}

bound_topology
ip -n r route add default dev wg0 table 51820
ip -n r -6 route add default dev wg0 table 51820
ip -n r route add 192.0.2.9/32 via 100.64.0.2
ip -n r -6 route add 2001:db8:9::9/128 via 2001:db8:64::2
r "$WG" set wg0 fwmark 51820 peer "$PKEY" allowed-ips 0.0.0.0/0,::/0
bind_to red
for order in after before; do
	if [ $order = after ]; then
		say "rules behind the l3mdev rule"
		rules add "pref 32765" "pref 32764"
	else
		say "rules in front of the l3mdev rule"
		rules add "pref 999" "pref 998"
		ip -n r rule show
	fi
	for address in 192.0.2.9 "[2001:db8:9::9]"; do
		restart
		r_calls "$address"
		if [ $order = after ]; then
			no_leak works r
		else
			no_leak silent r
		fi
	done
	if [ $order = after ]; then
		rules del "pref 32765" "pref 32764"
	else
		rules del "pref 999" "pref 998"
	fi
done
works r

# A mark that leads to the VRF's own device, as before there was bind-dev. The VRF looks the route up
# again, over IPv4 without the mark, in both families without the ports: then main's would be found.
for rule in "fwmark 51820" "ipproto udp dport $PPORT"; do
	for address in 192.0.2.9 "[2001:db8:9::9]"; do
		family=4
		[ "$address" = 192.0.2.9 ] || family=6
		say "IPv$family, $rule: by the VRF's device, where the VRF has no route"
		ip -n r -$family route add default dev red table 100
		ip -n r -$family rule add pref 500 $rule lookup 100
		ip -n r -$family route del default table 1001 metric 4278198272 || true
		ip -n r -$family route del default table 1001
		restart
		dropped=$(tx_errors)
		r_calls "$address"
		no_leak silent r
		[ "$(tx_errors)" -gt "$dropped" ] || die "what was dropped is not counted"
		ip -n r -$family rule del pref 500
		ip -n r -$family route flush table 100
		bound_addresses
		works r
	done
done
result by-the-vrf dropped
