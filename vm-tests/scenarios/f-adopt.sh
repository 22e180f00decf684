#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: an administrator's own rules are used, completed, and left alone
# needs: fallback
# tool: ours
# timeout: 90
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4

# theirs FAMILIES WORDS...: adds the administrator's rule, binds, checks, unbinds.
theirs() {
	local families=$1 mark=$2 family
	shift
	local words=("$@")
	say "fwmark ${words[*]}, IPv$families"
	for family in $families; do
		ip -n r "-$family" rule add fwmark "${words[@]}"
	done
	all_rules >/tmp/theirs
	r_wg set wg0 bind-dev vrf_external
	[ "$(mark_of wg0)" = "${mark%/*}" ] || die "the mark of their rule was not taken: $(mark_of wg0)"
	for family in 4 6; do
		ip -n r "-$family" rule show
		ours $family | has 'unreachable$' || die "IPv$family has no closing rule of ours"
		case " $families " in
		*" $family "*) ! ours $family | has lookup || die "a twin in IPv$family" ;;
		*) ours $family | has 'lookup 1023$' || die "IPv$family was not completed" ;;
		esac
	done
	expect_bind vrf_external
	wait_for "the tunnel" ping_tunnel
	# Twice is once.
	all_rules >/tmp/bound
	r_wg set wg0 bind-dev vrf_external
	all_rules | diff /tmp/bound - || die "bound twice is not bound once"
	# Closed: no route in the VRF's table, and main's does not count.
	ip -n r route del default via 198.51.100.1 dev wan0 table 1023
	ip -n r route del table 1023 unreachable default metric 4278198272
	! ip -n r route get $PEER4 mark "${mark%/*}" || die "marked packets fall through to main"
	ip -n r route add default via 198.51.100.1 dev wan0 table 1023
	ip -n r route add table 1023 unreachable default metric 4278198272
	r_wg set wg0 bind-dev off
	grep -q 'not ours' /tmp/err || die "it is not said that their rule still acts on the mark"
	all_rules | diff /tmp/theirs - || die "their rules changed"
	for family in $families; do
		ip -n r "-$family" rule del fwmark "${words[@]}"
	done
	r_wg set wg0 fwmark off
}

theirs "4 6" 0x1023 table 1023
theirs "4" 0x1023 table 1023
theirs "6" 0x1023 table 1023
theirs "4 6" 0x1023/0xffff table 1023
theirs "4 6" 0x1023 table 1023 pref 50
theirs "4 6" 0x1023 table 1023 pref 5000
theirs "4 6" 0x1023 iif lo table 1023
all_rules | has 'proto 119' && die "something of ours stays"
result adopted ok

say "their rule comes behind one that would capture: ours goes in front, theirs stays"
ip -n r rule add fwmark 0x1023 table 1023 pref 5000
ip -n r rule add table main pref 4000
r_wg set wg0 bind-dev vrf_external
ip -n r rule show
[ "$(ours 4 | wc -l)" = 2 ] || die "no pair in front"
ip -n r route get $PEER4 mark 0x1023 | has 'table 1023' || die "captured by main"
ip -n r rule show | has '^5000:.*fwmark 0x1023 lookup 1023' || die "theirs is gone"
r_wg set wg0 bind-dev off
result in-front ok
