#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: bound, rebound and unbound under a ping every 100 ms; the peer roams only where the address changes
# needs: fallback
# tool: ours
# timeout: 300
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
# So that the tunnel works before its sockets are bound.
accept 1
fb_tunnel 4
# same_uplink: vrf_same leads to the peer by a twin of wan0: its addresses, on the same bridge. The answers
# take the wire that the router used last. What asks for neighbours would use the other one.
same_uplink() {
	local mac
	mac=$(ip netns exec r cat /sys/class/net/wan0/address)
	vrf_add r vrf_same 2000
	veth_pair r same0 peer p1
	ip -n r link set same0 address "$mac"
	ip -n r link set same0 master vrf_same
	ip -n r addr add 198.51.100.10/24 dev same0
	ip -n peer link add br0 type bridge
	ip -n peer link set p0 master br0
	ip -n peer link set p1 master br0
	ip -n peer addr del 198.51.100.1/24 dev p0
	ip -n peer addr add 198.51.100.1/24 dev br0
	ip -n peer link set br0 up
	ip -n peer neigh replace 198.51.100.10 lladdr "$mac" dev br0
	mac=$(ip netns exec peer cat /sys/class/net/br0/address)
	ip -n r neigh replace 198.51.100.1 lladdr "$mac" dev wan0
	ip -n r neigh replace 198.51.100.1 lladdr "$mac" dev same0
	ip -n r route add default via 198.51.100.1 dev same0 table 2000
}
same_uplink
# vrf_other: another wire, with addresses of its own.
vrf_add r vrf_other 3000
veth_pair r other0 peer p2
ip -n r link set other0 master vrf_other
ip -n r addr add 192.0.2.10/24 dev other0
ip -n peer addr add 192.0.2.1/24 dev p2
ip -n r route add default via 192.0.2.1 dev other0 table 3000

# Where the peer believes the router to be, each time it changes its mind: sampled, and seen on
# the wire as packets to another port or address.
capture_start roamed peer br0 "udp and src port $PEER_PORT and not (dst host 198.51.100.10 and dst port $PORT)"
capture_start strays peer br0 "udp and dst port $PEER_PORT and not (src host 198.51.100.10 and src port $PORT)"
capture_start elsewhere peer p2 "udp port $PEER_PORT"
capture_start leak decoy d0 "udp dst port $PEER_PORT"

# peer_sees ADDRESS: where the peer believes the router to be.
peer_sees() {
	local endpoint
	endpoint=$(ip netns exec peer "$WG" show wg1 endpoints | cut -f2)
	[ "$endpoint" = "$1:$PORT" ] || die "the peer sees the router at $endpoint instead of $1:$PORT"
}

# under_ping NAME COMMAND...: at most two of some fifty pings are lost while it runs.
under_ping() {
	local name=$1 sent got
	shift
	ip netns exec r ping -n -i 0.1 -c 50 -W 2 $TUNNEL.2 >/tmp/ping 2>&1 &
	wait_for "a ping to be answered" grep -q 'icmp_seq=[0-9]* ttl' /tmp/ping
	"$@"
	wait $! || true
	sent=$(sed -n 's/^\([0-9]*\) packets transmitted.*/\1/p' /tmp/ping)
	got=$(sed -n 's/.*, \([0-9]*\) received.*/\1/p' /tmp/ping)
	say "$name: $got of $sent"
	[ "$sent" = 50 ] || die "only $sent pings were sent"
	[ $((sent - got)) -le 2 ] || die "$name: $((sent - got)) of $sent pings lost"
	result "lost-$name" "$((sent - got)) of $sent"
}

say "sockets that are not on the VRF"
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
expect_on '*'
wait_for "the tunnel, not bound" ping_tunnel
under_ping bind r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
peer_sees 198.51.100.10
under_ping again r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
peer_sees 198.51.100.10
# From here on only bound sockets hear anything.
accept 0
say "to another VRF in which the router has the same address"
capture_start twin peer p1 "udp src port $PORT"
under_ping rebind r_wg set wg0 bind-dev vrf_same
expect_on vrf_same
expect_bind vrf_same
peer_sees 198.51.100.10
# The echoes, and nothing of the VRF before it.
capture_stop twin
assert_some twin "packets of the router by the other wire" 20
under_ping rebind-back r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
peer_sees 198.51.100.10
for name in roamed strays elsewhere; do capture_stop $name; done
assert_none roamed "packets of the peer to another address or port"
assert_none strays "packets of the router from another address or port"
assert_none elsewhere "packets by the third VRF"

say "to one in which it has another address: the peer follows, and knows no third one"
capture_start follows peer any "udp and src port $PORT and not src host 198.51.100.10 and not src host 192.0.2.10"
under_ping rebind-address r_wg set wg0 bind-dev vrf_other
expect_on vrf_other
peer_sees 192.0.2.10
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel, bound again" ping_tunnel
peer_sees 198.51.100.10
ip -n r rule show | tee /tmp/rules
! grep -q 0x78000000 /tmp/rules || die "the closing rule stays"
assert_none leak "ciphertext in the default VRF"

say "unbound where the default VRF knows the peer: it costs as little, and the VRFs are open"
accept 1
ip -n r route add $PEER4/32 via 198.51.100.1 dev wan0
under_ping unbind r_wg set wg0 bind-dev off
expect_on '*'
expect_bind off
[ -z "$(ours 4)$(ours 6)" ] || die "rules of ours stay: $(all_rules)"
peer_sees 198.51.100.10
assert_none leak "ciphertext to the default route"
say "unbound where it does not: all of it leaves by the default route, and nothing comes back"
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel, bound again" ping_tunnel
ip -n r route del $PEER4/32
r_wg set wg0 bind-dev off
poke 3
assert_some leak "ciphertext in the default VRF" 3
! ping_tunnel >/dev/null || die "the tunnel works by a route that leads to the decoy"
result unbind-without-a-route "all lost, sent by the default VRF"
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel, bound again" ping_tunnel
capture_stop all
assert_none follows "packets from a third address"

say "the port is changed on purpose: bound on the new one at once"
r_wg set wg0 listen-port 51777
expect_on vrf_external 51777
[ -z "$(sockets)" ] || die "sockets stay on the old port"
wait_for "the tunnel from the new port" ping_tunnel
r_wg set wg0 listen-port $PORT
expect_on vrf_external
result port ok
