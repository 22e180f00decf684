#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: 1 000 devices, one pair of programs, and what one more costs
# needs: fallback
# tool: ours
# packages: bpftool
# timeout: 3000
# smp: 1
# memory: 2048
# suite: long
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
DEVICES=1000
on_vrf() {
	ip netns exec r ss -lunH | grep -c '%vrf_external' || true
}

for ((n = 0; n < DEVICES; n++)); do
	echo "link add wgb$n type wireguard"
done | ip -n r -batch -
# Down: the port and the entry first, the sockets as the link comes up.
begun=$SECONDS
hundred=$SECONDS
for ((n = 0; n < DEVICES; n++)); do
	# What one costs grows with those that are there: each of them is asked for its mark.
	if ((n > 0 && n % 100 == 0)); then
		say "$n bound, the last 100 in $((SECONDS - hundred)) s"
		hundred=$SECONDS
	fi
	ip netns exec r "$WG" set wgb$n listen-port $((40000 + n)) bind-dev vrf_external 2>/tmp/err ||
		die "$n: $(cat /tmp/err)"
done
result bound "$DEVICES in $((SECONDS - begun)) s"
for ((n = 0; n < DEVICES; n++)); do
	echo "link set wgb$n up"
done | ip -n r -batch -
[ "$(on_vrf)" = $((2 * DEVICES)) ] || die "$(on_vrf) sockets are on the VRF"
expect_hooks 1

begun=$SECONDS
ip netns exec r "$WG" show all json >/tmp/json
result shown "$DEVICES in $((SECONDS - begun)) s"
[ "$(grep -c '"receives": "bound"' /tmp/json)" = $DEVICES ] || die "not all are said to be bound"

for ((n = 0; n < DEVICES; n++)); do
	echo "link del wgb$n"
done | ip -n r -batch -
fb_keys
fb_wg0
r_wg set wg0 bind-dev vrf_external
r_wg set wg0 bind-dev off
expect_hooks 0
result gone "nothing left"
