#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the guest has what scenarios need: WireGuard devices, VRFs, captures that see
# needs: any
# tool: any
# timeout: 60
# suite: smoke
set -euo pipefail
. /lib/wgvrf/lib.sh

netns_add a
netns_add b
veth_pair a wire0 b wire0
vrf_add a vrf_external 1023
ip -n a addr add 198.51.100.1/24 dev wire0
ip -n b addr add 198.51.100.2/24 dev wire0
ip -n a addr add 2001:db8::1/64 dev wire0
ip -n b addr add 2001:db8::2/64 dev wire0
for ns in a b; do
	run ip -n $ns link add wg0 type wireguard
	run ip -n $ns addr add 192.0.2.1/24 dev wg0
	run ip -n $ns link set wg0 up
done

# Each kind of link is listened to. A packet that was not sent is not seen.
capture_start wire b wire0 "icmp or icmp6"
capture_start wg a wg0 "udp"
capture_start vrf a vrf_external "udp"
capture_start everything b any "icmp or icmp6"
run ip netns exec a ping -n -c2 -i0.2 -W2 198.51.100.2
run ip netns exec a ping -n -c2 -i0.2 -W2 2001:db8::2
capture_stop all
assert_some wire "echo requests and answers" 8
assert_some everything "echo requests and answers" 8
assert_none wg
assert_none vrf
[ "$(capture_count wire icmp)" = 4 ] || die "$(capture_count wire icmp) IPv4 echoes instead of 4"

# A slave of the VRF routes by its table alone.
run ip -n a link set wire0 master vrf_external
if ip netns exec a ping -n -c1 -W1 198.51.100.2; then
	die "the default VRF reaches an address that only the external one has"
fi
run ip netns exec a ping -n -c1 -W2 -I vrf_external 198.51.100.2
result kernel "$(uname -r)"
