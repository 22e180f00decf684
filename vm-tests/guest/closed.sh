# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The f-closed*.sh scenarios: the VRF goes and comes back in many ways. Nothing leaves by another
# VRF, and the tunnel works again by itself.
. /lib/wgvrf/has.sh

# route VERB ... : the router's routes in the family under test.
route() {
	ip -n r "-$FAMILY" route "$@"
}

# closed WHAT RESULT: wg0 wants to send and nothing comes out anywhere.
closed() {
	say "$1"
	poke 5
	if route get "$PEER" mark $MARK; then
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

# back_up: what the administrator does after the VRF or its interface was down. The kernel drops
# the routes, and with IPv6 the addresses too.
back_up() {
	[ "$FAMILY" = 4 ] || ip -n r addr replace 2001:db8:a::10/64 dev wan0 nodad
	route replace default via "$GATEWAY" dev wan0 table 1023
}

fb_closed() {
	FAMILY=$1 PEER=$PEER4 GATEWAY=198.51.100.1 LEN=32
	[ "$FAMILY" = 4 ] || PEER=$PEER6 GATEWAY=2001:db8:a::1 LEN=128
	fb_topology
	accept
	fb_tunnel "$FAMILY"
	# vrf.rst's own guard is taken away: the rules have to hold alone.
	route del table 1023 unreachable default metric 4278198272
	r_wg set wg0 bind-dev vrf_external
	watch
	wait_for "the tunnel" ping_tunnel
	assert_some wan "ciphertext"
	assert_none leak "ciphertext in the default VRF"

	route del default via "$GATEWAY" dev wan0 table 1023
	route get "$PEER" | has core0 || die "main has no default route: nothing could leak"
	closed "the VRF's table has no default route, main has one" no-route
	route add default via "$GATEWAY" dev wan0 table 1023
	recovers "the route came back"

	ip -n r link set vrf_external down
	ip -n r link set wan0 down
	closed "the VRF and its interface are down" down
	ip -n r link set wan0 up
	ip -n r link set vrf_external up
	back_up
	recovers "they were up again"

	ip -n r link del vrf_external
	# What was the VRF's is in main now, even the route to the next hop.
	[ "$FAMILY" = 4 ] || ip -n r addr replace 2001:db8:a::10/64 dev wan0 nodad
	route replace "$PEER/$LEN" via "$GATEWAY" dev wan0
	capture_stop wan
	capture_start wan peer p0 "udp dst port $PEER_PORT"
	closed "the VRF is deleted, main knows the peer" deleted
	assert_none wan "ciphertext by main's route"
	r_wg show wg0 | grep 'bind device' || die "wg show forgot the binding"

	ip -n r link add vrf_external type vrf table 1023
	ip -n r link set vrf_external up
	ip -n r link set wan0 master vrf_external
	route del "$PEER/$LEN" || true
	back_up
	bind_again
	recovers "a VRF with the same table was made"
	expect_bind vrf_external
	capture_stop all
	assert_none leak "ciphertext in the default VRF"
	result recovers ok
}
