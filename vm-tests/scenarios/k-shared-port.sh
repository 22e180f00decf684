#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: one port on two devices in two VRFs, both pass traffic; with an unbound one it is taken
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
(umask 077 && "$WG" genkey >/tmp/r1.key && "$WG" genkey >/tmp/p1.key)
R1=$("$WG" pubkey </tmp/r1.key)
P1=$("$WG" pubkey </tmp/p1.key)
ip -n r link add wg1 type wireguard
ip -n p link add wg1 type wireguard
r "$WG" set wg1 private-key /tmp/r1.key listen-port "$RPORT" bind-dev blue peer "$P1" allowed-ips 10.9.1.2/32
p "$WG" set wg1 private-key /tmp/p1.key peer "$R1" allowed-ips 10.9.1.1/32 endpoint "203.0.113.1:$RPORT"
ip -n r addr add 10.9.1.1/24 dev wg1
ip -n p addr add 10.9.1.2/24 dev wg1
ip -n r link set wg1 up
ip -n p link set wg1 up
works p
wait_for "the second tunnel" p ping -n -c 1 -W 2 10.9.1.1
works p
refused "in use" bind-dev off
ip -n r link del wg1
bind_to off
ip -n r link add wg1 type wireguard
r "$WG" set wg1 listen-port "$RPORT" bind-dev blue
! ip -n r link set wg1 up 2>/tmp/err || die "bound and unbound share a port"
grep -qi "in use" /tmp/err || die "$(cat /tmp/err)"
