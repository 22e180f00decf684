#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the bound device is moved to another namespace and back
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
netns_add c
veth_pair r nic0 p p2
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n p addr add 172.16.2.2/24 dev p2
bind_to nic0
p_calls 172.16.2.1
works p
ip -n r link set nic0 netns c
[ "$(sockets "$RPORT")" = 0 ] || die "sockets remain"
bound_to nic0
ip -n c addr add 172.16.2.1/24 dev nic0
ip -n c link set nic0 up
silent p
say "it has its index and name there, which is not here"
bind_to nic0
silent p
ip -n c link set nic0 netns r
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n r link set nic0 up
[ "$(sockets "$RPORT")" = 2 ] || die "not bound again"
works p
