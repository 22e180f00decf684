#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: another socket wants the port all the time, under 40 changes of the device: it gets it when unbinding at most
# needs: attr
# tool: bind-dev
# timeout: 240
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
# wg9 is not bound and asks for the port as fast as it can.
ip -n r link add wg9 type wireguard
r "$WG" set wg9 listen-port 51099
ip -n r link set wg9 up
: >/tmp/asked
want_port() {
	while [ ! -e /tmp/stop ]; do
		echo . >>/tmp/asked
		! ip netns exec r "$WG" set wg9 listen-port "$RPORT" 2>/dev/null || break
	done
}
# asked COUNT: how often it asked, at least.
asked() {
	[ "$(wc -l </tmp/asked)" -ge "$1" ]
}
# start_fight, end_fight: want_port in the background, before and after what happens between.
start_fight() {
	rm -f /tmp/stop
	: >/tmp/asked
	want_port &
	fighter=$!
	wait_for "the other to ask" asked 3
}
end_fight() {
	wait_for "the other to ask again" asked $(($(wc -l </tmp/asked) + 3))
	touch /tmp/stop
	wait $fighter || true
}
port_of_other() {
	r "$WG" show wg9 listen-port
}

say "between two devices: never given up"
start_fight
for _ in $(seq 10); do
	bind_to ext0
	bind_to red
done
end_fight
[ "$(port_of_other)" = 51099 ] || die "the port was taken between two devices"
works p
result between "0 of 20 taken"

say "from no device to one: never given up"
for _ in $(seq 10); do
	bind_to off
	start_fight
	bind_to red
	end_fight
	[ "$(port_of_other)" = 51099 ] || die "the port was taken"
done
works p
result narrowed "0 of 10 taken"

say "to no device: the sockets are closed and opened, so it may be taken; then nothing leaves and the binding stays"
taken=0
for _ in $(seq 10); do
	start_fight
	if r "$WG" set wg0 bind-dev off 2>/tmp/refused; then
		bound_to off
		[ "$(sockets "$RPORT")" = 2 ] || die "$(sockets "$RPORT") sockets"
		touch /tmp/stop
		wait $fighter || true
	else
		grep -q 'in use' /tmp/refused || die "$(cat /tmp/refused)"
		taken=$((taken + 1))
		touch /tmp/stop
		wait $fighter || true
		bound_to red
		[ "$(port_of_other)" = "$RPORT" ] || die "refused, but not taken"
		capture_start out r any "udp and src port $RPORT and dst port $PPORT"
		silent r
		capture_stop out
		assert_none out "packets of a device that has no sockets"
	fi
	r "$WG" set wg9 listen-port 51099
	bind_to red
	works p
done
result unbound "$taken of 10 taken"
