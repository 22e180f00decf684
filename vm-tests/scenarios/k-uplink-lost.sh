#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: two uplinks, one loses its carrier and keeps its address: in a VRF as outside of one, by a mark and bound
# needs: any
# tool: bind-dev
# timeout: 600
# suite: kernel, long
#
# The peer drops a source that is not of the path, as providers do. So what counts is that the sticky
# source of the dead uplink is given up: a tunnel that keeps it loses all that follows. How long it takes
# until then is the kernel's business, and what it takes outside of a VRF is the measure: over IPv4 nothing
# is lost. Over IPv6 a cached route outlives the carrier, until the neighbour is found to be gone.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

PINGS=150

# uplinks: where p is called; by ext0 while it has a carrier, else by alt0.
uplinks() {
	ip -n r route replace 192.0.2.9/32 table 1001 metric 10 via 198.51.100.2 dev ext0
	ip -n r route replace 192.0.2.9/32 table 1001 metric 20 via 203.0.113.2 dev alt0
	ip -n r -6 route replace 2001:db8:9::9/128 table 1001 metric 10 via 2001:db8:1::2 dev ext0
	ip -n r -6 route replace 2001:db8:9::9/128 table 1001 metric 20 via 2001:db8:2::2 dev alt0
}

# p's end takes the carrier along, and its own IPv6 addresses.
lose_carrier() {
	ip -n p link set p0 down
}
find_carrier() {
	ip -n p link set p0 up
	ip -n p addr replace 2001:db8:1::2/64 dev p0 nodad
	ip -n p route replace 198.51.100.1/32 dev p0
	uplinks
}

# fail_over HOW ADDRESS OLD NEW MOST: MOST percent of the pings may be lost. LOST is how many were.
fail_over() {
	local how=$1 address=$2 old=$3 new=$4 most=$5 called=$2
	[ "${address#*:}" = "$address" ] || called="[$address]"
	restart
	r_calls "$called"
	works r 3
	p "$WG" show wg0 endpoints | grep -F "$old" >/dev/null || die "not by ext0: $(p "$WG" show wg0 endpoints)"
	capture_start old r alt0 "udp and src port $RPORT and src host $old"
	capture_start new r alt0 "udp and src port $RPORT and src host $new"
	r ping -n -i 0.2 -c $PINGS -W 1 10.9.0.2 >/tmp/flow 2>&1 &
	wait_for "some of the pings" has_answers 10
	lose_carrier
	wait $! || true
	capture_stop all
	LOST=$(sed -n 's/.* \([0-9.]*\)% packet loss.*/\1/p' /tmp/flow)
	result "$how-$address" "$LOST% of $PINGS lost; by alt0 $(capture_count old) packets with ext0's address, $(capture_count new) with its own"
	assert_some new "packets by alt0 with its own address"
	awk -v lost="$LOST" -v most="$most" 'BEGIN { exit !(lost != "" && lost <= most) }' ||
		die "$how, $address: $LOST% lost, at most $most may be"
	find_carrier
}
has_answers() {
	[ "$(grep -c 'icmp_seq=[0-9]* ttl' /tmp/flow)" -ge "$1" ]
}

# in_vrf red|none: both uplinks.
in_vrf() {
	local uplink words="master $1"
	[ "$1" != none ] || words=nomaster
	for uplink in ext0 alt0; do
		# shellcheck disable=SC2086 # two words
		ip -n r link set $uplink $words
	done
	bound_addresses
	ip -n r route flush table 1001 proto boot
	ip -n r -6 route flush table 1001 proto boot
	uplinks
}

# both_families HOW MOST4 MOST6: LOST is how many of the pings over IPv6 were lost.
both_families() {
	fail_over "$1" 192.0.2.9 198.51.100.1 203.0.113.1 "$2"
	fail_over "$1" 2001:db8:9::9 2001:db8:1::1 2001:db8:2::1 "$3"
}

bound_topology
in_vrf none
# The route to the dead uplink's network has its own address on p; without it every source is strange.
ip -n p route replace 198.51.100.1/32 dev p0
for interface in p0 p1 all; do
	p sysctl -qw net.ipv4.conf.$interface.rp_filter=1
done
ip -n p -6 rule add pref 10 iif p1 from 2001:db8:1::/64 blackhole
# The provider's router is known: it is not the neighbour that takes time.
for peer in "r 203.0.113.2 alt0 p p1" "r 2001:db8:2::2 alt0 p p1" "p 203.0.113.1 p1 r alt0" "p 2001:db8:2::1 p1 r alt0"; do
	# shellcheck disable=SC2086 # five words
	set -- $peer
	ip -n "$1" neigh replace "$2" dev "$3" nud permanent lladdr "$(ip netns exec "$4" cat "/sys/class/net/$5/address")"
done
for family in 4 6; do
	r sysctl -qw net.ipv$family.conf.all.ignore_routes_with_linkdown=1 net.ipv$family.conf.ext0.ignore_routes_with_linkdown=1
done

say "outside of a VRF, by a mark and a table"
ip -n r rule add pref 100 fwmark 77 lookup 1001
ip -n r -6 rule add pref 100 fwmark 77 lookup 1001
r "$WG" set wg0 fwmark 77
both_families outside 5 60
most6=$(awk -v lost="$LOST" 'BEGIN { print lost + 5 }')

say "in a VRF, by the mark and udp_l3mdev_accept"
in_vrf red
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
both_families mark 5 "$most6"
if has_attr; then
	r "$WG" set wg0 fwmark 0
	ip -n r rule del pref 100
	ip -n r -6 rule del pref 100
	r sysctl -qw net.ipv4.udp_l3mdev_accept=0

	say "bound to it"
	bind_to red
	both_families bound 5 "$most6"
fi
