#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: the closing rule stays behind its lookup, whatever comes first
# needs: fallback
# tool: ours
# timeout: 120
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0
vrf_add r vrf_b 2000
all_rules >/tmp/before

# pair MARK TABLE: the lookup is the first of ours, and the closing rule comes after it.
pair() {
	local family
	for family in 4 6; do
		ours $family | sed -n 1p | has "fwmark $1 lookup $2\$" || die "IPv$family: $(ours $family)"
		ours $family | sed -n 2p | has "fwmark $1 unreachable\$" || die "IPv$family: $(ours $family)"
		[ "$(ours $family | wc -l)" = 2 ] || die "IPv$family: not one pair: $(ours $family)"
	done
}

for first in 1 2 3 18; do
	say "a foreign rule at priority $first, then one VRF and another"
	for family in 4 6; do
		ip -n r -$family rule add pref $first not fwmark 0x99 lookup 900
	done
	r_wg set wg0 fwmark 0x77 bind-dev vrf_external
	pair 0x77 1023
	routed 0x77
	r_wg set wg0 bind-dev vrf_b
	pair 0x77 2000
	r_wg set wg0 bind-dev vrf_external
	pair 0x77 1023
	routed 0x77
	r_wg set wg0 bind-dev off fwmark off
	for family in 4 6; do
		ip -n r -$family rule del pref $first
	done
	all_rules | diff /tmp/before - || die "rules stay"
	result "first-$first" ok
done

say "an adopted rule at the last priority that there is"
ip -n r rule del pref 32767
for family in 4 6; do
	ip -n r -$family rule del pref 32766
	ip -n r -$family rule add pref 4294967295 fwmark 0x1023 lookup 1023
done
r_wg set wg0 bind-dev vrf_external
expect_ours "4294967295 fwmark 0x1023 unreachable"
routed 0x1023
all_rules >/tmp/bound
r_wg set wg0 bind-dev vrf_external
all_rules | diff /tmp/bound - || die "twice is not once"
result last-priority ok
