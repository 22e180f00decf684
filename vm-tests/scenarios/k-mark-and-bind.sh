#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a mark and a binding that replace each other in one message: no packet is sent with neither
# needs: attr
# tool: bind-dev
# timeout: 180
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# churn_routes: each change of a route makes peers look theirs up again.
churn_routes() {
	while :; do
		ip -n r -force -batch /tmp/churn 2>/dev/null || true
	done
}
for _ in {1..50}; do
	for route in 10.255.0.1 2001:db8:ff::1; do
		printf 'route add unreachable %s\nroute del unreachable %s\n' $route $route
	done
done >/tmp/churn

TURNS=$((30 / ${WGVRF_SLOW:-1}))
[ $TURNS -ge 6 ] || TURNS=6

OTHER=$((RPORT + 9))

bound_topology
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
ip -n r rule add fwmark 0x42 lookup 1001 pref 900
ip -n r -6 rule add fwmark 0x42 lookup 1001 pref 900
for address in 192.0.2.9 "[2001:db8:9::9]"; do
	say "to $address"
	bind_to red
	r_calls "$address"
	works r
	ip netns exec r ping -n -q -f 10.9.0.2 >/dev/null &
	PING=$!
	churn_routes &
	CHURN=$!
	capture_start out r main0 "udp and (src port $RPORT or src port $OTHER)"
	for turn in $(seq $TURNS); do
		# On the port that it has, and on another one, by turns.
		bind_to off fwmark 0x42 listen-port $((turn % 4 / 2 ? OTHER : RPORT))
		sleep 0.05
		bind_to red fwmark 0
		sleep 0.05
	done
	capture_stop out
	assert_none out "packets with neither mark nor binding"
	say "with neither they are seen"
	capture_start open r main0 "udp and src port $RPORT"
	bind_to off fwmark 0 listen-port "$RPORT"
	seen() {
		[ "$(capture_count open)" -gt 0 ]
	}
	wait_for "a packet outside" seen
	capture_stop open
	kill "$CHURN" "$PING"
	wait "$CHURN" "$PING" || true
	bind_to red
done
