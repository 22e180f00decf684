#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a route of the VRF's table that leads out of the VRF is used; what main would do instead is not, and is counted
# needs: attr
# tool: bind-dev
# timeout: 240
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# leak4 ROUTE..., leak6 ROUTE...: the route of red to the addresses of p behind m. In one step: without any,
# the default route of red would do.
leak4() {
	ip -n r route replace "$@" table 1001
}

leak6() {
	ip -n r -6 route replace "$@" table 1001
}

# dropped WHAT: nothing leaves by main0, and each attempt is counted as an error.
dropped() {
	local before after
	r_alone "$address"
	before=$(tx_errors)
	capture_start main r main0 "udp port $RPORT or udp port $PPORT"
	silent r
	capture_stop main
	assert_none main "encrypted packets on main0, $1"
	after=$(tx_errors)
	result "$1" "tx_errors +$((after - before))"
	ip -n p link set wg0 up
	[ "$2" = counted ] || return 0
	[ "$after" -gt "$before" ] || die "$1: tx_errors stays at $before"
}

bound_topology
veth_pair m m1 p p2
ip netns exec m sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n m addr add 172.16.0.1/24 dev m1
ip -n m addr add 2001:db8:16::1/64 dev m1 nodad
ip -n p addr add 172.16.0.2/24 dev p2
ip -n p addr add 2001:db8:16::2/64 dev p2 nodad
ip -n p addr add 192.0.2.77/32 dev lo
ip -n p addr add 2001:db8:77::77/128 dev lo
ip -n m route add 192.0.2.77/32 via 172.16.0.2
ip -n m -6 route add 2001:db8:77::77/128 via 2001:db8:16::2
# An IPv4 address of r in red, which m leads to, and main on into red.
ip -n r addr add 10.255.0.1/32 dev red
ip -n r route add 10.255.0.1/32 dev red
ip -n m route add 10.255.0.1/32 via 100.64.0.1
ip -n p route add 10.255.0.1/32 via 172.16.0.1
ip -n p -6 route add 2001:db8:64::/64 via 2001:db8:16::1
bind_to red
ip -n r nexthop add id 4 via 100.64.0.2 dev main0
ip -n r nexthop add id 6 via 2001:db8:64::2 dev main0

for address in 192.0.2.77 "[2001:db8:77::77]"; do
	restart
	r_calls "$address"
	say "$address: the route of red leads out through main0"
	leak4 192.0.2.77/32 via 100.64.0.2 dev main0 src 10.255.0.1
	leak6 2001:db8:77::77/128 via 2001:db8:64::2 dev main0
	capture_start main r main0 "udp src port $RPORT"
	works r 3
	capture_stop main
	assert_some main "encrypted packets on main0"
	say "$address: a rule in front of l3mdev takes the packet to main, which has a route by main0, too"
	ip -n r rule add pref 500 lookup main suppress_prefixlength 0
	ip -n r -6 rule add pref 500 lookup main suppress_prefixlength 0
	ip -n r route add 192.0.2.77/32 via 100.64.0.2
	ip -n r -6 route add 2001:db8:77::77/128 via 2001:db8:64::2
	dropped "captured-$address" counted
	ip -n r rule del pref 500
	ip -n r -6 rule del pref 500
	works r 3
	say "$address: with a nexthop object, and deleted under the tunnel: the default route of red does"
	leak4 192.0.2.77/32 nhid 4 src 10.255.0.1
	leak6 2001:db8:77::77/128 nhid 6
	capture_start main r main0 "udp src port $RPORT"
	works r 12
	capture_stop main
	assert_some main "encrypted packets on main0"
	ip -n r route del 192.0.2.77/32 table 1001
	ip -n r -6 route del 2001:db8:77::77/128 table 1001
	capture_start main r main0 "udp src port $RPORT"
	works r 12
	capture_stop main
	assert_none main "encrypted packets on main0, by a route that is deleted"
	result "deleted-$address" "by red"
	say "$address: throw"
	leak4 throw 192.0.2.77/32
	leak6 throw 2001:db8:77::77/128
	dropped "throw-$address" counted
	for type in unreachable blackhole prohibit; do
		say "$address: $type"
		leak4 $type 192.0.2.77/32
		leak6 $type 2001:db8:77::77/128
		dropped "$type-$address" anyhow
	done
	ip -n r route del 192.0.2.77/32
	ip -n r -6 route del 2001:db8:77::77/128
done
