#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown-ng, BindDev only: late WAN, redial, setconf again, VRF made again; the programs for pppd
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: ifupdown-ng
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown-ng.sh

router_world
tool_binds || skip "this wg has no bind-dev"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
whole_life bind

say "the programs of the example for pppd, in either order"
# pppd PROGRAM IPPARAM: as it calls them.
pppd() {
	run env PPP_IFACE=wan0 PPP_LOCAL=fe80::10 PPP_IPPARAM="$2" sh "/lib/wgvrf/examples/ppp/$1"
}
# There is no neighbour to ask on a PPP link.
ip netns exec internet sysctl -qw net.ipv4.conf.all.proxy_arp=1
for order in "wan-vrf wan-vrf-ipv6" "wan-vrf-ipv6 wan-vrf"; do
	wan_down
	wan_link
	ip link set wan0 up
	ip addr add $WAN4/24 dev wan0
	for program in $order; do
		pppd "$program" other
		[ -z "$(ip link show master vrf_external)" ] || die "$program takes another link"
	done
	for program in $order; do
		pppd "$program" wan
	done
	tunnel_works "by $order"
	ip -6 route show table 1023 | has '^default dev wan0' || die "no IPv6 route: $(ip -6 route show table 1023)"
	ip -6 addr show dev wan0 | has 'fe80::10/64' || die "no link-local address: $(ip addr show dev wan0)"
done
result pppd works
