#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a kernel whose attribute 9 is another feature's: the fallback, and nothing made up
# needs: fallback
# tool: ours
# kernels: foreign-6.1 foreign-7.3
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

# The kernel puts the bytes of "wg0" into attribute 9 of every dump, and wg0 exists.
say "nothing is bound, so nothing is shown as bound"
expect_bind off
r_wg show wg0 >/tmp/show
! grep -i bind /tmp/show || die "wg show"
r_wg showconf wg0 >/tmp/conf
! grep -i bind /tmp/conf || die "wg showconf"
r_wg show wg0 json >/tmp/json
! grep -i bind /tmp/json || die "JSON"

say "kernel: an error, and nothing changes"
if WG_BIND_DEV_MODE=kernel r_wg set wg0 bind-dev vrf_external; then
	die "bound by an attribute that is something else"
fi
grep -q WGDEVICE_A_BIND_DEV /tmp/err || die "the error does not say what lacks"
all_rules | diff /tmp/before - || die "rules changed"
expect_bind off

say "auto: the fallback, by rules that are there"
r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
r_wg show wg0 | has -x "  bind device: vrf_external (fwmark $MARK)" || die "wg show"
r_wg showconf wg0 | has -x "BindDev = vrf_external" || die "wg showconf"
wait_for "the tunnel" ping_tunnel

say "and off again"
r_wg set wg0 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
expect_bind off
result foreign fallback
