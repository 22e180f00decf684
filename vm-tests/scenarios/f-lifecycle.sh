#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: bind, show, rebind, unbind; rules come, move and go
# needs: fallback
# tool: ours
# timeout: 150
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0
vrf_add r vrf_b 2000
all_rules >/tmp/rules.before
sysctls >/tmp/sysctls.before

say "bind"
r_wg set wg0 bind-dev vrf_external
grep -qx 'wg0: kernel lacks WGDEVICE_A_BIND_DEV, using fwmark 0x770000ff via table 1023' /tmp/err ||
	die "what was done is not on stderr"
grep -q '^wg0: receives from' /tmp/err || die "what is received is not on stderr"
[ "$(wc -l </tmp/err)" = 2 ] || die "more than two lines on stderr"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
routed $MARK
expect_socket
result bind ok

say "show, showconf, json tell it"
r_wg show wg0 | has -x "  bind device: vrf_external (fwmark $MARK)" || die "wg show"
expect_bind vrf_external
r_wg show wg0 json | tr -d ' \n\t' >/tmp/json
grep -q '"bindDev":{[^}]*"device":"vrf_external"' /tmp/json || die "json: $(cat /tmp/json)"
grep -q '"method":"fwmark"' /tmp/json || die "json: $(cat /tmp/json)"
ip netns exec r "$WG" showconf wg0 >/tmp/conf
grep -qx 'BindDev = vrf_external' /tmp/conf || die "showconf: $(cat /tmp/conf)"
! grep -q FwMark /tmp/conf || die "showconf shows the mark that we chose"
[ "$(ip netns exec r "$WG" show wg0 dump | head -n1 | tr '\t' '\n' | wc -l)" = 4 ] || die "dump has new columns"
result show ok

say "twice is once; a file says the same"
r_wg set wg0 bind-dev vrf_external
r_wg setconf wg0 /tmp/conf
r_wg syncconf wg0 /tmp/conf
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
result idempotent ok

say "a file without BindDev: addconf keeps, setconf and syncconf unbind"
grep -v BindDev /tmp/conf >/tmp/plain.conf
r_wg addconf wg0 /tmp/plain.conf
expect_bind vrf_external
r_wg setconf wg0 /tmp/plain.conf
expect_bind off
[ "$(mark_of wg0)" = off ] || die "the mark stays"
all_rules | diff /tmp/rules.before - || die "rules stay after setconf"
r_wg syncconf wg0 /tmp/conf
expect_bind vrf_external
r_wg syncconf wg0 /tmp/plain.conf
expect_bind off
all_rules | diff /tmp/rules.before - || die "rules stay after syncconf"
result files ok

say "to another VRF: the rules move, and back"
r_wg set wg0 bind-dev vrf_external
r_wg set wg0 bind-dev vrf_b
expect_ours "97 fwmark 0x770000d0 lookup 2000" "98 fwmark 0x770000d0 unreachable"
expect_bind vrf_b
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
routed $MARK
expect_socket
result rebind ok

say "the mark is changed: the rules follow"
r_wg set wg0 fwmark 0x42
expect_ours "97 fwmark 0x42 lookup 1023" "98 fwmark 0x42 unreachable"
expect_bind vrf_external
routed 0x42
! ip -n r route get $PEER4 mark $MARK | has 'table 1023' || die "the old mark still means the VRF"
ip netns exec r "$WG" showconf wg0 | has -x 'FwMark = 0x42' || die "showconf lost the user's mark"
say "the mark is switched off: it cannot be, and that is said"
r_wg set wg0 fwmark off
grep -q 'the fwmark is not off' /tmp/err || die "not said"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
say "a mark given with the binding"
r_wg set wg0 bind-dev vrf_external fwmark 0x43
expect_ours "97 fwmark 0x43 lookup 1023" "98 fwmark 0x43 unreachable"
say "unbinding leaves a mark that was the user's"
r_wg set wg0 bind-dev off
[ "$(mark_of wg0)" = 0x43 ] || die "the user's mark is gone"
all_rules | diff /tmp/rules.before - || die "rules stay"
r_wg set wg0 fwmark off
result marks ok

say "a mark that is the table's number: warned of, for wg-quick's sake"
r_wg set wg0 bind-dev vrf_external fwmark 1023
grep -q 'wg-quick' /tmp/err || die "no warning"
r_wg set wg0 bind-dev off fwmark off

say "two devices on one VRF share the rules; the last one takes them away"
fb_wg0 wg2 51003
r_wg set wg0 bind-dev vrf_external
r_wg set wg2 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg set wg0 bind-dev off
expect_bind off
expect_bind vrf_external wg2
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg set wg2 bind-dev off
all_rules | diff /tmp/rules.before - || die "rules stay after the last one"
say "two devices, two VRFs"
r_wg set wg0 bind-dev vrf_external
r_wg set wg2 bind-dev vrf_b
for family in 4 6; do
	[ "$(ours $family | wc -l)" = 4 ] || die "not two pairs: $(ours $family)"
done
expect_bind vrf_external
expect_bind vrf_b wg2
r_wg set wg0 bind-dev ""
r_wg set wg2 bind-dev off
all_rules | diff /tmp/rules.before - || die "rules stay"
result sharing ok

say "devices deleted while bound: the next command finds what they left"
r_wg set wg2 bind-dev vrf_b
r_wg set wg0 bind-dev vrf_external
ip -n r link del wg2
ip -n r link del wg0
fb_wg0
r_wg set wg0 bind-dev off
all_rules | diff /tmp/rules.before - || die "leftovers stay"
fb_wg0 wg2 51003
r_wg set wg2 bind-dev vrf_b
ip -n r link del wg2
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg set wg0 bind-dev off
result leftovers ok

say "a renamed VRF keeps its rules, and is shown by its new name"
r_wg set wg0 bind-dev vrf_b
ip -n r link set vrf_b down
ip -n r link set vrf_b name vrf_c
expect_bind vrf_c
expect_ours "97 fwmark 0x770000d0 lookup 2000" "98 fwmark 0x770000d0 unreachable"
ip -n r link set vrf_c name vrf_b
r_wg set wg0 bind-dev off
result renamed ok

say "what is shown is what the kernel has: no file remembers it"
touch /tmp/since
r_wg set wg0 bind-dev vrf_external
(
	shopt -s globstar dotglob
	for file in /etc/** "$HOME"/** /run/** /var/**; do
		[[ $file == "$WGVRF_DIR"/* || ! -f $file || ! $file -nt /tmp/since ]] || echo "$file"
	done
) >/tmp/written
[ ! -s /tmp/written ] || die "a file was written: $(cat /tmp/written)"
for family in 4 6; do
	ip -n r "-$family" rule del pref 97
	ip -n r "-$family" rule del pref 98
done
expect_bind off
# What the bind hooks still have is no file, and is told as what it is.
if binds_sockets; then
	r_wg show wg0 | has "bind device: vrf_external (fwmark $MARK, IPv4 not steered, IPv4 not closed, IPv6" ||
		die "wg show does not say that nothing steers it: $(ip netns exec r "$WG" show wg0)"
else
	! r_wg show wg0 | grep 'bind device' || die "wg show remembers rules that are gone"
fi
say "and binding again mends it"
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
ip -n r rule del pref 97
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg set wg0 bind-dev off
result no-state-file ok

say "people who neither bind nor mark see no rule request"
all_rules | diff /tmp/rules.before - || die "rules changed"
sysctls | diff /tmp/sysctls.before - || die "a sysctl was written"

say "only a VRF"
ip -n r link add br0 type bridge
r_fails "it is a device of type bridge, not a VRF" -- set wg0 bind-dev br0
r_fails "\`vrf_c'" -- set wg0 bind-dev vrf_c
all_rules | diff /tmp/rules.before - || die "rules changed by a refused binding"
result refused ok
