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
result moved-after ok

say "moved first: rules in the box cannot reach its sockets, so none are made"
vrf_add box vrf_box 1023
ip -n box rule show >/tmp/box.before
ip netns exec box "$WG" set wg0 fwmark off
if ip netns exec box "$WG" set wg0 bind-dev vrf_box 2>/tmp/err; then
	die "bound where it cannot work"
fi
cat /tmp/err
grep -q 'where it was created' /tmp/err || die "the reason is not said"
ip -n box rule show | diff /tmp/box.before - || die "rules in the box"
result moved-before refused

say "now no device needs the rules here"
r_wg set wg2 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
capture_stop all
assert_some wan "ciphertext"
result cleaned ok
