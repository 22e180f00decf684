#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: each symptom of docs/troubleshooting.md is provoked, found and mended; what docs/concepts.md and docs/network.md say
# needs: any
# tool: ours
# packages: nftables, jq
# modules: nf_tables
# timeout: 300
# smp: 1
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/router.sh

# As the pages write them.
wg() {
	echo "+ wg $*" >&2
	"$WG" "$@"
}
# It would drop to a user that does not exist here, and goes on until it is stopped.
tcpdump() {
	timeout 5 tcpdump -Z root -c 1 "$@"
}

# finds CODE: the doctor names it. lost CODE: no more.
finds() {
	wg doctor wg-cr02 >/tmp/doctor || true
	grep -q "^$1\( (note)\)\?: " /tmp/doctor || die "$1 is not found: $(cat /tmp/doctor)"
}
lost() {
	finds_not "$1" || die "$1 is still found: $(cat /tmp/doctor)"
	result "$1" "found and mended"
}
finds_not() {
	wg doctor wg-cr02 >/tmp/doctor || true
	! grep -q "^$1\( (note)\)\?: " /tmp/doctor
}
# monitored STATE CODE: the check of the examples says it.
monitored() {
	local code=0
	sh /lib/wgvrf/examples/monitoring/check_wg >/tmp/check || code=$?
	cat /tmp/check
	[[ $code = "$2" && $(</tmp/check) == "$1: "* ]] || die "the check ends with $code"
}
healthy() {
	wg doctor wg-cr02 >/tmp/doctor || die "$1: $(cat /tmp/doctor)"
}
# says WORDS COMMAND...: its output has the words.
says() {
	local words=$1
	shift
	"$@" >/tmp/said 2>&1 || true
	cat /tmp/said
	grep -qF -- "$words" /tmp/said || die "$* does not say '$words'"
}
far6_endpoint="[2001:db8:cb::10]:$PORT"
PEER() {
	cat /tmp/site2.pub
}
# speaks: the far side begins, from a port that nothing here has spoken to.
speaks() {
	ip netns exec site2 "$WG" set wg-cr02 listen-port "$1"
	ip netns exec site2 ping -n -c1 -W2 192.0.2.42 >/dev/null
}

router_world
hash nft

binds_sockets || udp_l3mdev_accept 1
config /etc/wireguard/wg-cr02.conf
wan_link

say "concepts.md: a front-door VRF"
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
ip link set wan0 master vrf_external
ip link set wan0 up
ip addr add 198.51.100.10/24 dev wan0
ip route add default via 198.51.100.1 dev wan0 table 1023
ip addr add 2001:db8:a::10/64 dev wan0
ip -6 route add default via fe80::1 dev wan0 table 1023
ip link add wg-cr02 type wireguard
wg setconf wg-cr02 /etc/wireguard/wg-cr02.conf
wg set wg-cr02 bind-dev vrf_external
ip addr add 192.0.2.42/31 dev wg-cr02
ip addr add 2001:db8:fd26::1/126 dev wg-cr02
ip link set wg-cr02 up
tunnel_works "through the VRF"
healthy "when bound"
monitored OK 0
says "bind device: vrf_external" wg show wg-cr02
says vrf_external ip -d link show type vrf
if has_attr; then
	says "bind-dev: by the kernel" wg version --all
	says "dev wan0 table vrf_external" ip route get 203.0.113.10 vrf vrf_external
else
	says "bind-dev: by fwmark and policy rules" wg version --all
	ip rule | grep 'proto 119'
	ip -6 rule | grep 'proto 119'
	says "dev wan0 table vrf_external" ip route get 203.0.113.10 mark 0x770000ff
fi
says "" ss -lun "sport = :51001"
if binds_sockets; then
	grep -q '%vrf_external:51001' /tmp/said || die "the sockets are not bound"
fi

say "no handshake: how to look"
says "$(PEER)" wg show wg-cr02 latest-handshakes
says "1 received" ping -n -c1 -W1 -I vrf_external 203.0.113.10
tcpdump -ni wan0 udp port 51001 >/tmp/seen 2>&1 &
watcher=$!
wait_for "tcpdump" grep -q 'listening on' /tmp/seen
far_answers >/dev/null
wait $watcher || die "nothing seen: $(cat /tmp/seen)"
grep -q '203.0.113.10.51001' /tmp/seen || die "not seen: $(cat /tmp/seen)"

say "the VRF is empty, and has no route then"
ip link set wan0 nomaster
finds vrf-empty
monitored CRITICAL 2
ip link set wan0 master vrf_external
lost vrf-empty
finds no-route
ip route add default via 198.51.100.1 dev wan0 table 1023
lost no-route
tunnel_works "again"

say "the VRF is down"
ip link set vrf_external down
finds device-down
ip link set vrf_external up
lost device-down
ip route replace default via 198.51.100.1 dev wan0 table 1023
tunnel_works "again"

say "the rule of the VRFs is gone"
ip rule del l3mdev
ip -6 rule del l3mdev
finds l3mdev-rule-missing
ip rule add pref 1000 l3mdev
ip -6 rule add pref 1000 l3mdev
lost l3mdev-rule-missing

say "a strict filter"
ip link add alt0 type veth peer name i3 netns internet
ip -n internet link set i3 up
ip link set alt0 master vrf_external
ip link set alt0 up
ip addr add 198.51.102.1/24 dev alt0
sysctl -qw net.ipv4.conf.alt0.rp_filter=1
finds rp-filter
sysctl -w net.ipv4.conf.alt0.rp_filter=2
lost rp-filter
ip link del alt0

say "the packet filter"
nft add table inet filter
nft add chain inet filter early '{ type filter hook prerouting priority -300; }'
nft add rule inet filter early iifname wan0 udp dport 51001 counter
nft add rule inet filter early iifname vrf_external udp dport 51001 counter
nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet filter input iifname lo accept
nft add rule inet filter input iifname wg-cr02 accept
nft add rule inet filter input iifname wan0 udp dport 51001 counter accept
tunnel_lost "though wan0 is let in"
finds filter-names-slave
nft insert rule inet filter input iifname vrf_external udp dport 51001 accept
tunnel_works "when the VRF is let in"
nft list table inet filter | tee /tmp/nft
# passes CHAIN INTERFACE: how many packets its counter has seen there.
passes() {
	awk -v chain="$1" -v nic="\"$2\"" '$1 == "chain" { in_it = $2 == chain }
		in_it && $2 == nic { for (i = 3; i < NF; i++) if ($i == "packets") print $(i + 1) }' /tmp/nft
}
result prerouting "wan0: $(passes early wan0), vrf_external: $(passes early vrf_external)"
[ "$(passes early wan0)" -gt 0 ] || die "none passed prerouting by wan0"
[ "$(passes early wan0)" = "$(passes early vrf_external)" ] || die "they do not pass prerouting twice"
[ "$(passes input wan0)" = 0 ] || die "input saw wan0"
nft delete table inet filter
lost filter-names-slave

say "handshakes, but no traffic"
says "192.0.2.43" ip route get 192.0.2.43
says "0.0.0.0/0" wg show wg-cr02 allowed-ips
says "$(PEER)" wg show wg-cr02 transfer
ip link set wan0 mtu 1492
ip -n internet link set i1 mtu 1492
# Over IPv4 the default of 1420 still fits.
ip link set wg-cr02 mtu 1440
finds mtu
ip link set wg-cr02 mtu 1412
lost mtu
capture_start cut internet i1 "src host 198.51.100.10 and ip[6:2] & 0x3fff != 0"
says "1 received" ping -n -c1 -W2 -M do -s 1384 192.0.2.43
capture_stop cut
assert_none cut fragments
ip link set wan0 mtu 1500
ip -n internet link set i1 mtu 1500

say "Address already in use"
ip link set wg-cr02 down
socat -u UDP4-RECV:51001 /dev/null &
taker=$!
taken() {
	ss -lun "sport = :51001" | has ':51001'
}
wait_for "the port to be taken" taken
says "Address already in use" ip link set wg-cr02 up
finds port-taken
wg set wg-cr02 listen-port 51002
lost port-taken
ip link set wg-cr02 up
ip addr replace $INSIDE6 dev wg-cr02
tunnel_works "on another port"
kill $taker
wait $taker || true
"$WG" set wg-cr02 listen-port 51001

say "bound, but the VRF is missing"
ip link del vrf_external
finds device-missing
says "(missing" wg show wg-cr02
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
ip link set wan0 master vrf_external
ip route add default via 198.51.100.1 dev wan0 table 1023
lost device-missing
if ! has_attr && binds_sockets; then
	finds receives-nothing
	wg set wg-cr02 bind-dev vrf_external
	lost receives-nothing
fi
tunnel_works "in the new VRF"

say "leaks on the wire: unbound, they are seen in the default VRF"
watch_main() {
	tcpdump -ni core0 udp port 51001
}
poke() {
	ping -n -c3 -i0.3 -W1 192.0.2.43 >/dev/null 2>&1 || true
}
"$WG" set wg-cr02 bind-dev off
watch_main >/tmp/seen 2>&1 &
watcher=$!
wait_for "tcpdump" grep -q 'listening on' /tmp/seen
leaks() {
	poke
	grep -q '203.0.113.10.51001' /tmp/seen
}
wait_for "a packet in the default VRF" leaks
kill $watcher 2>/dev/null || true
wait $watcher || true
wg set wg-cr02 bind-dev vrf_external
tunnel_works "bound again"
if ! has_attr; then
	ip rule del pref 98
	finds not-closed
	wg set wg-cr02 bind-dev vrf_external
	lost not-closed
	ip rule del pref 97
	finds not-steered
	wg set wg-cr02 bind-dev vrf_external
	lost not-steered
fi

say "wg-quick with Table = auto: what has no mark goes into the tunnel"
mark=$("$WG" show wg-cr02 fwmark)
[ "$mark" != off ] || mark=0xca6c
! has_attr || "$WG" set wg-cr02 fwmark $mark
ip route add default dev wg-cr02 table 51820
ip rule add pref 90 not fwmark "$mark" lookup 51820
finds arrival-captured
! speaks 51044 || die "the far side is heard: this proves nothing"
ip rule add pref 1 l3mdev
ip -6 rule add pref 1 l3mdev
lost arrival-captured
wait_for "the far side" speaks 51045
ip rule del pref 90
ip rule del pref 1 l3mdev
ip -6 rule del pref 1 l3mdev
ip netns exec site2 "$WG" set wg-cr02 listen-port $PORT
! has_attr || "$WG" set wg-cr02 fwmark off
"$WG" set wg-cr02 peer "$(PEER)" endpoint "$FAR4:$PORT"
tunnel_works "without wg-quick's rules"
ip rule add pref 50 to 203.0.113.10 lookup main
finds rule-in-front
if has_attr; then
	ip rule add pref 1 l3mdev
	lost rule-in-front
	ip rule del pref 1 l3mdev
	ip rule del pref 50
else
	wg set wg-cr02 bind-dev vrf_external
	lost rule-in-front
	ip rule del pref 50
	"$WG" set wg-cr02 bind-dev vrf_external
fi

say "the sysctl"
sysctl -qw net.ipv4.udp_l3mdev_accept=1
if binds_sockets; then
	finds l3mdev-accept-open
	sysctl -w net.ipv4.udp_l3mdev_accept=0
	lost l3mdev-accept-open
else
	sysctl -qw net.ipv4.udp_l3mdev_accept=0
	finds l3mdev-accept-needed
	sysctl -w net.ipv4.udp_l3mdev_accept=1
	lost l3mdev-accept-needed
fi

say "network.md: the name server is in the VRF"
printf '%s\n' "nameserver 198.51.100.1" "options timeout:1 attempts:1" >/etc/resolv.conf
# One question, one answer: an address for vpn.example, nothing else.
cat >/tmp/answer <<'END'
#!/bin/bash
question=$(od -An -v -tx1 | tr -d ' \n')
id=${question:0:4} question=${question:24:34}
if [ "${question:26:4}" = 0001 ]; then
	answer=${id}81800001000100000000${question}c00c000100010000003c0004cb00710a
else
	answer=${id}81800001000000000000$question
fi
printf "$(sed 's/../\\x&/g' <<<"$answer")"
END
chmod +x /tmp/answer
ip netns exec internet socat UDP4-RECVFROM:53,fork EXEC:/tmp/answer &
server=$!
sed -i "s/^Endpoint = .*/Endpoint = vpn.example:$PORT/; s/^\[Peer\]/BindDev = vrf_external\n&/" /etc/wireguard/wg-cr02.conf
export WG_ENDPOINT_RESOLUTION_RETRIES=1
! wg syncconf wg-cr02 /etc/wireguard/wg-cr02.conf || die "the name is known in the default VRF: this proves nothing"
# A server in bash is slow where a machine is emulated.
printf '%s\n' "nameserver 198.51.100.1" "options timeout:10 attempts:3" >/etc/resolv.conf
# So that syncconf has something to set.
"$WG" set wg-cr02 peer "$(PEER)" endpoint "203.0.113.99:$PORT"
ip vrf exec vrf_external wg syncconf wg-cr02 /etc/wireguard/wg-cr02.conf
says "$FAR4:$PORT" wg show wg-cr02 endpoints
tunnel_works "with a name"
# As for a peer that was silent: it has no handshake.
"$WG" set wg-cr02 peer "$(PEER)" remove
"$WG" set wg-cr02 peer "$(PEER)" endpoint "203.0.113.99:$PORT" allowed-ips 0.0.0.0/0,::/0
ip vrf exec vrf_external wg reresolve wg-cr02 /etc/wireguard/wg-cr02.conf
says "$FAR4:$PORT" wg show wg-cr02 endpoints
tunnel_works "with the new address of the name"
kill $server
wait $server || true
result names "looked up in the VRF"

say "network.md: IPv6 without a global address on the WAN"
ip netns exec internet sysctl -qw net.ipv6.conf.all.forwarding=1
ip -n internet addr add 2001:db8:cb::1/64 dev i2 nodad
ip -n site2 addr add 2001:db8:cb::10/64 dev wan0 nodad
ip -n site2 -6 route add default via 2001:db8:cb::1
ip -n internet addr add fe80::1/64 dev i1 nodad
ip addr add fe80::10/64 dev wan0 nodad
ip -n internet -6 route add 2001:db8:aa::1/128 via fe80::10 dev i1
"$WG" set wg-cr02 peer "$(PEER)" endpoint "$far6_endpoint"
ip -6 route add default via fe80::1 dev wan0 table 1023
finds family-missing
ip -6 addr add 2001:db8:aa::1/128 dev vrf_external
lost family-missing
tunnel_works "from the address of the VRF"
says "[2001:db8:aa::1]:51001" ip netns exec site2 "$WG" show wg-cr02 endpoints
# from ADDRESS: a tunnel that starts anew has this one.
from() {
	"$WG" set wg-cr02 peer "$(PEER)" endpoint "$far6_endpoint"
	tunnel_works "from $1"
	says "[$1]:51001" ip netns exec site2 "$WG" show wg-cr02 endpoints
}
ip -n internet -6 route add 2001:db8:aa::2/128 via fe80::10 dev i1
ip -6 addr add 2001:db8:aa::2/128 dev vrf_external
ip -6 route replace default via fe80::1 dev wan0 table 1023 src 2001:db8:aa::2
from 2001:db8:aa::2
ip -6 route replace default via fe80::1 dev wan0 table 1023 src 2001:db8:aa::1
from 2001:db8:aa::1
ip -6 addr add 2001:db8:bb::1/64 dev lan0
! ip -6 route replace default via fe80::1 dev wan0 table 1023 src 2001:db8:bb::1 || die "taken from outside the VRF"
"$WG" set wg-cr02 peer "$(PEER)" endpoint "$FAR4:$PORT"
tunnel_works "over IPv4"

say "network.md: a leaked route is used, and told"
capture_start leaked decoy up0 "udp dst port 51001"
ip route add 203.0.113.10/32 via 100.64.1.1 dev core0 table 1023
finds leaked-route
sent() {
	poke
	capture_catch_up leaked
	[ "$(capture_count leaked)" -gt 0 ]
}
wait_for "encrypted packets by the leaked route" sent
capture_stop leaked
ip route del 203.0.113.10/32 table 1023
tunnel_works "in the end"
