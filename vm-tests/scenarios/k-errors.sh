#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: ENODEV, ELOOP, EADDRINUSE, EPERM: traffic flows on, nothing has changed
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.10
works p
ip -n r link add wg1 type wireguard
r "$WG" set wg1 listen-port "$RPORT" bind-dev blue
ip -n r link set wg1 up
# Not the identity of the sockets: to unbind them, they are closed, and opened as they were if that fails.
state() {
	r "$WG" showconf wg0
	r ss -lunH | sort
}
# What r learned about its own address is kept, too: p does not speak, so r does not learn it anew.
refused_alone() {
	refused "$@"
	tunnel_ping r 1 2 || die "after 'wg set wg0 ${*:2}': $(tail -n 3 /tmp/ping | tr '\n' ' ')"
	p_sees "198.51.100.10:$RPORT"
}
state >/tmp/before
flow_start
refused "No such device" bind-dev nowhere
refused "symbolic links" bind-dev wg0
refused "in use" bind-dev blue
refused "No such device" listen-port 51099 fwmark 0x77 bind-dev nowhere
refused "in use" fwmark 0x77 bind-dev blue
# A port of its own, and then the port of another socket in the same scope.
ip netns exec r socat -u UDP4-RECV:51098,so-bindtodevice=red OPEN:/dev/null &
SOCAT=$!
wait_for "socat to listen" r bash -c 'ss -lunH "sport = :51098" | grep -q .'
refused "in use" listen-port 51098 bind-dev red
refused "in use" listen-port 51098 bind-dev off
flow_stop 0
# The sockets are closed for this one, and opened again: a packet that comes meanwhile is lost.
flow_start
refused "in use" bind-dev off
flow_stop 2
p_sees "198.51.100.10:$RPORT"
refused_alone "No such device" bind-dev nowhere
refused_alone "in use" bind-dev blue
refused_alone "in use" listen-port 51098
refused_alone "in use" bind-dev off
refused_alone "in use" fwmark 0x77 bind-dev off
refused_alone "in use" fwmark 0x77 listen-port 51098 bind-dev off
# A mark that is refused routes nothing, not even until the kernel finds the port taken over IPv6 alone.
# What changes a route makes each packet look up its own.
change_routes() {
	while :; do
		echo "route replace 192.0.2.77/32 dev main0"
		echo "route del 192.0.2.77/32 dev main0"
		sleep 0.01
	done | ip -n r -batch -
}
ip netns exec r socat -u UDP6-RECV:51097,ipv6only=1 OPEN:/dev/null &
SOCAT6=$!
wait_for "socat to listen over IPv6" r bash -c 'ss -lunH "sport = :51097" | grep -q .'
ip -n r rule add pref 1 fwmark 0x77 blackhole
flow_start
change_routes &
ROUTES=$!
for ((n = 0; n < 20; n++)); do
	refused "in use" fwmark 0x77 listen-port 51097 bind-dev off
done
flow_stop 0
kill $ROUTES
wait $ROUTES || true
ip -n r rule del pref 1
kill $SOCAT $SOCAT6
wait $SOCAT $SOCAT6 || true
state >/tmp/after
diff -u /tmp/before /tmp/after || die "a refused command changed something"
p_sees "198.51.100.10:$RPORT"
bound_to red
