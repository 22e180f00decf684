#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a kernel whose IPv6 is off
# needs: attr
# tool: bind-dev
# timeout: 90
# cmdline: ipv6.disable=1
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

[ ! -e /proc/sys/net/ipv6 ] || die "IPv6 is on"
netns_add r
netns_add p
vrf_add r red 1001
vrf_add r blue 1002
veth_pair r ext0 p p0
ip -n r link set ext0 master red
ip -n r addr add 198.51.100.1/24 dev ext0
ip -n p addr add 198.51.100.2/24 dev p0
for ns in r p; do
	(umask 077 && "$WG" genkey >"/tmp/$ns.key")
	"$WG" pubkey <"/tmp/$ns.key" >"/tmp/$ns.pub"
	ip -n $ns link add wg0 type wireguard
done
PKEY=$(cat /tmp/p.pub)
r "$WG" set wg0 private-key /tmp/r.key listen-port "$RPORT" bind-dev red peer "$PKEY" allowed-ips 10.9.0.2/32 \
	endpoint "198.51.100.2:$PPORT"
p "$WG" set wg0 private-key /tmp/p.key listen-port "$PPORT" peer "$(cat /tmp/r.pub)" allowed-ips 10.9.0.1/32
ip -n r addr add 10.9.0.1/24 dev wg0
ip -n p addr add 10.9.0.2/24 dev wg0
ip -n r link set wg0 up
ip -n p link set wg0 up
works r
bind_to off
[ "$(sockets "$RPORT")" = 1 ] || die "$(sockets "$RPORT") sockets"
bind_to blue
bind_to red
works r
ip -n r link del red
ip -n r link add red type vrf table 1001
[ "$(sockets "$RPORT")" = 1 ] || die "not bound again"
