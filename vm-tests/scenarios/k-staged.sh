#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: sockets that a setting opens send the keepalive that link up would have sent
# needs: attr
# tool: bind-dev
# timeout: 180
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
ip -n r link set wg0 down
bind_to red
r_calls 203.0.113.2
r "$WG" set wg0 peer "$PKEY" persistent-keepalive 25
ip -n r link del red
ip -n r link set wg0 up
[ "$(sockets "$RPORT")" = 0 ] || die "sockets without the device"
capture_start out r alt0 "udp and src port $RPORT"
bind_to blue
seen() {
	[ "$(capture_count out)" -gt 0 ]
}
wait_for "a keepalive" seen
capture_stop out
assert_some out "packets"

say "a message that opens them and has other peers: only those are called"
ip -n r link del blue
[ "$(sockets "$RPORT")" = 0 ] || die "sockets without the device"
vrf_add r green 1003
ip -n r link set alt0 master green
(umask 077 && "$WG" genkey >/tmp/other.key)
cat >/tmp/other.conf <<-END
	[Interface]
	PrivateKey = $(cat /tmp/other.key)
	ListenPort = $RPORT
	BindDev = green
	[Peer]
	PublicKey = $("$WG" genkey | "$WG" pubkey)
	Endpoint = 203.0.113.2:$((PPORT + 1))
	AllowedIPs = 10.9.0.2/32
	PersistentKeepalive = 25
END
capture_start old r alt0 "udp and src port $RPORT and dst port $PPORT"
capture_start out r alt0 "udp and src port $RPORT and dst port $((PPORT + 1))"
r "$WG" setconf wg0 /tmp/other.conf
wait_for "a call to the new peer" seen
capture_stop all
assert_some out "packets to the new peer"
assert_none old "packets to the old peer"

say "what could not be sent before does not hold it up (REKEY_TIMEOUT in messages.h)"
# called_at_once: a call in vain, and one by the sockets that are opened before the retry, which comes 5 s later.
called_at_once() {
	local begun ended
	ip -n r link add gone type vrf table 1004
	bind_to gone
	ip -n r link del gone
	ip -n r link set wg0 down
	ip -n r link set wg0 up
	begun=${EPOCHREALTIME/[.,]/}
	r ping -n -c1 -W0.1 10.9.0.2 >/dev/null || true
	capture_start again r alt0 "udp and src port $RPORT"
	bind_to green
	wait_for "a call" has_called
	ended=${EPOCHREALTIME/[.,]/}
	capture_stop again
	say "called after $(((ended - begun) / 1000)) ms"
	[ $((ended - begun)) -lt 5000000 ]
}
has_called() {
	[ "$(capture_count again)" -gt 0 ]
}
WAIT_FOR_SECONDS=30 wait_for "a call at once" called_at_once
