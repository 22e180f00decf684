#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a path with a smaller MTU in the VRF, and ICMP errors from it: the tunnel learns, and works on
# needs: attr
# tool: bind-dev
# timeout: 180
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# large FROM: a ping that does not fit through the path in one encrypted packet.
large() {
	local to=10.9.0.2
	[ "$1" = r ] || to=10.9.0.1
	ip netns exec "$1" ping -n -c 3 -i 0.3 -W 1 -s 1300 $to >/tmp/ping 2>&1
	cat /tmp/ping
	grep -q ' 3 received' /tmp/ping
}

bound_topology
# In red: r - x - p, with 1500 bytes up to x and 1300 behind it.
netns_add x
veth_pair r extx x x0
veth_pair x x1 p p3
ip -n r link set extx master red
ip netns exec x sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n r addr add 172.20.0.1/24 dev extx
ip -n r addr add 2001:db8:20::1/64 dev extx nodad
ip -n x addr add 172.20.0.2/24 dev x0
ip -n x addr add 2001:db8:20::2/64 dev x0 nodad
ip -n x addr add 172.21.0.1/24 dev x1
ip -n x addr add 2001:db8:21::1/64 dev x1 nodad
ip -n p addr add 172.21.0.2/24 dev p3
ip -n p addr add 2001:db8:21::2/64 dev p3 nodad
ip -n x link set x1 mtu 1300
ip -n p link set p3 mtu 1300
ip -n r route add 172.21.0.0/24 table 1001 via 172.20.0.2 dev extx
ip -n r -6 route add 2001:db8:21::/64 table 1001 via 2001:db8:20::2 dev extx
ip -n p route add 172.20.0.0/24 via 172.21.0.1
ip -n p -6 route add 2001:db8:20::/64 via 2001:db8:21::1
r sysctl -qw net.ipv6.route.mtu_expires=600
bind_to red

say "IPv6: x says how much fits, and the VRF's route learns it"
restart
r_calls "[2001:db8:21::2]"
works r
capture_start toobig r extx "icmp6 and ip6[40] == 2"
capture_start parts r extx "src host 2001:db8:20::1 and ip6[6] == 44"
wait_for "large packets to pass" large r
capture_stop all
assert_some toobig "packets that are too big"
assert_some parts "fragments"
r ip -6 route get vrf red 2001:db8:21::2 >/tmp/route
grep -q 'mtu 1300' /tmp/route || die "the route does not know: $(cat /tmp/route)"
r ip -6 route get 2001:db8:21::2 >/tmp/route
! grep -q 'mtu 1300' /tmp/route || die "the default VRF learned it: $(cat /tmp/route)"
wait_for "large packets from p" large p
result pmtu-v6 learned

say "IPv4: encrypted packets may be fragmented on the way, or by the MTU of a route"
restart
r_calls 172.21.0.2
works r
wait_for "large packets to pass" large r
ip -n r route replace 172.21.0.0/24 table 1001 via 172.20.0.2 dev extx mtu lock 1300
capture_start parts4 r extx "src host 172.20.0.1 and ip[6:2] & 0x3fff != 0"
restart
works r
wait_for "large packets to pass" large r
capture_stop parts4
assert_some parts4 "fragments"
result pmtu-v4 works

say "p has no socket for a while, and says so by ICMP in the VRF"
for called in 172.21.0.2 "[2001:db8:21::2]"; do
	restart
	r_calls "$called"
	works r
	before=$(socket_inodes "$RPORT")
	capture_start refused r extx "(icmp and icmp[0] == 3) or (icmp6 and ip6[40] == 1)"
	ip -n p link set wg0 down
	answered() {
		r ping -n -c1 -W0.2 10.9.0.2 >/dev/null 2>&1 || true
		capture_catch_up refused
		[ "$(capture_count refused)" -gt 0 ]
	}
	wait_for "an ICMP error" answered
	capture_stop refused
	ip -n p link set wg0 up
	works r
	[ "$(socket_inodes "$RPORT")" = "$before" ] || die "other sockets"
	bound_to red
	result "icmp-$called" works
done
