# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The topology of the kernel's scenarios (k-*.sh): a router with two VRFs and the default one, and
# a peer that is reachable through both VRFs, but not through the default one.
#
#               r (router)                               p (peer)
#   wg0 10.9.0.1       red: ext0 198.51.100.1,.10 ------ p0 198.51.100.2
#   wg0 fd09::1             2001:db8:1::1,::10           p0 2001:db8:1::2
#                     blue: alt0 203.0.113.1 ----------- p1 203.0.113.2
#                           2001:db8:2::1                p1 2001:db8:2::2
#                                                        lo 192.0.2.9, 2001:db8:9::9
#                  default: main0 100.64.0.1 --- m: m0   wg0 10.9.0.2, fd09::2
#
# The default VRF of r has a default route to m, in both families: what misses its VRF is seen
# there. The VRFs have a default route to p, so that p's loopback addresses do not depend on
# which one is used.

RPORT=51001
PPORT=51002

r() {
	ip netns exec r "$@"
}

p() {
	ip netns exec p "$@"
}

bound_wires() {
	netns_add r
	netns_add p
	netns_add m
	vrf_add r red 1001
	vrf_add r blue 1002
	veth_pair r ext0 p p0
	veth_pair r alt0 p p1
	veth_pair r main0 m m0
	ip -n r link set ext0 master red
	ip -n r link set alt0 master blue
	bound_addresses
	ip -n p addr add 198.51.100.2/24 dev p0
	ip -n p addr add 2001:db8:1::2/64 dev p0 nodad
	ip -n p addr add 203.0.113.2/24 dev p1
	ip -n p addr add 2001:db8:2::2/64 dev p1 nodad
	ip -n p addr add 192.0.2.9/32 dev lo
	ip -n p addr add 2001:db8:9::9/128 dev lo
	ip -n r addr add 100.64.0.1/24 dev main0
	ip -n r addr add 2001:db8:64::1/64 dev main0 nodad
	ip -n m addr add 100.64.0.2/24 dev m0
	ip -n m addr add 2001:db8:64::2/64 dev m0 nodad
	ip -n r route add default via 100.64.0.2
	ip -n r -6 route add default via 2001:db8:64::2
}

# What a device loses when it is taken out of its VRF and put back, or the VRF is deleted.
bound_addresses() {
	ip -n r addr replace 198.51.100.1/24 dev ext0
	ip -n r addr replace 198.51.100.10/24 dev ext0
	ip -n r addr replace 2001:db8:1::1/64 dev ext0 nodad
	ip -n r addr replace 2001:db8:1::10/64 dev ext0 nodad
	ip -n r addr replace 203.0.113.1/24 dev alt0
	ip -n r addr replace 2001:db8:2::1/64 dev alt0 nodad
	ip -n r route replace default via 198.51.100.2 dev ext0 table 1001
	ip -n r -6 route replace default via 2001:db8:1::2 dev ext0 table 1001
	ip -n r route replace default via 203.0.113.2 dev alt0 table 1002
	ip -n r -6 route replace default via 2001:db8:2::2 dev alt0 table 1002
}

# bound_tunnel: wg0 on both sides, unbound; r's is created there, wherever it goes later.
bound_tunnel() {
	local ns
	for ns in r p; do
		(umask 077 && "$WG" genkey >"/tmp/$ns.key")
		"$WG" pubkey <"/tmp/$ns.key" >"/tmp/$ns.pub"
	done
	RKEY=$(cat /tmp/r.pub)
	PKEY=$(cat /tmp/p.pub)
	ip -n r link add wg0 type wireguard
	ip -n p link add wg0 type wireguard
	r "$WG" set wg0 private-key /tmp/r.key listen-port "$RPORT" \
		peer "$PKEY" allowed-ips 10.9.0.2/32,fd09::2/128
	p "$WG" set wg0 private-key /tmp/p.key listen-port "$PPORT" \
		peer "$RKEY" allowed-ips 10.9.0.1/32,fd09::1/128
	ip -n r addr add 10.9.0.1/24 dev wg0
	ip -n r addr add fd09::1/64 dev wg0 nodad
	ip -n p addr add 10.9.0.2/24 dev wg0
	ip -n p addr add fd09::2/64 dev wg0 nodad
	ip -n r link set wg0 up
	ip -n p link set wg0 up
}

bound_topology() {
	bound_wires
	bound_tunnel
}

# bind_to DEVICE [WORDS...]: in one command on r's wg0; "off" unbinds.
bind_to() {
	r "$WG" set wg0 bind-dev "$@" || die "wg set wg0 bind-dev $*: failed"
}

# refused ERRNO-TEXT WORDS...: the command on r's wg0 must fail for this reason.
refused() {
	local why=$1 code=0
	shift
	r "$WG" set wg0 "$@" 2>/tmp/refused || code=$?
	[ "$code" != 0 ] || die "wg set wg0 $* was accepted"
	grep -qi -- "$why" /tmp/refused || die "wg set wg0 $*: '$(cat /tmp/refused)' is not '$why'"
	say "wg set wg0 $*: refused: $(tr '\n' ' ' </tmp/refused)"
}

# bound_to DEVICE [NS]: what GET says; "off" if unbound.
bound_to() {
	local is
	is=$(ip netns exec "${2:-r}" "$WG" show wg0 bind-dev)
	[ "$is" = "$1" ] || die "bound to '$is' instead of '$1'"
}

# r_calls ADDRESS, p_calls ADDRESS: where the tunnel's packets are to be sent; [] around IPv6.
r_calls() {
	r "$WG" set wg0 peer "$PKEY" endpoint "$1:$PPORT"
}

p_calls() {
	p "$WG" set wg0 peer "$RKEY" endpoint "$1:$RPORT"
}

# r_alone ADDRESS: r calls p there at once, without a session. p must not speak: r would answer to
# where that came from.
r_alone() {
	ip -n p link set wg0 down
	ip -n r link set wg0 down
	ip -n r link set wg0 up
	r_calls "$1"
}

# tx_errors: how many packets r's wg0 could not send.
tx_errors() {
	r cat /sys/class/net/wg0/statistics/tx_errors
}

# p_sees ADDRESS:PORT: where p believes r to be, by the source of what it received.
p_sees() {
	local is
	is=$(p "$WG" show wg0 endpoints | cut -f2)
	[ "$is" = "$1" ] || die "p sees r at $is instead of $1"
}

r_sees() {
	local is
	is=$(r "$WG" show wg0 endpoints | cut -f2)
	[ "$is" = "$1" ] || die "r sees p at $is instead of $1"
}

# works FROM [COUNT]: the tunnel passes COUNT (2) pings in a row started by r or p, be it after
# another handshake. A sender notices after 15 seconds that the other end has lost the session
# (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT in messages.h), and tries a handshake every five.
works() {
	WAIT_FOR_SECONDS=30 wait_for "the tunnel to pass packets from $1" tunnel_ping "$1" "${2:-2}" 2
}

tunnel_ping() {
	local to=10.9.0.2
	[ "$1" = r ] || to=10.9.0.1
	ip netns exec "$1" ping -n -c "$2" -i 0.2 -W "$3" "$to" >/tmp/ping 2>&1 &&
		! grep -q ' [1-9][0-9]*% packet loss' /tmp/ping
}

# silent FROM: not a single ping passes.
silent() {
	! tunnel_ping "$1" 3 1 || die "the tunnel passes packets: $(tail -n 3 /tmp/ping | tr '\n' ' ')"
	grep -q ' 0 received' /tmp/ping || die "the tunnel passes packets: $(tail -n 3 /tmp/ping | tr '\n' ' ')"
}

# Both ends start anew: sessions, and what they learned about each other, are gone.
restart() {
	ip -n r link set wg0 down
	ip -n p link set wg0 down
	ip -n r link set wg0 up
	ip -n p link set wg0 up
}

# flow_start: pings p -> r in the background, 50 a second; flow_stop MOST: MOST may be lost.
flow_start() {
	# Not through p(): the process to be stopped is ping itself.
	: >/tmp/flow
	ip netns exec p ping -n -i 0.02 10.9.0.1 >/tmp/flow 2>&1 &
	FLOW=$!
	flow_passes 13
}

# flow_passes COUNT: waits until so many more pings were answered.
flow_passes() {
	wait_for "$1 pings of the flow to be answered" flow_reaches $(($(flow_answered) + $1))
}

flow_answered() {
	grep -c 'icmp_seq=[0-9]* ttl' /tmp/flow || true
}

flow_reaches() {
	[ "$(flow_answered)" -ge "$1" ]
}

flow_stop() {
	local last received lost
	flow_passes 13
	kill -INT "$FLOW"
	wait "$FLOW" || true
	# The last ones may be on their way still, so what counts is the gaps.
	last=$(sed -n 's/.*icmp_seq=\([0-9]*\) ttl.*/\1/p' /tmp/flow | sort -n | tail -n 1)
	received=$(flow_answered)
	[ "$received" -gt 25 ] || die "the flow received only $received packets"
	lost=$((last - received))
	[ $lost -le "$1" ] || die "$lost of $last packets lost, at most $1 may be"
	say "flow: $received of $last received"
}

# socket_inodes PORT: tells whether they are still the same ones.
socket_inodes() {
	local port
	port=$(printf %04X "$1")
	r cat /proc/net/udp /proc/net/udp6 | sed -n "/^ *[0-9]*: [0-9A-F]*:$port /{s/^ *//;p}" | tr -s ' ' | cut -d' ' -f10 | sort
}

# sockets PORT: how many sockets r holds on a port.
sockets() {
	r ss -lunH "sport = :$1" | wc -l
}
