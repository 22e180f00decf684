#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: what showconf prints restores the binding while the VRF is missing; a reload that unbinds says so
# needs: fallback
# tool: ours
# timeout: 120
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel" ping_tunnel
watch

say "the VRF goes; showconf | setconf"
ip -n r link del vrf_external
(umask 077 && ip netns exec r "$WG" showconf wg0 >/tmp/conf)
grep -qx 'BindDev = table:1023' /tmp/conf || die "showconf: $(grep -v Key /tmp/conf)"
for verb in setconf syncconf addconf; do
	r_wg $verb wg0 /tmp/conf
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
	! ip -n r route get $PEER4 mark $MARK || die "open after $verb"
done
poke
assert_none leak "ciphertext in the default VRF"
result missing closed

say "on a host that starts: the file comes before the VRF"
ip -n r link set wg0 down
r_wg set wg0 bind-dev off
r_wg setconf wg0 /tmp/conf
! ip -n r route get $PEER4 mark $MARK || die "open"
if binds_sockets; then
	grep -q 'receives nothing until a VRF has table 1023 .*: `wg set wg0 bind-dev VRF' /tmp/err ||
		die "it is not said that it has to be bound again: $(cat /tmp/err)"
fi
ip -n r link set wg0 up
poke
ip -n r link add vrf_external type vrf table 1023
ip -n r link set vrf_external up
ip -n r link set wan0 master vrf_external
ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
if binds_sockets; then
	ip netns exec r "$WG" show wg0 |
		has -x '  receives: nothing until it is bound again (wg set wg0 bind-dev vrf_external)' ||
		die "wg show does not say it: $(ip netns exec r "$WG" show wg0)"
fi
# Its sockets wait for a device that was not there: they are bound again with the file.
r_wg setconf wg0 /tmp/conf
wait_for "the tunnel" ping_tunnel
expect_bind vrf_external
capture_stop all
assert_none leak "ciphertext in the default VRF"
result restored ok

say "a file without a mark: the mark that the dry run tells is the one it gets"
r_wg set wg0 fwmark 0x1023 bind-dev vrf_external
(umask 077 && ip netns exec r "$WG" showconf wg0 | grep -v FwMark >/tmp/unmarked)
# syncs WORDS: how it ends.
syncs() {
	local code=0
	r_wg syncconf "$@" --exit-code wg0 /tmp/unmarked >/tmp/changes || code=$?
	cat /tmp/changes
	[ $code = "$expected" ] || die "syncconf $*: exit $code, expected $expected"
}
expected=2
syncs --dry-run
has -x "wg0: fwmark: 0x1023 -> $MARK" </tmp/changes
[ "$(mark_of wg0)" = 0x1023 ] || die "the dry run changed it"
syncs
[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
expected=0
syncs --dry-run
result dry-run ok

say "only the closing rule is left: it stays closed"
for family in 4 6; do
	ip -n r -$family rule del pref 97
done
(umask 077 && ip netns exec r "$WG" showconf wg0 >/tmp/closed)
r_wg setconf wg0 /tmp/closed
! ip -n r route get $PEER4 mark "$(mark_of wg0)" || die "open"
r_wg setconf wg0 /tmp/conf
wait_for "the tunnel" ping_tunnel
result closed ok

say "a reload that unbinds says so"
grep -v 'BindDev' /tmp/conf >/tmp/plain
for verb in syncconf setconf; do
	r_wg setconf wg0 /tmp/conf
	r_wg $verb wg0 /tmp/plain
	expect_bind off
	grep -qx 'wg0: no longer bound to vrf_external: the file has no BindDev' /tmp/err ||
		die "$verb says '$(cat /tmp/err)'"
done
r_wg setconf wg0 /tmp/plain
[ ! -s /tmp/err ] || die "said without a binding: $(cat /tmp/err)"
sed 's/^BindDev.*/BindDev = off/' /tmp/conf >/tmp/off
r_wg setconf wg0 /tmp/conf
r_wg setconf wg0 /tmp/off
! grep -q 'no longer' /tmp/err || die "said although the file has a BindDev"
result said ok
