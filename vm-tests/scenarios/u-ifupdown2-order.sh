#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown2, the tunnel before its VRF: refused as a whole, and bound by ifreload
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: ifupdown2
# memory: 1024
# suite: users, patched
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown2.sh

router_world
tool_binds || skip "this wg has no bind-dev"
udp_l3mdev_accept 1
# The file again, with its stanzas in the other order.
awk '/^auto vrf_external/ { vrf = 1 } /^auto wg-cr02/ { vrf = 0 } vrf { held = held $0 "\n"; next } { print } END { printf "%s", held }' \
	/etc/network/interfaces >/tmp/interfaces
cp /tmp/interfaces /etc/network/interfaces
[ "$(grep ^auto /etc/network/interfaces | tr '\n' ' ')" = "auto wg-cr02 auto vrf_external " ] ||
	die "not the other order: $(cat /etc/network/interfaces)"

say "FwMark only: nothing knows the mark yet"
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023"
capture_start mark decoy up0 "udp port $PORT"
tool ifup wg-cr02
mark_leaked() {
	[ "$(capture_count mark)" -gt 0 ]
}
wait_for "an encrypted packet in the default VRF" mark_leaked
capture_stop mark
result mark-first leaks
tool ifdown wg-cr02

say "BindDev: the file is refused as a whole"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
capture_start bind decoy up0 "udp port $PORT"
# ifupdown2 goes on after a failed command, and its code is 0: what counts is that nothing can leave
# by the wrong VRF then.
code=0
ifup wg-cr02 >/tmp/early 2>&1 || code=$?
say "ifup before the VRF: exit $code: $(cat /tmp/early)"
grep -q vrf_external /tmp/early || die "the error does not name the VRF: $(cat /tmp/early)"
[ -z "$("$WG" show wg-cr02 peers)" ] || die "half of the file was applied"
[ "$("$WG" show wg-cr02 private-key)" = "(none)" ] || die "half of the file was applied"
result bind-first refused

say "the machine boots on, and the administrator calls ifreload"
tool ifup vrf_external
wan_comes
tool ifreload -a
udp_l3mdev_accept 1
tunnel_works "after ifreload"
expect_binding bind
capture_stop bind
assert_none bind "encrypted packets in the default VRF"
result ifreload works
