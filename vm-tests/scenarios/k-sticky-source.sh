#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a reply leaves from the address that the peer wrote to, IPv4 and IPv6, both sides
# needs: attr
# tool: bind-dev
# timeout: 180
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# capture NAME FILTER: how many packets of r's went out of ext0 by another source than this one.
only_source() {
	capture_start out r ext0 "udp and src port $RPORT and not src host $1"
	capture_start good r ext0 "udp and src port $RPORT and src host $1"
	works "$2" 5
	capture_stop all
	assert_some good "packets from $1"
	assert_none out "packets from another address than $1"
}

bound_topology
# An address of the router that is on no uplink, but on the VRF's own device.
ip -n r addr add 10.255.0.1/32 dev red
ip -n r addr add 2001:db8:ff::1/128 dev red nodad
ip -n p route add 10.255.0.1/32 via 198.51.100.1
ip -n p -6 route add 2001:db8:ff::1/128 via 2001:db8:1::1
bind_to red
for address in 198.51.100.10 10.255.0.1 "[2001:db8:1::1]" "[2001:db8:1::10]" "[2001:db8:ff::1]"; do
	host=${address//[\[\]]/}
	say "p calls $address"
	restart
	p_calls "$address"
	only_source "$host" p
	p_sees "$address:$RPORT"
	say "r, which has learned it, calls back"
	only_source "$host" r
	p_sees "$address:$RPORT"
done
# Not those that the kernel would choose by itself.
for address in 198.51.100.10 "[2001:db8:1::1]"; do
	family=4
	peer=198.51.100.2
	[ "$address" = 198.51.100.10 ] || { family=6 && peer=2001:db8:1::2; }
	say "$address: what would leave by another VRF for a while is dropped, and does not forget it"
	restart
	p_calls "$address"
	works p
	p_sees "$address:$RPORT"
	# p must not speak first, and teach r the address again: it has no route to this one.
	p_calls 192.0.2.77
	ip -n r -$family rule add pref 500 to "$peer" lookup main
	dropped=$(tx_errors)
	silent r
	[ "$(tx_errors)" -gt "$dropped" ] || die "nothing was dropped"
	ip -n r -$family rule del pref 500
	only_source "${address//[\[\]]/}" r
	p_sees "$address:$RPORT"
done
result "after a drop" kept
say "when the address goes away, another one takes over"
p_calls "[2001:db8:1::10]"
works p
p_sees "[2001:db8:1::10]:$RPORT"
ip -n r addr del 2001:db8:1::10/64 dev ext0
works r
p_sees "[2001:db8:1::1]:$RPORT"
p_calls 198.51.100.10
works p
ip -n r addr del 198.51.100.10/24 dev ext0
works r
p_sees "198.51.100.1:$RPORT"
