# SPDX-License-Identifier: GPL-2.0-only OR MIT
# The seed scenario, shared by front-door-v4.sh and front-door-v6.sh: two sites, each with its
# Internet side in vrf_external and its own network in the default VRF.
#
#   site1                                  internet                        site2
#   lan0 --[default VRF]-- wg-cr02         (forwards)        wg-cr02 --[default VRF]-- lan0
#             |              : encrypted                        :              |
#           core0       [vrf_external]--wan0 -- i1   i2 -- wan0--[vrf_external] core0
#             |                                                                |
#           decoy1 (default route of the default VRF)                        decoy2
#
# The decoys carry the default VRF's default route: a packet that misses the external VRF has
# somewhere to go, and is seen there.

PORT=51001
SITES="site1 site2"

# Addresses of the underlay: ADDR[site], GW[site]; of the tunnel: T4[site], T6[site].
front_door_addresses() {
	declare -gA ADDR GW LEN T4 T6 DECOY
	if [ "$1" = 4 ]; then
		ADDR=([site1]=198.51.100.10 [site2]=203.0.113.10)
		GW=([site1]=198.51.100.1 [site2]=203.0.113.1)
		LEN=24
	else
		ADDR=([site1]=2001:db8:a::10 [site2]=2001:db8:b::10)
		GW=([site1]=2001:db8:a::1 [site2]=2001:db8:b::1)
		LEN=64
	fi
	T4=([site1]=192.0.2.42/31 [site2]=192.0.2.43/31)
	T6=([site1]=2001:db8:fd26::1/126 [site2]=2001:db8:fd26::2/126)
	DECOY=([site1]=decoy1 [site2]=decoy2)
}

front_door_topology() {
	local family=$1 site n=0 wan
	front_door_addresses "$family"
	netns_add internet
	ip netns exec internet sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	for site in $SITES; do
		n=$((n + 1))
		netns_add "$site"
		netns_add "${DECOY[$site]}"
		vrf_add "$site" vrf_external 1023
		veth_pair "$site" wan0 internet "i$n"
		veth_pair "$site" core0 "${DECOY[$site]}" up0
		ip -n "$site" link add lan0 type dummy
		ip -n "$site" link set lan0 up
		ip -n "$site" link set wan0 master vrf_external
		ip -n "$site" link set wan0 up
		ip -n "$site" addr add "10.$n.0.1/24" dev lan0
		ip -n "$site" addr add "2001:db8:$n::1/64" dev lan0 nodad
		nodad "$family"
		ip -n "$site" addr add "${ADDR[$site]}/$LEN" dev wan0 "${NODAD[@]}"
		ip -n internet addr add "${GW[$site]}/$LEN" dev "i$n" "${NODAD[@]}"
		ip -n "$site" "-$family" route add default via "${GW[$site]}" dev wan0 table 1023
		# The default VRF has a way out of its own: what misses the external VRF shows up here.
		ip -n "$site" addr add "100.64.$n.2/24" dev core0
		ip -n "$site" addr add "fd00:$n::2/64" dev core0 nodad
		ip -n "${DECOY[$site]}" addr add "100.64.$n.1/24" dev up0
		ip -n "${DECOY[$site]}" addr add "fd00:$n::1/64" dev up0 nodad
		ip -n "$site" route add default via "100.64.$n.1"
		ip -n "$site" -6 route add default via "fd00:$n::1"
	done
	wait_for "the underlay to pass packets" ip netns exec site1 \
		ping -n -c1 -W1 -I vrf_external "${ADDR[site2]}"
}

# nodad FAMILY: NODAD holds the words that keep an IPv6 address from being tentative.
nodad() {
	NODAD=()
	[ "$1" = 4 ] || NODAD=(nodad)
}

# front_door_config SITE PEER_PUBLIC [ENDPOINT]: a file like a router's own.
front_door_config() {
	local site=$1 public=$2 endpoint=${3:-}
	mkdir -p "/etc/wireguard/$site"
	(
		umask 077
		{
			echo "[Interface]"
			echo "PrivateKey = $(cat "/tmp/$site.key")"
			echo "ListenPort = $PORT"
			echo "BindDev = vrf_external"
			echo
			echo "[Peer]"
			echo "PublicKey = $public"
			echo "AllowedIPs = 0.0.0.0/0, ::/0"
			if [ -n "$endpoint" ]; then
				echo "Endpoint = $endpoint"
				echo "PersistentKeepalive = 25"
			fi
		} >"/etc/wireguard/$site/wg-cr02.conf"
	)
}

front_door_tunnel() {
	local family=$1 site other endpoint
	for site in $SITES; do
		(umask 077 && "$WG" genkey >"/tmp/$site.key")
		"$WG" pubkey <"/tmp/$site.key" >"/tmp/$site.pub"
	done
	endpoint="${ADDR[site2]}:$PORT"
	[ "$family" = 4 ] || endpoint="[${ADDR[site2]}]:$PORT"
	front_door_config site1 "$(cat /tmp/site2.pub)" "$endpoint"
	front_door_config site2 "$(cat /tmp/site1.pub)"
	for site in $SITES; do
		ip -n "$site" link add wg-cr02 type wireguard
		run ip netns exec "$site" "$WG" setconf wg-cr02 "/etc/wireguard/$site/wg-cr02.conf" \
			2>"/tmp/$site.setconf.err" || die "setconf: $(cat "/tmp/$site.setconf.err")"
		sed "s/^/$site: /" "/tmp/$site.setconf.err"
		ip -n "$site" addr add "${T4[$site]}" dev wg-cr02
		ip -n "$site" addr add "${T6[$site]}" dev wg-cr02 nodad
		ip -n "$site" link set wg-cr02 up
		# OSPF wants a link-local address; the driver switches them off when it opens.
		ip netns exec "$site" sysctl -qw net.ipv6.conf.wg-cr02.addr_gen_mode=0
	done
}

handshake_done() {
	local at
	at=$(ip netns exec "$1" "$WG" show wg-cr02 latest-handshakes | cut -f2)
	[ -n "$at" ] && [ "$at" != 0 ]
}

link_local() {
	ip -n "$1" -6 -o addr show dev wg-cr02 scope link | sed -n 's/.*inet6 \([^/]*\).*/\1/p' | head -n1
}

has_link_local() {
	[ -n "$(link_local "$1")" ]
}

# Everything that could carry a stray encrypted packet is listened to.
front_door_captures() {
	local site
	for site in $SITES; do
		capture_start "$site-wan0" "$site" wan0 "udp port $PORT"
		capture_start "$site-core0" "$site" core0 "udp port $PORT"
		capture_start "$site-lan0" "$site" lan0 "udp port $PORT"
		capture_start "$site-wg" "$site" wg-cr02 "udp port $PORT"
	done
	capture_start internet "internet" any "udp port $PORT"
}

front_door() {
	local family=$1 site n bound before
	front_door_topology "$family"
	front_door_tunnel "$family"

	bound=$(ip netns exec site1 "$WG" show wg-cr02 | sed -n 's/^  bind device: //p')
	say "site1 wg-cr02: bind device: ${bound:-none}"
	result bound "${bound:-none}"
	case $bound in
	vrf_external) has_attr || die "bound by the attribute on a kernel that has none" ;;
	"vrf_external (fwmark "*) ! has_attr || die "fallback in use although the kernel has the attribute" ;;
	*) die "not bound to vrf_external: '${bound:-no bind device line}'" ;;
	esac
	"$WG" --version | head -n1

	if has_attr; then
		for site in $SITES; do
			n=$(ip -n "$site" rule show | grep -c fwmark || true)
			[ "$n" = 0 ] || die "$site: the kernel binds, yet there are $n fwmark rules"
		done
		result without-sysctl works
	elif binds_sockets; then
		for site in $SITES; do
			grep -q 'receives from vrf_external only' "/tmp/$site.setconf.err" ||
				die "$site: not said that its sockets are bound: $(cat "/tmp/$site.setconf.err")"
		done
		result without-sysctl works
	else
		# What the administrator sees before the sysctl: packets arrive, but no socket takes them.
		grep -q 'net.ipv4.udp_l3mdev_accept=1' /tmp/site1.setconf.err ||
			die "no warning about udp_l3mdev_accept: $(cat /tmp/site1.setconf.err)"
		if ip netns exec site1 ping -n -c3 -i0.3 -W1 192.0.2.43 >/dev/null; then
			die "the tunnel works without udp_l3mdev_accept: this scenario proves nothing"
		fi
		say "without net.ipv4.udp_l3mdev_accept=1: 3 of 3 pings lost, as expected"
		result without-sysctl lost
		for site in $SITES; do
			run ip netns exec "$site" sysctl -qw net.ipv4.udp_l3mdev_accept=1
		done
	fi

	front_door_captures
	before=$(date +%s)
	wait_for "handshake" handshake_done_after_ping
	result handshake "$(($(date +%s) - before))s"

	run ip netns exec site1 ping -n -c3 -i0.2 -W2 192.0.2.43 || die "IPv4 through the tunnel is lost"
	run ip netns exec site2 ping -n -c3 -i0.2 -W2 192.0.2.42 || die "IPv4 back through the tunnel is lost"
	result ping4 ok
	run ip netns exec site1 ping -n -c3 -i0.2 -W2 2001:db8:fd26::2 || die "IPv6 through the tunnel is lost"
	run ip netns exec site2 ping -n -c3 -i0.2 -W2 2001:db8:fd26::1 || die "IPv6 back through the tunnel is lost"
	result ping6 ok

	for site in $SITES; do
		wait_for "a link-local address on $site" has_link_local "$site"
	done
	run ip netns exec site1 ping -n -c3 -i0.2 -W2 "$(link_local site2)%wg-cr02" ||
		die "link-local through the tunnel is lost"
	result linklocal ok

	capture_stop all
	for site in $SITES; do
		assert_some "$site-wan0" "encrypted packets on the external interface of $site"
		for n in core0 lan0 wg; do
			assert_none "$site-$n" "encrypted packets in the default VRF of $site ($n)"
		done
	done
	assert_some internet "encrypted packets in the Internet"
	result leakfree ok
}

handshake_done_after_ping() {
	ip netns exec site1 ping -n -c1 -W1 192.0.2.43 >/dev/null 2>&1
	handshake_done site1 && handshake_done site2
}
