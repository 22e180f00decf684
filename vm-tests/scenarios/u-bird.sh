#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: BIRD: OSPFv2 and OSPFv3 through the tunnel; the adjacencies outlive a new VRF
# needs: any
# tool: bind-dev
# timeout: 150
# smp: 1
# packages: bird2
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/router.sh

router_world
tool_binds || skip "this wg has no bind-dev"
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
binds_sockets || udp_l3mdev_accept 1
wan_up
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
ip link add wg-cr02 type wireguard
run "$WG" setconf wg-cr02 /etc/wireguard/wg-cr02.conf
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
ip addr add 2001:db8:1::1/64 dev lan0
ip -n site2 link add lan0 type dummy
ip -n site2 link set lan0 up
ip -n site2 addr add 10.2.0.1/24 dev lan0
ip -n site2 addr add 2001:db8:2::1/64 dev lan0
# OSPFv3 speaks from link-local addresses.
sysctl -qw net.ipv6.conf.wg-cr02.addr_gen_mode=0
ip netns exec site2 sysctl -qw net.ipv6.conf.wg-cr02.addr_gen_mode=0
tunnel_works "before BIRD"

# bird_config ROUTER-ID: what the two have in common. The dead interval is longer than the
# outage below: an adjacency that had to form again would hide a tunnel that came back late.
bird_config() {
	cat <<-END
		router id $1;
		protocol device { scan time 2; }
		protocol kernel kernel4 { ipv4 { import none; export where source ~ [ RTS_OSPF, RTS_OSPF_IA ]; }; }
		protocol kernel kernel6 { ipv6 { import none; export where source ~ [ RTS_OSPF, RTS_OSPF_IA ]; }; }
		protocol ospf v2 ospf4 {
			ipv4 { import all; export none; };
			area 0 {
				interface "wg-cr02" { type ptp; hello 1; dead 60; };
				interface "lan0" { stub; };
			};
		}
		protocol ospf v3 ospf6 {
			ipv6 { import all; export none; };
			area 0 {
				interface "wg-cr02" { type ptp; hello 1; dead 60; };
				interface "lan0" { stub; };
			};
		}
	END
}
bird_config 10.1.0.1 >/tmp/site1.bird
bird_config 10.2.0.1 >/tmp/site2.bird
run bird -c /tmp/site1.bird -s /run/site1.ctl -P /run/site1.pid
run ip netns exec site2 bird -c /tmp/site2.bird -s /run/site2.ctl -P /run/site2.pid

full() {
	birdc -s /run/site1.ctl show ospf neighbors "$1" | has 'Full/PtP'
}
# heard PROTOCOL: the dead interval has begun anew in the last ten seconds: hellos arrive.
heard() {
	birdc -s /run/site1.ctl show ospf neighbors "$1" |
		awk '/Full\/PtP/ { heard = $4 > 50 } END { exit !heard }'
}
# The routes are in the kernel's tables, and a LAN reaches the other.
lans_connected() {
	ping -n -c1 -W1 -I 10.1.0.1 10.2.0.1 && ping -n -c1 -W1 -I 2001:db8:1::1 2001:db8:2::1
}
routes() {
	ip route show proto bird
	ip -6 route show proto bird
}

wait_for "an OSPFv2 adjacency" full ospf4
wait_for "an OSPFv3 adjacency" full ospf6
wait_for "the LANs to reach each other" lans_connected
birdc -s /run/site1.ctl show ospf neighbors | sed 's/^/   /'
ip route show 10.2.0.0/24 | has 'dev wg-cr02' || die "no route by OSPF: $(ip route)"
result adjacency "OSPFv2, OSPFv3"

say "the VRF is made again"
before=$(routes)
# BIRD would take its routes away when an adjacency is lost, if only for a moment.
ip monitor route >/tmp/monitor &
monitor=$!
# It hears a route that comes and goes, so it will hear BIRD's.
monitor_hears() {
	ip route add 192.0.2.128/32 dev lan0
	ip route del 192.0.2.128/32 dev lan0
	grep -q 192.0.2.128 /tmp/monitor
}
wait_for "ip monitor to listen" monitor_hears
wan_down
ip link del vrf_external
sleep 3
[ -e /sys/class/net/wg-cr02 ] || die "the tunnel went with its VRF"
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
wan_up
bind_again
tunnel_works "after the VRF was made again"
full ospf4 || die "the OSPFv2 adjacency is gone: $(birdc -s /run/site1.ctl show ospf neighbors)"
full ospf6 || die "the OSPFv3 adjacency is gone: $(birdc -s /run/site1.ctl show ospf neighbors)"
wait_for "the LANs to reach each other" lans_connected
# What was heard before the outage is more than ten seconds old by then.
sleep 10
wait_for "OSPFv2 hellos through the new VRF" heard ospf4
wait_for "OSPFv3 hellos through the new VRF" heard ospf6
kill $monitor
! grep 'proto bird' /tmp/monitor || die "OSPF was disturbed"
[ "$(routes)" = "$before" ] || die "the routes changed: $before / $(routes)"
result survives yes
