#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: other people's programs, two wg at once, kill -9, a hundred devices
# needs: fallback
# tool: ours
# packages: bpftool, python3
# timeout: 300
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
port_of() {
	ip netns exec r "$WG" show "$1" listen-port
}
fb_tunnel 4

# theirs NUMBER [CGROUP]: the number of foreign programs at both hooks.
theirs() {
	[ "$(bpftool cgroup show "${2:-/sys/fs/cgroup}" | grep -c somebody)" = "$1" ] ||
		die "their programs: $(bpftool cgroup show "${2:-/sys/fs/cgroup}")"
}
theirs_are() {
	[ "$(bpftool cgroup show /sys/fs/cgroup | grep -c somebody || true)" = "$1" ]
}
their_end() {
	local id hook cgroup=${1:-/sys/fs/cgroup}
	while read -r id hook _; do
		bpftool cgroup detach "$cgroup" "$hook" id "$id"
	done < <(bpftool cgroup show "$cgroup" | grep somebody)
}

say "foreign programs are there first, and stay"
attach_somebody multi
theirs 2
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
expect_hooks 1
theirs 2
wait_for "the tunnel" ping_tunnel
r_wg set wg0 bind-dev off
expect_hooks 0
theirs 2
their_end
result beside ok

say "a foreign program comes later"
r_wg set wg0 bind-dev vrf_external
attach_somebody multi
ip -n r link set wg0 down
ip -n r link set wg0 up
expect_on vrf_external
r_wg set wg0 bind-dev off
expect_hooks 0
theirs 2
their_end
result later ok

for mode in exclusive override; do
	say "a program that allows no other ($mode): named, and as before"
	attach_somebody $mode
	r_wg set wg0 bind-dev vrf_external
	grep -q 'another program at the cgroup root allows none beside it' /tmp/err || die "the reason: $(cat /tmp/err)"
	grep -q 'sysctl -w net.ipv4.udp_l3mdev_accept=1' /tmp/err || die "the sysctl is not named"
	grep -q 'patched' /tmp/err || die "the patched module is not named"
	expect_on '*'
	expect_receives any
	expect_hooks 0
	theirs 2
	their_end
	result $mode named
done

say "links, as of Cilium: they are there first, and stay; and later ones"
r_wg set wg0 bind-dev off
attach_somebody link
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
expect_hooks 1
theirs 2
kill "$(cat /tmp/links.pid)"
wait_for "the links to be gone" theirs_are 0
attach_somebody link
ip -n r link set wg0 down
ip -n r link set wg0 up
expect_on vrf_external
wait_for "the tunnel" ping_tunnel
r_wg set wg0 bind-dev off
expect_hooks 0
theirs 2
kill "$(cat /tmp/links.pid)"
wait_for "the links to be gone" theirs_are 0
result links ok

CHILD=/sys/fs/cgroup/child
mkdir $CHILD
in_child() {
	bash -c 'echo $$ >'$CHILD'/cgroup.procs && exec "$@"' bash "$@"
}
for mode in multi override exclusive; do
	say "programs of a child cgroup ($mode), as systemd's: who ups the link is in it"
	attach_somebody $mode $CHILD
	in_child ip netns exec r "$WG" set wg0 bind-dev vrf_external
	expect_on vrf_external
	in_child ip -n r link set wg0 down
	in_child ip -n r link set wg0 up
	expect_on vrf_external
	wait_for "the tunnel" ping_tunnel
	expect_hooks 1
	theirs 2 $CHILD
	r_wg set wg0 bind-dev off
	expect_hooks 0
	theirs 2 $CHILD
	their_end $CHILD
done
rmdir $CHILD
result child ok

say "no rights to the hooks: named, and as before"
ip netns exec r setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$WG" set wg0 bind-dev vrf_external 2>/tmp/err ||
	die "it fails: $(cat /tmp/err)"
cat /tmp/err
grep -q 'CAP_SYS_ADMIN' /tmp/err || die "the reason: $(cat /tmp/err)"
expect_on '*'
result capability named
r_wg set wg0 bind-dev off

say "two at once, in one namespace and in another"
for n in 1 2 3 4; do
	ip -n r link add wga$n type wireguard
	ip netns exec r "$WG" set wga$n listen-port $((52000 + n)) private-key /tmp/r.key
	ip -n r link set wga$n up
	ip -n decoy link add wga$n type wireguard
	ip netns exec decoy "$WG" set wga$n listen-port $((52000 + n)) private-key /tmp/r.key
	ip -n decoy link set wga$n up
done
vrf_add decoy vrf_external 1023
jobs=()
for n in 1 2 3 4; do
	for ns in r decoy; do
		ip netns exec $ns "$WG" set wga$n bind-dev vrf_external 2>/tmp/err.$ns.$n &
		jobs+=($!)
	done
done
for job in "${jobs[@]}"; do
	wait "$job" || die "one failed: $(cat /tmp/err.*)"
done
expect_hooks 1
for n in 1 2 3 4; do
	expect_on vrf_external $((52000 + n))
	expect_on vrf_external $((52000 + n)) decoy
done
jobs=()
for n in 1 2 3 4; do
	for ns in r decoy; do
		ip netns exec $ns "$WG" set wga$n bind-dev off 2>/tmp/err.$ns.$n &
		jobs+=($!)
	done
done
for job in "${jobs[@]}"; do
	wait "$job" || die "one failed: $(cat /tmp/err.*)"
done
expect_hooks 0
for n in 1 2 3 4; do
	expect_on '*' $((52000 + n))
	ip -n r link del wga$n
	ip -n decoy link del wga$n
done
result at-once "8 of 8, one pair of programs"

say "no rule is left, as after a kill: unbinding takes the sockets off the VRF and clears the hooks"
delete_rules() {
	local family pref
	for family in 4 6; do
		for pref in 97 98; do
			ip -n r -$family rule del pref $pref
		done
	done
}
r_wg set wg0 bind-dev vrf_external
delete_rules
r_wg set wg0 bind-dev off
expect_on '*'
expect_hooks 0
[ "$(port_of wg0)" = $PORT ] || die "the port is $(port_of wg0)"
say "and no entry either"
r_wg set wg0 bind-dev vrf_external
for id in $(bpftool prog show | sed -n 's/^\([0-9]*\):.* name wg_bind_dev4 .*/\1/p'); do
	bpftool cgroup detach /sys/fs/cgroup cgroup_inet4_bind id "$id"
done
for id in $(bpftool prog show | sed -n 's/^\([0-9]*\):.* name wg_bind_dev6 .*/\1/p'); do
	bpftool cgroup detach /sys/fs/cgroup cgroup_inet6_bind id "$id"
done
delete_rules
expect_on vrf_external
r_wg set wg0 bind-dev off
expect_on '*'
expect_hooks 0
[ "$(port_of wg0)" = $PORT ] || die "the port is $(port_of wg0)"
r_wg set wg0 fwmark off
result left cleared

say "killed anywhere: what is left is closed or whole, and the next command mends it"
kills=0
for delay in 0.02 0.03 0.04 0.05 0.06 0.07 0.08 0.09 0.1 0.12 0.14 0.16 0.18 0.2 0.25; do
	ip netns exec r "$WG" set wg0 bind-dev vrf_external >/dev/null 2>&1 &
	sleep $delay
	kill -KILL $! 2>/dev/null && kills=$((kills + 1))
	wait $! 2>/dev/null || true
	# Bound by rules or not at all; a mark that sends nothing is neither of these.
	r_wg set wg0 bind-dev vrf_external >/dev/null || die "cannot bind after kill -9: $(cat /tmp/err)"
	expect_on vrf_external
	[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
	expect_hooks 1
	ip netns exec r "$WG" set wg0 bind-dev off >/dev/null 2>&1 &
	sleep $delay
	kill -KILL $! 2>/dev/null && kills=$((kills + 1))
	wait $! 2>/dev/null || true
	r_wg set wg0 bind-dev off >/dev/null || die "cannot unbind after kill -9: $(cat /tmp/err)"
	expect_on '*'
	[ "$(mark_of wg0)" = off ] || die "the mark is $(mark_of wg0)"
	expect_ours
	expect_hooks 0
done
[ $kills -ge 4 ] || die "only $kills were killed: this proves little"
result killed "$kills times"

DEVICES=30
say "$DEVICES devices"
for ((n = 0; n < DEVICES; n++)); do
	echo "link add wgb$n type wireguard"
	echo "link set wgb$n up"
done | ip -n r -batch -
begun=$SECONDS
for ((n = 0; n < DEVICES; n++)); do
	ip netns exec r "$WG" set wgb$n listen-port $((40000 + n)) bind-dev vrf_external 2>/tmp/err ||
		die "$n: $(cat /tmp/err)"
done
say "bound in $((SECONDS - begun)) s"
[ "$(ip netns exec r ss -lunH | grep -c '%vrf_external')" = $((2 * DEVICES)) ] ||
	die "not all are on the VRF: $(ip netns exec r ss -lunH | grep -vc '%vrf_external')"
expect_hooks 1
for ((n = 0; n < DEVICES; n++)); do
	echo "link del wgb$n"
done | ip -n r -batch -
r_wg set wg0 bind-dev off
expect_hooks 0
result devices $DEVICES
