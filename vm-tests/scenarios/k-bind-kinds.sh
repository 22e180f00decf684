#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind to a NIC, a VRF, a NIC inside a VRF, a bridge, a VLAN, another WireGuard device
# needs: attr
# tool: bind-dev
# timeout: 120
# modules: bridge 8021q
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
# An unenslaved NIC and a bridge in the default VRF.
veth_pair r nic0 p p2
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n p addr add 172.16.2.2/24 dev p2
ip -n r link add br0 type bridge
veth_pair r port0 p p3
ip -n r link set port0 master br0
ip -n r link set br0 up
ip -n r addr add 172.16.3.1/24 dev br0
ip -n p addr add 172.16.3.2/24 dev p3
ip -n r link add link nic0 name vlan5 type vlan id 5
ip -n p link add link p2 name vlan5 type vlan id 5
ip -n r link set vlan5 up
ip -n p link set vlan5 up
ip -n r addr add 172.16.5.1/24 dev vlan5
ip -n p addr add 172.16.5.2/24 dev vlan5
for dev in red:198.51.100.2 ext0:198.51.100.2 nic0:172.16.2.2 br0:172.16.3.2 vlan5:172.16.5.2; do
	say "$dev"
	restart
	bind_to "${dev%%:*}"
	r_calls "${dev#*:}"
	works r
	works p
done
say "what arrives elsewhere is not for us"
restart
bind_to nic0
p_calls 172.16.3.1
silent p
bind_to br0
works p
say "through another WireGuard device"
(umask 077 && "$WG" genkey >/tmp/ro.key && "$WG" genkey >/tmp/po.key)
ip -n r link add wgo type wireguard
ip -n p link add wgo type wireguard
r "$WG" set wgo private-key /tmp/ro.key listen-port 51900 bind-dev red peer "$("$WG" pubkey </tmp/po.key)" \
	allowed-ips 0.0.0.0/0 endpoint 198.51.100.2:51900
p "$WG" set wgo private-key /tmp/po.key listen-port 51900 peer "$("$WG" pubkey </tmp/ro.key)" allowed-ips 0.0.0.0/0
ip -n r addr add 172.16.9.1/24 dev wgo
ip -n p addr add 172.16.9.2/24 dev wgo
ip -n r link set wgo mtu 1500 up
ip -n p link set wgo mtu 1500 up
restart
bind_to wgo
r_calls 172.16.9.2
works r
