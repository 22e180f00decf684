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

# unheard: how many UDP packets to the router found no socket.
unheard() {
	ip netns exec r nstat -asz UdpNoPorts | awk '/UdpNoPorts/ { print $2 }'
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

	if [ $family = 4 ]; then
		say "one sender in the default VRF and one in another VRF send to the port"
		before=$(unheard)
		rx=$(ip netns exec r "$WG" show wg0 transfer | cut -f2)
		capture_start answers decoy d0 "udp src port $PORT"
		capture_start answers_b other o0 "udp src port $PORT"
		head -c 148 /dev/urandom >/tmp/datagram
		for _ in 1 2 3 4 5; do
			ip netns exec decoy socat -u OPEN:/tmp/datagram UDP4-SENDTO:100.64.0.2:$PORT
			ip netns exec other socat -u OPEN:/tmp/datagram UDP4-SENDTO:192.0.2.1:$PORT
		done
		all_unheard() {
			echo "$(($(unheard) - before)) of 10 packets found no socket"
			[ $(($(unheard) - before)) -ge 10 ]
		}
		wait_for "no packet to find a socket" all_unheard
		[ $(($(unheard) - before)) = 10 ] || die "$(($(unheard) - before)) of 10 packets found no socket"
		[ "$(ip netns exec r "$WG" show wg0 transfer | cut -f2)" = "$rx" ] || die "something was received"
		capture_stop all
		assert_none answers "answers into the default VRF"
		assert_none answers_b "answers into vrf_b"
		result flood "10 of 10 not delivered"
	fi

	say "unbound: nothing stays"
	r_wg set wg0 bind-dev off
	expect_on '*'
	expect_receives none
	expect_hooks 0
	result "unbound-v$family" ok
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
