#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: systemd-networkd makes VRF and tunnel, wg binds it; a restart leaves the binding alone
# needs: any
# tool: bind-dev
# timeout: 120
# smp: 1
# packages: systemd
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/networkd.sh

router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1
networkd_config
networkd
wait_for "networkd to make the tunnel" made
say "$(ip -br link show type vrf)"
bind_unit
wan_comes
tunnel_works "made by networkd and bound by wg"
result up works

say "networkd starts again and sets its device again"
before=$(bound)
networkd_again
[ "$(bound)" = "$before" ] || die "networkd disturbed the binding: '$(bound)' instead of '$before'"
tunnel_works "after networkd started again"
result restart kept

say "the VRF goes and networkd makes it again"
networkd_stop
ip link del vrf_external
ip link del wan0
networkd
wait_for "networkd to make the VRF again" vrf_is_there
wan_comes
bind_again
tunnel_works "after the VRF was made again"
[ "$(bound)" = "$before" ] || die "bound: '$(bound)' instead of '$before'"
result recreate works

if ! has_attr; then
	say "the trap: networkd as it comes removes the rules of the fallback"
	rm /etc/systemd/networkd.conf.d/foreign-rules.conf
	networkd_stop
	networkd
	rules_gone() {
		[ "$(our_rules)" = 0 ]
	}
	# Which of networkd's events removes them is networkd's business, and not every start has
	# it; what wg says afterwards is ours.
	for ((n = 0; n < 30; n++)); do
		rules_gone && break
		sleep 1
	done
	if rules_gone; then
		# Nothing steers the mark any more, and wg says so.
		[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still shown as bound: $(bound)"
		result without-foreign-rules.conf unbound
	else
		[ "$(bound)" = "$before" ] || die "bound: '$(bound)' instead of '$before'"
		result without-foreign-rules.conf kept
	fi
fi
