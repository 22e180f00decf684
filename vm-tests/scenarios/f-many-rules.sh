#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a bind beside 0, 100 and 10 000 rules of others: what it takes, and their rules stay
# needs: fallback
# tool: ours
# packages: strace
# timeout: 600
# smp: 1
# suite: long
#
# The rules of each family are asked for in one dump, whatever their number. How long that takes is the
# kernel's affair: it is shown beside what `ip rule` takes.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
fb_tunnel 4
TIMEFORMAT=%R

# rules FIRST END: a pair of foreign rules each, in both families, behind the l3mdev rule. With a mark,
# so that each has to be looked at.
rules() {
	local n
	for ((n = $1; n < $2; n++)); do
		echo "rule add pref $((5000 + n)) fwmark $((0x100000 + n)) lookup $((100000 + n))"
	done >/tmp/batch
	ip -n r -batch /tmp/batch
	! has_ipv6 || ip -n r -6 -batch /tmp/batch
}

# count_calls WORDS...: CALLS of a command that succeeds.
count_calls() {
	ip netns exec r strace -f -c -o /tmp/calls "$WG" "$@" 2>/tmp/err || die "$*: $(cat /tmp/err)"
	CALLS=$(awk '$NF == "total" { print $4 }' /tmp/calls)
	[ "$CALLS" -gt 0 ] || die "strace counted nothing: $(cat /tmp/calls)"
}

have=0
for number in 0 100 10000; do
	rules $have $number
	have=$number
	ip -n r rule show >/tmp/before4
	ip -n r -6 rule show >/tmp/before6
	[ "$(wc -l </tmp/before4)" -ge "$number" ] || die "$(wc -l </tmp/before4) rules"
	listed=$({ time ip -n r rule show >/tmp/listed; } 2>&1)
	bound=$({ time ip netns exec r "$WG" set wg0 bind-dev vrf_external 2>/tmp/err; } 2>&1) || die "bind: $(cat /tmp/err)"
	wait_for "the tunnel" ping_tunnel
	shown=$({ time ip netns exec r "$WG" show wg0 >/tmp/shown; } 2>&1)
	unbound=$({ time ip netns exec r "$WG" set wg0 bind-dev off 2>/tmp/err; } 2>&1) || die "unbind: $(cat /tmp/err)"
	count_calls set wg0 bind-dev vrf_external
	expect_bind vrf_external
	grep -q 'bind device: vrf_external' /tmp/shown || die "not shown as bound: $(cat /tmp/shown)"
	result "rules_$number" "bind $bound s, $CALLS calls; show $shown s; unbind $unbound s; ip rule $listed s"
	[ $number != 0 ] || none=$CALLS
	ip netns exec r "$WG" set wg0 bind-dev off 2>/tmp/err || die "unbind: $(cat /tmp/err)"
	ip -n r rule show | cmp - /tmp/before4 || die "a foreign rule is not what it was"
	ip -n r -6 rule show | cmp - /tmp/before6 || die "a foreign IPv6 rule is not what it was"
done
# An answer holds about a hundred rules.
[ "$CALLS" -le $((none + 10000 / 20)) ] || die "$none calls without foreign rules, $CALLS with 10 000"
