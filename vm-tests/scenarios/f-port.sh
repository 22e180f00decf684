#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: without a mark: rules by source port (WG_BIND_DEV_MODE=port)
# needs: fallback
# tool: ours
# timeout: 150
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_tunnel 4
all_rules >/tmp/before
export WG_BIND_DEV_MODE=port
# pair PORT: what ip rule prints of the pair.
pair() {
	expect_ours "97 iif lo ipproto udp sport $1 lookup 1023" "98 iif lo ipproto udp sport $1 unreachable"
}

say "bind"
r_wg set wg0 bind-dev vrf_external
pair $PORT
[ "$(mark_of wg0)" = off ] || die "a mark was set"
ip netns exec r "$WG" show wg0 | has -x "  bind device: vrf_external (source port $PORT)" || die "wg show"
ip netns exec r "$WG" show wg0 json | has '"method": "port"' || die json
watch
wait_for "the tunnel" ping_tunnel
result bound ok

say "closed without a route in the VRF"
ip -n r route del default via 198.51.100.1 dev wan0 table 1023
ip -n r route del table 1023 unreachable default metric 4278198272
poke
capture_stop leak
assert_none leak "ciphertext in the default VRF"
ip -n r route add default via 198.51.100.1 dev wan0 table 1023
wait_for "the tunnel again" ping_tunnel
result closed ok

say "the rules move with the port"
unset WG_BIND_DEV_MODE
r_wg set wg0 listen-port 51077
pair 51077
wait_for "the tunnel" ping_tunnel
r_wg set wg0 listen-port $PORT
pair $PORT
say "twice is once, and what the device has is kept without the variable"
r_wg set wg0 bind-dev vrf_external
pair $PORT
say "a mark beside it is the administrator's"
r_wg set wg0 fwmark 0x99
pair $PORT
[ "$(mark_of wg0)" = 0x99 ] || die "the mark is $(mark_of wg0)"
r_wg set wg0 fwmark off
result moves ok

say "refused for two devices on one port"
ip -n r link add wg2 type wireguard
r_fails "Cannot give wg2 port $PORT" -- set wg2 listen-port $PORT
WG_BIND_DEV_MODE=port r_fails "wg0 has the same source port" -- set wg2 listen-port $PORT bind-dev vrf_external
pair $PORT
say "a device without a port gets one"
WG_BIND_DEV_MODE=port r_wg set wg2 listen-port 0 bind-dev vrf_external
port=$(ip netns exec r "$WG" show wg2 listen-port)
[ "$port" -gt 0 ] || die "no port"
ours 4 | has "sport $port lookup 1023" || die "no rules for port $port"
r_wg set wg2 bind-dev off
pair $PORT
result ports ok

say "by mark and back"
WG_BIND_DEV_MODE=fwmark r_wg set wg0 bind-dev vrf_external
expect_ours "97 fwmark $MARK lookup 1023" "98 fwmark $MARK unreachable"
WG_BIND_DEV_MODE=port r_wg set wg0 bind-dev vrf_external
pair $PORT
[ "$(mark_of wg0)" = off ] || die "the mark stays"
say "by mark and back, each on a port of its own, under pings"
ip netns exec r ping -n -f $TUNNEL.2 >/dev/null 2>&1 &
capture_start leak decoy d0 "udp dst port $PEER_PORT"
for _ in 1 2 3 4 5; do
	WG_BIND_DEV_MODE=fwmark r_wg set wg0 listen-port 51077 bind-dev vrf_external
	WG_BIND_DEV_MODE=port r_wg set wg0 listen-port $PORT bind-dev vrf_external
done
kill %1
capture_stop leak
assert_none leak "ciphertext in the default VRF"
wait_for "the tunnel" ping_tunnel
say "an error about marks offers it"
ip -n r rule add fwmark 0x5 table 77 pref 20000
WG_BIND_DEV_MODE=fwmark r_fails "WG_BIND_DEV_MODE=port" -- set wg0 bind-dev vrf_external fwmark 5
ip -n r rule del pref 20000
r_wg set wg0 bind-dev off
all_rules | diff /tmp/before - || die "rules stay"
result switched ok

say "unbound, an IPv6 peer leaves the route of the VRF at once"
r_wg set wg0 peer "${PUB[peer]}" endpoint "[$PEER6]:$PEER_PORT"
for words in "listen-port $PORT" "fwmark 0x42"; do
	mode=port
	[ "$words" = "listen-port $PORT" ] || mode=fwmark
	# shellcheck disable=SC2086 # words
	WG_BIND_DEV_MODE=$mode r_wg set wg0 $words bind-dev vrf_external
	wait_for "the tunnel" ping_tunnel
	r_wg set wg0 bind-dev off
	capture_start old peer p0 "udp dst port $PEER_PORT"
	capture_start new decoy d0 "udp dst port $PEER_PORT"
	poke
	capture_stop old
	capture_stop new
	assert_some new "packets by the default VRF"
	assert_none old "packets in the VRF"
done
result unbound ok
