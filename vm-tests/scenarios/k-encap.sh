#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: routes of the VRF that encapsulate (SRv6, MPLS) and lead out of it; IPsec outside the tunnel, both families
# needs: attr
# tool: bind-dev
# modules: mpls_router mpls_iptunnel xfrm_user esp4 esp6
# timeout: 240
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
# A core behind the default VRF: r - m - p. Only it leads to 192.0.2.77 and back to 10.255.0.1.
for ns in r m; do
	ip netns exec $ns sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
		net.ipv6.conf.all.seg6_enabled=1 net.mpls.platform_labels=1000
done
r sysctl -qw net.ipv6.conf.main0.seg6_enabled=1 net.vrf.strict_mode=1 net.mpls.conf.main0.input=1
ip netns exec m sysctl -qw net.ipv6.conf.m0.seg6_enabled=1 net.mpls.conf.m0.input=1
veth_pair m m1 p p2
ip -n m addr add 172.16.0.1/24 dev m1
ip -n p addr add 172.16.0.2/24 dev p2
ip -n p addr add 192.0.2.77/32 dev lo
ip -n p route add 10.255.0.1/32 via 172.16.0.1
ip -n r addr add 10.255.0.1/32 dev red
bind_to red

# passes NAME FILTER: the tunnel works both ways, by packets of this kind on main0, and by no bare one.
passes() {
	capture_start kind r main0 "$2"
	capture_start bare r main0 "udp src port $RPORT"
	restart
	r_calls 192.0.2.77
	works r 3
	works p 3
	restart
	p_calls 10.255.0.1
	works p 3
	capture_stop all
	assert_some kind "packets of $1 in the core"
	assert_none bare "bare packets in the core"
	result "$1" works
}

say "SRv6: as an L3VPN's edge sends, End.DT4 at this end and End.DX4 at the other"
ip -n r -6 route add fc00:2::d/128 via 2001:db8:64::2 dev main0
ip -n r -6 route add fc00:2::d/128 table 1001 via 2001:db8:64::2 dev main0
ip -n r route add 192.0.2.77/32 table 1001 src 10.255.0.1 encap seg6 mode encap segs fc00:2::d dev main0
ip -n r -6 route add fc00:1::4/128 encap seg6local action End.DT4 vrftable 1001 dev red
ip -n m -6 route add fc00:1::4/128 via 2001:db8:64::1 dev m0
ip -n m -6 route add fc00:2::d/128 encap seg6local action End.DX4 nh4 172.16.0.2 dev m1
ip -n m route add 10.255.0.1/32 encap seg6 mode encap segs fc00:1::4 dev m0
passes srv6 "ip6 proto 43 or ip6 proto 4"
ip -n r route del 192.0.2.77/32 table 1001
ip -n m route del 10.255.0.1/32

say "MPLS: a label at each end"
ip -n r route add 192.0.2.77/32 table 1001 src 10.255.0.1 encap mpls 100 via 100.64.0.2 dev main0
ip -n m -f mpls route add 100 via inet 172.16.0.2 dev m1
ip -n m route add 10.255.0.1/32 encap mpls 200 via 100.64.0.1 dev m0
ip -n r -f mpls route add 200 dev red
passes mpls "mpls"
ip -n r route del 192.0.2.77/32 table 1001

# ipsec NS FROM TO: this end of two SAs and their policies.
ipsec() {
	local ns=$1 from=$2 to=$3 from_key to_key
	from_key=$(printf %s "$from" | sha256sum | cut -c-64)
	to_key=$(printf %s "$to" | sha256sum | cut -c-64)
	ip -n "$ns" xfrm state add src "$from" dst "$to" proto esp spi 0x77 mode tunnel \
		enc 'cbc(aes)' "0x${from_key:0:32}" auth 'hmac(sha256)' "0x$from_key"
	ip -n "$ns" xfrm state add src "$to" dst "$from" proto esp spi 0x77 mode tunnel \
		enc 'cbc(aes)' "0x${to_key:0:32}" auth 'hmac(sha256)' "0x$to_key"
	ip -n "$ns" xfrm policy add src "$from" dst "$to" proto udp dir out tmpl src "$from" dst "$to" proto esp mode tunnel
	ip -n "$ns" xfrm policy add src "$to" dst "$from" proto udp dir in tmpl src "$to" dst "$from" proto esp mode tunnel
}

# The policies name one address. Until r calls it, r may speak to the last one, in the other family.
ip -n r addr del 198.51.100.10/24 dev ext0
ip -n r addr del 2001:db8:1::10/64 dev ext0
for ends in "198.51.100.1 198.51.100.2" "2001:db8:1::1 2001:db8:1::2"; do
	read -r near far <<<"$ends"
	called=$far family=ip
	[ "${far#*:}" = "$far" ] || called="[$far]" family=ip6
	say "IPsec between $near and $far, in the VRF"
	ipsec r "$near" "$far"
	ipsec p "$far" "$near"
	capture_start esp r ext0 "esp"
	capture_start bare r ext0 "$family and udp src port $RPORT"
	capture_start main r main0 "esp or udp port $RPORT"
	restart
	r_calls "$called"
	works r 3
	works p 3
	capture_stop all
	assert_some esp "ESP packets in the VRF"
	assert_none bare "bare packets in the VRF"
	assert_none main "packets in the default VRF"
	result "ipsec-$near" works
	for ns in r p; do
		ip -n $ns xfrm policy flush
		ip -n $ns xfrm state flush
	done
done

# A policy that leads out of the VRF: r's packets take the core, as ESP, and p's come by the VRF.
ip -n m addr add 2001:db8:16::1/64 dev m1 nodad
ip -n p addr add 2001:db8:16::2/64 dev p2 nodad
ip -n p route add 100.64.0.0/24 via 172.16.0.1
ip -n p -6 route add 2001:db8:64::/64 via 2001:db8:16::1
ip -n r route add 172.16.0.2/32 table 1001 via 100.64.0.2 dev main0
ip -n r -6 route add 2001:db8:16::2/128 table 1001 via 2001:db8:64::2 dev main0
for ends in "198.51.100.1 198.51.100.2 100.64.0.1 172.16.0.2" \
	"2001:db8:1::1 2001:db8:1::2 2001:db8:64::1 2001:db8:16::2"; do
	read -r near far out_near out_far <<<"$ends"
	called=$far family=ip
	[ "${far#*:}" = "$far" ] || called="[$far]" family=ip6
	say "IPsec from $near to $far, through the core"
	key=$(printf %s "$near" | sha256sum | cut -c-64)
	for ns in r p; do
		ip -n $ns xfrm state add src "$out_near" dst "$out_far" proto esp spi 0x88 mode tunnel \
			enc 'cbc(aes)' "0x${key:0:32}" auth 'hmac(sha256)' "0x$key"
	done
	ip -n r xfrm policy add src "$near" dst "$far" proto udp dir out \
		tmpl src "$out_near" dst "$out_far" proto esp mode tunnel
	ip -n p xfrm policy add src "$near" dst "$far" proto udp dir in \
		tmpl src "$out_near" dst "$out_far" proto esp mode tunnel
	capture_start esp r main0 "esp"
	capture_start bare r main0 "$family and udp src port $RPORT"
	capture_start bare_in_red r ext0 "$family and udp src port $RPORT"
	restart
	r_calls "$called"
	works r 3
	capture_stop all
	assert_some esp "ESP packets in the core"
	assert_none bare "bare packets in the core"
	assert_none bare_in_red "bare packets in the VRF"
	result "ipsec-out-$near" works
	for ns in r p; do
		ip -n $ns xfrm policy flush
		ip -n $ns xfrm state flush
	done
done

# Transport mode takes the route that the packet had: a policy for it, written for any VRF, opens none.
ip -n r addr del 10.255.0.1/32 dev red
for ends in "198.51.100.1 100.64.0.1 192.0.2.9 32" "2001:db8:1::1 2001:db8:64::1 2001:db8:9::9 128"; do
	read -r near main far bits <<<"$ends"
	called=$far
	[ "${far#*:}" = "$far" ] || called="[$far]"
	say "IPsec in transport mode from $near to $far"
	key=$(printf %s "$near" | sha256sum | cut -c-64)
	for ns in r p; do
		for src in "0x98 $near" "0x99 $main"; do
			# shellcheck disable=SC2086 # two words
			ip -n $ns xfrm state add src ${src#* } dst "$far" proto esp spi ${src% *} mode transport \
				enc 'cbc(aes)' "0x${key:0:32}" auth 'hmac(sha256)' "0x$key"
		done
	done
	ip -n r xfrm policy add dst "$far/$bits" proto udp dir out tmpl proto esp mode transport
	capture_start esp r ext0 "esp"
	restart
	r_calls "$called"
	works r 3
	capture_stop esp
	assert_some esp "ESP packets in the VRF"
	say "without a route in the VRF"
	for family in -4 -6; do
		ip -n r $family route del default table 1001
		ip -n r $family route del unreachable default metric 4278198272 table 1001
	done
	r_alone "$called"
	before=$(tx_errors)
	capture_start main r main0 "esp or udp port $RPORT"
	silent r
	capture_stop main
	assert_none main "packets in the default VRF"
	[ "$(tx_errors)" -gt "$before" ] || die "tx_errors stays at $before"
	result "transport-$near" closed
	ip -n r route add default via 198.51.100.2 dev ext0 table 1001
	ip -n r route add default via 2001:db8:1::2 dev ext0 table 1001
	for family in -4 -6; do
		ip -n r $family route add unreachable default metric 4278198272 table 1001
	done
	ip -n p link set wg0 up
	say "leaked by a route of the VRF"
	ip -n r route replace "$far/$bits" table 1001 via "${main%1}2" dev main0
	capture_start main r main0 "esp"
	r_alone "$called"
	r ping -c 1 -W 1 10.9.0.2 >/dev/null 2>&1 || true
	capture_stop main
	assert_some main "ESP packets in the core"
	result "transport-leaked-$near" works
	ip -n r route del "$far/$bits" table 1001
	ip -n p link set wg0 up
	for ns in r p; do
		ip -n $ns xfrm policy flush
		ip -n $ns xfrm state flush
	done
done
