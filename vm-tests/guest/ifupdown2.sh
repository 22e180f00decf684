# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A router with Debian's ifupdown2, for life.sh; shared by u-ifupdown2-*.sh.

# As the package's postinst and its init script do.
chmod +x /usr/share/ifupdown2/__main__.py
mkdir -p /run/network
trap 'code=$?; [ $code = 0 ] || { ip -br link; ip -br addr; ip -br link show master vrf_external; ip rule; ip route show table 1023; "$WG" show; cat /tmp/tool.log; }' EXIT

# The example, with the rules that such routers have without bind-dev. They have no preference and
# no way down, as found in the wild.
sed 's/^    vrf-table 1023$/&\n    up ip rule add fwmark 0x1023 table vrf_external\n    up ip -6 rule add fwmark 0x1023 table vrf_external/' \
	/lib/wgvrf/examples/ifupdown2/interfaces >/etc/network/interfaces
[ "$(grep -c fwmark /etc/network/interfaces)" = 2 ] || die "no rules in the stanza of the VRF"

boot() {
	tool ifup -a
}
# The link appears, and its hook calls ifup, which puts it into the VRF.
wan_comes() {
	wan_link
	tool ifup wan0
	ip addr add $WAN4/24 dev wan0
	ip route replace default via 198.51.100.1 dev wan0 table 1023
}
wan_goes() {
	[ ! -e /sys/class/net/wan0 ] || wan_down
}
# ifreload runs the stanza's commands again, the setconf among them.
change() {
	tool ifreload -a
	tunnel_works "after ifreload without changes"
	sed -i 's|^    address 192.0.2.42/31|&\n    address 192.0.2.52/32|' /etc/network/interfaces
	sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 7/' /etc/wireguard/wg-cr02.conf
	tool ifreload -a
}
vrf_goes() {
	tool ifdown vrf_external
	[ ! -e /sys/class/net/vrf_external ] || die "vrf_external is still there"
}
vrf_comes() {
	tool ifup vrf_external
}

# down_up CONFIG: the tunnel goes, and comes back bound.
down_up() {
	tool ifdown wg-cr02
	[ ! -e /sys/class/net/wg-cr02 ] || die "wg-cr02 is still there"
	tool ifup wg-cr02
	tunnel_works "after ifdown and ifup"
	expect_binding "$1"
	result "$1-down-up" works
}
