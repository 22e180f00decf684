#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: wg show says which family does not hold, and the next command that binds mends it
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
fb_tunnel 4
all_rules >/tmp/before
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel" ping_tunnel

# says KEY WORDS: what wg show and JSON say; then the next command that binds mends it.
says() {
	local shown
	shown=$(ip netns exec r "$WG" show wg0 | sed -n 's/^  bind device: //p')
	[ "$shown" = "vrf_external (fwmark $MARK, $2)" ] || die "$1: wg show says '$shown'"
	ip netns exec r "$WG" show wg0 json >/tmp/json
	grep -q '"state": "faulty"' /tmp/json || die "$1: json: $(cat /tmp/json)"
	r_wg set wg0 bind-dev vrf_external
	ip netns exec r "$WG" show wg0 | has -x "  bind device: vrf_external (fwmark $MARK)" ||
		die "$1: not mended: $(all_rules)"
	wait_for "the tunnel" ping_tunnel
	result "$1" said-and-mended
}

while ip -n r rule del proto 119 2>/dev/null; do :; done
says ipv4-rules-gone "IPv4 not steered"
ip -n r -6 rule del pref 97
says ipv6-lookup-gone "IPv6 not steered"
ip -n r rule del pref 98
says not-closed "IPv4 not closed"
ip -n r rule add pref 50 to $PEER4 lookup main
says overtaken "IPv4 overtaken by rule 50"
ip -n r rule add pref 98 lookup main
ip -n r rule del pref 50
r_wg set wg0 bind-dev vrf_external
routed $MARK

say "a rule at priority 0 cannot be overtaken: refused, with its text, and nothing changes"
ip -n r rule del pref 98 lookup main
r_wg set wg0 bind-dev vrf_external
ip -n r rule add pref 0 to $PEER4 lookup main
all_rules >/tmp/now
r_fails "0: from all lookup 254" -- set wg0 bind-dev vrf_external
all_rules | diff /tmp/now - || die "a refused command changed the rules"
ip -n r rule del pref 0 to $PEER4
r_wg set wg0 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
result refused ok
