#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: names that a file cannot hold, and further names of devices
# needs: fallback
# tool: ours
# timeout: 90
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0
all_rules >/tmp/before
vrf_add r 'red#1' 2000
vrf_add r red 2001

say "red#1 is not red"
r_wg set wg0 bind-dev 'red#1'
expect_bind 'red#1'
(umask 077 && ip netns exec r "$WG" showconf wg0 >/tmp/conf)
r_wg set wg0 bind-dev off
r_wg setconf wg0 /tmp/conf
expect_bind 'red#1'
r_wg set wg0 bind-dev off
result hash ok

say "a VRF by another of its names"
ip -n r link property add dev vrf_external altname outside
r_wg set wg0 bind-dev outside
expect_bind vrf_external
r_wg set wg0 bind-dev off
say "the device by another of its names: no rule stays behind"
ip -n r link property add dev wg0 altname tunnel
r_wg set tunnel bind-dev vrf_external
expect_bind vrf_external
r_wg set tunnel bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
r_wg set wg0 bind-dev vrf_external
r_wg set tunnel bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
result altnames ok

say "a VRF by its table"
r_wg set wg0 bind-dev table:2001
expect_bind red
r_wg set wg0 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
say "two VRFs with that table: the number is not enough"
ip -n r link add twin type vrf table 2001
ip -n r link set twin up
r_fails "red and twin have that table; give the name" -- set wg0 bind-dev table:2001
r_wg set wg0 bind-dev twin
r_wg set wg0 bind-dev off
ip -n r link del twin
all_rules | diff /tmp/before - || die "rules stay"
result table ok
