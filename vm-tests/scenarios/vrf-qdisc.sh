#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a VRF with a queueing discipline looks up routes once more: a rule in front of the l3mdev rule takes packets of IPv4
# needs: any
# tool: ours
# timeout: 120
# smp: 1
#
# An exception (SECURITY.md): drivers/net/vrf.c sends through the VRF device itself then, and its lookup has no
# mark over IPv4, so that neither the rules of the fallback nor the egress guard see where the packet goes.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4

# try_both NAME EXPECTED4: what reaches the decoy, by each family.
try_both() {
	local family endpoint found
	for family in 4 6; do
		endpoint=$PEER4:$PEER_PORT
		[ $family = 4 ] || endpoint="[$PEER6]:$PEER_PORT"
		ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "$endpoint"
		ip -n r link set wg0 down
		ip -n r link set wg0 up
		capture_start "$1-$family" decoy d0 "udp dst port $PEER_PORT"
		poke
		capture_stop "$1-$family"
		found=none
		[ "$(capture_count "$1-$family")" = 0 ] || found=some
		[ $family = 4 ] || [ $found = none ] || die "$1: IPv6 left by the default VRF: $(capture_show "$1-6")"
		[ $family = 6 ] || [ $found = "$2" ] || die "$1: $found IPv4 in the default VRF, expected $2"
	done
	result "$1" "$2"
}

# One that the marked packet passes.
rule="not from all fwmark 0x77 lookup main"
# shellcheck disable=SC2086 # words
ip -n r rule add pref 500 $rule
# shellcheck disable=SC2086
ip -n r -6 rule add pref 500 $rule
r_wg set wg0 fwmark 0x77 bind-dev vrf_external
try_both without none
ip netns exec r tc qdisc add dev vrf_external root pfifo
try_both with some
say "with the l3mdev rule in front, as the pages advise"
ip -n r rule add pref 400 l3mdev
ip -n r -6 rule add pref 400 l3mdev
try_both mended none
wait_for "the tunnel" ping_tunnel
