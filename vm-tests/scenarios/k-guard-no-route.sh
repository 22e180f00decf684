#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a VRF without a route while main has one: nothing leaves, IPv4 and IPv6
# needs: attr
# tool: bind-dev
# timeout: 240
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/bound.sh

# no_leak ADDRESS: r calls it, and no packet may come out of any interface.
no_leak() {
	restart
	r_calls "$1"
	for i in ext0 alt0 main0; do
		capture_start "$i" r "$i" "udp port $RPORT or udp port $PPORT"
	done
	silent r
	capture_stop all
	for i in ext0 alt0 main0; do
		assert_none "$i" "encrypted packets on $i"
	done
}

bound_topology
bind_to red
for address in 192.0.2.9 "[2001:db8:9::9]"; do
	family=4
	[ "$address" = 192.0.2.9 ] || family=6
	bound_addresses
	restart
	r_calls "$address"
	works r
	say "$address: no default route in the VRF, and no unreachable one either"
	ip -n r -$family route del default table 1001 metric 4278198272
	ip -n r -$family route del default table 1001
	# Main would take it: this is what makes it a leak.
	ip -n r -$family route get "${address//[\[\]]/}" | has main0 || die "main has no route"
	no_leak "$address"
	say "$address: a route of the VRF that leads out of it"
	ip -n r -$family route replace "${address//[\[\]]/}" dev main0 table 1001
	no_leak "$address"
	ip -n r -$family route del "${address//[\[\]]/}" dev main0 table 1001
	say "$address: an empty table"
	ip -n r -$family route flush table 1001
	no_leak "$address"
	say "$address: with its routes it works again"
	ip -n r -$family route add table 1001 unreachable default metric 4278198272
	ip -n r link set ext0 nomaster
	ip -n r link set ext0 master red
	bound_addresses
	restart
	works r
done
