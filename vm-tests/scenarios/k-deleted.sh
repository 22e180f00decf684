#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the bound device is deleted and comes back; another device gets its index in between
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
index=$(ip -n r -o link show red | cut -d: -f1)
say "deleting it is not held up"
before=$(date +%s%N)
ip -n r link del red
[ $((($(date +%s%N) - before) / 1000000)) -lt 3000 ] || die "ip link del took more than 3 s"
bound_to red
[ "$(sockets "$RPORT")" = 0 ] || die "sockets remain"
silent p
say "another device with the same index is not ours"
ip -n r link add other index "$index" type vrf table 1003
ip -n r link set other up
ip -n r link set ext0 master other
ip -n r addr replace 198.51.100.1/24 dev ext0
bound_to red
[ "$(sockets "$RPORT")" = 0 ] || die "sockets without the device"
capture_start any r ext0 "udp and src port $RPORT"
silent p
capture_stop any
assert_none any
say "the link goes down and up while it is missing, and settings are accepted"
ip -n r link set wg0 down
ip -n r link set wg0 up
r "$WG" set wg0 listen-port 51055
bind_to red
[ "$(r ss -lunH | wc -l)" = 0 ] || die "sockets while waiting"
r "$WG" set wg0 listen-port "$RPORT"
refused "No such device" bind-dev nowhere
bound_to red
say "a device of that name: bound again by itself"
ip -n r link add red type vrf table 1001
[ "$(sockets "$RPORT")" = 2 ] || die "not bound again"
ip -n r link set red up
ip -n r link set ext0 master red
bound_addresses
works p
[ "$(ip -n r -o link show red | cut -d: -f1)" != "$index" ] || die "the index is the same"
say "bound to another one while it is missing, and unbound"
ip -n r link del red
bind_to blue
p_calls 203.0.113.1
works p
ip -n r link del blue
bind_to off
[ "$(sockets "$RPORT")" = 2 ] || die "unbound, but no sockets"
