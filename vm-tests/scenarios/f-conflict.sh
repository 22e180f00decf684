#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: conflicts and failures half way leave everything as it was
# needs: fallback
# tool: ours
# timeout: 90
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0

state() {
	all_rules
	ip netns exec r "$WG" showconf wg0
	mark_of wg0
}

# unchanged: as before the command that failed.
unchanged() {
	state | diff /tmp/before - || die "a refused command changed something"
}

say "the mark means another table already"
for family in 4 6; do
	ip -n r "-$family" rule add fwmark $MARK table 77 pref 20000
	state >/tmp/before
	r_fails "in use by the rule" -- set wg0 bind-dev vrf_external fwmark $MARK
	grep -qF "20000: from all fwmark $MARK lookup 77" /tmp/err || die "the rule is not named"
	unchanged
	ip -n r "-$family" rule del pref 20000
done
say "a masked rule covers the mark"
ip -n r rule add fwmark 0x300/0xf00 table 77 pref 20000
state >/tmp/before
r_fails "in use by the rule" -- set wg0 bind-dev vrf_external fwmark 0x312
unchanged
say "another mark is fine"
r_wg set wg0 bind-dev vrf_external fwmark 0x412
r_wg set wg0 bind-dev off fwmark off
ip -n r rule del pref 20000
result mark-in-use refused

say "another device is bound elsewhere by that mark"
vrf_add r vrf_b 2000
fb_wg0 wg2 51003
r_wg set wg2 bind-dev vrf_b fwmark 0x9
state >/tmp/before
r_fails "wg2 is bound by the same fwmark" -- set wg0 bind-dev vrf_external fwmark 0x9
unchanged
r_wg set wg0 bind-dev vrf_b fwmark 0x9
r_fails "in common with wg2" -- set wg0 bind-dev off
r_wg set wg0 bind-dev off fwmark off
expect_bind vrf_b wg2
r_wg set wg2 bind-dev off fwmark off
result mark-shared refused

say "the kernel refuses the change after the rules were added"
ip netns exec r socat -u UDP4-RECV:51009 /dev/null &
holder=$!
wait_for "the port to be taken" sh -c 'ip netns exec r ss -lunH | grep -q :51009'
state >/tmp/before
r_fails "Address already in use" -- set wg0 bind-dev vrf_external listen-port 51009
unchanged
say "the same while bound to another VRF"
r_wg set wg0 bind-dev vrf_b
state >/tmp/before
r_fails "Address already in use" -- set wg0 bind-dev vrf_external listen-port 51009
unchanged
expect_bind vrf_b
r_wg set wg0 bind-dev off
kill $holder
wait $holder || true
result set-refused rolled-back

say "without privileges"
chmod 755 /tmp
state >/tmp/before
if ip netns exec r setpriv --reuid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \
	"$WG" set wg0 bind-dev vrf_external 2>/tmp/err; then
	die "worked without privileges"
fi
grep -q 'CAP_NET_ADMIN' /tmp/err || die "$(cat /tmp/err)"
unchanged
result no-privileges refused
