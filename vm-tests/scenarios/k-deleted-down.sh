#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the bound device goes and comes while the wg device is down
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
ip -n r link set wg0 down
bind_to red
refused "No such device" bind-dev nowhere
refused "symbolic links" bind-dev wg0
bound_to red
ip -n r link del red
bound_to red
ip -n r link add red type vrf table 1001
ip -n r link set red up
ip -n r link set ext0 master red
bound_addresses
[ "$(r ss -lunH | wc -l)" = 0 ] || die "sockets of a device that is down"
ip -n r link set wg0 up
[ "$(sockets "$RPORT")" = 2 ] || die "no sockets"
p_calls 198.51.100.1
works p
say "renamed while down"
ip -n r link set wg0 down
ip -n r link set red down
ip -n r link set red name crimson
ip -n r link set crimson up
bound_to crimson
ip -n r link set wg0 up
bound_addresses
restart
works p
