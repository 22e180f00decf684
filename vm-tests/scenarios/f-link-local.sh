#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: an endpoint that the rules do not hold is refused, and told where it came otherwise
# needs: fallback
# tool: ours
# packages: bpftool
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
. /lib/wgvrf/doctor.sh

link_local_of() {
	ip -n "$1" -6 -o addr show dev "$2" scope link | sed -n '/tentative/d; s/.*inet6 \([^/]*\).*/\1/p' | head -n 1
}
has_link_local() {
	[ -n "$(link_local_of "$1" "$2")" ]
}
# again: wg0 has no session any more, so that it calls.
again() {
	ip -n r link set wg0 down
	ip -n r link set wg0 up
	r_wg set wg0 bind-dev vrf_external
}
# leaves NIC: what wg0 sends comes out of this interface of the router.
leaves() {
	poke 1
	[ "$(capture_count "$1")" -gt 0 ]
}
# stays_in ENDPOINT: none of its packets comes out of a NIC that is not in the VRF.
stays_in() {
	again
	capture_start alt0 r alt0 "udp port $PORT"
	capture_start core0 r core0 "udp port $PORT"
	r_wg set wg0 peer "$KEY" endpoint "$1" || echo "   refused"
	poke
	capture_stop all
	assert_none alt0 "packets to $1 by alt0"
	assert_none core0 "packets to $1 by core0"
}
refused() {
	r_fails "policy rules do not hold the endpoint $1 of peer $KEY: its packets would leave by $2; give the peer an endpoint in vrf_external" -- "${@:3}"
}
shown() {
	ip netns exec r "$WG" show wg0 | sed -n 's/^  bind device: //p'
}

fb_topology
fb_bpf
vrf_add r vrf_b 2000
netns_add other
veth_pair r alt0 other a0
ip -n r link set alt0 master vrf_b
for nic in "r alt0" "r wan0" "r core0" "other a0" "peer p0" "decoy d0"; do
	# shellcheck disable=SC2086 # two words
	wait_for "the link-local address of $nic" has_link_local $nic
done
fb_tunnel 4
KEY=${PUB[peer]}
ALT="[$(link_local_of other a0)%alt0]:$PEER_PORT"
WAN="[$(link_local_of peer p0)%wan0]:$PEER_PORT"
CORE="[$(link_local_of decoy d0)%core0]:$PEER_PORT"
all_rules >/tmp/unbound
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel" ping_tunnel

say "of another VRF: no packet leaves, because it is refused"
stays_in "$ALT"
refused "$ALT" "alt0, which is in vrf_b" set wg0 peer "$KEY" endpoint "$ALT"
result new-endpoint refused
for group in "[ff02::1%alt0]:1" "[ff02::1%core0]:1" "[ff05::1]:1"; do
	stays_in "$group"
done
refused "[ff02::1%core0]:1" "core0, which is in no VRF" set wg0 peer "$KEY" endpoint "[ff02::1%core0]:1"
refused "[ff05::1]:1" "an interface of the default VRF" set wg0 peer "$KEY" endpoint "[ff05::1]:1"
result multicast refused
ip netns exec r "$WG" showconf wg0 >/tmp/wg0.conf
grep -q '^BindDev = vrf_external$' /tmp/wg0.conf || die "no BindDev: $(cat /tmp/wg0.conf)"
sed -i "s/^Endpoint = .*/Endpoint = $ALT/" /tmp/wg0.conf
for verb in setconf syncconf addconf; do
	refused "$ALT" "alt0, which is in vrf_b" "$verb" wg0 /tmp/wg0.conf
done
r_wg set wg0 peer "$KEY" endpoint "$PEER4:$PEER_PORT"
wait_for "the tunnel after the refusals" ping_tunnel
result file refused

say "what it has already counts when it is bound"
r_wg set wg0 bind-dev off
r_wg set wg0 peer "$KEY" endpoint "$ALT"
refused "$ALT" "alt0, which is in vrf_b" set wg0 bind-dev vrf_external
all_rules | diff /tmp/unbound - || die "a refused command changed the rules"
[ "$(mark_of wg0)" = off ] || die "the mark is $(mark_of wg0)"
r_wg set wg0 bind-dev vrf_external peer "$KEY" endpoint "$PEER4:$PEER_PORT"
wait_for "the tunnel with another endpoint" ping_tunnel
healthy "with another endpoint"
result bind refused

say "a NIC in no VRF, or none: the rules hold it"
stays_in "$CORE"
stays_in "${CORE/\%core0/}"

say "IPv4 multicast goes by the rules"
stays_in "239.1.1.1:$PEER_PORT"
stays_in "255.255.255.255:$PEER_PORT"

say "the VRF's own NIC: sent by the VRF's table; the answer makes it a VRF, by which nothing is sent"
again
capture_start wan r wan0 "udp src port $PORT and ip6"
r_wg set wg0 peer "$KEY" endpoint "$WAN"
wait_for "a packet by wan0" leaves wan
capture_stop wan
ip netns exec r "$WG" show wg0 endpoints | has -F "%vrf_external]:$PEER_PORT" || die "$(ip netns exec r "$WG" show wg0 endpoints)"
advises no-route 1 "give both ends addresses that are not link-local"
r_wg set wg0 peer "$KEY" endpoint "$PEER4:$PEER_PORT"
wait_for "the tunnel" ping_tunnel

say "learned from a packet by alt0, which is in no VRF; then it is moved into another one"
ip -n r link set alt0 nomaster
wait_for "alt0's address" has_link_local r alt0
r_wg set wg0 bind-dev off
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
ip -n other link add wg1 type wireguard
ip netns exec other "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key peer "${PUB[r]}" \
	allowed-ips $TUNNEL.0/24 endpoint "[$(link_local_of r alt0)%a0]:$PORT"
ip -n other addr add $TUNNEL.2/24 dev wg1
ip -n peer link set wg1 down
ip -n other link set wg1 up
roamed() {
	ip netns exec other ping -n -c1 -W1 $TUNNEL.1 >/dev/null 2>&1 || true
	ip netns exec r "$WG" show wg0 endpoints | has -F "$ALT"
}
wait_for "the new endpoint" roamed
ip -n other link set wg1 down
[ "$(shown)" = "vrf_external (fwmark $MARK)" ] || die "wg show says $(shown)"
ip -n r link set alt0 master vrf_b
wait_for "alt0's address" has_link_local r alt0
[ "$(shown)" = "vrf_external (fwmark $MARK, IPv6 endpoint leaves by alt0)" ] || die "wg show says $(shown)"
ip netns exec r "$WG" show wg0 json | tee /tmp/json
grep -q '"state": "faulty"' /tmp/json || die "json does not say it"
capture_start alt r alt0 "udp src port $PORT"
wait_for "a packet by alt0" leaves alt
capture_stop alt
refused "$ALT" "alt0, which is in vrf_b" set wg0 bind-dev vrf_external
says endpoint-scope 1 "leave by alt0, which is in vrf_b"
grep -qx '  closed: no' /tmp/doctor || die "it is called closed"
mends endpoint-scope "s/ADDRESS/$PEER4/"
ip -n peer link set wg1 up
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel with the endpoint that mends it" ping_tunnel
healthy "with the endpoint that mends it"

say "addresses that the default VRF has: the table local comes first"
# A peer that speaks would take the endpoint back.
ip -n peer link set wg1 down
again
capture_start core r core0 "udp src port $PORT"
r_wg set wg0 peer "$KEY" endpoint "100.64.0.255:$PEER_PORT"
wait_for "a broadcast by core0" leaves core
capture_stop core
says local-first 1 "leave by core0"
grep -qx '  closed: no' /tmp/doctor || die "it is called closed"
mends local-first
stays_in "100.64.0.255:$PEER_PORT"
r_wg set wg0 peer "$KEY" endpoint "100.64.0.2:$PEER_PORT"
doctor
! codes | has local-first || die "$(cat /tmp/doctor)"
r_wg set wg0 peer "$KEY" endpoint "[fd00:64::2]:$PEER_PORT"
says local-first 1 "go to this host itself"
mends local-first
r_wg set wg0 peer "$KEY" endpoint "$PEER4:$PEER_PORT"
ip -n peer link set wg1 up
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel with the local rule behind" ping_tunnel
healthy "with the local rule behind"
