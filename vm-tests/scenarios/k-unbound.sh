#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: an unbound device behaves as ever: default VRF, accept, port changes, errors
# needs: attr
# tool: any
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
veth_pair r nic0 p p2
ip -n r addr add 172.16.2.1/24 dev nic0
ip -n r addr add 172.16.2.10/24 dev nic0
ip -n p addr add 172.16.2.2/24 dev p2
for address in 172.16.2.10 172.16.2.1; do
	p_calls "$address"
	works p
	p_sees "$address:$RPORT"
done
say "the port that it has already: the source of its packets is known still, also while it was down"
p_calls 172.16.2.10
works p
p_sees "172.16.2.10:$RPORT"
for link in up down; do
	ip -n r link set wg0 $link
	r "$WG" set wg0 listen-port "$RPORT"
	ip -n r link set wg0 up
	works r
	p_sees "172.16.2.10:$RPORT"
done
p_calls 172.16.2.1
works p
[ "$(sockets "$RPORT")" = 2 ] || die "sockets"
r "$WG" set wg0 listen-port 51044
works r
p_sees "172.16.2.1:51044"
ip netns exec r socat -u "UDP4-RECV:51045,so-bindtodevice=red" OPEN:/dev/null &
wait_for "socat to listen" r bash -c 'ss -lunH "sport = :51045" | grep -q .'
refused "in use" listen-port 51045
works r
r "$WG" set wg0 listen-port "$RPORT"
say "packets of a VRF reach no unbound socket, unless udp_l3mdev_accept is set"
restart
p_calls 198.51.100.1
silent p
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
ip -n r rule add fwmark 9 lookup 1001
r "$WG" set wg0 fwmark 9
works p
