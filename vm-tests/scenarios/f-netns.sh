#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: devices moved between namespaces
# needs: fallback
# tool: ours
# timeout: 90
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4
netns_add box
all_rules >/tmp/before

say "bound here, moved away: the sockets are here, and so are the rules"
r_wg set wg0 bind-dev vrf_external
ip -n r link set wg0 netns box
ip -n box addr add $TUNNEL.1/24 dev wg0
ip -n box link set wg0 up
watch
wait_for "the tunnel from the box" ip netns exec box ping -n -c1 -W2 $TUNNEL.2
say "another device's unbinding does not pull the rules from under it"
fb_wg0 wg2 51003
r_wg set wg2 bind-dev vrf_external
r_wg set wg2 bind-dev off
grep -q 'another network namespace' /tmp/err || die "it is not said why rules stay"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
wait_for "the tunnel from the box, still" ip netns exec box ping -n -c1 -W2 $TUNNEL.2
say "nor where only a mount outside of /run/netns keeps that namespace"
: >/tmp/hidden
mount --bind /run/netns/box /tmp/hidden
umount /run/netns/box
for dev in vrf_external off; do
	r_wg set wg2 bind-dev $dev
done
grep -q 'another network namespace' /tmp/err || die "it is not said why rules stay: $(cat /tmp/err)"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
wait_for "the tunnel from the hidden box" nsenter --net=/tmp/hidden ping -n -c1 -W2 $TUNNEL.2
mount --bind /tmp/hidden /run/netns/box
umount /tmp/hidden
say "nor does that from a container, where the box does not show"
contained() {
	ip netns exec "$1" unshare --pid --fork --mount-proc bash -c 'mount -t tmpfs none /run && "$@"' bash "$WG" "${@:2}" 2>/tmp/err
}
# Its sockets are not bound: a container may not change that.
WG_BIND_DEV_RECEIVE=any r_wg set wg2 bind-dev vrf_external
contained r set wg2 bind-dev off || die "it fails: $(cat /tmp/err)"
grep -q 'cannot be told' /tmp/err || die "it is not said why rules stay: $(cat /tmp/err)"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
say "a device that came into a container and is down keeps the mark"
fb_wg0 wg3 51004
r_wg set wg3 bind-dev vrf_external
ip -n r link set wg3 netns box
echo '[Interface]' >/tmp/nothing.conf
contained box setconf wg3 /tmp/nothing.conf || die "it fails: $(cat /tmp/err)"
grep -q 'may bind it in' /tmp/err || die "it is not said: $(cat /tmp/err)"
[ "$(ip netns exec box "$WG" show wg3 fwmark)" = $MARK ] || die "the mark went"
say "nor is it bound there, where the rules that hold it are none of its mark"
vrf_add box vrf_other 900
if ip netns exec box "$WG" set wg3 bind-dev vrf_other 2>/tmp/err; then
	die "bound twice"
fi
grep -q 'set it up first' /tmp/err || die "the reason is not said: $(cat /tmp/err)"
[ "$(ip netns exec box "$WG" show wg3 fwmark)" = $MARK ] || die "the mark went"
ip -n box link del vrf_other
ip -n box link del wg3
wait_for "the tunnel from the box, still" ip netns exec box ping -n -c1 -W2 $TUNNEL.2
result moved-after ok

say "moved first: rules in the box cannot reach its sockets, so none are made"
vrf_add box vrf_box 1023
ip -n box rule show >/tmp/box.before
if ip netns exec box "$WG" set wg0 bind-dev vrf_box 2>/tmp/err; then
	die "bound where it cannot work"
fi
cat /tmp/err
grep -q 'where it was created' /tmp/err || die "the reason is not said"
ip -n box rule show | diff /tmp/box.before - || die "rules in the box"
result moved-before refused

say "what the box states does not open it: a file without FwMark and BindDev, and fwmark off"
box_wg() {
	local code=0
	ip netns exec box "$WG" "$@" 2>/tmp/err || code=$?
	cat /tmp/err
	return $code
}
ip netns exec box "$WG" showconf wg0 | grep -v 'BindDev\|FwMark\|ListenPort' >/tmp/box.conf
for words in "syncconf wg0 /tmp/box.conf" "setconf wg0 /tmp/box.conf" "set wg0 fwmark 0"; do
	box_wg $words || die "$words fails"
	grep -q 'stays bound by fwmark' /tmp/err || die "$words: not said"
	[ "$(ip netns exec box "$WG" show wg0 fwmark)" = $MARK ] || die "$words took the mark"
	[ "$(ip netns exec box "$WG" show wg0 listen-port)" = $PORT ] || die "$words took the port"
	wait_for "the tunnel after $words" ip netns exec box ping -n -c1 -W2 $TUNNEL.2
done
for words in "set wg0 bind-dev off" "set wg0 fwmark 7"; do
	if box_wg $words; then
		die "$words works from here"
	fi
	grep -q 'where it was made' /tmp/err || die "$words: the reason is not said"
	[ "$(ip netns exec box "$WG" show wg0 fwmark)" = $MARK ] || die "$words took the mark"
done
result box-states refused

say "nor does one that is not bound get a port there by which rules at home bind another one"
WG_BIND_DEV_MODE=port r_wg set wg2 bind-dev vrf_external
fb_wg0 wg4 51005
ip -n r link set wg4 netns box
ip -n box link set wg4 up
if box_wg set wg4 listen-port 51003; then
	die "it got the port of wg2"
fi
grep -q 'where wg4 was made' /tmp/err || die "the reason is not said: $(cat /tmp/err)"
box_wg set wg4 listen-port 51006 || die "nor another one"
[ "$(ip netns exec box "$WG" show wg4 listen-port)" = 51006 ] || die "it has no port"
ip -n box link del wg4
result moved-unbound refused

say "moved back, with its index taken meanwhile: unbound here, nothing stays"
index=$(ip netns exec box cat /sys/class/net/wg0/ifindex)
ip -n r link add taken index "$index" type dummy
ip -n box link set wg0 netns r
[ "$(ip netns exec r cat /sys/class/net/wg0/ifindex)" != "$index" ] || die "the index was free"
ip -n r link set wg0 up
r_wg set wg0 bind-dev off
[ "$(mark_of wg0)" = off ] || die "the mark is $(mark_of wg0)"
r_wg set wg2 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
capture_stop all
assert_some wan "ciphertext"
result cleaned ok
