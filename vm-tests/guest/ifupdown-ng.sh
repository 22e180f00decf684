# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A router with Debian's ifupdown-ng, for life.sh; shared by u-ifupdown-ng-*.sh.

# A router's file. The fwmark rules are what such routers have without bind-dev; they have no
# preference and no way down, as found in the wild.
cat >/etc/network/interfaces <<'END'
auto vrf_external
iface vrf_external
	vrf-table 1023
	up ip rule add fwmark 0x1023 table vrf_external
	up ip -6 rule add fwmark 0x1023 table vrf_external

auto wg-cr02
iface wg-cr02
	use wireguard
	address 192.0.2.42/31
	address 2001:db8:fd26::1/126
	up sysctl -qw net.ipv6.conf.wg-cr02.addr_gen_mode=0
END

boot() {
	tool ifup -a
}
wan_comes() {
	wan_up
}
wan_goes() {
	wan_down
}
# ifupdown-ng's way is down, change, up.
change() {
	tool ifdown wg-cr02
	sed -i 's|^\taddress 192.0.2.42/31|&\n\taddress 192.0.2.52/32|' /etc/network/interfaces
	sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 7/' /etc/wireguard/wg-cr02.conf
	tool ifup wg-cr02
}
vrf_goes() {
	tool ifdown vrf_external
}
vrf_comes() {
	tool ifup vrf_external
}
