#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: what a packet costs: unbound, bound to a NIC, in a VRF by bind-dev, by fwmark, with a socket bound by a program
# needs: any
# tool: bind-dev
# kernels: debian-6.1, patched-6.1, debian-6.12, patched-6.12, vanilla-7.3, patched-7.3
# timeout: 1800
# icount: 0
# suite: kernel, cost, long
#
# The machine has one processor and its clock counts instructions, one a nanosecond, so that the host's
# speed does not matter. Both ends of the tunnel are in it: the time of a packet is the number of instructions
# that sending, encrypting, the wire, receiving and decrypting it take. What the ways differ in is r's share:
# that of sending in `sent', of receiving in `received', of both in `ping'. A second, shorter measurement takes
# off the instructions that are not the packet's. All of it is done three times over, each time with other
# timers of the kernel at work: a value is the median, and after ± the farthest of the three. A debug kernel would
# measure its own checks, which are twenty times as much.
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

# keep KEY NUMBER: one of the three.
declare -A KEPT
KEYS=()
keep() {
	[ -n "${KEPT[$1]:-}" ] || KEYS+=("$1")
	KEPT[$1]+="$2 "
}

# burst NETNS ADDRESS BYTES COUNT: datagrams of r's or p's; the ping after them is answered when they have
# arrived.
burst() {
	ip netns exec "$1" socat -u -b "$3" "OPEN:/dev/zero,readbytes=$(($3 * $4))" "UDP4-SENDTO:$2:9"
	ip netns exec "$1" ping -q -n -c 1 "$2" >/dev/null
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

# one_by_one6 DEVICE PREFIX TABLE COUNT: the same over IPv6, which has no such file. A cached route is out
# of date when anything below its prefix changes, so an `ip` that stays sets one there. It answers the second
# question when it has done the first. Inside of the tunnel it is IPv4.
one_by_one6() {
	ip netns exec r bash -c 'coproc ip -6 -batch -
		for ((n = 0; n < $4; n++)); do
			printf "route replace %s:ffff/128 dev %s table %s\nroute get fd09::1\n" "$2" "$1" "$3" >&"${COPROC[1]}"
			read -r said <&"${COPROC[0]}"
			[[ $said == *fd09::1* ]] || exit 1
			echo >/dev/udp/10.9.0.2/9
		done' bash "$@"
}

received() {
	ip netns exec "$1" cat /sys/class/net/wg0/statistics/rx_packets
}

# bursts KEY FROM ADDRESS TO: of both sizes.
bursts() {
	local size before
	for size in 32 1372; do
		before=$(received "$4")
		each burst "$2" "$3" $size
		[ $(($(received "$4") - before)) -ge $((3 * (PACKETS + 1))) ] ||
			die "datagrams lost: $before, $(received "$4")"
		keep "$1-$size-instructions" $NS
	done
}

# measure NAME FAMILY [DEVICE PREFIX TABLE]: the last three are what r's packets leave by.
measure() {
	local other
	works r 3
	bursts "$1-v$2-sent" r 10.9.0.2 p
	bursts "$1-v$2-received" p 10.9.0.1 r
	each echoes 56
	keep "$1-v$2-ping-56-virtual-ns" $NS
	# Whose routes have to be looked up again is all that differs.
	if [ "$2" = 4 ]; then
		each one_by_one m
		other=$NS
		each one_by_one r
	else
		# In the main table, or in that of the other VRF.
		if [ "$5" = main ]; then
			each one_by_one6 main0 2001:db8:64: main
		else
			each one_by_one6 alt0 2001:db8:2: 1002
		fi
		other=$NS
		each one_by_one6 "$3" "$4" "$5"
	fi
	keep "$1-v$2-lookup-instructions" $((NS - other))
}

# in_vrf NAME FAMILY
in_vrf() {
	measure "$1" "$2" ext0 2001:db8:1: 1001
}

# by_program: sends by the same rule as `fwmark', and a program at the bind hooks binds the sockets.
by_program() {
	local bound
	# Without BTF the program is asked for.
	[ -e /sys/kernel/btf/vmlinux ] || export WG_BIND_DEV_RECEIVE=bound
	r env WG_BIND_DEV_MODE=fwmark "$WG" set wg0 bind-dev "$1" 2>/tmp/err || die "bind-dev $1: $(cat /tmp/err)"
	bound=$(r ss -lunH "sport = :$RPORT" | grep -c '%red' || true)
	[ "$bound" = "$2" ] || die "$bound sockets are on the VRF instead of $2: $(cat /tmp/err)"
}

bound_topology
veth_pair r nic0 p p2
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n p addr add 172.16.2.2/24 dev p2
ip -n r addr add 2001:db8:3::1/64 dev nic0 nodad
ip -n p addr add 2001:db8:3::2/64 dev p2 nodad
ip -n r rule add fwmark 0x77 lookup 1001
ip -n r -6 rule add fwmark 0x77 lookup 1001
# A socket has the port at both ends, so that none sends an error, and reads nothing.
sinks=()
for ns in r p; do
	ip netns exec $ns socat -u UDP6-RECV:9,ipv6-v6only=0 OPEN:/dev/null &
	sinks+=($!)
	wait_for "the sink of $ns" $ns bash -c 'ss -lunH "sport = :9" | grep -q .'
done
kill -STOP "${sinks[@]}"

for run in 1 2 3; do
	for family in 4 6; do
		say "run $run, IPv$family"
		default=172.16.2.2 vrf=198.51.100.2
		[ $family = 4 ] || default="[2001:db8:3::2]" vrf="[2001:db8:1::2]"

		r sysctl -qw net.ipv4.udp_l3mdev_accept=0
		r_calls $default
		measure unbound $family nic0 2001:db8:3: main
		if has_attr; then
			bind_to nic0
			measure nic $family nic0 2001:db8:3: main
			bind_to red
			r_calls $vrf
			in_vrf bind-dev $family
			bind_to off
		fi
		r sysctl -qw net.ipv4.udp_l3mdev_accept=1
		r "$WG" set wg0 fwmark 0x77
		r_calls $vrf
		in_vrf fwmark $family
		r sysctl -qw net.ipv4.udp_l3mdev_accept=0
		by_program red 2
		[ "$(r "$WG" show wg0 fwmark)" = 0x77 ] || die "another mark than that of the rule: $(r "$WG" show wg0 fwmark)"
		in_vrf bpf $family
		by_program off 0
		r "$WG" set wg0 fwmark 0
	done
done
{
	kill -KILL "${sinks[@]}"
	wait "${sinks[@]}" || true
} 2>/dev/null

for key in "${KEYS[@]}"; do
	mapfile -t sorted < <(tr ' ' '\n' <<<"${KEPT[$key]% }" | sort -n)
	[ ${#sorted[@]} = 3 ] || die "$key: ${#sorted[@]} values"
	below=$((sorted[1] - sorted[0])) above=$((sorted[2] - sorted[1]))
	result "$key" "${sorted[1]} ±$((below > above ? below : above))"
done
