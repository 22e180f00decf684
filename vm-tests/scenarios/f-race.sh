#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: two commands at once, 50 rounds: no rule doubled, none lost
# needs: fallback
# tool: ours
# timeout: 180
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0
fb_wg0 wg2 51003
all_rules >/tmp/before

both() {
	local first second code=0
	ip netns exec r "$WG" set wg0 bind-dev "$1" 2>/tmp/err.0 &
	first=$!
	ip netns exec r "$WG" set wg2 bind-dev "$2" 2>/tmp/err.2 &
	second=$!
	wait $first || code=$?
	[ $code = 0 ] || die "wg0 bind-dev $1: $(cat /tmp/err.0)"
	wait $second || code=$?
	[ $code = 0 ] || die "wg2 bind-dev $2: $(cat /tmp/err.2)"
}

for round in $(seq 50); do
	both vrf_external vrf_external
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
	if [ $((round % 2)) = 0 ]; then
		both off off
		all_rules | diff /tmp/before - || die "round $round: rules stay"
	else
		both off vrf_external
		expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
		expect_bind off
		expect_bind vrf_external wg2
	fi
done
both off off
all_rules | diff /tmp/before - || die "rules stay"
result rounds 50
