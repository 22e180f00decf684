#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: link down and up, deletion, and module unload in every state
# needs: attr
# tool: bind-dev
# timeout: 240
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

unloadable() {
	[ -d /sys/module/wireguard/holders ]
}
for state in unbound bound waiting waiting-up moved; do
	for last in up down; do
		say "$state, $last"
		bound_topology
		case $state in
		bound) bind_to red ;;
		waiting)
			bind_to red
			ip -n r link del red
			;;
		waiting-up)
			ip -n r link set wg0 down
			bind_to red
			ip -n r link del red
			ip -n r link set wg0 up
			;;
		moved)
			bind_to red
			netns_add c
			ip -n r link set wg0 netns c
			ip -n c link set wg0 up
			ip -n c link set wg0 netns r
			;;
		esac
		for _ in 1 2; do
			ip -n r link set wg0 down
			ip -n r link set wg0 up
		done
		ip -n r link set wg0 "$last"
		if unloadable; then
			rmmod wireguard || die "cannot unload"
			! ip -n r link show wg0 2>/dev/null || die "wg0 is still there"
			modprobe wireguard
		else
			ip -n r link del wg0
		fi
		for ns in r p m c; do
			[ ! -e /run/netns/$ns ] || ip netns del $ns
		done
	done
done
