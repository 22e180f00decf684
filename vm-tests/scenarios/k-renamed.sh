#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the bound device is renamed; another one gets the awaited name; never the wg device itself
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
flow_start
ip -n r link set red down
ip -n r link set red name crimson
ip -n r link set crimson up
bound_to crimson
bound_addresses
works p
kill -INT "$FLOW"
say "a new device of the old name is none of ours"
ip -n r link add red type vrf table 1003
bound_to crimson
works p
say "the awaited name"
ip -n r link del crimson
bound_to crimson
silent p
ip -n r link set red name crimson
[ "$(sockets "$RPORT")" = 2 ] || die "not bound to the renamed device"
bound_to crimson
ip -n r link set crimson up
ip -n r link del crimson
say "the wg device takes the awaited name"
ip -n r link set wg0 down
ip -n r link set wg0 name crimson
ip -n r link set crimson up
[ "$(sockets "$RPORT")" = 0 ] || die "bound to itself"
is=$(r "$WG" show crimson bind-dev)
[ "$is" = crimson ] || die "bound to $is"
! r "$WG" set crimson bind-dev crimson || die "bound to itself"
ip -n r link set crimson down
ip -n r link set crimson name wg0
ip -n r link set wg0 up
ip -n r link add crimson type vrf table 1001
ip -n r link set crimson up
ip -n r link set ext0 master crimson
bound_addresses
restart
works p
