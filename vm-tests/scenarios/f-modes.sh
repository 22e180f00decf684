#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: WG_BIND_DEV_MODE: auto, kernel, fwmark
# needs: any
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
all_rules >/tmp/before

say "wg version --all says what auto takes"
binds_by="by fwmark and policy rules"
! has_attr || binds_by="by the kernel"
"$WG" version --all | has "^bind-dev: $binds_by" || die "$("$WG" version --all)"

mode() {
	local mode=$1
	shift
	WG_BIND_DEV_MODE=$mode r_wg "$@"
}

say "fwmark: the fallback, even where the kernel has the attribute"
mode fwmark set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg show wg0 | has -x "  bind device: vrf_external (fwmark $MARK)" || die "wg show"
wait_for "the tunnel" ping_tunnel
result fwmark ok

if has_attr; then
	say "auto: taken over by the kernel, the old rules go and so does the mark"
	mode auto set wg0 bind-dev vrf_external
	grep -q 'bound to vrf_external by the kernel' /tmp/err || die "the change is not said"
	all_rules | diff /tmp/before - || die "rules stay"
	[ "$(mark_of wg0)" = off ] || die "the mark stays"
	r_wg show wg0 | has -x '  bind device: vrf_external' || die "wg show"
	wait_for "the tunnel" ping_tunnel
	say "fwmark, from there: the attribute goes"
	mode fwmark set wg0 bind-dev vrf_external
	r_wg show wg0 | has -x "  bind device: vrf_external (fwmark $MARK)" || die "wg show"
	say "kernel: the attribute, and the rules go"
	mode kernel set wg0 bind-dev vrf_external
	all_rules | diff /tmp/before - || die "rules stay"
	wait_for "the tunnel" ping_tunnel
	r_wg set wg0 bind-dev off
	expect_bind off
	say "the kernel was upgraded: the same file binds by the attribute, its old rules go"
	(umask 077 && ip netns exec r "$WG" showconf wg0 >/tmp/conf)
	sed -i 's/^\[Interface\]/&\nBindDev = vrf_external/' /tmp/conf
	mode fwmark setconf wg0 /tmp/conf
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
	wait_for "the tunnel" ping_tunnel
	for verb in setconf syncconf addconf; do
		mode fwmark setconf wg0 /tmp/conf
		expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
		r_wg $verb wg0 /tmp/conf
		r_wg show wg0 | has -x '  bind device: vrf_external' || die "wg show after $verb"
		all_rules | diff /tmp/before - || die "rules stay after $verb"
		[ "$(mark_of wg0)" = off ] || die "the mark stays after $verb"
		accept 0
		wait_for "the tunnel" ping_tunnel
		accept 1
	done
	result upgraded attribute
	result auto attribute
	result kernel attribute
else
	mode auto set wg0 bind-dev off
	all_rules | diff /tmp/before - || die "rules stay"
	say "kernel: an error, and nothing changes"
	if mode kernel set wg0 bind-dev vrf_external; then
		die "bound by an attribute that is not there"
	fi
	grep -q WGDEVICE_A_BIND_DEV /tmp/err || die "the error does not say what lacks"
	all_rules | diff /tmp/before - || die "rules changed"
	expect_bind off
	say "kernel: unbinding is no error"
	mode kernel set wg0 bind-dev off
	say "auto: the fallback"
	mode auto set wg0 bind-dev vrf_external
	wait_for "the tunnel" ping_tunnel
	result auto fallback
	result kernel refused
fi
