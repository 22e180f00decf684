#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: bound, rebound and unbound under a ping every 100 ms; the peer never roams
# needs: fallback
# tool: ours
# timeout: 200
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
# So that the tunnel works before its sockets are bound.
ip netns exec r sysctl -qw net.ipv4.udp_l3mdev_accept=1
fb_tunnel 4

# Where the peer believes the router to be, each time it changes its mind: sampled, and seen on
# the wire as packets to another port.
capture_start roamed peer p0 "udp and dst host 198.51.100.10 and not dst port $PORT"
capture_start strays peer p0 "udp and src host 198.51.100.10 and not src port $PORT"

# under_ping NAME COMMAND...: at most two of some fifty pings are lost while it runs.
under_ping() {
	local name=$1 sent got
	shift
	ip netns exec r ping -n -i 0.1 -c 50 -W 2 $TUNNEL.2 >/tmp/ping 2>&1 &
	wait_for "a ping to be answered" grep -q 'icmp_seq=[0-9]* ttl' /tmp/ping
	"$@"
	wait $! || true
	sent=$(sed -n 's/^\([0-9]*\) packets transmitted.*/\1/p' /tmp/ping)
	got=$(sed -n 's/.*, \([0-9]*\) received.*/\1/p' /tmp/ping)
	say "$name: $got of $sent"
	[ "$sent" = 50 ] || die "only $sent pings were sent"
	[ $((sent - got)) -le 2 ] || die "$name: $((sent - got)) of $sent pings lost"
	result "lost-$name" "$((sent - got)) of $sent"
}

say "sockets that are not on the VRF"
WG_BIND_DEV_RECEIVE=any r_wg set wg0 bind-dev vrf_external
expect_on '*'
wait_for "the tunnel, not bound" ping_tunnel
under_ping bind r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
endpoint=$(ip netns exec peer "$WG" show wg1 endpoints | cut -f2)
[ "$endpoint" = 198.51.100.10:$PORT ] || die "the peer roamed to $endpoint"
under_ping again r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
endpoint=$(ip netns exec peer "$WG" show wg1 endpoints | cut -f2)
[ "$endpoint" = 198.51.100.10:$PORT ] || die "the peer roamed to $endpoint"
ip -n r rule show | tee /tmp/rules
! grep -q 0x78000000 /tmp/rules || die "the closing rule stays"
capture_stop all
assert_none roamed "packets of the peer to another port"
assert_none strays "packets of the router from another port"

say "the port is changed on purpose: bound on the new one at once"
r_wg set wg0 listen-port 51777
expect_on vrf_external 51777
[ -z "$(sockets)" ] || die "sockets stay on the old port"
wait_for "the tunnel from the new port" ping_tunnel
r_wg set wg0 listen-port $PORT
expect_on vrf_external
result port ok
