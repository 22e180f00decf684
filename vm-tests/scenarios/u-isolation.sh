#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: isolation: 60 s of traffic, roaming, new sessions, VRF flaps, failing DNS; not one packet outside
# needs: any
# tool: bind-dev
# timeout: 400
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

LASTS=${LASTS:-60}
router_world
# The second address of a link outlives the first.
sysctl -qw net.ipv4.conf.all.promote_secondaries=1
ip netns exec site2 sysctl -qw net.ipv4.conf.all.promote_secondaries=1
tool_binds || skip "this wg has no bind-dev"
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
udp_l3mdev_accept 0
# Without BTF (vanilla-7.3), only who accepts that other programs' sockets on the port are bound as well.
has_attr || [ -e /sys/kernel/btf/vmlinux ] || export WG_BIND_DEV_RECEIVE=bound
wan_up
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
ip link add wg-cr02 type wireguard
run "$WG" setconf wg-cr02 /etc/wireguard/wg-cr02.conf
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
SITE1=$(cat /tmp/site1.pub)
SITE2=$(cat /tmp/site2.pub)

# A peer in the default VRF holds a valid key and shakes hands without end. An unbound tunnel
# would answer.
(umask 077 && "$WG" genkey >/tmp/flood.key)
"$WG" set wg-cr02 peer "$("$WG" pubkey </tmp/flood.key)" allowed-ips 192.0.2.99/32
ip -n decoy link add wg-flood type wireguard
ip netns exec decoy "$WG" set wg-flood listen-port 52000 private-key /tmp/flood.key \
	peer "$SITE1" endpoint 100.64.1.2:$PORT allowed-ips 0.0.0.0/0 persistent-keepalive 1
ip -n decoy addr add 192.0.2.99/32 dev wg-flood
ip -n decoy link set wg-flood up
ip -n decoy route add 192.0.2.42/32 dev wg-flood

tunnel_works "at the beginning"

# What the router sends, on every interface outside the external VRF, at both ends of wires.
# Types 1 to 4 are the first byte after the UDP header, three zeroes follow.
wg4="udp and src port $PORT and udp[8] >= 1 and udp[8] <= 4 and udp[9:2] = 0 and udp[11] = 0"
wg6="ip6 and udp and src port $PORT"
outside=()
listen() {
	capture_start "$1" "$2" "$3" "($wg4) or ($wg6)"
	outside+=("$1")
}
here=$$
ns_here() {
	ip netns attach here $here 2>/dev/null || true
}
ns_here
# interfaces NETNS: those that are up and do not belong to the external VRF.
interfaces() {
	ip -n "$1" -o link show up | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vxE 'vrf_external|wan0' | sort
}
for ns in here decoy; do
	interfaces $ns >/tmp/listening-$ns
	while read -r interface; do
		listen "$ns-$interface" $ns "$interface"
	done </tmp/listening-$ns
done
[ ${#outside[@]} -ge 7 ] || die "only ${#outside[@]} interfaces are listened to: ${outside[*]}"
# The other side of the coin: these must see packets.
capture_start internet internet any "udp and src port $PORT"
capture_start flood decoy up0 "udp and dst port $PORT"

say "traffic for $LASTS s"
(
	set +e
	trap - ERR
	while :; do ping -n -q -i 0.05 -c 100 -W1 $FAR_INSIDE4; done
) >/dev/null 2>&1 &
pings=$!
(
	set +e
	trap - ERR
	while :; do ip netns exec site2 ping -n -q -i 0.1 -c 50 -W1 2001:db8:fd26::1; done
) >/dev/null 2>&1 &
pings="$pings $!"
# TCP through the tunnel, in packets that fill it, and pings that do not fit into one.
ip netns exec site2 socat -u TCP4-LISTEN:5001,fork,reuseaddr OPEN:/dev/null 2>/dev/null &
pings="$pings $!"
(
	set +e
	trap - ERR
	while :; do
		head -c 100000 /dev/zero | socat -u - TCP4:$FAR_INSIDE4:5001,connect-timeout=2
		ping -n -q -s 3000 -i 0.2 -c 5 -W1 $FAR_INSIDE4
	done
) >/dev/null 2>&1 &
pings="$pings $!"

# A flood of what looks like messages of all four types, to the port.
for type in 1 2 3 4; do
	printf '%b\0\0\0' "\\x0$type"
	head -c 144 /dev/urandom
done >/tmp/four
for _ in {1..50}; do cat /tmp/four; done >/tmp/flood
# The name server that /etc/resolv.conf names is not there.
config /tmp/no-dns.conf "BindDev = vrf_external"
sed -i "s/^Endpoint = .*/Endpoint = no-such-name.invalid:$PORT/" /tmp/no-dns.conf

far=$FAR4
handshakes=0
moves=0
flaps=0
failures=0
last=
begun=$SECONDS
end=$((SECONDS + LASTS))
step=0
# Each of the steps three times at least, however slow the guest is: all the kinds of flaps.
while [ $SECONDS -lt $end ] || [ $step -lt 15 ]; do
	step=$((step + 1))
	ip netns exec decoy socat -u -b 148 OPEN:/tmp/flood UDP4-SENDTO:100.64.1.2:$PORT || true
	case $((step % 5)) in
	1)
		# The peer roams, or we do: the old address goes, another one is there.
		moves=$((moves + 1))
		if [ $((moves % 2)) = 1 ]; then
			old=$far
			[ "$far" = $FAR4 ] && far=203.0.113.11 || far=$FAR4
			ip -n site2 addr add $far/24 dev wan0
			ip -n site2 addr del $old/24 dev wan0
			ip -n site2 route replace default via 203.0.113.1
		else
			ip addr add 198.51.100.11/24 dev wan0
			ip addr del $WAN4/24 dev wan0
			ip route replace default via 198.51.100.1 dev wan0 table 1023
			sleep 1
			ip addr add $WAN4/24 dev wan0
			ip addr del 198.51.100.11/24 dev wan0
			ip route replace default via 198.51.100.1 dev wan0 table 1023
		fi
		;;
	2)
		# A new session: the far end forgets this one.
		ip netns exec site2 "$WG" set wg-cr02 peer "$SITE1" remove
		ip netns exec site2 "$WG" set wg-cr02 peer "$SITE1" allowed-ips 0.0.0.0/0,::/0
		"$WG" set wg-cr02 peer "$SITE2" remove
		"$WG" set wg-cr02 peer "$SITE2" endpoint $far:$PORT allowed-ips 0.0.0.0/0,::/0
		;;
	3)
		# A name that does not resolve: the command or the file fails, the tunnel stays as it is.
		failures=$((failures + 1))
		! WG_ENDPOINT_RESOLUTION_RETRIES=0 "$WG" syncconf wg-cr02 /tmp/no-dns.conf >/dev/null 2>&1 ||
			die "a file with a name without DNS was taken"
		! WG_ENDPOINT_RESOLUTION_RETRIES=0 "$WG" set wg-cr02 peer "$SITE2" \
			endpoint no-such-name.invalid:$PORT >/dev/null 2>&1 || die "a name without DNS resolved"
		;;
	4)
		flaps=$((flaps + 1))
		case $((flaps % 3)) in
		0)
			ip link set vrf_external down
			sleep 1
			ip link set vrf_external up
			ip route replace default via 198.51.100.1 dev wan0 table 1023
			;;
		1)
			wan_down
			sleep 1
			wan_up
			;;
		2)
			wan_down
			ip link del vrf_external
			sleep 2
			ip link add vrf_external type vrf table 1023
			ip link set vrf_external up
			wan_up
			bind_again
			;;
		esac
		;;
	0)
		# The closed door: the table has no route for a while.
		ip route del default table 1023 2>/dev/null || true
		sleep 1
		ip route replace default via 198.51.100.1 dev wan0 table 1023
		;;
	esac
	sleep 1
	now=$("$WG" show wg-cr02 latest-handshakes | awk -v key="$SITE2" '$1 == key { print $2 }')
	[ "${now:-0}" = "${last:-0}" ] || handshakes=$((handshakes + 1))
	last=$now
done
# shellcheck disable=SC2086 # a list
kill $pings
say "$step steps: $moves moves, $flaps flaps, $failures failures of DNS, $handshakes new sessions"
tunnel_works "at the end"
[ "$handshakes" -ge 2 ] || die "only $handshakes new sessions: this proves little"

for ns in here decoy; do
	interfaces $ns | diff /tmp/listening-$ns - || die "there are interfaces without a capture"
done
capture_stop all
assert_some internet "encrypted packets in the Internet" 100
assert_some flood "packets of the flood from the default VRF" 1000
shook=$(capture_count flood "udp[8:4] = 0x01000000 and udp src port 52000")
[ "$shook" -ge 3 ] || die "only $shook handshakes with a valid key from the default VRF"
for name in "${outside[@]}"; do
	assert_none "$name" "WireGuard packets of the router ($name)"
done
flooded=$("$WG" show wg-cr02 latest-handshakes | awk -v key="$("$WG" pubkey </tmp/flood.key)" '$1 == key { print $2 }')
answered=$(ip netns exec decoy "$WG" show wg-flood latest-handshakes | cut -f2)
[ "$answered" = 0 ] || die "the flood from the default VRF was answered"
# Bound sockets do not even hear it.
[ "$flooded" = 0 ] || die "the flood was taken for a handshake"
[ "$("$WG" show wg-cr02 endpoints | grep -c 100.64.1.1 || true)" = 0 ] || die "roamed into the default VRF"
accepts=$(sysctl -n net.ipv4.udp_l3mdev_accept)
[ "$accepts" = 0 ] || die "udp_l3mdev_accept is $accepts: this proves nothing of the binding"
result flood "not heard"
result isolation "0 packets outside on ${#outside[@]} interfaces in $((SECONDS - begun)) s"
