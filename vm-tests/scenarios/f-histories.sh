#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: random histories against the kernel's own rules
# needs: fallback
# tool: ours
# packages: wireguard-tools
# timeout: 1200
# suite: long
# smp: 1
#
# The model test of src/plan/histories.rs, with fewer histories and the real kernel: after each
# command that ends with 0 the device's packets, with its mark and from its port, reach the VRF's table,
# and nothing when that has no route. What held before a command still holds after it: for the device
# itself while it is not unbound, for the other one and for one that was moved away whatever comes.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
C=/usr/bin/wg.debian
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
# The VRFs' tables, the tables that the devices are bound to (empty: not known), where the devices are.
declare -A table_of bound_to place_of
commands=0
refused=0
killed=0
moves=0
kept=0
netns_add m

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

# look NAME: its mark and port, as words for `ip route get`, in $flow.
look() {
	local mark port
	mark=$(ip netns exec "${place_of[$1]}" "$C" show "$1" fwmark)
	port=$(ip netns exec "${place_of[$1]}" "$C" show "$1" listen-port)
	flow="mark ${mark/off/0} ipproto udp sport $port"
}

# find_hole NAME TABLE: says what is wrong where its packets do not reach the table, or reach another
# when it is empty.
find_hole() {
	local family target
	look "$1"
	way "$2"
	for family in 4 6; do
		target=$PEER4
		[ $family = 4 ] || target=$PEER6
		# shellcheck disable=SC2086 # words
		ip -n r -$family route get "$target" $flow >/tmp/way 2>&1 || true
		grep -q "table $2" /tmp/way || echo "IPv$family: $1 ($flow) does not reach $2: $(cat /tmp/way)"
	done
	no_way "$2"
	for family in 4 6; do
		target=$PEER4
		[ $family = 4 ] || target=$PEER6
		# shellcheck disable=SC2086 # words
		! ip -n r -$family route get "$target" $flow >/tmp/way 2>&1 || echo "IPv$family: $1 ($flow) is open: $(cat /tmp/way)"
	done
	way "$2"
}

# holds NAME TABLE
holds() {
	local hole
	hole=$(find_hole "$@")
	[ -z "$hole" ] || die "$hole; $history; $(all_rules)"
}

# note_held: which devices are held now, in $held.
note_held() {
	local name
	held=
	for name in "${devices[@]}"; do
		[ -z "${bound_to[$name]}" ] || [ -n "$(find_hole "$name" "${bound_to[$name]}")" ] || held+=" $name"
	done
}

# still_held [NAME]: what was held and was not unbound is held; NAME is left out.
still_held() {
	local name
	for name in $held; do
		[[ $name != "${1:-}" && -n ${bound_to[$name]} ]] || continue
		holds "$name" "${bound_to[$name]}"
		kept=$((kept + 1))
	done
}

# try WORDS...: a command, at times killed before it ends.
try() {
	local code=0
	WAS_KILLED=
	history+="; ${mode:-auto} wg $*"
	if [ $((RANDOM % 5)) = 0 ]; then
		killed=$((killed + 1))
		history+=" (killed)"
		WAS_KILLED=1
		timeout -s KILL "0.0$((RANDOM % 10))" ip netns exec "$where" \
			env WG_BIND_DEV_MODE="${mode:-auto}" "$WG" "$@" >/tmp/out 2>&1 || code=$?
	else
		ip netns exec "$where" env WG_BIND_DEV_MODE="${mode:-auto}" "$WG" "$@" >/tmp/out 2>&1 || code=$?
	fi
	commands=$((commands + 1))
	[ $code = 0 ] || refused=$((refused + 1))
	return $code
}

# own_port NAME: the port that a device begins and ends with.
own_port() {
	echo $((51006 + n % 2 + ${1#wg}))
}

for n in $(seq $HISTORIES); do
	history="history $n"
	for name in "${devices[@]}"; do
		fb_wg0 "$name" "$(own_port "$name")"
		place_of[$name]=r
		bound_to[$name]=
	done
	vrf_new vrf_a 1023
	vrf_new vrf_b 2000
	theirs=()
	for _ in $(seq $EVENTS); do
		pick "${devices[@]}"
		name=$picked
		pick vrf_a vrf_b
		vrf=$picked
		note_held
		where=${place_of[$name]}
		mode=
		pick bind bind bind bind mark unbind rule rule delete vrf move move
		[[ $where = r || $picked != bind && $picked != unbind ]] || picked=move
		case $picked in
		bind)
			pick "" "" "" "fwmark 0x77" "fwmark off" "listen-port 51020"
			words=$picked
			pick auto auto fwmark port
			mode=$picked
			[ -n "${table_of[$vrf]}" ] || continue
			# shellcheck disable=SC2086
			if try set "$name" bind-dev $vrf $words; then
				bound_to[$name]=${table_of[$vrf]}
				holds "$name" "${table_of[$vrf]}"
			elif [ -n "$WAS_KILLED" ]; then
				bound_to[$name]=
			fi
			still_held "$name"
			;;
		mark)
			pick 0x42 0x77 off
			# What fails may have changed nothing; what is killed may be between two bindings.
			if try set "$name" fwmark "$picked" || [ -z "$WAS_KILLED" ]; then
				still_held
			else
				still_held "$name"
			fi
			;;
		unbind)
			if try set "$name" bind-dev off || [ -n "$WAS_KILLED" ]; then
				bound_to[$name]=
			fi
			still_held
			;;
		move)
			moves=$((moves + 1))
			to=m
			[ "$where" = r ] || to=r
			history+="; $name goes to $to"
			ip -n "$where" link set "$name" netns $to
			place_of[$name]=$to
			# The other one may have its port.
			[ $((RANDOM % 4)) = 0 ] || ip -n $to link set "$name" up 2>/dev/null || history+=" and stays down"
			still_held
			;;
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
		[ "${place_of[$name]}" = r ] || ip -n m link set "$name" netns r
		ip -n r link set "$name" up 2>/dev/null || history+="; $name stays down"
	done
	for name in "${devices[@]}"; do
		# Two that had one port in two VRFs cannot both have it without.
		ip netns exec r "$WG" set "$name" bind-dev off fwmark off listen-port "$(own_port "$name")" >/tmp/out 2>&1 || die "$(cat /tmp/out); $history"
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
say "$moves moves; $kept times what was held was held after a command or a move"
result moves $moves
result kept $kept
[[ $moves -gt 20 && $kept -gt 50 ]] || die "hardly anything was moved or held"
[ $((commands - refused)) -gt $((commands / 2)) ] || die "most were refused"
