#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the route over IPv6 is looked up once, not for each packet, wherever the source address comes from
# needs: any
# tool: bind-dev
# kernels: debian-6.1, patched-6.1, debian-6.12, patched-6.12
# timeout: 120
# suite: kernel
#
# The kernel's own tracepoint counts. The kernels that are built here have no tracepoints.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

TRACE=/sys/kernel/tracing

# looked_up_once NAME ADDRESS: 20 packets of r take no more look-ups than a few.
looked_up_once() {
	local count
	restart
	r_calls "[$2]"
	works r
	p sysctl -qw net.ipv4.icmp_echo_ignore_all=1
	echo >$TRACE/trace
	echo 1 >$TRACE/events/fib6/fib6_table_lookup/enable
	r ping -n -q -c 20 -i 0.05 -W 0.1 10.9.0.2 >/dev/null || true
	echo 0 >$TRACE/events/fib6/fib6_table_lookup/enable
	p sysctl -qw net.ipv4.icmp_echo_ignore_all=0
	count=$(grep -c " iif 1 proto 17 .*-> $2/$PPORT " $TRACE/trace || true)
	# One look-up asks several tables.
	[ "$count" -lt 20 ] || die "$1: $count tables were asked for 20 packets: $(grep -m 3 "proto 17 .*-> $2/" $TRACE/trace)"
	result "$1" "$count for 20 packets"
}

bound_topology
mount -t tracefs tracefs $TRACE 2>/dev/null || mountpoint -q $TRACE
veth_pair m m1 p p2
ip netns exec m sysctl -qw net.ipv6.conf.all.forwarding=1
ip -n m addr add 2001:db8:16::1/64 dev m1 nodad
ip -n p addr add 2001:db8:16::2/64 dev p2 nodad
ip -n p addr add 2001:db8:77::77/128 dev lo
ip -n m -6 route add 2001:db8:77::77/128 via 2001:db8:16::2

say "the tracepoint sees what a route that is not kept costs"
echo 1 >$TRACE/events/fib6/fib6_table_lookup/enable
r ping -n -q -c 3 -i 0.05 -I red 2001:db8:1::2 >/dev/null
echo 0 >$TRACE/events/fib6/fib6_table_lookup/enable
grep -q -- '-> 2001:db8:1::2/' $TRACE/trace || die "nothing is traced: $(tail -n 3 $TRACE/trace)"

if has_attr; then
	bind_to red
	looked_up_once bound 2001:db8:1::2
	ip -n r -6 route add 2001:db8:77::77/128 via 2001:db8:64::2 dev main0 table 1001
	looked_up_once leaked 2001:db8:77::77
fi

say "the uplink has a link-local address alone, and r's address is on another device of the VRF"
ip -n r link add own0 type dummy
ip -n r link set own0 master red up
ip -n r addr add 2001:db8:d::1/128 dev own0 nodad
ip -n r -6 addr flush dev ext0 scope global
uplink=$(ip -n r -6 -o addr show dev ext0 scope link | sed 's/.* inet6 \([^/]*\).*/\1/')
peer=$(ip -n p -6 -o addr show dev p0 scope link | sed 's/.* inet6 \([^/]*\).*/\1/')
ip -n r -6 route replace default via "$peer" dev ext0 table 1001
ip -n p -6 route add 2001:db8:d::1/128 via "$uplink" dev p0
if has_attr; then
	looked_up_once bound-elsewhere 2001:db8:1::2
	bind_to off
fi
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
ip -n r -6 rule add fwmark 0x77 lookup 1001
r "$WG" set wg0 fwmark 0x77
looked_up_once fwmark-elsewhere 2001:db8:1::2
