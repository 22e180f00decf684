#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: where it cannot be had: container, no cgroup v2, a full hook, lockdown
# needs: fallback
# tool: ours
# packages: bpftool, python3
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
fb_tunnel 4

# expect_named REASON: bound by rules, with the reason for which the sockets are not, and both remedies.
expect_named() {
	grep -q "$1" /tmp/err || die "the reason, '$1', is not said: $(cat /tmp/err)"
	grep -q 'sysctl -w net.ipv4.udp_l3mdev_accept=1' /tmp/err || die "the sysctl is not named: $(cat /tmp/err)"
	grep -q 'a patched wireguard module' /tmp/err || die "the patched module is not named"
	[ "$(grep -c "$1" /tmp/err)" = 1 ] || die "it is said more than once: $(cat /tmp/err)"
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
	expect_on '*'
}

say "from a container, where a child of the tree passes for its root"
mkdir -p /sys/fs/cgroup/box
nsenter --net=/run/netns/r unshare --pid --fork --mount --mount-proc bash -c '
	mount --bind /sys/fs/cgroup/box /sys/fs/cgroup
	exec "$@"' bash "$WG" set wg0 bind-dev vrf_external 2>/tmp/err || die "it fails: $(cat /tmp/err)"
cat /tmp/err
expect_named 'the root of the cgroup tree is not in sight: this is a container'
expect_hooks 0
r_wg set wg0 bind-dev off
result container named

say "with 64 programs of others at each hook"
for ((n = 0; n < 64; n++)); do
	attach_somebody multi
done
r_wg set wg0 bind-dev vrf_external
expect_named 'has all the programs that it takes (64)'
expect_hooks 0
[ "$(bpftool cgroup show /sys/fs/cgroup | grep -c somebody)" = 128 ] || die "theirs are touched"
while read -r id hook _; do
	bpftool cgroup detach /sys/fs/cgroup "$hook" id "$id"
done < <(bpftool cgroup show /sys/fs/cgroup | grep somebody)
r_wg set wg0 bind-dev off
result full named

say "without cgroup v2; nothing is mounted for it"
grep cgroup /proc/mounts >/tmp/mounts
umount -l /sys/fs/cgroup
r_wg set wg0 bind-dev vrf_external
expect_named 'there is no cgroup v2 tree with bind hooks'
[ "$(grep -c cgroup2 /proc/mounts || true)" = 0 ] || die "it was mounted"
r_wg set wg0 bind-dev off
mount -t cgroup2 none /sys/fs/cgroup
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
result cgroup2 named

say "the tree goes out of sight while its hooks bind: that they do is known from the programs"
umount -l /sys/fs/cgroup
ip -n r link set wg0 down
r_wg set wg0 bind-dev off
grep -q 'cannot be seen: the root of the cgroup tree is not in sight' /tmp/err || die "no word of the entry that stays: $(cat /tmp/err)"
ip -n r link set wg0 up
expect_on vrf_external
r_fails 'bound to vrf_external, and would stay so' -- set wg0 bind-dev off
mount -t cgroup2 none /sys/fs/cgroup
r_wg set wg0 bind-dev off
expect_on '*'
expect_hooks 0
result out-of-sight told

[ -e /sys/kernel/security/lockdown ] || mount -t securityfs none /sys/kernel/security 2>/tmp/err || true
if [ -w /sys/kernel/security/lockdown ]; then
	say "locked down: a process's sockets cannot be told from the kernel's"
	echo confidentiality >/sys/kernel/security/lockdown
	unset WG_BIND_DEV_RECEIVE
	r_wg set wg0 bind-dev vrf_external
	expect_named 'the kernel is locked down (confidentiality)'
	expect_hooks 0
	say "who accepts that gets it"
	WG_BIND_DEV_RECEIVE=bound r_wg set wg0 bind-dev vrf_external
	expect_on vrf_external
	expect_receives bound
	r_wg set wg0 bind-dev off
	expect_on '*'
	expect_hooks 0
	result lockdown named
else
	result lockdown "not in this kernel"
fi
