#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: without a way through the VRF, nothing leaves by another
# needs: fallback
# tool: ours
# timeout: 120
# suite: smoke
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4
# vrf.rst's own guard is taken away: the rules have to hold alone.
ip -n r route del table 1023 unreachable default metric 4278198272
r_wg set wg0 bind-dev vrf_external
watch
wait_for "the tunnel" ping_tunnel
assert_some wan "ciphertext"
assert_none leak "ciphertext in the default VRF"

# closed WHAT: wg0 wants to send and nothing comes out anywhere.
closed() {
	say "$1"
	poke 5
	if ip -n r route get $PEER4 mark $MARK; then
		die "$1: there is a route for marked packets"
	fi
	assert_none leak "ciphertext in the default VRF"
	result "$2" closed
}

# recovers WHAT: by itself, no command of ours.
recovers() {
	wait_for "the tunnel after $1" ping_tunnel
	assert_none leak "ciphertext in the default VRF"
}

ip -n r route del default via 198.51.100.1 dev wan0 table 1023
ip -n r route get $PEER4 | grep -q core0 || die "main has no default route: nothing could leak"
closed "the VRF's table has no default route, main has one" no-route
ip -n r route add default via 198.51.100.1 dev wan0 table 1023
recovers "the route came back"

ip -n r link set vrf_external down
ip -n r link set wan0 down
closed "the VRF and its interface are down" down
ip -n r link set wan0 up
ip -n r link set vrf_external up
ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
recovers "they were up again"

ip -n r link del vrf_external
# What was the VRF's is in main now, even the route to the next hop.
ip -n r route replace $PEER4/32 via 198.51.100.1 dev wan0
capture_stop wan
capture_start wan peer p0 "udp dst port $PEER_PORT"
closed "the VRF is deleted, main knows the peer" deleted
assert_none wan "ciphertext by main's route"
r_wg show wg0 | grep 'bind device' || die "wg show forgot the binding"

ip -n r link add vrf_external type vrf table 1023
ip -n r link set vrf_external up
ip -n r link set wan0 master vrf_external
ip -n r route del $PEER4/32 || true
ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
recovers "a VRF with the same table was made"
expect_bind vrf_external
capture_stop all
assert_none leak "ciphertext in the default VRF"
result recovers ok
