#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the wg device in another namespace: the name is one of where it was created
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology

# shown WORDS STATE: what `wg show` and its JSON say there.
shown() {
	local is
	is=$(ip netns exec c "$WG" show wg0 | sed -n 's/^  bind device: //p')
	[ "$is" = "$1" ] || die "wg show says '$is' instead of '$1'"
	is=$(ip netns exec c "$WG" show wg0 json | sed -n 's/.*"state": "\(.*\)".*/\1/p')
	[ "$is" = "$2" ] || die "the JSON says '$is' instead of '$2'"
}
netns_add c
bind_to red
ip -n r link set wg0 netns c
ip -n c addr add 10.9.0.1/24 dev wg0
ip -n c link set wg0 up
bound_to red c
shown "red (of another network namespace)" unknown
p_calls 198.51.100.1
restart_p() {
	ip -n p link set wg0 down
	ip -n p link set wg0 up
}
restart_p
works p
say "a device of the same name there is another one"
vrf_add c blue 1002
ip netns exec c "$WG" set wg0 bind-dev blue
p_calls 203.0.113.1
works p
shown "blue (of another network namespace)" unknown
ip -n c link del blue
bound_to blue c
works p
ip -n c link add onlyhere type vrf table 7
! ip netns exec c "$WG" set wg0 bind-dev onlyhere 2>/tmp/err || die "bound to a device of the wrong namespace"
grep -qi "no such device" /tmp/err || die "$(cat /tmp/err)"
works p
say "the one where it was created goes away"
ip -n r link del blue
bound_to blue c
shown "blue (missing)" missing
silent p
ip -n r link add blue type vrf table 1002
ip -n r link set blue up
ip -n r link set alt0 master blue
bound_addresses
works p
shown "blue (of another network namespace)" unknown
say "so does the whole namespace"
ip netns del r
wait_for "the namespace to go" bash -c "! ip netns exec c $WG set wg0 listen-port 51001 2>/dev/null"
bound_to blue c
shown "blue (missing)" missing
ip -n c link set wg0 down
! ip -n c link set wg0 up 2>/tmp/err || die "up without a namespace for its sockets"
grep -q "Machine is not on the network" /tmp/err || die "up: $(cat /tmp/err)"
ip -n c link del wg0
