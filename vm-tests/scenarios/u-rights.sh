#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: least privilege: what each verb does, and says, for a user who has CAP_NET_ADMIN alone, and more of what it may take
# needs: any
# tool: ours
# timeout: 200
# smp: 1
# suite: users
#
# The table of SECURITY.md, as a service with User= and AmbientCapabilities= sees it.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
vrf_add r vrf_b 2000
fb_tunnel 4

conf() {
	printf '[Interface]\nPrivateKey = %s\nListenPort = %s\n%s\n' "$(cat /tmp/r.key)" $PORT "$1"
	printf '[Peer]\nPublicKey = %s\nAllowedIPs = %s.0/24\nEndpoint = %s:%s\n' "${PUB[peer]}" $TUNNEL $PEER4 $PEER_PORT
}
conf "BindDev = vrf_external" >/tmp/bind.conf
conf "" >/tmp/plain.conf
printf '[Peer]\nPublicKey = %s\nPersistentKeepalive = 9\n' "${PUB[peer]}" >/tmp/peer.conf

# state: the binding, the mark, how many rules of ours and how many sockets on a VRF. Root sees it.
state() {
	echo "$(root show wg0 bind-dev)" "$(mark_of wg0)" "$(all_rules | grep -c 'proto 119' || true)" \
		"$(ip netns exec r ss -lunH "sport = :$PORT" | grep -c '%vrf_' || true)"
}
root() {
	ip netns exec r "$WG" "$@" 2>/tmp/root.err
}
OFF="off off 0 0"
if has_attr; then
	BOUND="vrf_external off 0 2"
	BOUND_B="vrf_b off 0 2"
else
	BOUND="vrf_external 0x770000ff 4 2"
	BOUND_B="vrf_b 0x770000d0 4 2"
	RULES="vrf_external 0x770000ff 4 0"
fi

# start STATE: root makes it.
start() {
	[ "$(state)" != "$1" ] || return 0
	root set wg0 bind-dev off || die "root: $(cat /tmp/root.err)"
	case $1 in
	"$OFF") ;;
	"$BOUND") root set wg0 bind-dev vrf_external ;;
	*) WG_BIND_DEV_RECEIVE=any root set wg0 bind-dev vrf_external ;;
	esac
	[ "$(state)" = "$1" ] || die "the start is '$(state)' instead of '$1'"
}

# CAPS: what the user has, with commas. Not by ip netns exec: it mounts a /sys without cgroups.
as_user() {
	local set="-all${CAPS:+,+${CAPS//,/,+}}"
	nsenter --net=/run/netns/r setpriv --reuid=65534 --regid=65534 --clear-groups \
		--inh-caps="$set" --ambient-caps="$set" "$WG" "$@"
}

# expect CODE BEFORE AFTER SAYS COMMAND...
expect() {
	local code=0 wanted=$1 before=$2 after=$3 says=$4
	shift 4
	start "$before"
	as_user "$@" >/tmp/out 2>/tmp/err || code=$?
	echo "[$CAPS] wg $*: $code: $(cut -c1-200 /tmp/err | tr '\n' ' ')"
	[ $code = "$wanted" ] || die "[$CAPS] wg $*: exit $code instead of $wanted: $(cat /tmp/err)"
	[ "$(state)" = "$after" ] || die "[$CAPS] wg $*: '$(state)' instead of '$after'"
	grep -qF -- "$says" /tmp/err || [ -z "$says" ] || die "[$CAPS] wg $*: '$says' is not in: $(cat /tmp/err)"
}

say "nothing: nothing of a kernel interface"
CAPS=
for words in "show wg0" "showconf wg0" "set wg0 listen-port 51009" "set wg0 bind-dev vrf_b" "set wg0 bind-dev off" \
	"setconf wg0 /tmp/bind.conf" "syncconf wg0 /tmp/bind.conf" "addconf wg0 /tmp/peer.conf"; do
	# shellcheck disable=SC2086 # words
	expect 1 "$BOUND" "$BOUND" CAP_NET_ADMIN $words
done
as_user show interfaces | has -x wg0 || die "show interfaces"
result none "show interfaces only"

say "CAP_NET_ADMIN: all that leaves a binding as it is"
CAPS=net_admin
expect 0 "$BOUND" "$BOUND" "" show wg0
grep -q '^  bind device: vrf_external' /tmp/out || die "$(cat /tmp/out)"
expect 0 "$BOUND" "$BOUND" "" showconf wg0
grep -qx 'BindDev = vrf_external' /tmp/out || die "$(cat /tmp/out)"
expect 0 "$BOUND" "$BOUND" "" set wg0 peer "${PUB[peer]}" persistent-keepalive 7
[ "$(root show wg0 persistent-keepalive | cut -f2)" = 7 ] || die "set changed nothing"
expect 0 "$BOUND" "$BOUND" "" addconf wg0 /tmp/peer.conf
[ "$(root show wg0 persistent-keepalive | cut -f2)" = 9 ] || die "addconf changed nothing"
expect 0 "$BOUND" "$BOUND" "" setconf wg0 /tmp/bind.conf
expect 0 "$BOUND" "$BOUND" "" syncconf wg0 /tmp/bind.conf
wait_for "the tunnel" ping_tunnel

if has_attr; then
	say "and with the attribute all of a binding, too"
	expect 0 "$OFF" "$BOUND" "" set wg0 bind-dev vrf_external
	expect 0 "$BOUND" "$BOUND_B" "" set wg0 bind-dev vrf_b
	expect 0 "$BOUND" "$OFF" "" set wg0 bind-dev off
	expect 0 "$BOUND" "$OFF" "" setconf wg0 /tmp/plain.conf
	expect 0 "$OFF" "$BOUND" "" setconf wg0 /tmp/bind.conf
	result rights "CAP_NET_ADMIN"
	exit 0
fi

no_hooks="the bind hooks take root of the host, with CAP_SYS_ADMIN"
stay="the rules for fwmark 0x770000ff stay: it cannot be told"
# What CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE add: nothing. Nor does CAP_SYS_ADMIN for who is not root: the
# kernel's /proc/vmallocinfo and other users' /proc/PID/fd take CAP_DAC_READ_SEARCH.
for CAPS in net_admin net_admin,bpf,perfmon,sys_ptrace net_admin,sys_ptrace,sys_admin; do
	say "$CAPS: binds by rules only, and cannot tell whether they are needed"
	expect 0 "$OFF" "$RULES" "$no_hooks" set wg0 bind-dev vrf_external
	expect 0 "$RULES" "vrf_b 0x770000d0 8 0" "$stay" set wg0 bind-dev vrf_b
	expect 0 "$RULES" "off off 4 0" "$stay" set wg0 bind-dev off
	expect 1 "$BOUND" "$BOUND" "its sockets are bound to vrf_external, and would stay so" set wg0 bind-dev vrf_b
	expect 1 "$BOUND" "$BOUND" "its sockets are bound to vrf_external, and would stay so" set wg0 bind-dev off
	expect 1 "$BOUND" "$BOUND" "its sockets are bound to vrf_external, and would stay so" setconf wg0 /tmp/plain.conf
done
result without-hooks "by rules; they stay"

CAPS=net_admin,sys_admin,dac_read_search
say "$CAPS: the bind hooks, but not the rules"
expect 0 "$OFF" "$BOUND" "" set wg0 bind-dev vrf_external
expect 0 "$BOUND" "vrf_b 0x770000d0 8 2" "$stay" set wg0 bind-dev vrf_b
expect 0 "$BOUND" "off off 4 0" "$stay" set wg0 bind-dev off
CAPS=net_admin,sys_admin,dac_read_search,sys_ptrace
say "$CAPS: all"
expect 0 "$OFF" "$BOUND" "" set wg0 bind-dev vrf_external
expect 0 "$BOUND" "$BOUND_B" "" set wg0 bind-dev vrf_b
expect 0 "$BOUND" "$OFF" "" set wg0 bind-dev off
expect 0 "$OFF" "$BOUND" "" setconf wg0 /tmp/bind.conf
expect 0 "$BOUND" "$OFF" "" setconf wg0 /tmp/plain.conf
result rights "$CAPS"
