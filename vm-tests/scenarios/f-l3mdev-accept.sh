#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback, sockets not bound: udp_l3mdev_accept is warned of and never written; rp_filter strict and loose
# needs: fallback
# tool: ours
# timeout: 150
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
export WG_BIND_DEV_RECEIVE=any
fb_topology
for family in 4 6; do
	[ $family = 4 ] || has_ipv6 || continue
	accept 0
	fb_tunnel $family
	sysctls >/tmp/sysctls
	say "IPv$family, udp_l3mdev_accept=0: warned, and deaf"
	r_wg set wg0 bind-dev vrf_external
	grep -q 'sysctl -w net.ipv4.udp_l3mdev_accept=1' /tmp/err || die "no remedy on stderr"
	grep -q 'every other unbound UDP socket' /tmp/err || die "what it opens is not said"
	! ping_tunnel >/dev/null || die "it hears without accept=1: this scenario proves nothing"
	result "accept0-v$family" deaf
	sysctls | diff /tmp/sysctls - || die "a sysctl was written"

	for filter in 0 1 2; do
		say "IPv$family, udp_l3mdev_accept=1, rp_filter=$filter: both directions"
		accept 1
		ip netns exec r sysctl -qw net.ipv4.conf.all.rp_filter=$filter \
			net.ipv4.conf.wan0.rp_filter=$filter net.ipv4.conf.vrf_external.rp_filter=$filter
		sysctls >/tmp/sysctls
		r_wg set wg0 bind-dev vrf_external
		[ "$(wc -l </tmp/err)" = 1 ] || die "warned for nothing: $(cat /tmp/err)"
		watch
		wait_for "the tunnel with rp_filter=$filter" ping_tunnel
		wait_for "the tunnel from the other side" ip netns exec peer ping -n -c1 -W2 $TUNNEL.1
		capture_stop all
		assert_some wan "ciphertext" 2
		assert_none leak "ciphertext in the default VRF"
		sysctls | diff /tmp/sysctls - || die "a sysctl was written"
		result "rp_filter$filter-v$family" ok
	done
	ip -n r link del wg0
	ip -n peer link del wg1
done
