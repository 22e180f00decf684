#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: sockets that a BPF program has bound already: the attribute takes no port that another socket has
# needs: attr
# tool: ours
# timeout: 120
# packages: bpftool
# smp: 1
#
# The kernel binds unbound sockets in place, and does not ask whether the port is free: they had it everywhere.
# Those that a program at the bind hooks has bound had it in one VRF.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
netns_add r
vrf_add r vrf_a 1001
vrf_add r vrf_b 1002
fb_bpf
fb_keys
fb_wg0

# expect_bind_dev NAME: what wg shows, beside the sockets that ss shows.
expect_bind_dev() {
	local found
	found=$(ip netns exec r "$WG" show wg0 bind-dev)
	[ "$found" = "$1" ] || die "bound to $found, expected $1"
}

say "by a program to vrf_a, whereas another socket has the port in vrf_b"
WG_BIND_DEV_MODE=fwmark r_wg set wg0 bind-dev vrf_a
expect_on vrf_a
ip netns exec r socat -u "UDP4-RECV:$PORT,so-bindtodevice=vrf_b" /dev/null &
other=$!
on_b() {
	sockets | has -x vrf_b
}
wait_for "the other socket" on_b
r_fails "another socket has the port" -- set wg0 bind-dev vrf_b
[ "$(sockets | sort | uniq -c | tr -s ' \n' ' ')" = ' 2 vrf_a 1 vrf_b ' ] || die "$(sockets)"
expect_bind_dev vrf_a
expect_receives bound
result taken refused

say "the port is free there"
kill $other
wait $other || true
r_wg set wg0 bind-dev vrf_b
expect_on vrf_b
expect_bind_dev vrf_b
r_wg set wg0 bind-dev off
expect_on '*'

say "to the device that the program has bound them to"
WG_BIND_DEV_MODE=fwmark r_wg set wg0 bind-dev vrf_a
expect_on vrf_a
r_wg set wg0 bind-dev vrf_a
expect_on vrf_a
expect_bind_dev vrf_a
ip -n r link set wg0 down
ip -n r link set wg0 up
expect_on vrf_a
r_wg set wg0 bind-dev off
expect_on '*'
result same kept

say "a program that has bound one of the two only"
for hook in cgroup_inet4_bind cgroup_inet6_bind; do
	for vrf in vrf_a vrf_b; do
		WG_BIND_DEV_MODE=fwmark r_wg set wg0 bind-dev vrf_a
		expect_on vrf_a
		id=$(bpftool cgroup show /sys/fs/cgroup | awk -v hook=$hook '$2 == hook && /wg_bind_dev/ { print $1 }')
		bpftool cgroup detach /sys/fs/cgroup $hook id "$id"
		ip -n r link set wg0 down
		ip -n r link set wg0 up
		[ "$(sockets | sort | tr '\n' ' ')" = '* vrf_a ' ] || die "without $hook: $(sockets)"
		r_wg set wg0 bind-dev $vrf
		expect_on $vrf
		expect_bind_dev $vrf
		r_wg set wg0 bind-dev off
		expect_on '*'
	done
done
result one-only both
