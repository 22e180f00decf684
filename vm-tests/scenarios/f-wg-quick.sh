#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: wg-quick with Table=auto and AllowedIPs = 0.0.0.0/0
# needs: fallback
# tool: ours
# packages: wireguard-tools nftables
# modules: nf_tables nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet
# timeout: 180
# smp: 1
#
# wg-quick takes the device's mark for a table number of its own, and adds rules without a
# priority, which the kernel puts in front of all others. Measured here: what that does to the
# VRF's rules, to the tunnel, and to being closed.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
gateway_keeps_router
fb_keys
ip -n peer link add wg1 type wireguard
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
	peer "${PUB[r]}" allowed-ips $TUNNEL.0/24
ip -n peer addr add $TUNNEL.2/24 dev wg1
ip -n peer link set wg1 up
all_rules >/tmp/before

# conf [LINE]: a file for wg-quick.
conf() {
	mkdir -p /etc/wireguard
	(
		umask 077
		cat >/etc/wireguard/wg0.conf <<-CONF
			[Interface]
			PrivateKey = $(cat /tmp/r.key)
			ListenPort = $PORT
			Address = $TUNNEL.1/24
			BindDev = vrf_external
			${1:-}
			[Peer]
			PublicKey = ${PUB[peer]}
			AllowedIPs = 0.0.0.0/0
			Endpoint = $PEER4:$PEER_PORT
		CONF
	)
}

quick() {
	echo "+ wg-quick $1 wg0"
	ip netns exec r wg-quick "$1" wg0 >/tmp/quick 2>&1 || die "wg-quick $1: $(cat /tmp/quick)"
	sed 's/^/  /' /tmp/quick
}

# foreign: everyone's rules but ours.
foreign() {
	all_rules | grep -v 'proto 119'
}

say "up"
conf
watch
quick up
grep -q 'PostUp = wg set %i bind-dev vrf_external' /tmp/quick || die "the remedy is not on stderr"
ip -n r rule show
wait_for "the tunnel" ping_tunnel
ip -n r route get 192.0.2.77 | has 'dev wg0' || die "the tunnel is not the default route"
ip -n r route get 100.64.0.1 | has 'dev core0' || die "a connected network went into the tunnel"
ip -n r rule show | has 'lookup 1023' || die "the VRF's rules are gone"
result up ok

say "closed without a route in the VRF"
ip -n r route del default via 198.51.100.1 dev wan0 table 1023
ip -n r route del table 1023 unreachable default metric 4278198272
! ip -n r route get $PEER4 mark $MARK || die "not closed"
poke
assert_none leak "ciphertext in the default VRF"
ip -n r route add default via 198.51.100.1 dev wan0 table 1023
wait_for "the tunnel again" ping_tunnel
result closed ok

say "a route of main to the peer: wg-quick's rule is in front and takes it"
ip -n r route add $PEER4/32 via 100.64.0.1
ip -n r route get $PEER4 mark $MARK | tee /tmp/route
if grep -q 'dev core0' /tmp/route; then
	result main-route-before leaks
else
	result main-route-before closed
fi
say "until the next command that binds"
r_wg set wg0 bind-dev vrf_external
ip -n r rule show
ip -n r route get $PEER4 mark $MARK | has 'dev wan0 table 1023' || die "main's route still takes it"
[ "$(ours 4 | wc -l)" = 2 ] || die "not one pair: $(ours 4)"
result main-route-after closed
ip -n r route del $PEER4/32

say "down: the VRF's rules survive, wg-quick's go"
quick down
foreign | diff /tmp/before - || die "rules of others changed"
say "the rules of the deleted device are found by the next command"
fb_wg0 wg2 51003
r_wg set wg2 bind-dev off
all_rules | diff /tmp/before - || die "leftovers"
ip -n r link del wg2
result down ok

say "with PostUp it is closed as soon as wg-quick is done"
ip -n r route add $PEER4/32 via 100.64.0.1
conf "PostUp = wg set %i bind-dev vrf_external"
quick up
ip -n r route get $PEER4 mark $MARK | has 'dev wan0 table 1023' || die "main's route takes it"
ip -n r route del $PEER4/32
wait_for "the tunnel" ping_tunnel
result post-up closed

say "the VRF goes and comes back while wg-quick's rules are there"
ip -n r link del vrf_external
ip -n r link add vrf_external type vrf table 1023
ip -n r link set vrf_external up
ip -n r link set wan0 master vrf_external
ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
bind_again
wait_for "the tunnel" ping_tunnel
quick down
fb_wg0 wg2 51003
r_wg set wg2 bind-dev off
foreign | diff /tmp/before - || die "rules changed"
capture_stop all
assert_none leak "ciphertext in the default VRF"
result vrf-again ok
