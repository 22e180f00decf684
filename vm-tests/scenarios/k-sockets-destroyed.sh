#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: `ss -K` takes the binding away: nothing is sent or received, wg says so, and to bind again mends it
# needs: attr
# tool: ours
# timeout: 300
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh
. /lib/wgvrf/doctor.sh

# destroy [FAMILY]: the sockets of the router's tunnel, or one of them, lose what they are bound to.
destroy() {
	local left=0
	[ -z "${1:-}" ] || left=1
	r ss -uaK ${1:+"$1"} "sport = :$RPORT and dev = red" >/dev/null
	[ "$(r ss -lunH "sport = :$RPORT" | grep -c '%red')" = $left ] || die "$(r ss -lunH)"
}

# calls_anew: without the route that the peer had. Link down and up would make the sockets again.
calls_anew() {
	r_calls 198.51.100.2
	r_calls 192.0.2.9
}

# mended: both sockets are on red, and nothing is seen elsewhere.
mended() {
	[ "$(r ss -lunH "sport = :$RPORT" | grep -c '%red:')" = 2 ] || die "$(r ss -lunH "sport = :$RPORT")"
	r "$WG" show wg0 | has -x '  bind device: red'
	capture_start out r main0 "udp and src port $RPORT"
	calls_anew
	works r
	capture_stop out
	assert_none out "packets outside red"
}

bound_topology
bind_to red
r_calls 192.0.2.9
works r
for command in set setconf syncconf; do
	say "mended by $command"
	r "$WG" showconf wg0 >/tmp/wg0.conf
	case $command in
	set) destroy ;;
	setconf) destroy -6 ;;
	syncconf) destroy -4 ;;
	esac
	r "$WG" show wg0 | has -x '  bind device: red (the sockets are not bound to it)'
	r "$WG" show wg0 json | has '"receives": *"nothing"'
	says receives-nothing 1 "not all of its sockets are bound to red"
	has -x '  closed: yes: nothing leaves elsewhere' </tmp/doctor
	case $command in
	set) bind_to red ;;
	*) r "$WG" $command wg0 /tmp/wg0.conf ;;
	esac
	mended
	result "$command" mended
done

say "to another VRF instead, be it one of the sockets only"
for family in '' -4 -6; do
	destroy $family
	bind_to blue
	[ "$(r ss -lunH "sport = :$RPORT" | grep -c '%blue:')" = 2 ] || die "$(r ss -lunH "sport = :$RPORT")"
	bind_to red
	mended
done
result moved both

say "where somebody else has the port: refused, and mended where it was"
ip netns exec r socat -u "UDP4-RECV:$RPORT,so-bindtodevice=blue" OPEN:/dev/null &
SOCAT=$!
on_blue() {
	r ss -lunH "sport = :$RPORT" | has '%blue:'
}
wait_for "socat to listen" on_blue
for family in '' -4 -6; do
	destroy $family
	refused "in use" bind-dev blue
	[ "$(r ss -lunH "sport = :$RPORT" | grep -c '%blue:')" = 1 ] || die "$(r ss -lunH "sport = :$RPORT")"
	mended
done
kill $SOCAT
wait $SOCAT || true
result taken refused

say "a port that the kernel chose: the socket loses it, too"
r "$WG" set wg0 bind-dev off listen-port 0
r "$WG" set wg0 bind-dev red
RPORT=$(r "$WG" show wg0 listen-port)
r ss -uaK "sport = :$RPORT" >/dev/null
bind_to red
mended
result chosen mended

say "the same without anything that was bound"
bind_to off
r "$WG" set wg0 listen-port 0
RPORT=$(r "$WG" show wg0 listen-port)
r ss -uaK "sport = :$RPORT" >/dev/null
bind_to red
mended
result unbound mended

say "what was destroyed sends nothing outside, in either family, with or without a mark"
capture_start out r main0 "udp and src port $RPORT"
for mark in off 0x77; do
	for address in 192.0.2.9 "[2001:db8:9::9]"; do
		bind_to red fwmark $mark
		r_calls "$address"
		works r
		destroy
		dropped=$(tx_errors)
		# By the route that the peer has, and without it.
		silent r
		[ "$(tx_errors)" -gt "$dropped" ] || die "what was dropped is not counted"
		dropped=$(tx_errors)
		calls_anew
		r_calls "$address"
		silent r
		[ "$(tx_errors)" -gt "$dropped" ] || die "what was dropped is not counted"
	done
done
capture_stop out
assert_none out "packets outside red"
result sends nothing

say "nor does it receive from elsewhere: from the default VRF, or another where the sysctl opens all to it"
# received: the bytes of p's that r's wg0 took.
received() {
	r "$WG" show wg0 transfer | cut -f2
}
# p_calls_by_alt0: p's handshakes come to r by another device than red's.
p_calls_by_alt0() {
	capture_start in r alt0 "udp and dst port $RPORT"
	ip -n p link set wg0 down
	ip -n p link set wg0 up
	p_calls "$1"
	tunnel_ping p 3 1 || true
	capture_stop in
	assert_some in "handshakes of p by alt0"
}
r "$WG" set wg0 fwmark off
# Without blue, alt0 is of the default VRF.
for address in 203.0.113.1 "[2001:db8:2::1]"; do
	for at in "off blue" "red blue" "off default" "red default"; do
		bound=${at% *}
		r sysctl -qw net.ipv4.udp_l3mdev_accept=1
		ip -n r link set alt0 master blue
		[ ${at#* } = blue ] || {
			ip -n r link set alt0 nomaster
			r sysctl -qw net.ipv4.udp_l3mdev_accept=0
		}
		ip -n r addr replace 203.0.113.1/24 dev alt0
		ip -n r addr replace 2001:db8:2::1/64 dev alt0 nodad
		bind_to off
		ip -n r link set wg0 down
		ip -n r link set wg0 up
		bind_to $bound
		[ $bound = off ] || destroy
		before=$(received)
		p_calls_by_alt0 "$address"
		if [ $bound = off ]; then
			[ "$(received)" -gt "$before" ] || die "unbound, it does not receive by alt0 either: this proves nothing"
		else
			[ "$(received)" = "$before" ] || die "it received by alt0: $(r "$WG" show wg0)"
		fi
	done
done
result receives nothing

say "link down and up mends it, where the link is elsewhere, too"
# Here, its own routes come and go, and the kernel looks up all others again.
bind_to red
netns_add inside
ip -n r link set wg0 netns inside
ip -n inside addr add 10.9.0.1/24 dev wg0
ip -n inside link set wg0 up
passes() {
	ip netns exec inside ping -n -c1 -W1 10.9.0.2 >/dev/null
}
r_peer() {
	ip netns exec inside "$WG" set wg0 peer "$PKEY" endpoint "$1:$PPORT"
}
r_peer 192.0.2.9
p_calls 198.51.100.1
wait_for "the tunnel" passes
destroy
capture_start out r main0 "udp and src port $RPORT"
r_peer 198.51.100.2
r_peer 192.0.2.9
! passes || die "the tunnel passes packets"
ip -n inside link set wg0 down
ip -n inside link set wg0 up
wait_for "the tunnel" passes
capture_stop out
assert_none out "packets outside red"
result link-up mended
