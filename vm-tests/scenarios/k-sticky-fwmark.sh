#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the sticky source of an unbound device with a fwmark rule and udp_l3mdev_accept=1
# needs: attr
# tool: any
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
r sysctl -qw net.ipv4.udp_l3mdev_accept=1
ip -n r rule add fwmark 0x77 lookup 1001
ip -n r -6 rule add fwmark 0x77 lookup 1001
r "$WG" set wg0 fwmark 0x77
for address in 198.51.100.10 "[2001:db8:1::1]" "[2001:db8:1::10]"; do
	say "p calls $address"
	restart
	p_calls "$address"
	capture_start out r ext0 "udp and src port $RPORT and not src host ${address//[\[\]]/}"
	works p 5
	works r 5
	capture_stop all
	assert_none out "packets from another address than $address"
	p_sees "$address:$RPORT"
done
