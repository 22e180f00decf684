# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The topology of the f-*.sh scenarios: a router whose WireGuard leaves by a VRF, on a kernel that
# can only mark packets.
#
#            decoy -- core0 [default VRF]   r   [vrf_external] wan0 -- p0  peer
#   (main's default route)                 wg0 ~~~~~~~~~~~~~~~~~~~~~ wg1 (an ordinary one)
#
# The peer is behind a route, not on the wire: without a route in the VRF's table a lookup falls
# through to main, whose default route leads to the decoy.

# shellcheck disable=SC2034 # for the scenarios
MARK=0x770000ff
PORT=51001
PEER_PORT=51002
PEER4=203.0.113.10
PEER6=2001:db8:b::10
TUNNEL=10.99.0
# A sender notices after 15 seconds that the other end has lost the session (KEEPALIVE_TIMEOUT +
# REKEY_TIMEOUT in messages.h), and tries a handshake every five.
WAIT_FOR_SECONDS=${WAIT_FOR_SECONDS:-30}

# has_ipv6: whether this kernel was booted with it.
has_ipv6() {
	[ -e /proc/sys/net/ipv6/conf/all ]
}

# fb_topology [FIRST]: namespaces, wires, VRF, routes, decoy. FIRST is called while the router has
# no VRF and never had one: the kernel adds its l3mdev rule with the first.
fb_topology() {
	netns_add r
	netns_add peer
	netns_add decoy
	${1:-:}
	vrf_add r vrf_external 1023
	veth_pair r wan0 peer p0
	veth_pair r core0 decoy d0
	ip -n r link set wan0 master vrf_external
	ip -n r addr add 198.51.100.10/24 dev wan0
	ip -n peer addr add 198.51.100.1/24 dev p0
	ip -n peer addr add $PEER4/32 dev lo
	ip -n r addr add 100.64.0.2/24 dev core0
	ip -n decoy addr add 100.64.0.1/24 dev d0
	ip -n r route add default via 198.51.100.1 dev wan0 table 1023
	ip -n r route add default via 100.64.0.1
	if has_ipv6; then
		ip -n r addr add 2001:db8:a::10/64 dev wan0 nodad
		ip -n peer addr add 2001:db8:a::1/64 dev p0 nodad
		ip -n peer addr add $PEER6/128 dev lo nodad
		ip -n r addr add fd00:64::2/64 dev core0 nodad
		ip -n decoy addr add fd00:64::1/64 dev d0 nodad
		ip -n r -6 route add default via 2001:db8:a::1 dev wan0 table 1023
		ip -n r -6 route add default via fd00:64::1
	fi
	wait_for "the underlay" ip netns exec r ping -n -c1 -W1 -I vrf_external $PEER4
}

# accept: what the administrator has to do for the fallback to hear anything, where its sockets
# cannot be bound.
accept() {
	ip netns exec r sysctl -qw net.ipv4.udp_l3mdev_accept="${1:-1}"
}

# bind_again: the VRF was made again. Sockets that wg bound to the old one stay there, and closed,
# until wg is asked again.
bind_again() {
	! binds_sockets || r_wg set wg0 bind-dev vrf_external
}

# r_wg WORDS...: the tool under test on the router. Its stderr goes to /tmp/err and is shown.
r_wg() {
	local code=0
	echo "+ wg $*"
	ip netns exec r "$WG" "$@" 2>/tmp/err || code=$?
	sed 's/^/  ! /' /tmp/err
	return $code
}

# r_fails WORDS -- COMMAND...: exit 1, and stderr has the words.
r_fails() {
	local words=$1
	shift 2
	if r_wg "$@"; then
		die "should have failed: wg $*"
	fi
	grep -qF -- "$words" /tmp/err || die "the error does not say '$words': $(cat /tmp/err)"
}

# fb_keys: key files and PUB[side].
fb_keys() {
	local side
	declare -gA PUB
	for side in r peer; do
		(umask 077 && "$WG" genkey >/tmp/$side.key)
		PUB[$side]=$("$WG" pubkey </tmp/$side.key)
	done
}

# fb_wg0 [NAME] [PORT]: a configured, unbound device on the router.
fb_wg0() {
	local name=${1:-wg0} port=${2:-$PORT}
	ip -n r link add "$name" type wireguard
	ip netns exec r "$WG" set "$name" listen-port "$port" private-key /tmp/r.key
	ip -n r link set "$name" up
}

# fb_userspace: wg0 of the router is wireguard-go's.
fb_userspace() {
	mkdir -p /dev/net
	[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
	ip netns exec r wireguard-go wg0 >/tmp/go.log 2>&1 || die "wireguard-go: $(cat /tmp/go.log)"
	wait_for "the userspace socket" test -S /var/run/wireguard/wg0.sock
}

# fb_tunnel 4|6: both ends of a tunnel; the router's is not bound yet and knows the endpoint.
fb_tunnel() {
	local endpoint=$PEER4:$PEER_PORT
	[ "$1" = 4 ] || endpoint="[$PEER6]:$PEER_PORT"
	fb_keys
	fb_wg0
	ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "$endpoint" allowed-ips $TUNNEL.0/24
	ip -n r addr add $TUNNEL.1/24 dev wg0
	ip -n peer link add wg1 type wireguard
	ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
		peer "${PUB[r]}" allowed-ips $TUNNEL.0/24
	ip -n peer addr add $TUNNEL.2/24 dev wg1
	ip -n peer link set wg1 up
}

# ping_tunnel: the router reaches the peer through the tunnel.
ping_tunnel() {
	ip netns exec r ping -n -c1 -W2 $TUNNEL.2
}

# gateway_keeps_router: its neighbour entry lasts. Where wg-quick's rules come before the VRF's, the
# router does not answer when it is asked for its address (f-wg-quick-arrives), and a scenario that
# is about something else works or not by the age of that entry.
gateway_keeps_router() {
	ip -n peer neigh replace 198.51.100.10 dev p0 nud permanent \
		lladdr "$(ip netns exec r cat /sys/class/net/wan0/address)"
}

# poke [COUNT]: makes wg0 want to send, whether anything answers or not.
poke() {
	ip netns exec r ping -n -c"${1:-3}" -i 0.3 -W1 $TUNNEL.2 >/dev/null 2>&1 || true
}

# watch: captures of what the router sends, where it belongs and where it does not.
watch() {
	capture_start wan peer p0 "udp dst port $PEER_PORT"
	capture_start leak decoy d0 "udp dst port $PEER_PORT"
}

# routed MARK [TABLE]: what has the mark goes by this table (1023), in each family that is on.
routed() {
	local table=${2:-1023}
	ip -n r route get $PEER4 mark "$1" | tee /tmp/route
	grep -q "table $table" /tmp/route || die "fwmark $1 does not use table $table"
	has_ipv6 || return 0
	ip -n r -6 route get $PEER6 mark "$1" | tee /tmp/route
	grep -q "table $table" /tmp/route || die "IPv6 with fwmark $1 does not use table $table"
}

# expect_socket [PORT]: wireguard's UDP sockets, one a family, on the VRF where wg binds them.
expect_socket() {
	local n=2
	has_ipv6 || n=1
	ip netns exec r ss -lunH "sport = :${1:-$PORT}" | tee /tmp/sockets
	[ "$(wc -l </tmp/sockets)" = $n ] || die "$(wc -l </tmp/sockets) sockets, expected $n"
	if binds_sockets; then
		[ "$(grep -c '%vrf_external' /tmp/sockets)" = $n ] || die "a socket is not on the VRF"
	else
		! grep -q '%' /tmp/sockets || die "a socket is on a device, but no program here can bind it"
	fi
}

# all_rules: every policy rule of the router.
all_rules() {
	ip -n r rule show
	! has_ipv6 || ip -n r -6 rule show
}

# ours FAMILY: our rules, as "PREF TEXT" lines.
ours() {
	ip -n r "-$1" rule show | sed -n 's/:\tfrom all / /; s/ proto 119.*$//p'
}

# expect_ours TEXT...: exactly these rules of ours in each family that is on.
expect_ours() {
	local family expected
	expected=$(printf '%s\n' "$@")
	[ $# -gt 0 ] || expected=
	for family in 4 6; do
		[ $family = 4 ] || has_ipv6 || continue
		[ "$(ours $family)" = "$expected" ] ||
			die "our IPv$family rules are '$(ours $family)', expected '$expected'"
	done
}

# expect_bind NAME: what `wg show` says.
expect_bind() {
	local said
	said=$(ip netns exec r "$WG" show "${2:-wg0}" bind-dev)
	[ "$said" = "$1" ] || die "wg show ${2:-wg0} bind-dev says '$said', expected '$1'"
}

# mark_of NAME: its fwmark.
mark_of() {
	ip netns exec r "$WG" show "$1" fwmark
}

# sysctls: what the tool must never write.
sysctls() {
	ip netns exec r sysctl -n net.ipv4.udp_l3mdev_accept net.ipv4.tcp_l3mdev_accept \
		net.ipv4.conf.all.src_valid_mark net.ipv4.conf.default.src_valid_mark \
		net.ipv4.conf.all.rp_filter
}
