#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: a userspace device (wireguard-go) gets the same rules
# needs: any
# tool: ours
# packages: wireguard-go
# modules: tun
# timeout: 90
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_userspace
all_rules >/tmp/before

r_wg set wg0 listen-port $PORT private-key /tmp/r.key peer "${PUB[peer]}" \
	endpoint $PEER4:$PEER_PORT allowed-ips $TUNNEL.0/24
ip -n r addr add $TUNNEL.1/24 dev wg0
ip -n r link set wg0 up
ip -n peer link add wg1 type wireguard
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
	peer "${PUB[r]}" allowed-ips $TUNNEL.0/24
ip -n peer addr add $TUNNEL.2/24 dev wg1
ip -n peer link set wg1 up

r_wg set wg0 bind-dev vrf_external
grep -q 'userspace devices cannot be bound' /tmp/err || die "the reason is not said"
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
expect_bind vrf_external
[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
watch
wait_for "the tunnel" ping_tunnel
capture_stop all
assert_some wan "ciphertext"
assert_none leak "ciphertext in the default VRF"
result bound ok

say "listed once, and shared with a kernel device"
fb_wg0 wg2 51003
[ "$(ip netns exec r "$WG" show interfaces | tr ' ' '\n' | sort | tr '\n' ' ')" = "wg0 wg2 " ] ||
	die "wg show interfaces: $(ip netns exec r "$WG" show interfaces)"
if ! has_attr; then
	r_wg set wg2 bind-dev vrf_external
	r_wg set wg2 bind-dev off
	expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
fi
if WG_BIND_DEV_MODE=kernel r_wg set wg0 bind-dev vrf_external; then
	die "a userspace device was bound by the kernel"
fi
grep -q userspace /tmp/err || die "$(cat /tmp/err)"
r_wg set wg0 bind-dev off
expect_bind off
all_rules | diff /tmp/before - || die "rules stay"
result unbound ok

say "a socket without a listener is removed"
rm -f /var/run/wireguard/wg0.sock
socat UNIX-LISTEN:/var/run/wireguard/wg9.sock,unlink-close=0 /dev/null &
listener=$!
wait_for "the stale socket" test -S /var/run/wireguard/wg9.sock
kill $listener
wait $listener 2>/dev/null || true
ip netns exec r "$WG" show interfaces >/dev/null
[ ! -e /var/run/wireguard/wg9.sock ] || die "the stale socket is still there"
result stale-socket removed
