#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: both ends on one host, bound to a device or a VRF: packets to an address of the host itself arrive
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

shook() {
	[ "$(r "$WG" show wg1 latest-handshakes | cut -f2)" != 0 ]
}

# Two devices of r, both bound to the device, call each other at its address.
local_pair() { # DEVICE ADDRESS
	say "both bound to $1, at $2"
	ip -n r link add wg1 type wireguard
	(umask 077 && "$WG" genkey >/tmp/r1.key)
	r "$WG" set wg1 private-key /tmp/r1.key listen-port 51003 bind-dev "$1" \
		peer "$RKEY" allowed-ips 10.9.1.0/24
	r "$WG" set wg0 bind-dev "$1" peer "$(r "$WG" show wg1 public-key)" endpoint "$2:51003" \
		allowed-ips 10.9.1.0/24 persistent-keepalive 1
	ip -n r link set wg1 up
	wait_for "a handshake by $1 at $2" shook
	r "$WG" set wg0 peer "$(r "$WG" show wg1 public-key)" remove
	ip -n r link del wg1
}

bound_topology
for family in 4 6; do
	if [ $family = 4 ]; then
		external=198.51.100.1 main=100.64.0.1
	else
		external="[2001:db8:1::1]" main="[2001:db8:64::1]"
	fi
	local_pair red "$external"
	local_pair ext0 "$external"
	local_pair main0 "$main"
done
