#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: sockets that a setting opens send the keepalive that link up would have sent
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
ip -n r link set wg0 down
bind_to red
r_calls 203.0.113.2
r "$WG" set wg0 peer "$PKEY" persistent-keepalive 25
ip -n r link del red
ip -n r link set wg0 up
[ "$(sockets "$RPORT")" = 0 ] || die "sockets without the device"
capture_start out r alt0 "udp and src port $RPORT"
bind_to blue
seen() {
	[ "$(capture_count out)" -gt 0 ]
}
wait_for "a keepalive" seen
capture_stop out
assert_some out "packets"
