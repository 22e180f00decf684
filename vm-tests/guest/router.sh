# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What the users' scenarios (u-*.sh) are built on. The router is the guest itself, not a
# namespace: the tools of a distribution expect init's namespace and /etc.
#
#     the guest                                   internet            site2, a plain router
#   lan0 --[default VRF]-- wg-cr02                (forwards)               wg-cr02
#             |              : encrypted                                      :
#           core0      [vrf_external]--wan0 ------ i1   i2 ----------------- wan0
#             |                        (late)
#           decoy (default route of the default VRF)
#
# Neither vrf_external nor wan0 nor wg-cr02 exists at first: to make them is what the tools do.

PORT=51001
# Tools and daemons of a distribution are slow in a translated guest.
WAIT_FOR_SECONDS=${WAIT_FOR_SECONDS:-60}
WAN4=198.51.100.10
FAR4=203.0.113.10
INSIDE4=192.0.2.42/31
INSIDE6=2001:db8:fd26::1/126
FAR_INSIDE4=192.0.2.43
FAR_INSIDE6=2001:db8:fd26::2

# tool_binds: whether the wg under test knows bind-dev (the C tool does not).
tool_binds() {
	[[ $("$WG" set 2>&1) == *bind-dev* ]]
}

router_world() {
	sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
		net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
		net.ipv6.conf.default.accept_ra=0 net.ipv4.ip_forward=1
	ip link add lan0 type dummy
	ip link set lan0 up
	ip addr add 10.1.0.1/24 dev lan0
	netns_add decoy
	ip link add core0 type veth peer name up0 netns decoy
	ip link set core0 up
	ip -n decoy link set up0 up
	ip addr add 100.64.1.2/24 dev core0
	ip -n decoy addr add 100.64.1.1/24 dev up0
	ip route add default via 100.64.1.1

	netns_add internet
	ip netns exec internet sysctl -qw net.ipv4.ip_forward=1
	netns_add site2
	veth_pair site2 wan0 internet i2
	ip -n internet addr add 203.0.113.1/24 dev i2
	ip -n site2 addr add $FAR4/24 dev wan0
	ip -n site2 route add default via 203.0.113.1

	(umask 077 && "$WG" genkey >/tmp/site1.key && "$WG" genkey >/tmp/site2.key)
	"$WG" pubkey </tmp/site1.key >/tmp/site1.pub
	"$WG" pubkey </tmp/site2.key >/tmp/site2.pub
	ip -n site2 link add wg-cr02 type wireguard
	ip netns exec site2 "$WG" set wg-cr02 listen-port $PORT private-key /tmp/site2.key \
		peer "$(cat /tmp/site1.pub)" allowed-ips 0.0.0.0/0,::/0
	ip -n site2 addr add $FAR_INSIDE4/31 dev wg-cr02
	ip -n site2 addr add $FAR_INSIDE6/126 dev wg-cr02
	ip -n site2 link set wg-cr02 up
	mkdir -p /etc/wireguard /etc/iproute2/rt_tables.d
	echo "1023 vrf_external" >/etc/iproute2/rt_tables.d/vrf.conf
}

# wan_link: the Internet-facing link appears. The tool under test sets it up.
wan_link() {
	ip link add wan0 type veth peer name i1 netns internet
	ip -n internet link set i1 up
	ip -n internet addr add 198.51.100.1/24 dev i1
}

# wan_up: the Internet-facing link comes up, as a PPP session does, long after boot: it is made,
# put into the VRF by a hook, and gets its addresses and its default route.
wan_up() {
	wan_link
	ip link set wan0 master vrf_external
	ip link set wan0 up
	ip addr add $WAN4/24 dev wan0
	ip route add default via 198.51.100.1 dev wan0 table 1023
}

wan_down() {
	ip link del wan0
}

# config FILE LINE...: a configuration file with these lines added to [Interface].
config() {
	local file=$1
	shift
	(
		umask 077
		{
			echo "[Interface]"
			echo "PrivateKey = $(cat /tmp/site1.key)"
			echo "ListenPort = $PORT"
			printf '%s\n' "$@"
			echo
			echo "[Peer]"
			echo "PublicKey = $(cat /tmp/site2.pub)"
			echo "AllowedIPs = 0.0.0.0/0, ::/0"
			echo "Endpoint = $FAR4:$PORT"
			echo "PersistentKeepalive = 25"
		} >"$file"
	)
}

far_answers() {
	ping -n -c1 -W1 "$FAR_INSIDE4" && ping -n -c1 -W1 "$FAR_INSIDE6"
}

# tunnel_works WHEN: IPv4 and IPv6 pass, within the time of a few handshakes.
tunnel_works() {
	wait_for "the tunnel to work $1" far_answers
	echo "   the tunnel works $1"
}

# tunnel_lost WHEN: nothing passes.
tunnel_lost() {
	! ping -n -c4 -i0.5 -W1 "$FAR_INSIDE4" >/dev/null || die "the tunnel works $1"
	echo "   the tunnel does not work $1"
}

# bound: what wg says about the binding.
bound() {
	"$WG" show wg-cr02 | sed -n 's/^  bind device: //p'
}

# our_rules: how many policy rules carry the protocol of the fallback.
our_rules() {
	{
		ip rule show
		ip -6 rule show
	} | grep -c 'proto 119' || true
}

# bind_again: the VRF was made again. Without the attribute, sockets that wg bound to the old one
# stay there, and closed, until wg is asked again.
bind_again() {
	has_attr || ! binds_sockets || run "$WG" set wg-cr02 bind-dev vrf_external
}

# policy: every rule, for comparison.
policy() {
	ip rule show
	ip -6 rule show
}

udp_l3mdev_accept() {
	sysctl -qw net.ipv4.udp_l3mdev_accept="$1"
}

# index_of INTERFACE: nothing if it is not there; bash would end without a word at $(<file).
index_of() {
	cat "/sys/class/net/$1/ifindex" 2>/dev/null || true
}
