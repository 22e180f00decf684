#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: a stock kernel receives from the VRF only, both families, both directions, no sysctl
# needs: fallback
# tool: ours
# packages: bpftool
# timeout: 200
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
sysctls >/tmp/sysctls
expect_hooks 0
# Another VRF, with a sender in it that knows the port.
netns_add other
vrf_add r vrf_b 2000
veth_pair r b0 other o0
ip -n r link set b0 master vrf_b
ip -n r addr add 192.0.2.1/24 dev b0
ip -n other addr add 192.0.2.2/24 dev o0
if has_ipv6; then
	ip -n r addr add 2001:db8:c::1/64 dev b0 nodad
	ip -n other addr add 2001:db8:c::2/64 dev o0 nodad
fi

# Where senders in the default VRF and in vrf_b find the router.
declare -A TO=([decoy4]=100.64.0.2 [decoy6]=[fd00:64::2] [other4]=192.0.2.1 [other6]=[2001:db8:c::1])

# unheard 4|6: how many UDP packets to the router found no socket.
unheard() {
	local counter=UdpNoPorts
	[ "$1" = 4 ] || counter=Udp6NoPorts
	ip netns exec r nstat -asz $counter | awk -v counter=$counter '$1 == counter { print $2 }'
}

# flooders FAMILY: in both, a tunnel with a key that the router knows. While it is up, it shakes hands
# without end.
flooders() {
	local ns
	for ns in decoy other; do
		(umask 077 && "$WG" genkey >/tmp/$ns.key)
		PUB[$ns]=$("$WG" pubkey </tmp/$ns.key)
		ip netns exec r "$WG" set wg0 peer "${PUB[$ns]}"
		ip -n $ns link add wg-flood type wireguard
		ip netns exec $ns "$WG" set wg-flood private-key /tmp/$ns.key \
			peer "${PUB[r]}" endpoint "${TO[$ns$1]}:$PORT" persistent-keepalive 1
	done
}

# sent NS, heard NS: how many bytes the flooder sent, and the router has from it.
sent() {
	ip netns exec "$1" "$WG" show wg-flood transfer | cut -f3
}
heard() {
	ip netns exec r "$WG" show wg0 transfer | awk -v key="${PUB[$1]}" '$1 == key { print $2 }'
}
shakes() {
	echo "$1 has sent $(sent "$1") bytes"
	[ "$(sent "$1")" -ge 148 ]
}
shook() {
	[ "$(ip netns exec "$1" "$WG" show wg-flood latest-handshakes | cut -f2)" != 0 ]
}
is_heard() {
	[ "$(heard "$1")" -ge 148 ]
}

for family in 4 6; do
	[ $family = 4 ] || has_ipv6 || continue
	fb_tunnel $family
	say "IPv$family: bound while up"
	r_wg set wg0 bind-dev vrf_external
	grep -qx 'wg0: receives from vrf_external only, by a BPF program at the cgroup root' /tmp/err ||
		die "not said: $(cat /tmp/err)"
	[ "$(wc -l </tmp/err)" = 2 ] || die "more than two lines: $(cat /tmp/err)"
	expect_on vrf_external
	expect_receives bound
	expect_hooks 1
	r_wg show wg0 | has -x '  receives: from the bind device only' || die "wg show does not say it"
	watch
	wait_for "the tunnel over IPv$family" ping_tunnel
	wait_for "a ping from the other side" ip netns exec peer ping -n -c1 -W1 $TUNNEL.1
	result "both-ways-v$family" ok

	say "link down and up, not by wg: bound again"
	ip -n r link set wg0 down
	expect_hooks 1
	[ -z "$(sockets)" ] || die "a device that is down has sockets"
	expect_receives bound
	ip -n r link set wg0 up
	expect_on vrf_external
	wait_for "the tunnel after down and up" ping_tunnel
	result "down-up-v$family" ok
	capture_stop all
	assert_some wan "ciphertext" 2
	assert_none leak "ciphertext in the default VRF"

	say "IPv$family: in the default VRF and in another VRF, what sends to the port, and who shakes hands with a valid key"
	flooders $family
	before=$(unheard $family)
	# Its keepalives are none of this.
	ip -n peer link set wg1 down
	rx=$(ip netns exec r "$WG" show wg0 transfer | cut -f1,2)
	capture_start answers decoy d0 "udp src port $PORT"
	capture_start answers_b other o0 "udp src port $PORT"
	head -c 148 /dev/urandom >/tmp/datagram
	for ns in decoy other; do
		for _ in 1 2 3 4 5; do
			ip netns exec $ns socat -u OPEN:/tmp/datagram "UDP$family-SENDTO:${TO[$ns$family]}:$PORT"
		done
		ip -n $ns link set wg-flood up
		wait_for "a handshake of $ns" shakes $ns
		ip -n $ns link set wg-flood down
	done
	flooded=$((10 + ($(sent decoy) + $(sent other)) / 148))
	all_unheard() {
		echo "$(($(unheard $family) - before)) of $flooded packets found no socket"
		[ $(($(unheard $family) - before)) -ge $flooded ]
	}
	wait_for "no packet to find a socket" all_unheard
	[ $(($(unheard $family) - before)) = $flooded ] ||
		die "$(($(unheard $family) - before)) of $flooded packets found no socket"
	[ "$(ip netns exec r "$WG" show wg0 transfer | cut -f1,2)" = "$rx" ] || die "something was received"
	ip -n peer link set wg1 up
	for ns in decoy other; do
		! shook $ns || die "a handshake of $ns was answered"
	done
	capture_stop all
	assert_none answers "answers into the default VRF"
	assert_none answers_b "answers into vrf_b"
	result "flood-v$family" "$flooded of $flooded not delivered"

	say "unbound: nothing stays"
	r_wg set wg0 bind-dev off
	expect_on '*'
	expect_receives none
	expect_hooks 0
	result "unbound-v$family" ok
	say "and those handshakes are heard: answered in the default VRF; of another VRF, where all sockets accept it"
	ip -n decoy link set wg-flood up
	wait_for "an answer into the default VRF" shook decoy
	accept 1
	ip -n other link set wg-flood up
	wait_for "a handshake of vrf_b to be heard" is_heard other
	accept 0
	ip -n decoy link del wg-flood
	ip -n other link del wg-flood
	ip -n r link del wg0
	ip -n peer link del wg1
done

say "the peer speaks first"
fb_tunnel 4
r_wg set wg0 bind-dev vrf_external
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" remove
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" allowed-ips $TUNNEL.0/24
ip netns exec peer "$WG" set wg1 peer "${PUB[r]}" endpoint 198.51.100.10:$PORT
wait_for "the peer's own handshake" ip netns exec peer ping -n -c1 -W1 $TUNNEL.1
result peer-first ok

say "switched off: no program, and as before"
r_wg set wg0 bind-dev off
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
grep -q 'sysctl -w net.ipv4.udp_l3mdev_accept=1' /tmp/err || die "no remedy: $(cat /tmp/err)"
grep -q 'WG_BIND_DEV_RECEIVE is any' /tmp/err || die "no reason: $(cat /tmp/err)"
grep -q 'patched' /tmp/err || die "the other remedy is not named: $(cat /tmp/err)"
expect_on '*'
expect_receives any
expect_hooks 0
if ping_tunnel >/dev/null; then
	die "it hears without accept=1 and without the program: this scenario proves nothing"
fi
WG_BIND_DEV_RECEIVE=none r_fails 'neither auto, any nor bound' -- set wg0 bind-dev off
say "bound after all, a device that policy rules bind already"
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
wait_for "the tunnel" ping_tunnel
result switch ok
sysctls | diff /tmp/sysctls - || die "a sysctl was written"
