#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a live tunnel is moved from one VRF to another and back: at most one lost packet each
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
r_calls 192.0.2.9
works r
# r moves and pings, so p learns the new way from the next packet.
for dev in blue red ext0 alt0 ext0 red blue red; do
	: >/tmp/flow
	ip netns exec r ping -n -i 0.1 10.9.0.2 >/tmp/flow 2>&1 &
	FLOW=$!
	flow_passes 20
	bind_to "$dev"
	flow_stop 1
	bound_to "$dev"
done
say "unbound in between"
bind_to off
silent r
bind_to red
works r
