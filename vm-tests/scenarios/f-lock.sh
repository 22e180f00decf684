#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: two commands at once, and nobody without privileges, hold the lock
# needs: fallback
# tool: ours
# packages: util-linux
# timeout: 420
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
lock=/proc/sys/net/ipv4/tcp_fastopen_key
fb_topology
accept
fb_keys
fb_wg0
all_rules >/tmp/before
nobody=(setpriv --reuid 65534 --clear-groups --inh-caps=-all --bounding-set=-all)

say "a process without privileges cannot take it"
! ip netns exec r "${nobody[@]}" flock -n $lock true || die "taken without privileges"
ip netns exec r "${nobody[@]}" flock /proc/self/ns/net sleep 60 &
holder=$!
wait_for "the namespace file to be locked" sh -c "! ip netns exec r flock -n /proc/self/ns/net true"
r_wg set wg0 bind-dev vrf_external
r_wg set wg0 bind-dev off
kill $holder
result unprivileged refused

say "held by root: nothing is changed, and that is said"
ip netns exec r flock $lock sleep 120 &
holder=$!
wait_for "the lock to be held" sh -c "! ip netns exec r flock -n $lock true"
r_fails "holds the lock" -- set wg0 bind-dev vrf_external
all_rules | diff /tmp/before - || die "rules without the lock"
say "also from another mount namespace"
! ip netns exec r unshare -m flock -n $lock true || die "two at once"
say "another namespace has another lock"
ip -n peer link add wg5 type wireguard
ip netns exec peer "$WG" set wg5 fwmark 7
pkill -P $holder sleep || kill $holder
wait $holder || true
r_wg set wg0 bind-dev vrf_external
r_wg set wg0 bind-dev off
result held refused

say "no lock to be had: no rule is changed"
if ip netns exec r unshare -m bash -c "mount -t tmpfs none /proc/sys && '$WG' set wg0 bind-dev vrf_external" 2>/tmp/err; then
	die "bound without a lock"
fi
cat /tmp/err
grep -q 'Cannot lock' /tmp/err || die "the reason is not said"
all_rules | diff /tmp/before - || die "rules without the lock"
say "but a mark without rules is set, as the reference does"
ip netns exec r unshare -m bash -c "mount -t tmpfs none /proc/sys && '$WG' set wg0 fwmark 9"
r_wg set wg0 fwmark off
result no-lock refused

say "a mark beside a binding: one after the other, 40 rounds"
for round in $(seq 40); do
	ip netns exec r "$WG" set wg0 bind-dev vrf_external 2>/tmp/err.0 &
	first=$!
	ip netns exec r "$WG" set wg0 fwmark 5 2>/tmp/err.1 &
	second=$!
	wait $first || die "round $round: $(cat /tmp/err.0)"
	wait $second || die "round $round: $(cat /tmp/err.1)"
	expect_bind vrf_external
	expect_ours "97 fwmark 0x5 lookup 1023" "98 fwmark 0x5 unreachable"
	r_wg set wg0 bind-dev off fwmark off
	all_rules | diff /tmp/before - || die "rules stay"
done
result beside 40
