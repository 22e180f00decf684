#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: paths inside a VRF: ECMP, nexthop objects, a multipath with a leaked leg, VLAN, bond, a slave that leaves
# needs: attr
# tool: bind-dev
# modules: bonding 8021q
# timeout: 240
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# route4 ROUTE..., route6 ROUTE...: in the table of red.
route4() {
	ip -n r route replace table 1001 "$@"
}
route6() {
	ip -n r -6 route replace table 1001 "$@"
}

# meet ADDRESS DEVICE: the neighbour there is known.
meet() {
	wait_for "$1 to answer" r ping -n -c1 -W1 -I "$2" "$1"
}

# watch DEVICE...: what r sends by each of them.
watch() {
	local device
	for device in "$@"; do
		capture_start "$device" r "$device" "udp src portrange $RPORT-51016"
	done
}

# calls_by ADDRESS DEVICE...: handshakes from as many ports as it takes until each of these devices
# was used; none is refused.
calls_by() {
	local address=$1 before port
	shift
	before=$(tx_errors)
	for ((port = RPORT; port <= 51016; port++)); do
		r "$WG" set wg0 listen-port "$port"
		r_alone "$address"
		r ping -n -c1 -W0.1 10.9.0.2 >/dev/null 2>&1 || true
		! each_used "$@" || break
	done
	r "$WG" set wg0 listen-port $RPORT
	[ "$(tx_errors)" = "$before" ] || die "$address: tx_errors rose from $before to $(tx_errors)"
	ip -n p link set wg0 up
}

each_used() {
	local device
	for device in "$@"; do
		capture_catch_up "$device"
		[ "$(capture_count "$device")" -gt 0 ] || return 1
	done
}

# looked_up WORDS...: the kernel has looked up this route on each processor.
looked_up() {
	local n
	for ((n = 0; n < $(nproc); n++)); do
		r taskset -c "$n" ip -$family route get "$@" >/tmp/route || die "no route to $*"
		grep -q ' dev main0 ' /tmp/route || die "not by main0: $(cat /tmp/route)"
	done
}

# nothing_leaves: of what red has no route for, right after red has looked up its own one.
nothing_leaves() {
	r_calls "$nowhere"
	watch main0
	r_alone "$nowhere"
	looked_up vrf red "${prefix%/*}"
	silent r
	capture_stop all
	assert_none main0 "encrypted packets that red has no route for"
}

bound_topology
r sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1
# A second uplink of red.
veth_pair r ext1 p p2
ip -n r link set ext1 master red
second_uplink() { # DEVICE
	ip -n r addr replace 198.51.101.1/24 dev "$1"
	ip -n r addr replace 2001:db8:11::1/64 dev "$1" nodad
}
second_uplink ext1
ip -n p addr add 198.51.101.2/24 dev p2
ip -n p addr add 2001:db8:11::2/64 dev p2 nodad
bind_to red

for family in 4 6; do
	if [ $family = 4 ]; then
		far=192.0.2.9 leaked=192.0.2.77 width=32 gateways=(198.51.100.2 198.51.101.2 100.64.0.2)
		nowhere=192.0.2.88 elsewhere=192.0.2.99
	else
		far="[2001:db8:9::9]" leaked="[2001:db8:77::77]" width=128
		gateways=(2001:db8:1::2 2001:db8:11::2 2001:db8:64::2)
		nowhere="[2001:db8:88::88]" elsewhere=2001:db8:99::99
	fi
	prefix=${leaked#\[}
	prefix=${prefix%\]}/$width

	# A kernel without CONFIG_IPV6_ROUTER_PREF uses no gateway that it does not know yet.
	meet "${gateways[0]}" ext0
	meet "${gateways[1]}" ext1
	meet "${gateways[2]}" main0

	say "IPv$family: two equal uplinks"
	route$family default nexthop via "${gateways[0]}" dev ext0 nexthop via "${gateways[1]}" dev ext1
	watch ext0 ext1 main0 alt0
	calls_by "$far" ext0 ext1
	capture_stop all
	assert_some ext0 "encrypted packets"
	assert_some ext1 "encrypted packets"
	assert_none main0 "encrypted packets"
	assert_none alt0 "encrypted packets"
	restart
	r_calls "$far"
	works r 3
	result "ecmp-v$family" works

	say "IPv$family: a nexthop object, and one that leads out of the VRF"
	ip -n r nexthop add id 1 via "${gateways[0]}" dev ext0
	ip -n r nexthop add id 2 via "${gateways[2]}" dev main0
	route$family default nhid 1
	restart
	r_calls "$far"
	works r 3
	route$family "$prefix" nhid 2
	watch ext0 main0
	calls_by "$leaked" main0
	capture_stop all
	assert_some main0 "encrypted packets"
	assert_none ext0 "encrypted packets"
	result "nexthop-v$family" works

	# What the kernel has looked up it keeps with the nexthop object, for each processor and until a route
	# changes, and with it the IPv6 route that led there first: of main or of red.
	say "IPv$family: main uses the nexthop object as well: only red's own route leads out of the VRF"
	ip -n r -$family route del table 1001 default
	ip -n r -$family route del table 1001 unreachable default metric 4278198272
	ip -n r -$family route replace default nhid 2
	nothing_leaves
	watch main0
	r_alone "$leaked"
	looked_up "$elsewhere"
	r ping -n -c1 -W0.1 10.9.0.2 >/dev/null 2>&1 || true
	wait_for "a handshake by the route of red" each_used main0
	capture_stop all
	# As wg-quick writes it: of main, anything but the default route.
	ip -n r -$family rule add pref 500 lookup main suppress_prefixlength 0
	watch main0
	calls_by "$leaked" main0
	capture_stop all
	nothing_leaves
	ip -n r -$family rule del pref 500
	ip -n p link set wg0 up
	ip -n r -$family route add table 1001 unreachable default metric 4278198272
	result "shared-nexthop-v$family" "red's own"

	say "IPv$family: a multipath route with one leg out of the VRF: both are used"
	route$family "$prefix" nexthop via "${gateways[0]}" dev ext0 nexthop via "${gateways[2]}" dev main0
	watch ext0 main0
	calls_by "$leaked" ext0 main0
	capture_stop all
	assert_some ext0 "encrypted packets"
	assert_some main0 "encrypted packets"
	result "legs-v$family" both

	say "IPv$family: a route to another VRF's device: that VRF sends it on"
	route$family "$prefix" dev blue
	watch alt0 main0
	calls_by "$leaked" alt0
	capture_stop all
	assert_some alt0 "encrypted packets"
	assert_none main0 "encrypted packets"
	result "handed-v$family" works
	ip -n r -$family route del table 1001 "$prefix"
	ip -n r nexthop flush >/dev/null
	route$family default via "${gateways[0]}" dev ext0
done

say "a VLAN of a slave, in the VRF"
ip -n r link add link ext0 name ext0.5 type vlan id 5
ip -n r link set ext0.5 master red up
ip -n p link add link p0 name p0.5 type vlan id 5
ip -n p link set p0.5 up
ip -n r addr add 198.51.105.1/24 dev ext0.5
ip -n p addr add 198.51.105.2/24 dev p0.5
for device in red ext0.5; do
	bind_to $device
	restart
	r_calls 198.51.105.2
	works r
	result "vlan-$device" works
done

say "a bond in the VRF"
ip -n r link set ext1 nomaster
ip -n r link add bond7 type bond mode active-backup miimon 100
ip -n r link set ext1 down
ip -n r link set ext1 master bond7
ip -n r link set bond7 master red
ip -n r link set bond7 up
second_uplink bond7
for device in red bond7; do
	bind_to $device
	for address in 198.51.101.2 "[2001:db8:11::2]"; do
		restart
		r_calls "$address"
		works r
	done
	result "bond-$device" works
done

say "the slave leaves the VRF and comes back, under a cached route"
bind_to red
# What the VRF does not have is looked for in main.
ip -n r route del table 1001 unreachable default metric 4278198272
ip -n r -6 route del table 1001 unreachable default metric 4278198272
for address in 198.51.100.2 "[2001:db8:1::2]"; do
	restart
	r_calls "$address"
	works r
	# Now its network is main's: a route that the VRF does not have.
	ip -n r link set ext0 nomaster
	ip -n r addr replace 198.51.100.1/24 dev ext0
	ip -n r addr replace 2001:db8:1::1/64 dev ext0 nodad
	capture_start strays r ext0 "udp src port $RPORT"
	silent r
	capture_stop strays
	assert_none strays "encrypted packets by a device that left the VRF"
	ip -n r link set ext0 master red
	bound_addresses
	works r
done
result left-and-back works
