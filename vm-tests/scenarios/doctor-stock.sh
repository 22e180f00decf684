#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg doctor on a stock kernel: each fault is found, and the command that it prints mends it
# needs: fallback
# tool: ours
# packages: bpftool nftables
# modules: nf_tables
# timeout: 300
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
. /lib/wgvrf/doctor.sh
fb_topology
fb_bpf
fb_tunnel 4
bind_wg0() {
	r_wg set wg0 bind-dev vrf_external
}
bind_wg0
wait_for "the tunnel" ping_tunnel
healthy "when bound"
doctor
cat /tmp/doctor
for line in "sends: by vrf_external, by rules (fwmark $MARK to table 1023)" "receives: from vrf_external only, its sockets are bound" \
	"bound to: vrf_external: VRF with table 1023, up, with wan0" "closed: yes: nothing leaves elsewhere" \
	"to: $PEER4: by wan0, table 1023, from 198.51.100.10"; do
	grep -qxF "  $line" /tmp/doctor || die "not said: $line"
done
"$WG" version --all | tee /tmp/version
said='bound by a BPF program at the bind hooks'
# The program that is there may be one that was asked for.
tells_apart || said+=' where WG_BIND_DEV_RECEIVE=bound was given, else not bound: .*BTF.*'
grep -qx "sockets: $said" /tmp/version || die "not said by version"

say "with an IPv6 endpoint"
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "[$PEER6]:$PEER_PORT"
wait_for "the tunnel over IPv6" ping_tunnel
healthy "with an IPv6 endpoint"
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "$PEER4:$PEER_PORT"

say "rules"
ip -n r -6 rule del pref 97
mends not-steered
ip -n r rule del pref 98
mends not-closed
ip -n r rule add pref 50 to $PEER4 lookup main
mends rule-in-front
ip -n r rule del pref 50
bind_wg0
ip -n r rule add pref 0 to $PEER4 lookup main
advises rule-in-front 1 "delete the rule at priority 0"
ip -n r rule del pref 0 to $PEER4
for family in 4 6; do
	ip -n r "-$family" rule del l3mdev
	mends l3mdev-rule-missing
done
healthy "after rules"

say "the VRF is lost: the commands make it again"
ip -n r link del vrf_external
mends device-missing
mends vrf-empty s/NIC/wan0/
mends no-route s/GATEWAY/198.51.100.1/
mends receives-nothing
wait_for "the tunnel in the new VRF" ping_tunnel
healthy "in the new VRF"
ip -n r link set vrf_external down
mends device-down
doctor
if [ -n "$(codes)" ]; then mends no-route s/GATEWAY/198.51.100.1/; fi
wait_for "the tunnel" ping_tunnel
healthy "after the VRF was down"

say "the VRF is made again with another table"
# remake TABLE
remake() {
	ip -n r link del vrf_external
	ip -n r link add vrf_external type vrf table "$1"
	ip -n r link set vrf_external up
	ip -n r link set wan0 master vrf_external
	ip -n r route add default via 198.51.100.1 dev wan0 table "$1"
	says not-steered 1 "vrf_external has table $1 now"
	mends not-steered
	wait_for "the tunnel by table $1" ping_tunnel
	healthy "with table $1"
}
# Without an entry at the bind hooks nothing tells its name.
if tells_apart; then
	remake 2000
	remake 1023
fi

say "the rules are gone, and the sockets stay in the VRF"
for family in 4 6; do
	ip -n r "-$family" rule del pref 97
	ip -n r "-$family" rule del pref 98
done
if tells_apart; then
	says still-bound 1 "its sockets are still bound to vrf_external"
	mends still-bound
	expect_hooks 0
fi
bind_wg0
wait_for "the tunnel after that" ping_tunnel
healthy "bound again"

say "by another name"
ip -n r link property add dev wg0 altname to-the-peer
ip -n r rule del pref 98
code=0
ip netns exec r "$WG" doctor to-the-peer >/tmp/doctor || code=$?
[ $code = 1 ] && grep -q '^not-closed: wg0: ' /tmp/doctor || die "exit $code: $(cat /tmp/doctor)"
mends not-closed

say "underlay"
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "[$PEER6]:$PEER_PORT"
advises family-missing 1 "ip vrf exec vrf_external"
ip netns exec r "$WG" set wg0 peer "${PUB[peer]}" endpoint "$PEER4:$PEER_PORT"
ip -n peer link set p0 down
advises uplink-down 1 "see to the cable"
ip -n peer link set p0 up
carrier() {
	ip -n r link show wan0 | has LOWER_UP
}
wait_for "the carrier" carrier
healthy "with a carrier"
ip -n r route add $PEER4/32 via 100.64.0.1 dev core0 table 1023
advises leaked-route 0 "nothing, if the route is meant"
ip -n r route del $PEER4/32 table 1023
ip -n r link set wan0 mtu 1470
ip -n peer link set p0 mtu 1470
wait_for "the tunnel" ping_tunnel
fragments() {
	ip netns exec r ping -n -c2 -i0.2 -W1 -s "$(($(ip netns exec r cat /sys/class/net/wg0/mtu) - 28))" $TUNNEL.2 >/dev/null || true
}
capture_start cut peer p0 "src host 198.51.100.10 and ip[6:2] & 0x3fff != 0"
fragments
assert_some cut "fragments"
mends mtu
capture_stop cut
capture_start whole peer p0 "src host 198.51.100.10 and ip[6:2] & 0x3fff != 0"
fragments
capture_stop whole
assert_none whole "fragments"
ip -n r link set wan0 mtu 1500
ip -n peer link set p0 mtu 1500
healthy "with a smaller MTU"

say "a tunnel into itself"
fb_wg0 wg2 51012
ip netns exec r "$WG" set wg2 peer "${PUB[peer]}" endpoint 192.0.2.200:1 allowed-ips 192.0.2.0/24
ip -n r route add 192.0.2.0/24 dev wg2
advises loop 1 "bind it to the device that reaches the endpoint"
ip -n r link del wg2

say "receiving"
r_wg set wg0 bind-dev off
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
if tells_apart; then
	mends l3mdev-accept-needed
	wait_for "the tunnel" ping_tunnel
	r_wg set wg0 bind-dev off
	WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
	accept 1
	mends receives-everywhere
else
	"$WG" version --all | has '^sockets: not bound, rules only: .*BTF' || die "not said by version"
	mends l3mdev-accept-needed
	advises receives-everywhere 0 "a wireguard module with WGDEVICE_A_BIND_DEV"
	bind_wg0
fi
accept 1
ip netns exec r socat -u UDP4-RECV:5353 /dev/null &
daemon=$!
wait_for "the daemon's socket" has_sockets 5353
says l3mdev-accept-open 1 "UDP port 5353 can be reached from each of them"
mends l3mdev-accept-open
kill $daemon
wait $daemon || true
healthy "after receiving"

ip -n r link set wg0 down
ip netns exec r socat -u UDP4-RECV:$PORT /dev/null &
daemon=$!
wait_for "the daemon's socket" has_sockets $PORT
! ip -n r link set wg0 up 2>/dev/null || die "it came up: this proves nothing"
mends port-taken
ip -n r link set wg0 up
kill $daemon
wait $daemon || true
r_wg set wg0 listen-port $PORT
wait_for "the tunnel" ping_tunnel
healthy "with its port again"

say "arriving packets"
veth_pair r alt0 peer p1
ip -n r link set alt0 master vrf_external
ip -n r addr add 192.0.2.129/30 dev alt0
ip netns exec r sysctl -qw net.ipv4.conf.alt0.rp_filter=1
mends rp-filter
advises reply-source 0 "let peers write to the address"
ip -n r link del alt0
# As wg-quick has it: what has no mark goes into the tunnel.
ip -n r route add default dev wg0 table 51820
ip -n r rule add pref 90 not fwmark $MARK lookup 51820
# peer_speaks PORT: from a port from which it never spoke.
peer_speaks() {
	ip netns exec peer "$WG" set wg1 listen-port "$1"
	ip netns exec peer ping -n -c1 -W2 $TUNNEL.1 >/dev/null
}
! peer_speaks 51022 || die "heard: this proves nothing"
mends arrival-captured
wait_for "the peer" peer_speaks 51023
ip netns exec peer "$WG" set wg1 listen-port $PEER_PORT
ip -n r rule del pref 90
ip -n r rule del pref 1 l3mdev
r_wg set wg0 peer "${PUB[peer]}" endpoint "$PEER4:$PEER_PORT"
wait_for "the tunnel" ping_tunnel
filter_names_slave wan0 $PORT ping_tunnel
healthy "after arriving packets"

say "an entry of a device that is gone"
fb_wg0 wg7 51007
r_wg set wg7 bind-dev vrf_external
ip -n r link del wg7
says stale-entry 1 "port 51007"
mends stale-entry
expect_hooks 1

say "marks"
r_wg set wg0 fwmark 1023 bind-dev vrf_external
mends mark-is-table
[ "$(mark_of wg0)" = $MARK ] || die "the mark is $(mark_of wg0)"
ip -n r link add tailscale0 type dummy
r_wg set wg0 fwmark 0x80001 bind-dev vrf_external
mends mark-shared
wait_for "the tunnel" ping_tunnel
ip -n r link del tailscale0
ip -n r link add cali0 type dummy
mends mark-shared
[ "$(mark_of wg0)" = off ] || die "the mark is $(mark_of wg0)"
wait_for "the tunnel without a mark" ping_tunnel
ip -n r link del cali0
healthy "by source port"

say "what is installed"
release=$(uname -r)
for where in "$release" 9.9-other; do
	mkdir -p "/lib/modules/$where/updates"
	echo "No such device to bind to" >"/lib/modules/$where/updates/wireguard.ko"
done
advises module-not-loaded 1 "modprobe -r wireguard"
rm -r "/lib/modules/$release/updates"
advises module-of-other-kernel 1 "build and install the module for $release"
rm -r /lib/modules/9.9-other
mkdir /tmp/other
printf '#!/bin/sh\n' | tee /tmp/other/wg >/tmp/other/wg-quick
chmod +x /tmp/other/*
PATH=/tmp/other:$PATH
mends wg-quick-runs-other
rm -r /tmp/other
healthy "after what is installed"

say "what may not be read is said"
code=0
ip netns exec r setpriv --reuid 65534 --regid 65534 --clear-groups "$WG" doctor >/tmp/doctor 2>&1 || code=$?
cat /tmp/doctor
[ $code = 2 ] || die "exit $code"
grep -q '^not-looked-at: wg0: not looked at: the device (.*Operation not permitted' /tmp/doctor || die "not said"
code=0
ip netns exec r "$WG" doctor wg9 >/tmp/doctor 2>/tmp/err || code=$?
[ $code = 2 ] && grep -q 'No such device' /tmp/err || die "exit $code: $(cat /tmp/err)"
result not-looked-at said
