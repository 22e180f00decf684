#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a device that is bound while it runs does not take GRO from a socket on its port in another VRF
# needs: attr
# tool: bind-dev
# kernels: patched-7.3, debug-7.3
# timeout: 120
# packages: ethtool
# suite: kernel
#
# In 7.3 GRO takes the only UDP tunnel of a namespace for the owner of its port, without a
# look-up (udp_tunnel_sk() in include/net/udp_tunnel.h). This holds for unbound sockets.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# gathers WHEN: a socket of the VRF blue, on wg0's port, gets datagrams that GRO has put together.
gathers() {
	local family
	for family in 4 6; do
		ip netns exec r socat -u -dddd -b 65535 \
			"UDP$family-RECV:$RPORT,so-bindtodevice=blue,setsockopt-listen=17:104:x01000000" \
			OPEN:/dev/null 2>/tmp/gathered &
		receiver=$!
		wait_for "the socket to be there" receives
		wait_for "datagrams to be put together, IPv$family, $1" gathered $family
		kill $receiver
		wait $receiver || true
	done
}

receives() {
	cat /tmp/gathered
	r ss -lunH "sport = :$RPORT" >/tmp/sockets
	grep -q "%blue" /tmp/sockets
}

# One datagram with UDP_SEGMENT, which p's device takes apart.
gathered() {
	local to="203.0.113.1"
	[ "$1" = 4 ] || to="[2001:db8:2::1]"
	p socat -u -b 10000 OPEN:/dev/zero,readbytes=10000 "UDP$1:$to:$RPORT,setsockopt=17:103:xe8030000"
	sleep 0.2
	sed -n 's/.*\(transferred [0-9]* bytes\).*/\1/p' /tmp/gathered | sort | uniq -c
	grep -q 'transferred [2-9][0-9][0-9][0-9] bytes\|transferred 10000 bytes' /tmp/gathered
}

bound_topology
r ethtool -K alt0 gro on
p ethtool -K p1 tso off tx-udp-segmentation off
ip -n r link set wg0 down
gathers "without a tunnel"
ip -n r link set wg0 up
bind_to red
gathers "the tunnel was bound in place"
ip -n r link set wg0 down
ip -n r link set wg0 up
gathers "the tunnel was opened bound"
p_calls 198.51.100.1
works p
result gro kept
