#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: random histories against the kernel's own rules
# needs: fallback
# tool: ours
# timeout: 500
# suite: long
# smp: 1
#
# The model test of src/plan/histories.rs, with fewer histories and the real kernel: after each
# command that ends with 0 the mark reaches the VRF's table, and nothing when that has no route.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
HISTORIES=25
EVENTS=10
RANDOM=20261125
fb_topology
accept
fb_keys
ip -n r link del vrf_external
ip -n r link add wan1 type dummy
ip -n r link set wan1 up
tables=(1023 2000 1279 7)
devices=(wg0 wg2)
declare -A table_of
commands=0
refused=0
killed=0

# pick WORDS...: one of them, in $picked.
pick() {
	shift $((RANDOM % $#))
	picked=$1
}

# vrf_new NAME TABLE: a VRF whose table has a route in both families.
vrf_new() {
	ip -n r link add "$1" type vrf table "$2"
	ip -n r link set "$1" up
	table_of[$1]=$2
	way "$2"
}

# way TABLE: the routes of a table that the checks take away.
way() {
	ip -n r route replace default dev wan1 table "$1"
	ip -n r -6 route replace default dev wan1 table "$1" metric 1
}

no_way() {
	ip -n r route flush table "$1"
	ip -n r -6 route flush table "$1"
}

# holds MARK TABLE: the mark reaches the table, and nothing when it is empty.
holds() {
	local family target
	way "$2"
	for family in 4 6; do
		target=$PEER4
		[ $family = 4 ] || target=$PEER6
		ip -n r -$family route get "$target" mark "$1" >/tmp/way 2>&1 || true
		grep -q "table $2" /tmp/way || die "IPv$family: mark $1 does not reach $2: $(cat /tmp/way); $history; $(all_rules)"
	done
	no_way "$2"
	for family in 4 6; do
		target=$PEER4
		[ $family = 4 ] || target=$PEER6
		! ip -n r -$family route get "$target" mark "$1" >/tmp/way 2>&1 ||
			die "IPv$family: mark $1 is open: $(cat /tmp/way); $history; $(all_rules)"
	done
	way "$2"
}

# try WORDS...: a command, at times killed before it ends.
try() {
	local code=0
	history+="; wg $*"
	if [ $((RANDOM % 5)) = 0 ]; then
		killed=$((killed + 1))
		history+=" (killed)"
		timeout -s KILL "0.0$((RANDOM % 10))" ip netns exec r "$WG" "$@" >/tmp/out 2>&1 || code=$?
	else
		ip netns exec r "$WG" "$@" >/tmp/out 2>&1 || code=$?
	fi
	commands=$((commands + 1))
	[ $code = 0 ] || refused=$((refused + 1))
	return $code
}

for n in $(seq $HISTORIES); do
	history="history $n"
	for name in "${devices[@]}"; do
		fb_wg0 "$name" $((51000 + n % 2 + 2 * ${#name} + ${name#wg}))
	done
	vrf_new vrf_a 1023
	vrf_new vrf_b 2000
	theirs=()
	for _ in $(seq $EVENTS); do
		pick "${devices[@]}"
		name=$picked
		pick vrf_a vrf_b
		vrf=$picked
		pick bind bind bind bind mark unbind rule rule delete vrf
		case $picked in
		bind)
			pick "" "" "" "fwmark 0x77" "fwmark off"
			# shellcheck disable=SC2086
			if [ -n "${table_of[$vrf]}" ] && try set "$name" bind-dev $vrf $picked; then
				holds "$(mark_of "$name")" "${table_of[$vrf]}"
			fi
			;;
		mark)
			pick 0x42 0x77 off
			try set "$name" fwmark "$picked" || true
			;;
		unbind) try set "$name" bind-dev off || true ;;
		rule)
			pick "" "" "" "pref 1" "pref 97" "pref 98" "pref 60" "pref 4294967295"
			rule=$picked
			pick "to $PEER4 lookup main" "lookup main suppress_prefixlength 0" \
				"not fwmark 0x42 lookup 900" "fwmark 0x77 lookup 1023" "lookup main"
			rule="$picked $rule"
			pick -4 -6
			[ "$picked" = -4 ] || [[ $rule != to* ]] || continue
			history+="; ip $picked rule add $rule"
			# shellcheck disable=SC2086
			! ip -n r $picked rule add $rule 2>/dev/null || theirs+=("$picked rule del $rule")
			;;
		delete)
			[ ${#theirs[@]} -gt 0 ] || continue
			history+="; ip ${theirs[-1]}"
			# shellcheck disable=SC2086
			ip -n r ${theirs[-1]}
			unset 'theirs[-1]'
			;;
		vrf)
			history+="; $vrf made again"
			[ -z "${table_of[$vrf]}" ] || ip -n r link del $vrf
			table_of[$vrf]=
			pick "${tables[@]}"
			[[ " ${table_of[*]} " == *" $picked "* ]] || vrf_new $vrf "$picked"
			;;
		esac
	done
	for rule in "${theirs[@]}"; do
		# shellcheck disable=SC2086
		ip -n r $rule
	done
	for name in "${devices[@]}"; do
		ip netns exec r "$WG" set "$name" bind-dev off fwmark off >/tmp/out 2>&1 || die "$(cat /tmp/out); $history"
	done
	! all_rules | has 'proto 119' || die "rules of ours stay: $(all_rules); $history"
	for name in "${devices[@]}"; do
		ip -n r link del "$name"
	done
	for vrf in vrf_a vrf_b; do
		[ -z "${table_of[$vrf]}" ] || ip -n r link del $vrf
	done
done
say "$HISTORIES histories, $commands commands, $refused refused or killed of which $killed were to be killed"
result histories $HISTORIES
result commands $commands
[ $((commands - refused)) -gt $((commands / 2)) ] || die "most were refused"
