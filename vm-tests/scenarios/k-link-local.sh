#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: link-local IPv6 endpoints on an enslaved interface, both sides; a foreign scope is an error
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

link_local_of() {
	ip -n "$1" -6 -o addr show dev "$2" scope link | sed -n 's/.*inet6 \([^/]*\).*/\1/p' | head -n 1
}
bound_topology
wait_for "link-local addresses" bash -c 'ip -n r -6 -o addr show dev ext0 scope link | grep -q fe80 && ip -n p -6 -o addr show dev p0 scope link | grep -q fe80 && ip -n p -6 -o addr show dev p1 scope link | grep -q fe80'
rll=$(link_local_of r ext0)
pll=$(link_local_of p p0)
bind_to red
say "p calls r's link-local address, r answers"
p_calls "[$rll%p0]"
works p
r_sees "[$pll%ext0]:$PPORT"
p_sees "[$rll%p0]:$RPORT"
say "r calls p's"
restart
p "$WG" set wg0 peer "$RKEY" remove
p "$WG" set wg0 peer "$RKEY" allowed-ips 10.9.0.1/32
r_calls "[$pll%ext0]"
works r
p_sees "[$rll%p0]:$RPORT"
say "bound to the interface itself"
bind_to ext0
works r
say "a scope outside of the bound device: nothing leaves, anywhere"
restart
bind_to red
capture_start alt r alt0 "udp port $RPORT"
capture_start ext r ext0 "udp port $RPORT"
capture_start main r main0 "udp port $RPORT"
r_calls "[$(link_local_of p p1)%alt0]"
silent r
bind_to ext0
silent r
capture_stop all
assert_none alt
assert_none ext
assert_none main
bind_to blue
works r
