#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: 300 devices, one pair of programs, the system calls of one more and of showing them
# needs: fallback
# tool: ours
# packages: bpftool, strace
# timeout: 600
# smp: 1
# memory: 2048
# suite: long
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
DEVICES=${WGVRF_MANY:-300}
# System calls that a bind may take for each device that is there, and showing one of many.
PER_DEVICE=10
SHOWN_PER_DEVICE=40
on_vrf() {
	ip netns exec r ss -lunH | grep -c '%vrf_external' || true
}

# bind FIRST END: makes these devices and binds them. They are down: the port and the entry first, the
# sockets as the link comes up. One `ip netns exec` for all, since starting a program is slow here.
bind() {
	local n
	for ((n = $1; n < $2; n++)); do
		echo "link add wgb$n type wireguard"
	done | ip -n r -batch -
	ip netns exec r bash -e -s "$1" "$2" <<-'END' || die "a bind of $1 to $2: $(cat /tmp/err)"
		for ((n = $1; n < $2; n++)); do
			"$WG" set wgb$n listen-port $((40000 + n)) bind-dev vrf_external 2>/tmp/err
		done
	END
}

# count_calls NUMBER: what binding the device of this number takes, in CALLS.
count_calls() {
	ip -n r link add wgb$1 type wireguard
	ip netns exec r strace -f -c -o /tmp/calls \
		"$WG" set wgb$1 listen-port $((40000 + $1)) bind-dev vrf_external 2>/tmp/err ||
		die "$1: $(cat /tmp/err)"
	CALLS=$(awk '$NF == "total" { print $4 }' /tmp/calls)
	[ "$CALLS" -gt 0 ] || die "strace counted nothing: $(cat /tmp/calls)"
	result "calls_with_$1" "$CALLS"
}

export WG
begun=$SECONDS
first=
for ((have = 0; have < DEVICES; have += 100)); do
	hundred=$SECONDS
	bind $have $((have + 99))
	count_calls $((have + 99))
	first=${first:-$CALLS}
	say "$((have + 100)) bound, the last 100 in $((SECONDS - hundred)) s"
done
[ $((CALLS - first)) -lt $((PER_DEVICE * (DEVICES - 100))) ] ||
	die "$first calls with 100 devices, $CALLS with $DEVICES"
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
# Rules, links and sockets are asked for once; what does not tell of a binding asks for none of them.
for field in json dump; do
	ip netns exec r strace -f -o /tmp/trace -e trace=%network,%file,read "$WG" show all $field >/tmp/out
	calls=$(grep -c '(' /tmp/trace)
	# Requests by their types: RTM_GETLINK, RTM_GETRULE, SOCK_DIAG_BY_FAMILY.
	links=$(grep -c 'sendto(.*RTM_GETLINK' /tmp/trace || true)
	rules=$(grep -c 'sendto(.*RTM_GETRULE' /tmp/trace || true)
	diags=$(grep -c 'sendto(.*SOCK_DIAG_BY_FAMILY' /tmp/trace || true)
	result "show_$field" "$calls calls, $links dumps of links, $rules of rules, $diags of sockets"
	[ "$calls" -le $((SHOWN_PER_DEVICE * DEVICES)) ] || die "$calls calls to show $DEVICES devices as $field"
	[ "$links" -le 3 ] && [ "$rules" -le 2 ] && [ "$diags" -le 2 ] ||
		die "$field: $links dumps of links, $rules of rules, $diags of sockets"
	[ $field != dump ] || [ "$rules$diags" = 00 ] || die "a dump asks for rules or sockets"
done

for ((n = 0; n < DEVICES; n++)); do
	echo "link del wgb$n"
done | ip -n r -batch -
fb_keys
fb_wg0
r_wg set wg0 bind-dev vrf_external
r_wg set wg0 bind-dev off
expect_hooks 0
result gone "nothing left"
