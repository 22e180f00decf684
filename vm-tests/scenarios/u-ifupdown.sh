#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's ifupdown, BindDev only: late WAN, redial, setconf again, down and up, VRF made again
# needs: any
# tool: bind-dev
# timeout: 200
# smp: 1
# packages: ifupdown, debianutils
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh

# As the package's postinst and its tmpfiles do.
mkdir -p /run/network
trap 'code=$?; [ $code = 0 ] || { ip -br addr; ip rule; ip route show table 1023; "$WG" show; cat /tmp/tool.log; }' EXIT

# The example, with the rules that such routers have without bind-dev, as found in the wild.
sed 's/^    up ip link set \$IFACE up$/&\n    up ip rule add fwmark 0x1023 table 1023\n    up ip -6 rule add fwmark 0x1023 table 1023/' \
	/lib/wgvrf/examples/ifupdown/interfaces >/etc/network/interfaces
[ "$(grep -c fwmark /etc/network/interfaces)" = 2 ] || die "no rules in the stanza of the VRF"

boot() {
	tool ifup -a
}
# udev and systemd run the two commands for `allow-hotplug'.
wan_comes() {
	wan_link
	tool ifup wan0
}
wan_goes() {
	wan_down
	ifdown --force wan0 2>/dev/null || true
}
# It takes two stanzas down and up again.
change() {
	tool ifdown wg-cr02
	[ ! -e /sys/class/net/wg-cr02 ] || die "wg-cr02 is still there"
	sed -i '/^iface wg-cr02 inet static/a \    up ip addr add 192.0.2.52/32 dev $IFACE' /etc/network/interfaces
	sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 7/' /etc/wireguard/wg-cr02.conf
	tool ifup wg-cr02
}
vrf_goes() {
	tool ifdown vrf_external
	[ ! -e /sys/class/net/vrf_external ] || die "vrf_external is still there"
}
vrf_comes() {
	tool ifup vrf_external
}

router_world
tool_binds || skip "this wg has no bind-dev"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external"
whole_life bind
