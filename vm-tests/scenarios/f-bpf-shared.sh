#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: devices that share a port: none takes another's binding, what cannot be had is refused
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
vrf_add r vrf_c 3000
fb_tunnel 4
flap() {
	ip -n r link set "$1" down
	ip -n r link set "$1" up
}
sorted() {
	sockets | sort | uniq -c | tr -s ' ' | tr '\n' ';'
}

say "another device had the port for a moment: the entry stays for the one that has it"
r_wg set wg0 bind-dev vrf_external
ip -n r link add wg6 type wireguard
r_wg set wg6 listen-port 52222 private-key /tmp/r.key bind-dev vrf_external
r_wg set wg6 listen-port $PORT
r_wg set wg6 listen-port 52222
flap wg0
expect_on vrf_external
say "and when that one is deleted"
r_wg set wg6 listen-port $PORT
ip -n r link del wg6
r_wg set wg0 peer "${PUB[peer]}" persistent-keepalive 0
flap wg0
expect_on vrf_external
say "and when that one came last, and is deleted while this one is down"
ip -n r link set wg0 down
ip -n r link add wg6 type wireguard
r_wg set wg6 listen-port $PORT private-key /tmp/r.key bind-dev vrf_external
ip -n r link del wg6
r_wg set wg0 peer "${PUB[peer]}" persistent-keepalive 0
ip -n r link set wg0 up
expect_on vrf_external
wait_for "the tunnel" ping_tunnel
result inherited ok

say "one in another VRF that wants no entry: the hooks would bind it, which is said"
ip -n r link add wg6 type wireguard
WG_BIND_DEV_RECEIVE=any r_wg set wg6 listen-port $PORT private-key /tmp/r.key bind-dev vrf_b
has 'the bind hooks bind its sockets to vrf_external as well' </tmp/err || die "it does not say so"
say "the next bind leaves the entry to nobody, and says so"
r_wg set wg0 bind-dev vrf_external
has 'another device has port' </tmp/err || die "it does not say so"
expect_on vrf_external
flap wg0
if ping_tunnel >/dev/null; then
	die "it receives, and nobody asked which VRF"
fi
ip -n r link del wg6
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
flap wg0
expect_on vrf_external
wait_for "the tunnel" ping_tunnel
result unwanted said

say "the sockets of one that was moved here are elsewhere: it keeps nobody from the port"
netns_add far
ip -n far link add wg6 type wireguard
ip netns exec far "$WG" set wg6 listen-port 51010 private-key /tmp/r.key
ip -n far link set wg6 netns r
ip -n r link set wg6 up
ip -n r link add wg7 type wireguard
r_wg set wg7 listen-port 51010 private-key /tmp/r.key bind-dev vrf_b
ip -n r link set wg7 up
expect_on vrf_b 51010
expect_on '*' 51010 far
ip -n r link del wg6
ip -n r link del wg7
result foreign ok

say "a VRF where another device has the port"
ip -n r link add wg6 type wireguard
ip -n r link set wg6 up
r_wg set wg6 private-key /tmp/r.key bind-dev vrf_b
r_wg set wg6 listen-port $PORT bind-dev vrf_b
[ "$(sorted)" = " 2 vrf_b; 2 vrf_external;" ] || die "not both: $(sorted)"
r_fails "another socket has port $PORT in vrf_b" -- set wg0 bind-dev vrf_b
expect_bind vrf_external
[ "$(sorted)" = " 2 vrf_b; 2 vrf_external;" ] || die "a refused change moved sockets: $(sorted)"
WG_BIND_DEV_RECEIVE=any r_fails "another socket has port $PORT" -- set wg0 bind-dev vrf_c
expect_bind vrf_external
[ "$(sorted)" = " 2 vrf_b; 2 vrf_external;" ] || die "a refused change moved sockets: $(sorted)"
# Either socket may be of either, which nothing tells.
expect_receives unknown
expect_receives unknown wg6
say "unbinding, while the other one has the port"
all_rules >/tmp/before
for device in wg0 wg6; do
	r_fails "another socket has port $PORT" -- set $device bind-dev off
	[ "$(sorted)" = " 2 vrf_b; 2 vrf_external;" ] || die "a refused change moved sockets: $(sorted)"
	all_rules | diff /tmp/before - || die "a refused change changed rules"
done
wait_for "the tunnel" ping_tunnel
result refused ok

say "a program's socket on the port is not taken for the kernel's"
ip netns exec r socat -u "UDP4-RECV:$PORT,so-bindtodevice=vrf_c" /dev/null &
daemon=$!
on_c() {
	sockets | has -x vrf_c
}
wait_for "the program's socket" on_c
r_wg set wg6 listen-port 52222
[ "$(sorted)" = " 1 vrf_c; 2 vrf_external;" ] || die "not the program's beside wg0's: $(sorted)"
expect_receives bound
kill $daemon
wait $daemon || true

say "with a port of its own it can be unbound"
r_wg set wg6 listen-port 52222
r_wg set wg6 bind-dev off
flap wg0
expect_on '*' 52222
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
ip -n r link del wg6

say "another program has the port in the VRF that was made again: bound is said when it is so"
ip -n r link del vrf_external
ip -n r link add vrf_external type vrf table 1023
ip -n r link set vrf_external up
ip -n r link set wan0 master vrf_external
ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
ip netns exec r socat -u "UDP4-RECV:$PORT,so-bindtodevice=vrf_external" /dev/null &
daemon=$!
on_vrf() {
	sockets | has -x vrf_external
}
wait_for "the daemon's socket" on_vrf
expect_receives nothing
if r_wg set wg0 bind-dev vrf_external; then
	die "bound on a port that another program has"
fi
if ping_tunnel >/dev/null; then
	die "it receives without its port"
fi
kill $daemon
wait $daemon || true
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
wait_for "the tunnel" ping_tunnel
result program ok

say "the port of a device that moved binds: one that nobody bound does not get it"
netns_add box
ip -n r link add wg8 type wireguard
printf '[Interface]\nListenPort = 51009\n' >/tmp/wg8.conf
for mode in fwmark port; do
	ip -n r link add wg9 type wireguard
	WG_BIND_DEV_MODE=$mode r_wg set wg9 listen-port 51009 private-key /tmp/r.key bind-dev vrf_external
	ip -n r link set wg9 netns box
	for state in down up; do
		ip -n r link set wg8 $state
		r_wg set wg8 listen-port 52223
		all_rules >/tmp/before
		r_fails "Cannot give wg8 port 51009" -- set wg8 listen-port 51009
		for verb in setconf addconf syncconf; do
			r_fails "Cannot give wg8 port 51009" -- $verb wg8 /tmp/wg8.conf
		done
		all_rules | diff /tmp/before - || die "a refused change changed rules"
		[ "$(ip netns exec r "$WG" show wg8 listen-port)" = 52223 ] || die "the port was changed"
		[ $state = down ] || expect_on '*' 52223
	done
	ip -n box link set wg9 up
	expect_on vrf_external 51009
	say "and a device in another VRF that has it for a moment leaves the entry to it"
	ip -n box link set wg9 down
	ip -n r link set wg8 down
	if [ $mode = fwmark ]; then
		r_wg set wg8 listen-port 51009 private-key /tmp/r.key bind-dev vrf_b
		ip -n box link set wg9 up
		expect_on if2147483647 51009
		r_wg set wg8 listen-port 52223
		r_wg set wg8 bind-dev off
		ip -n box link set wg9 down
	fi
	ip -n box link set wg9 up
	expect_on vrf_external 51009
	ip -n box link del wg9
	r_wg set wg0 bind-dev vrf_external
done
say "the other order: a device that nobody bound has the port"
r_wg set wg8 listen-port 51009
ip -n r link add wg9 type wireguard
ip -n r link set wg8 up
r_fails "wg8 has port 51009, too" -- set wg9 listen-port 51009 private-key /tmp/r.key bind-dev vrf_external
expect_on '*' 51009
ip -n r link set wg8 down
ip -n r link set wg8 up
expect_on '*' 51009
ip -n r link del wg8
r_wg set wg9 listen-port 51009 private-key /tmp/r.key bind-dev vrf_external
ip -n r link del wg9
result moved refused

r_wg set wg0 bind-dev off
expect_on '*'
expect_hooks 0
expect_ours
result nothing-left ok
