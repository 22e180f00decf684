# SPDX-License-Identifier: GPL-2.0-only OR MIT
# wg-quick as the f-wg-quick*.sh scenarios use it, on top of fallback.sh: a default route of both
# families into the tunnel, Table = auto.

# Inside the tunnel.
INSIDE6=fd99

# quick_filter: wg-quick also marks the replies to its packets, by nftables and conntrack, because
# its rules would take unmarked ones for traffic that belongs into the tunnel. Our small kernels
# lack `fib' and `ct mark': there, what comes from the peer's port is marked, and that is said.
quick_filter() {
	if ip netns exec r nft -f - 2>/dev/null <<-NFT
		add table ip wgvrf
		add chain ip wgvrf c
		add rule ip wgvrf c fib saddr type != local drop
		add rule ip wgvrf c ct mark set mark
		delete table ip wgvrf
	NFT
	then
		result filter complete
		return
	fi
	say "no nft fib or ct mark in this kernel: packets from port $PEER_PORT are marked instead"
	result filter "marks by port"
	mkdir -p /tmp/bin
	cat >/tmp/bin/nft <<-NFT
		#!/bin/bash
		[ "\$1" = -f ] || exec $(command -v nft) "\$@"
		text=\$(cat "\$2")
		[[ \$text =~ udp\ mark\ ([0-9]+) ]]
		sed -e '/ fib saddr /d' -e '/ct mark set mark/d' \
			-e "s/meta l4proto udp meta mark set ct mark/udp sport $PEER_PORT meta mark set \${BASH_REMATCH[1]}/" \
			<<<"\$text" | $(command -v nft) -f -
	NFT
	chmod +x /tmp/bin/nft
	PATH=/tmp/bin:$PATH
}

# quick_peer: keys, and an ordinary other end.
quick_peer() {
	quick_filter
	fb_keys
	ip -n peer link add wg1 type wireguard
	ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
		peer "${PUB[r]}" allowed-ips "$TUNNEL.0/24,$INSIDE6::/64"
	ip -n peer addr add $TUNNEL.2/24 dev wg1
	ip -n peer addr add $INSIDE6::2/64 dev wg1 nodad
	ip -n peer link set wg1 up
}

# conf [KEY=VALUE...] [6]: a file for wg-quick; 6: the peer's IPv6 address.
conf() {
	local word endpoint=$PEER4:$PEER_PORT
	mkdir -p /etc/wireguard
	(
		umask 077
		{
			echo "[Interface]"
			echo "PrivateKey = $(cat /tmp/r.key)"
			echo "ListenPort = $PORT"
			echo "Address = $TUNNEL.1/24, $INSIDE6::1/64"
			for word; do
				if [ "$word" = 6 ]; then
					endpoint="[$PEER6]:$PEER_PORT"
				else
					echo "${word%%=*} = ${word#*=}"
				fi
			done
			echo "[Peer]"
			echo "PublicKey = ${PUB[peer]}"
			echo "AllowedIPs = 0.0.0.0/0, ::/0"
			echo "Endpoint = $endpoint"
		} >/etc/wireguard/wg0.conf
	)
}

quick() {
	echo "+ wg-quick $1 wg0"
	ip netns exec r wg-quick "$1" wg0 >/tmp/quick 2>&1 || die "wg-quick $1: $(cat /tmp/quick)"
	sed 's/^/  /' /tmp/quick
}

# ping_inside6: IPv6 through the tunnel.
ping_inside6() {
	ip netns exec r ping -n -c1 -W2 $INSIDE6::2 >/dev/null
}

# foreign: everyone's rules but ours.
foreign() {
	all_rules | grep -v 'proto 119'
}
