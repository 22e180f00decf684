#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: restarts and rules without a priority do not wear it out
# needs: fallback
# tool: ours
# packages: wireguard-tools nftables
# modules: nf_tables nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet
# timeout: 400
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/quick.sh
fb_topology
accept
quick_peer

say "25 restarts of wg-quick with the PostUp that the manual recommends"
conf BindDev=vrf_external "PostUp = wg set %i bind-dev vrf_external"
for restart in $(seq 25); do
	quick up >/dev/null
	ours 4 >/tmp/now
	ours 6 >>/tmp/now
	[ "$restart" != 1 ] || cp /tmp/now /tmp/first
	diff /tmp/first /tmp/now || die "restart $restart moved the rules"
	routed $MARK >/dev/null
	quick down >/dev/null
done
cat /tmp/first
result restarts 25

say "40 rules without a priority, each in front of the pair when it is bound again"
fb_wg0
for round in $(seq 40); do
	ip -n r rule add to 192.0.2.9 lookup 900
	r_wg set wg0 bind-dev vrf_external >/dev/null
	ip -n r route get $PEER4 mark $MARK | has 'table 1023' || die "round $round: not steered"
	ip -n r rule show | sed -n 2p | has "fwmark $MARK lookup 1023" || die "round $round: not in front"
	ip -n r rule del to 192.0.2.9 lookup 900
done
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
result rounds 40
