#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: a device that was made elsewhere is not called bound
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
say "made in r, moved while down to a box that is younger, configured and upped there"
ip -n r link add wg0 type wireguard
netns_add box
vrf_add box vrf_box 1023
ip -n box rule show >/tmp/box.before
ip -n r link set wg0 netns box
if ip netns exec box "$WG" set wg0 listen-port 51001 private-key /tmp/r.key bind-dev vrf_box 2>/tmp/err; then
	die "bound where it cannot work: $(cat /tmp/err)"
fi
cat /tmp/err
grep -q 'where it was created' /tmp/err || die "the reason is not said"
ip -n box rule show | diff /tmp/box.before - || die "rules in the box"
result younger refused

say "a box that is older: it cannot be told, which is said; once up, wg show knows"
netns_add old
vrf_add old vrf_old 1023
ip -n r link add wg1 type wireguard
ip -n r link set wg1 netns old
# Without an entry at the bind hooks, which would keep others from the port.
WG_BIND_DEV_RECEIVE=any ip netns exec old "$WG" set wg1 listen-port 51002 private-key /tmp/r.key bind-dev vrf_old 2>/tmp/err
cat /tmp/err
grep -q 'in which network namespace its sockets will be' /tmp/err || die "not said"
ip -n old link set wg1 up
ip netns exec old "$WG" show wg1 | tee /tmp/show
grep -q 'not bound: its sockets are in another network namespace' /tmp/show || die "called bound"
if ip netns exec old "$WG" set wg1 bind-dev vrf_old 2>/tmp/err; then
	die "bound again where it cannot work"
fi
result older said

say "the port of a device that is native there: it cannot be told whose the sockets are"
ip -n old link add wg3 type wireguard
ip netns exec old "$WG" set wg3 listen-port 51002 private-key /tmp/r.key
ip -n old link set wg3 up
ip -n old rule show >/tmp/old.before
if ip netns exec old "$WG" set wg1 bind-dev vrf_old 2>/tmp/err; then
	die "bound where it cannot work"
fi
cat /tmp/err
grep -q 'fewer sockets than interfaces' /tmp/err || die "the reason is not said"
ip -n old rule show | diff /tmp/old.before - || die "rules in old"
say "the native one, on a port of its own, is bound"
ip netns exec old "$WG" set wg3 listen-port 51003
ip netns exec old "$WG" set wg3 bind-dev vrf_old
result contested refused

say "made here, and down: bound, and so it is called once it is up"
ip -n r link add wg2 type wireguard
r_wg set wg2 listen-port 51003 private-key /tmp/r.key bind-dev vrf_external
ip -n r link set wg2 up
ip netns exec r "$WG" show wg2 | has -x "  bind device: vrf_external (fwmark $MARK)" ||
	die "$(ip netns exec r "$WG" show wg2)"
result here bound
