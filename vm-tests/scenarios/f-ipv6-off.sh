#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: a kernel without IPv6 gets the IPv4 rules, and no complaint
# needs: fallback
# tool: ours
# cmdline: ipv6.disable=1
# timeout: 60
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
! has_ipv6 || die "IPv6 is on: ipv6.disable=1 did not reach the kernel"
fb_topology
accept
fb_tunnel 4
ip -n r rule show >/tmp/before
r_wg set wg0 bind-dev vrf_external
grep -q '^wg0: receives from' /tmp/err || die "what is received is not said: $(cat /tmp/err)"
[ "$(wc -l </tmp/err)" = 2 ] || die "complained: $(cat /tmp/err)"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
expect_bind vrf_external
watch
wait_for "the tunnel" ping_tunnel
capture_stop all
assert_some wan "ciphertext"
assert_none leak "ciphertext in the default VRF"
r_wg set wg0 bind-dev off
ip -n r rule show | diff /tmp/before - || die "rules stay"
result ipv6-off ok
