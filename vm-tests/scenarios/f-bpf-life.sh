#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: VRF made again, any port, one port in two VRFs, namespaces, other programs, gone devices
# needs: fallback
# tool: ours
# packages: bpftool
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
vrf_add r vrf_b 2000
fb_tunnel 4
vrf_again() {
	ip -n r link add vrf_external type vrf table 1023
	ip -n r link set vrf_external up
	ip -n r link set wan0 master vrf_external
	ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
}
port_of() {
	ip netns exec r "$WG" show "$1" listen-port
}

say "a client on any port reaches its peer"
r_wg set wg0 listen-port 0 bind-dev vrf_external
[ "$(port_of wg0)" != 0 ] && [ "$(port_of wg0)" != $PORT ] || die "the port is $(port_of wg0)"
expect_on vrf_external "$(port_of wg0)"
wait_for "the tunnel from any port" ping_tunnel
r_wg set wg0 bind-dev off listen-port $PORT
expect_hooks 0
result client ok

say "a device that is to get any port gets one that is known"
ip -n r link add wg5 type wireguard
r_wg set wg5 private-key /tmp/r.key bind-dev vrf_external
any=$(port_of wg5)
[ "$any" != 0 ] || die "no port was chosen"
ip -n r link set wg5 up
expect_on vrf_external "$any"
expect_receives bound wg5
say "a file without ListenPort: the same"
printf '[Interface]\nBindDev = vrf_external\n' >/tmp/any.conf
r_wg setconf wg5 /tmp/any.conf
expect_on vrf_external "$(port_of wg5)"
r_wg set wg5 listen-port 0
[ "$(port_of wg5)" != 0 ] || die "no port was chosen"
expect_on vrf_external "$(port_of wg5)"
expect_hooks 1
ip -n r link del wg5
result any-port ok

say "the entry of a device that is gone goes with the next change"
r_wg set wg0 peer "${PUB[peer]}" persistent-keepalive 0
expect_hooks 0
result gone ok

say "a socket of a process on the port is left alone, and so is another port"
r_wg set wg0 bind-dev vrf_external
ip -n r link set wg0 down
if tells_apart; then
	ip netns exec r socat -u UDP4-RECV:$PORT /dev/null &
	daemon=$!
	wait_for "the daemon's socket" has_sockets $PORT
	[ "$(sockets)" = '*' ] || die "a process's socket on the port was bound to '$(sockets)'"
	kill $daemon
	wait $daemon || true
	result process "left alone"
else
	ip -n r link add wg5 type wireguard
	ip -n r link set wg5 up
	WG_BIND_DEV_RECEIVE=auto r_wg set wg5 private-key /tmp/r.key listen-port 51005 bind-dev vrf_external
	has 'WG_BIND_DEV_RECEIVE=bound accepts that' </tmp/err || die "not said: $(cat /tmp/err)"
	expect_on '*' 51005
	ip -n r link del wg5
	# wg0 was bound so.
	WG_BIND_DEV_RECEIVE=auto r_wg set wg0 bind-dev vrf_external
	result process "not told apart (no BTF), and only for who accepts that"
fi
ip netns exec r socat -u UDP4-RECV:5353 /dev/null &
daemon=$!
wait_for "the daemon's socket" has_sockets 5353
[ "$(sockets 5353)" = '*' ] || die "a socket on another port was bound"
kill $daemon
wait $daemon || true
ip -n r link set wg0 up
expect_on vrf_external

say "a device with that port in another namespace is left alone"
ip -n decoy link add wgd type wireguard
ip netns exec decoy "$WG" set wgd listen-port $PORT private-key /tmp/r.key
ip -n decoy link set wgd up
expect_on '*' $PORT decoy
result netns "left alone"

r_wg set wg0 bind-dev off
expect_hooks 0

say "an entry goes with its device, also while another namespace's device has the port"
fb_wg0 wg7 51007
r_wg set wg7 bind-dev vrf_external
ip netns exec decoy "$WG" set wgd listen-port 51007
ip -n r link del wg7
r_wg set wg0 listen-port $PORT
expect_hooks 0
say "that of a device that was made here and moved stays, down and up"
fb_wg0 wg7 51008
index=$(ip netns exec r cat /sys/class/net/wg7/ifindex)
r_wg set wg7 bind-dev vrf_external
ip -n r link set wg7 down
ip -n r link set wg7 netns decoy
r_wg set wg0 listen-port $PORT
expect_hooks 1
ip -n decoy link set wg7 up
expect_on vrf_external 51008
r_wg set wg0 listen-port $PORT
expect_hooks 1
expect_on vrf_external 51008
say "nor does another device take it that has its index now"
ip -n r link add wg8 index "$index" type wireguard
r_wg set wg8 listen-port 51010 private-key /tmp/r.key bind-dev vrf_b
r_wg set wg8 listen-port 51011
ip -n decoy link set wg7 down
ip -n decoy link set wg7 up
expect_on vrf_external 51008
say "it comes back with another index: its entry is its own"
ip -n decoy link set wg7 down
ip -n decoy link set wg7 netns r
r_wg set wg7 bind-dev off
ip -n r link set wg7 up
expect_on '*' 51008
ip -n r link del wg7
ip -n r link del wg8
r_wg set wg0 listen-port $PORT
expect_hooks 0
result moved kept

say "one port in two VRFs"
r_wg set wg0 bind-dev vrf_external
ip -n r link add wg6 type wireguard
r_wg set wg6 listen-port $PORT private-key /tmp/r.key bind-dev vrf_b
grep -q 'another device has port' /tmp/err || die "not said: $(cat /tmp/err)"
# The hooks do not know whose sockets these are: closed, until wg says it.
ip -n r link set wg6 up
[ "$(sockets | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 2 if2147483647; 2 vrf_external;" ] ||
	die "not closed: $(sockets)"
r_wg set wg6 bind-dev vrf_b
both() {
	[ "$(sockets | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 2 vrf_b; 2 vrf_external;" ]
}
both || die "not both on their VRF: $(sockets)"
netns_add other
veth_pair r b0 other o0
ip -n r link set b0 master vrf_b
ip -n r addr add 192.0.2.1/24 dev b0
ip -n other addr add 192.0.2.2/24 dev o0
(umask 077 && "$WG" genkey >/tmp/other.key)
ip -n other link add wg1 type wireguard
ip netns exec other "$WG" set wg1 listen-port 51009 private-key /tmp/other.key \
	peer "${PUB[r]}" allowed-ips 10.66.0.0/24
ip -n other addr add 10.66.0.2/24 dev wg1
ip -n other link set wg1 up
ip netns exec r "$WG" set wg6 peer "$("$WG" pubkey </tmp/other.key)" endpoint 192.0.2.2:51009 allowed-ips 10.66.0.0/24
ip -n r addr add 10.66.0.1/24 dev wg6
wait_for "the tunnel of the first" ping_tunnel
wait_for "the tunnel of the second" ip netns exec r ping -n -c1 -W2 10.66.0.2
ip -n r link set wg0 down
ip -n r link set wg0 up
[ "$(sockets | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 2 if2147483647; 2 vrf_b;" ] ||
	die "not closed: $(sockets)"
r_wg set wg0 bind-dev vrf_external
both || die "not both on their VRF: $(sockets)"
wait_for "the tunnel of the first, bound again" ping_tunnel
ip -n r link del wg6
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
result two-vrfs ok

say "who may not change the hooks neither unbinds it nor binds it to another VRF"
all_rules >/tmp/before
for words in "bind-dev off" "bind-dev vrf_b"; do
	if ip netns exec r setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$WG" set wg0 $words 2>/tmp/err; then
		die "$words: half of it was done: $(cat /tmp/err)"
	fi
	grep -q 'bound to vrf_external, and would stay so' /tmp/err || die "$words: $(cat /tmp/err)"
	all_rules | diff /tmp/before - || die "$words changed rules"
	[ "$(mark_of wg0)" = $MARK ] || die "$words: the mark is $(mark_of wg0)"
	expect_on vrf_external
done
say "to another VRF without the hooks: the sockets do not stay on the old one"
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_b
expect_on '*'
expect_hooks 0
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
result half "not done"

say "the VRF goes: nothing is received; made again: closed until bound again"
ip -n r link del vrf_external
expect_receives nothing
r_wg show wg0
if ping_tunnel >/dev/null; then die "it hears without its VRF"; fi
vrf_again
expect_receives nothing
if ping_tunnel >/dev/null; then die "it hears before it is bound again"; fi
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
expect_receives bound
wait_for "the tunnel in the new VRF" ping_tunnel
result made-again ok

say "the VRF is missing while the link comes up: it waits"
ip -n r link set wg0 down
ip -n r link del vrf_external
ip -n r link set wg0 up
expect_on if2147483647
expect_receives nothing
vrf_again
ip -n r link set wg0 down
ip -n r link set wg0 up
expect_on vrf_external
wait_for "the tunnel" ping_tunnel
result waits ok

say "unbound: nothing stays"
r_wg set wg0 bind-dev off
expect_on '*'
expect_hooks 0
result nothing-left ok
