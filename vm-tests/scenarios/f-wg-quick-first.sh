#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: wg-quick's default route is there before the host has a VRF
# needs: fallback
# tool: ours
# packages: wireguard-tools nftables
# modules: nf_tables nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet
# timeout: 200
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/quick.sh

before_the_vrf() {
	quick_peer
	all_rules >/tmp/no-vrf
	! all_rules | has l3mdev || die "the router had a VRF before"
	say "BindDev without its VRF: refused, and nothing stays"
	conf BindDev=vrf_external
	if ip netns exec r wg-quick up wg0 >/tmp/quick 2>&1; then
		die "up without its VRF: $(cat /tmp/quick)"
	fi
	grep -q 'ip link add vrf_external type vrf' /tmp/quick || die "no remedy: $(cat /tmp/quick)"
	! ip -n r link show wg0 2>/dev/null || die "the device stays"
	all_rules | diff /tmp/no-vrf - || die "rules stay"
	result without-vrf refused

	say "unbound, the tunnel takes the default route"
	conf
	quick up
}

fb_topology before_the_vrf
accept
gateway_keeps_router
all_rules >/tmp/before
grep -q l3mdev /tmp/before || die "the VRF brought no rule"
grep -q suppress_prefixlength /tmp/before || die "wg-quick's rules are gone"
mark=$(mark_of wg0)
say "wg-quick chose fwmark $mark for itself; bound, the VRF's rules take it"
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $mark lookup 1023" "98 fwmark $mark unreachable"
all_rules
routed "$mark"
expect_socket
watch
wait_for "the tunnel" ping_tunnel
wait_for "IPv6 through the tunnel" ping_inside6
ip -n r route get 192.0.2.77 | has 'dev wg0' || die "the tunnel is not the default route"
ip -n r route get 100.64.0.1 | has 'dev core0' || die "a connected network went into the tunnel"
assert_some wan "ciphertext"

say "main has a route to the peer: ours is in front"
ip -n r route add $PEER4/32 via 100.64.0.1
routed "$mark"
poke
ip -n r route del $PEER4/32
assert_none leak "ciphertext in the default VRF"

say "closed without a route in the VRF"
ip -n r route del default via 198.51.100.1 dev wan0 table 1023
ip -n r route del table 1023 unreachable default metric 4278198272
! ip -n r route get $PEER4 mark "$mark" || die "not closed"
poke
assert_none leak "ciphertext in the default VRF"
ip -n r route add default via 198.51.100.1 dev wan0 table 1023
wait_for "the tunnel again" ping_tunnel
result works ok

say "down: wg-quick's rules go, the VRF's stay"
quick down
foreign >/tmp/after
grep -q l3mdev /tmp/after || die "the VRF's rule is gone"
! grep -q suppress_prefixlength /tmp/after || die "wg-quick's rules stay"
fb_wg0 wg2 51003
r_wg set wg2 bind-dev off
! all_rules | grep 'proto 119' || die "leftovers"
capture_stop all
assert_none leak "ciphertext in the default VRF"
result down ok
