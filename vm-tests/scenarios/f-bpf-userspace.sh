#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: the sockets of a userspace device (wireguard-go), without sysctl, with and without a mark
# needs: fallback
# tool: ours
# packages: bpftool, wireguard-go
# modules: tun
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
. /lib/wgvrf/other-vrf.sh
fb_topology
fb_bpf
fb_keys
fb_userspace
r_wg set wg0 listen-port $PORT private-key /tmp/r.key peer "${PUB[peer]}" \
	endpoint $PEER4:$PEER_PORT allowed-ips $TUNNEL.0/24
ip -n r addr add $TUNNEL.1/24 dev wg0
ip -n r link set wg0 up
ip -n peer link add wg1 type wireguard
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
	peer "${PUB[r]}" allowed-ips $TUNNEL.0/24 endpoint 198.51.100.10:$PORT
ip -n peer addr add $TUNNEL.2/24 dev wg1
ip -n peer link set wg1 up
on_port() {
	echo "on $(sockets)"
	[ "$(sockets | sort -u)" = "$1" ]
}
wait_for "wireguard-go's sockets" on_port '*'
if ping_tunnel >/dev/null; then
	die "it hears without the program: this scenario proves nothing"
fi

for mode in fwmark port; do
	say "bound, mode $mode"
	WG_BIND_DEV_MODE=$mode r_wg set wg0 bind-dev vrf_external
	wait_for "its sockets to be on the VRF" on_port vrf_external
	expect_receives bound
	watch
	wait_for "the tunnel" ping_tunnel
	wait_for "a ping from the other side" ip netns exec peer ping -n -c1 -W1 $TUNNEL.1
	capture_stop all
	assert_some wan "ciphertext"
	assert_none leak "ciphertext in the default VRF"
	result "$mode" works
	r_wg set wg0 bind-dev off
	wait_for "its sockets to be on no device" on_port '*'
	expect_receives none
	expect_hooks 0
	expect_ours
done
result unbound "nothing left"

say "what a reload would bind is told before"
printf '[Interface]\nListenPort = %s\nPrivateKey = %s\nBindDev = vrf_external\n' $PORT "$(cat /tmp/r.key)" >/tmp/file
printf '[Peer]\nPublicKey = %s\nEndpoint = %s:%s\nAllowedIPs = %s.0/24\n' \
	"${PUB[peer]}" $PEER4 $PEER_PORT $TUNNEL >>/tmp/file
WG_BIND_DEV_RECEIVE=any r_wg syncconf wg0 /tmp/file
expect_on '*'
r_wg syncconf --dry-run wg0 /tmp/file >/tmp/told
has 'receives: any -> bound' </tmp/told || die "$(cat /tmp/told)"
r_wg syncconf wg0 /tmp/file
wait_for "its sockets to be on the VRF" on_port vrf_external
[ -z "$(r_wg syncconf --dry-run wg0 /tmp/file | sed '/^+ wg/d')" ] || die "it does not end"
r_wg set wg0 bind-dev off
wait_for "its sockets to be on no device" on_port '*'

say "its sockets are not those of a kernel device on its port, which has its own in another namespace"
r_wg set wg0 bind-dev vrf_external
netns_add box
ip -n box link add wg9 type wireguard
ip netns exec box "$WG" set wg9 listen-port $PORT private-key /tmp/peer.key fwmark $MARK
ip -n box link set wg9 netns r
ip -n r link set wg9 up
expect_on vrf_external
expect_on '*' $PORT box
ids() {
	ip netns exec r ss -lunHe "sport = :$PORT" | grep -o 'ino:[0-9]*'
	ip netns exec box ss -lunHe "sport = :$PORT" | grep -o 'ino:[0-9]*'
}
ids >/tmp/ids
expect_receives none wg9
ip netns exec r "$WG" show wg9 | has 'not bound: its sockets are in another network namespace' ||
	die "$(ip netns exec r "$WG" show wg9)"
expect_receives bound
r_fails "in the one where it was created" -- set wg9 bind-dev vrf_external
r_wg set wg9 bind-dev off
ids | diff /tmp/ids - || die "sockets were made again"
expect_bind vrf_external
wait_for "the tunnel" ping_tunnel
ip -n r link del wg9
r_wg set wg0 bind-dev off
expect_hooks 0
expect_ours
result foreign apart

say "its sockets are made again, and it changes from port to mark, under pings: nothing by the default VRF"
fb_other_vrf
export WG_BIND_DEV_MODE=port
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel" ping_tunnel
ip netns exec r ping -n -f $TUNNEL.2 >/dev/null 2>&1 &
capture_start leak decoy d0 "udp dst port $PEER_PORT"
capture_start other peer p2 "udp dst port $PEER_PORT"
for _ in 1 2 3; do
	r_wg set wg0 bind-dev vrf_other
	r_wg set wg0 bind-dev vrf_external
done
capture_stop other
assert_some other "ciphertext in the other VRF"
assert_none leak "ciphertext in the default VRF"
result again closed
for _ in 1 2 3; do
	WG_BIND_DEV_MODE=fwmark r_wg set wg0 listen-port 51077 bind-dev vrf_external
	r_wg set wg0 listen-port $PORT bind-dev vrf_external
done
kill %1
capture_stop leak
assert_none leak "ciphertext in the default VRF"
unset WG_BIND_DEV_MODE
r_wg set wg0 bind-dev off
expect_ours
result switched closed

say "the rules of a program whose socket file does not show here stay"
ip netns exec r unshare -m sh -euc "mount -t tmpfs none /var/run/wireguard
	wireguard-go wg7
	ip link set wg7 up
	$WG set wg7 listen-port 51055 private-key /tmp/peer.key bind-dev vrf_external"
! ip netns exec r "$WG" show interfaces | has wg7 || die "it does show"
its_rules() {
	ours 4 | has "fwmark $MARK lookup 1023" || die "its rules are gone: $(ours 4)"
}
its_rules
ip -n r link add wg8 type wireguard
for vrf in vrf_other vrf_external; do
	r_wg set wg8 listen-port 51056 bind-dev $vrf
	its_rules
	r_wg set wg8 bind-dev off
	its_rules
	grep -q "the rules for fwmark $MARK stay" /tmp/err || die "nothing is said: $(cat /tmp/err)"
done
pkill -f "wireguard-go wg7"
wait_for "its sockets to go" eval '[ -z "$(sockets 51055)" ]'
r_wg set wg8 listen-port 51056 bind-dev vrf_other
r_wg set wg8 bind-dev off
expect_ours
result hidden "its rules stay while it lives"
