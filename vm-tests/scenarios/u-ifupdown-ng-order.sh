#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown-ng, the tunnel before its VRF
# needs: any
# tool: bind-dev
# timeout: 120
# smp: 1
# packages: ifupdown-ng
# suite: users, patched
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown-ng.sh

router_world
tool_binds || skip "this wg has no bind-dev"
say "FwMark only, before the VRF: nothing knows the mark yet"
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

say "before the VRF, without a word about order"
capture_start bind decoy up0 "udp port $PORT"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
# ifupdown-ng goes on after a failed executor: what counts is that nothing can leave by the wrong
# VRF then, because the file was refused as a whole.
code=0
ifup wg-cr02 >/tmp/early 2>&1 || code=$?
say "ifup before the VRF: exit $code: $(cat /tmp/early)"
grep -q vrf_external /tmp/early || die "the error does not name the VRF: $(cat /tmp/early)"
[ -z "$("$WG" show wg-cr02 peers)" ] || die "half of the file was applied"
[ "$("$WG" show wg-cr02 private-key)" = "(none)" ] || die "half of the file was applied"
result bind-first refused
ifdown -f wg-cr02 >/dev/null 2>&1 || true

say "the same, and told the order"
EXAMPLES=/lib/wgvrf/examples/ifupdown-ng
tool ifup -i $EXAMPLES/interfaces wg-cr02
[ -e /sys/class/net/vrf_external ] || die "requires did not bring the VRF up"
wan_up
udp_l3mdev_accept 1
tunnel_works "when ifupdown-ng was told the order"
capture_stop bind
assert_none bind "encrypted packets in the default VRF"
result requires works
wan_down
tool ifdown -i $EXAMPLES/interfaces wg-cr02
ifdown -i $EXAMPLES/interfaces -f vrf_external >/dev/null 2>&1 || true
[ ! -e /sys/class/net/vrf_external ] || ip link del vrf_external

say "the executor: a file without BindDev, and the VRF named in the stanza"
config /etc/wireguard/wg-cr02.conf
install -m755 $EXAMPLES/wgbind /usr/libexec/ifupdown-ng/wgbind
tool ifup -i $EXAMPLES/interfaces-wgbind wg-cr02
[ "$("$WG" show wg-cr02 bind-dev)" = vrf_external ] || die "bind device: $("$WG" show wg-cr02 bind-dev)"
wan_up
tunnel_works "with the executor"
result executor works
