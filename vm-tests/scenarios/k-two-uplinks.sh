#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: two uplinks in one VRF, both families: when the route moves to the other, so does the source
# needs: attr
# tool: bind-dev
# timeout: 240
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# uplink ACTION ADDRESS: the better route to p is by ext0, the other one by alt0.
uplink() {
	case $2 in
	*:*) ip -n r -6 route "$1" "$2/128" table 1001 metric 10 via 2001:db8:1::2 dev ext0 ;;
	*) ip -n r route "$1" "$2/32" table 1001 metric 10 via 198.51.100.2 dev ext0 ;;
	esac
}

# moves HOW ADDRESS OLD NEW
moves() {
	local how=$1 address=$2 old=$3 new=$4 called=$2
	[ "${address#*:}" = "$address" ] || called="[$address]"
	restart
	r_calls "$called"
	works r 3
	say "$how: p is called at $address from $old, then the route by ext0 goes away"
	p_sees_host "$old"
	capture_start old r alt0 "udp and src port $RPORT and src host $old"
	capture_start new r alt0 "udp and src port $RPORT and src host $new"
	uplink del "$address"
	# The answers to the first ones still arrive by ext0 and bring its address along.
	r ping -n -c 10 -i 0.1 -W 1 10.9.0.2 >/tmp/ping || die "nothing passes by alt0"
	capture_stop all
	assert_none old "packets by alt0 with the address of ext0"
	assert_some new "packets by alt0 with its own address"
	result "$how-$address" "$(sed -n 's/.* \([0-9.]*\)% packet loss.*/\1/p' /tmp/ping)% lost"
	uplink add "$address"
}

p_sees_host() {
	p "$WG" show wg0 endpoints | grep -F "$1" >/dev/null || die "p sees r at $(p "$WG" show wg0 endpoints)"
}

bound_topology
ip -n r link set alt0 master red
ip -n r addr replace 203.0.113.1/24 dev alt0
ip -n r addr replace 2001:db8:2::1/64 dev alt0 nodad
ip -n r route add 192.0.2.9/32 table 1001 metric 20 via 203.0.113.2 dev alt0
ip -n r -6 route add 2001:db8:9::9/128 table 1001 metric 20 via 2001:db8:2::2 dev alt0
uplink add 192.0.2.9
uplink add 2001:db8:9::9

say "by a mark and udp_l3mdev_accept, as without the attribute"
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
ip -n r rule add pref 100 fwmark 77 lookup 1001
ip -n r -6 rule add pref 100 fwmark 77 lookup 1001
r "$WG" set wg0 fwmark 77
moves mark 192.0.2.9 198.51.100.1 203.0.113.1
moves mark 2001:db8:9::9 2001:db8:1::1 2001:db8:2::1
r "$WG" set wg0 fwmark 0
ip -n r rule del pref 100
ip -n r -6 rule del pref 100
r sysctl -qw net.ipv4.udp_l3mdev_accept=0

bind_to red
moves bound 192.0.2.9 198.51.100.1 203.0.113.1
moves bound 2001:db8:9::9 2001:db8:1::1 2001:db8:2::1
