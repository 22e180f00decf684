#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: routes over other devices in the table of a VRF that is missing carry packets, with the bind hook too
# needs: fallback
# tool: ours
# timeout: 200
# smp: 1
#
# The exception to "a VRF that is missing closes the tunnel" (SECURITY.md). The rules name a table, of which
# the kernel removes the routes of the VRF's own devices only; and a socket that is bound to a device that is gone
# still sends, because WireGuard looks up its routes itself.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
accept
fb_tunnel 4

# vrf_again: as fb_topology made it, after it was deleted.
vrf_again() {
	ip -n r link add vrf_external type vrf table 1023
	ip -n r link set vrf_external up
	ip -n r link set wan0 master vrf_external
	ip -n r addr replace 2001:db8:a::10/64 dev wan0 nodad
	ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
	ip -n r -6 route replace default via 2001:db8:a::1 dev wan0 table 1023
}

# left NAME FAMILY PEER LENGTH ENDPOINT VIA: what the decoy gets while the VRF is there, when it
# is gone, and without the route.
left() {
	local name=$1-$2 family=-$2 route="$3/$4 via $6 dev core0"
	say "$1, IPv$2"
	ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "$5"
	r_wg set wg0 bind-dev vrf_external
	capture_start "$name" decoy d0 "udp dst port $PEER_PORT"
	wait_for "the tunnel" ping_tunnel
	if [ "$1" = auto ] && binds_sockets; then
		expect_on vrf_external
	else
		expect_on '*'
	fi
	assert_none "$name" "ciphertext in the default VRF"
	# shellcheck disable=SC2086 # words
	ip -n r $family route add $route table 1023
	ip -n r link del vrf_external
	poke
	assert_some "$name" "ciphertext by the route that is left"
	ip netns exec r "$WG" doctor wg0 >/tmp/doctor || true
	has 'by routes over other devices that are left in its table' </tmp/doctor || die "$(cat /tmp/doctor)"
	capture_stop "$name"
	# shellcheck disable=SC2086
	ip -n r $family route del $route table 1023
	capture_start "$name-gone" decoy d0 "udp dst port $PEER_PORT"
	poke
	assert_none "$name-gone" "ciphertext without the route"
	capture_stop "$name-gone"
	r_wg set wg0 bind-dev off
	vrf_again
	result "$name" "used until it goes"
}

for receive in auto any; do
	export WG_BIND_DEV_RECEIVE=$receive
	left "$receive" 4 $PEER4 32 "$PEER4:$PEER_PORT" 100.64.0.1
	left "$receive" 6 $PEER6 128 "[$PEER6]:$PEER_PORT" fd00:64::1
done
