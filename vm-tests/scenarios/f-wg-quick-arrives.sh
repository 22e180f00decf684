#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: wg-quick with Table=auto, and what arrives in the VRF: peers and neighbours
# needs: fallback
# tool: ours
# packages: wireguard-tools nftables
# modules: nf_tables nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet
# timeout: 200
# smp: 1
#
# wg-quick's `not fwmark' rule comes before the VRF's l3mdev rule, so a packet that
# arrives in a VRF without the mark is looked up in the tunnel's table. For IPv4 that is the first
# packet of a peer, and what the kernel looks up to answer an ARP request (arp_process() in
# net/ipv4/arp.c). For IPv6 it is also the neighbour advertisements, without which nothing is sent.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/quick.sh
fb_topology
accept
# As on a router. Without it, and without CONFIG_IPV6_ROUTER_PREF as in our small kernels, a gateway
# that did not answer once is not asked again while its neighbour entry lasts.
ip netns exec r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
quick_peer
all_rules >/tmp/before
# The topology has talked to the gateway; a router that was just booted has not.
forget() {
	ip -n r -6 neigh flush dev wan0
	ip -n peer -6 neigh flush dev p0
}
# peer_speaks PORT: from another port, which conntrack does not know as an answer to anything.
peer_speaks() {
	ip netns exec peer "$WG" set wg1 listen-port "$1"
	ip netns exec peer ping -n -c1 -W2 $TUNNEL.1 >/dev/null
}

# gateway_asks STATE: the gateway has forgotten the router, and asks for it: three times in three seconds
# (mcast_solicit, arp(7)), unless it is answered.
gateway_asks() {
	ip -n peer neigh flush dev p0
	ip netns exec peer ping -n -c1 -W5 -I 198.51.100.1 198.51.100.10 >/dev/null || true
	ip -n peer neigh show 198.51.100.10 dev p0 | tee /tmp/neigh
	grep -q "$1" /tmp/neigh
}

say "IPv4 as it is: what the router asked for is heard, a peer that speaks first is not"
conf BindDev=vrf_external "PostUp=wg set %i bind-dev vrf_external"
quick up
wait_for "the tunnel" ping_tunnel
! peer_speaks 51012 || die "heard"
gateway_asks FAILED || die "the gateway was answered"
say "the VRF's rule in front of wg-quick's: it is"
ip -n r rule add pref 1 l3mdev
wait_for "the gateway to be answered" gateway_asks REACHABLE
wait_for "the peer" peer_speaks 51012
ip -n r rule del pref 1 l3mdev
quick down
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT
foreign | diff /tmp/before - || die "rules of others changed"
result ipv4-peer-first "not heard, heard behind l3mdev"
result arp "not answered, answered behind l3mdev"

say "IPv6 as it is: the gateway's answer is not heard, and nothing leaks"
conf BindDev=vrf_external "PostUp=wg set %i bind-dev vrf_external" 6
watch
quick up
forget
poke 6
# Not REACHABLE nor STALE: asked for, and no answer was heard.
gateway_is_unknown() {
	ip -n r -6 neigh show dev wan0 | tee /tmp/neigh
	grep -q '^2001:db8:a::1 .*\(FAILED\|INCOMPLETE\)' /tmp/neigh
}
wait_for "the router to ask for its gateway in vain" gateway_is_unknown
! ping_tunnel >/dev/null || die "the tunnel works"
assert_none leak "ciphertext in the default VRF"
result as-it-is "not heard"

say "the VRF's rule in front of wg-quick's: everything is heard"
ip -n r rule add pref 1 l3mdev
ip -n r -6 rule add pref 1 l3mdev
wait_for "the tunnel" ping_tunnel
wait_for "IPv6 through the tunnel" ping_inside6
assert_some wan "ciphertext"
ip -n r rule del pref 1 l3mdev
ip -n r -6 rule del pref 1 l3mdev
quick down
foreign | diff /tmp/before - || die "rules of others changed"

say "as a file has it"
conf BindDev=vrf_external "PostUp=wg set %i bind-dev vrf_external" \
	"PostUp=ip rule add pref 1 l3mdev && ip -6 rule add pref 1 l3mdev" \
	"PreDown=ip rule del pref 1 l3mdev && ip -6 rule del pref 1 l3mdev" 6
quick up
forget
wait_for "the tunnel" ping_tunnel
ip -n r route get 192.0.2.77 | has 'dev wg0' || die "the tunnel is not the default route"
ip -n r route get 100.64.0.1 | has 'dev core0' || die "a connected network went into the tunnel"
result l3mdev-first works

say "and a peer that speaks first is heard"
wait_for "the peer" peer_speaks 51013
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT
result peer-first heard

say "closed without a route in the VRF"
ip -n r -6 route del default via 2001:db8:a::1 dev wan0 table 1023
ip -n r -6 route del table 1023 unreachable default metric 4278198272
! ip -n r -6 route get $PEER6 mark $MARK || die "not closed"
poke
quick down
foreign | diff /tmp/before - || die "rules of others changed"
capture_stop all
assert_none leak "ciphertext in the default VRF"
result closed ok
