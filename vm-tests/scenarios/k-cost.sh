#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: what a packet costs: unbound, bound to a NIC, in a VRF by fwmark, in a VRF by bind-dev
# needs: any
# tool: bind-dev
# kernels: debian-6.1, patched-6.1, debian-6.12, patched-6.12, vanilla-7.3, patched-7.3
# timeout: 400
# icount: 0
# suite: kernel, cost, long
#
# The machine has one processor and its clock counts instructions, one a nanosecond, so that a run
# repeats and the host's speed does not matter. Both ends of the tunnel are in it: the time of a
# packet is the number of instructions that sending, encrypting, the wire, receiving and decrypting
# it take. A second, shorter measurement takes off the instructions that are not the packet's. A debug kernel
# would measure its own checks, which are twenty times as much.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

PACKETS=${PACKETS:-400}

# took COMMAND...: TOOK becomes its virtual microseconds.
took() {
	local begun=${EPOCHREALTIME/[.,]/}
	"$@"
	TOOK=$((${EPOCHREALTIME/[.,]/} - begun))
}

# fewest COMMAND...: of three times, since now and then a timer of the kernel joins in.
fewest() {
	local best n
	took "$@"
	best=$TOOK
	for n in 1 2; do
		took "$@"
		[ "$TOOK" -ge "$best" ] || best=$TOOK
	done
	TOOK=$best
}

# each COMMAND...: nanoseconds of each time that it does its thing, as often as its last argument.
each() {
	local few many
	fewest "$@" 1
	few=$TOOK
	fewest "$@" $((1 + PACKETS))
	many=$TOOK
	NS=$(((many - few) * 1000 / PACKETS))
}

# burst BYTES COUNT: datagrams of r's; the ping after them is answered when they have arrived.
burst() {
	ip netns exec r socat -u -b "$1" "OPEN:/dev/zero,readbytes=$(($1 * $2))" UDP4-SENDTO:10.9.0.2:9
	ip netns exec r ping -q -n -c 1 10.9.0.2 >/dev/null
}

# echoes BYTES COUNT: one after the other.
echoes() {
	ip netns exec r ping -q -n -f -c "$2" -s "$1" 10.9.0.2 >/tmp/echoes
	grep -q " $2 received" /tmp/echoes || die "echoes lost: $(grep received /tmp/echoes)"
}

# one_by_one NETNS COUNT: a datagram of r's from a new socket after the IPv4 routes of NETNS were
# flushed, without any program being started: the file belongs to where it was opened. Inside of
# the tunnel it is IPv6.
one_by_one() {
	ip netns exec "$1" bash -c 'exec 5>/proc/sys/net/ipv4/route/flush
		exec ip netns exec r bash -c "$2" bash "$1"' bash "$2" 'for ((n = 0; n < $1; n++)); do
			echo 1 >/proc/self/fd/5
			echo >/dev/udp/fd09::2/9
		done'
}

received() {
	ip netns exec p cat /sys/class/net/wg0/statistics/rx_packets
}

# measure NAME FAMILY
measure() {
	local size before flush
	works r 3
	for size in 32 1372; do
		before=$(received)
		each burst $size
		[ $(($(received) - before)) -ge $((3 * (PACKETS + 1))) ] || die "datagrams lost: $before, $(received)"
		result "$1-v$2-datagram-$size-instructions" $NS
		result "$1-v$2-datagram-$size-per-virtual-second" $((1000000000 / NS))
	done
	each echoes 56
	result "$1-v$2-ping-56-virtual-ns" $NS
	[ "$2" = 4 ] || return 0
	# Whose routes have to be looked up again is all that differs.
	each one_by_one r
	flush=$NS
	each one_by_one m
	result "$1-v4-lookup-instructions" $((flush - NS))
}

bound_topology
veth_pair r nic0 p p2
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n p addr add 172.16.2.2/24 dev p2
ip -n r addr add 2001:db8:3::1/64 dev nic0 nodad
ip -n p addr add 2001:db8:3::2/64 dev p2 nodad
ip -n r rule add fwmark 0x77 lookup 1001
ip -n r -6 rule add fwmark 0x77 lookup 1001
# A socket has the port, so that p sends no error, and reads nothing.
ip netns exec p socat -u UDP6-RECV:9,ipv6-v6only=0 OPEN:/dev/null &
sink=$!
wait_for "the sink" p bash -c 'ss -lunH "sport = :9" | grep -q .'
kill -STOP $sink

for family in 4 6; do
	default=172.16.2.2 vrf=198.51.100.2
	[ $family = 4 ] || default="[2001:db8:3::2]" vrf="[2001:db8:1::2]"

	r sysctl -qw net.ipv4.udp_l3mdev_accept=0
	r_calls $default
	measure unbound $family
	if has_attr; then
		bind_to nic0
		measure nic $family
		bind_to red
		r_calls $vrf
		measure bind-dev $family
		bind_to off
	fi
	r sysctl -qw net.ipv4.udp_l3mdev_accept=1
	r "$WG" set wg0 fwmark 0x77
	r_calls $vrf
	measure fwmark $family
	r "$WG" set wg0 fwmark 0
done
kill -KILL $sink
