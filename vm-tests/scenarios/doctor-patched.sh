#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg doctor on a patched kernel: each fault is found, and the command that it prints mends it
# needs: attr
# tool: ours
# packages: nftables
# modules: nf_tables
# timeout: 240
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh
. /lib/wgvrf/doctor.sh
bound_topology
healthy "while it is not bound and knows no endpoint"
r_calls 198.51.100.2
bind_to red
works r
healthy "when bound"
doctor
cat /tmp/doctor
for line in "sends: by red, by the kernel's attribute" "receives: from red only, by the kernel's attribute" \
	"bound to: red: VRF with table 1001, up, with ext0" "closed: yes: nothing leaves elsewhere" \
	"to: 198.51.100.2: by ext0, table 1001, from 198.51.100.1"; do
	grep -qxF "  $line" /tmp/doctor || die "not said: $line"
done
r_calls "[2001:db8:9::9]"
works r
healthy "with an IPv6 endpoint"
r_calls 192.0.2.9
works r
healthy "with an endpoint behind the gateway"
! "$WG" version --all | has '^sockets:' || die "version speaks of hooks"

say "the rule of the VRFs"
for family in 4 6; do
	ip -n r "-$family" rule del l3mdev
	mends l3mdev-rule-missing
done
works r

say "routes of the VRF: main has a default route, which the kernel must not use"
ip -n r route del default via 198.51.100.2 dev ext0 table 1001
ip -n r route del table 1001 unreachable default metric 4278198272
says no-route 1 "the next table would send them by main0"
mends no-route s/GATEWAY/198.51.100.2/
works r
ip -n r route add 192.0.2.9/32 via 100.64.0.2 dev main0 table 1001
advises leaked-route 0 "nothing, if the route is meant"
ip -n r route del 192.0.2.9/32 table 1001
r_calls "[2001:db8:9::9]"
ip -n r -6 addr flush dev ext0 scope global
advises family-missing 1 "ip vrf exec red"
bound_addresses
r_calls 198.51.100.2
works r
healthy "after routes"

say "the VRF is lost: the commands make it again"
ip -n r link del red
advises device-missing 1 "ip link add red type vrf table TABLE"
ip -n r link add red type vrf table 1001
ip -n r link set red up
mends vrf-empty s/NIC/ext0/
bound_addresses
works r
healthy "in the new VRF"
ip -n r link set red down
mends device-down
bound_addresses
works r

say "the way out and the way in"
ip -n r link set ext0 mtu 1470
mends mtu
ip -n r link set ext0 mtu 1500
ip -n r link add wg1 type wireguard
r "$WG" set wg1 listen-port "$RPORT" private-key /tmp/r.key
mends port-taken
ip -n r link set wg1 up
ip -n r link del wg1
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
mends l3mdev-accept-open
r sysctl -qw net.ipv4.conf.ext0.rp_filter=1
healthy "with a strict filter where the way in is the way out"
ip -n r link set alt0 master red
ip -n r addr add 203.0.113.1/24 dev alt0 2>/dev/null || true
r sysctl -qw net.ipv4.conf.alt0.rp_filter=1
mends rp-filter
ip -n r link set alt0 master blue
bound_addresses
ip -n r route add default dev wg0 table 51820
ip -n r rule add pref 90 not fwmark 0xca6c lookup 51820
mends rule-in-front
works r
ip -n r rule del pref 1 l3mdev
# As wg-quick: its own packets have the mark, those that arrive have none.
r "$WG" set wg0 fwmark 0xca6c
mends arrival-captured
works p
ip -n r rule del pref 90
ip -n r rule del pref 1 l3mdev
r "$WG" set wg0 fwmark off
works r
ip -n r route add default dev red table 100
ip -n r rule add pref 80 ipproto udp dport $PPORT lookup 100
silent r
mends rule-in-front
works r
ip -n r rule del pref 80
ip -n r rule del pref 1 l3mdev
works r
from_r() {
	tunnel_ping r 1 2
}
filter_names_slave ext0 "$RPORT" from_r
r "$WG" set wg0 fwmark 1001
mends mark-is-table
works r
healthy "at the end"

say "bound to a NIC"
bind_to ext0
works r
healthy "bound to a NIC"
