#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown2: up, ifreload with and without changes, the VRF made again, down
# needs: any
# tool: bind-dev
# timeout: 150
# packages: ifupdown2
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

tool() {
	run "$@" >/tmp/ifupdown2.log 2>&1 || {
		cat /tmp/ifupdown2.log >&2
		die "$*"
	}
}

# As the package's postinst and its init script do.
chmod +x /usr/share/ifupdown2/__main__.py
mkdir -p /run/network
trap 'code=$?; [ $code = 0 ] || { ip -br link; ip -br addr; ip -br link show master vrf_external; ip route show table 1023; "$WG" show; cat /tmp/ifupdown2.log; }' EXIT
# late_wan: the link appears, and its hook calls ifup, which puts it into the VRF.
late_wan() {
	ip link add wan0 type veth peer name i1 netns internet
	ip -n internet link set i1 up
	ip -n internet addr add 198.51.100.1/24 dev i1
	tool ifup wan0
	ip addr add $WAN4/24 dev wan0
	ip route replace default via 198.51.100.1 dev wan0 table 1023
}

router_world
tool_binds || skip "this wg has no bind-dev"
has_attr || udp_l3mdev_accept 1
cp /lib/wgvrf/examples/ifupdown2/interfaces /etc/network/interfaces
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"

tool ifup -a
[ "$("$WG" show wg-cr02 bind-dev)" = vrf_external ] || die "not bound: $(cat /tmp/ifupdown2.log)"
late_wan
tunnel_works "after ifup -a"
result up works

say "ifreload"
tool ifreload -a
[ "$("$WG" show wg-cr02 bind-dev)" = vrf_external ] || die "ifreload unbound the tunnel"
tunnel_works "after ifreload without changes"
sed -i 's|^    address 192.0.2.42/31|&\n    address 192.0.2.52/32|' /etc/network/interfaces
tool ifreload -a
ip -4 addr show dev wg-cr02 | grep -q 192.0.2.52 || die "ifreload did not add the address"
tunnel_works "after ifreload with a new address"
result ifreload works

say "the VRF is made again"
capture_start decoy decoy up0 "udp port $PORT"
tool ifdown vrf_external
tunnel_lost "without its VRF"
[ ! -e /sys/class/net/wan0 ] || wan_down
tool ifup vrf_external
late_wan
tunnel_works "after the VRF was made again"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
result recreate works

tool ifdown wg-cr02
[ ! -e /sys/class/net/wg-cr02 ] || die "wg-cr02 is still there"
tool ifup wg-cr02
tunnel_works "after ifdown and ifup"
result down-up works
