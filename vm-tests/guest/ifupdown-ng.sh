# SPDX-License-Identifier: GPL-2.0-only OR MIT
# One kind of configuration file on a router with Debian's ifupdown-ng, from boot to re-creation
# of its VRF; shared by u-ifupdown-ng-*.sh.

ifaces() {
	run "$@" >>/tmp/ifupdown.log 2>&1 || {
		cat /tmp/ifupdown.log >&2
		die "$*"
	}
}

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

# expect_binding CONFIG
expect_binding() {
	local is
	is=$(bound)
	if [ "$1" = mark ]; then
		[ -z "$is" ] || die "bound although only a mark was asked for: $is"
		[ "$(our_rules)" = 0 ] || die "rules of ours although only a mark was asked for"
	elif has_attr; then
		[ "$is" = vrf_external ] || die "bind device: '$is'"
		[ "$(our_rules)" = 0 ] || die "rules of ours although the kernel binds"
	else
		# The administrator's own mark is adopted where the file has none, too.
		[ "$is" = "vrf_external (fwmark 0x1023)" ] || die "bind device: '$is'"
	fi
	[ "$1" = bind ] && has_attr || [ "$("$WG" show wg-cr02 fwmark)" = 0x1023 ] ||
		die "mark: $("$WG" show wg-cr02 fwmark)"
}

# whole_life CONFIG: one kind of file, from boot to re-creation.
whole_life() {
	local kind=$1 before leaked
	say "configuration: $kind"
	udp_l3mdev_accept 0
	ifaces ifup -a
	expect_binding "$kind"
	tunnel_lost "without a WAN"
	wan_up
	if [ "$kind" != mark ] && has_attr; then
		tunnel_works "without any sysctl"
	else
		tunnel_lost "while udp_l3mdev_accept is 0"
		udp_l3mdev_accept 1
		tunnel_works "with udp_l3mdev_accept=1"
	fi
	# OSPF needs it.
	wait_for "a link-local address" eval "ip -6 addr show dev wg-cr02 scope link | grep -q inet6"
	result "$kind-boot" works

	wan_down
	wan_up
	tunnel_works "after the WAN dialled again"
	result "$kind-redial" works

	# Automation writes the file again.
	before=$(policy)
	run "$WG" setconf wg-cr02 /etc/wireguard/wg-cr02.conf
	expect_binding "$kind"
	[ "$(policy)" = "$before" ] || die "setconf changed rules: $(policy)"
	tunnel_works "after setconf"
	result "$kind-setconf" works

	# The stanza and the file change; ifupdown-ng's way to apply that is down, change, up.
	ifaces ifdown wg-cr02
	sed -i 's|^\taddress 192.0.2.42/31|&\n\taddress 192.0.2.52/32|' /etc/network/interfaces
	sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 7/' /etc/wireguard/wg-cr02.conf
	ifaces ifup wg-cr02
	ip -4 addr show dev wg-cr02 | grep -q 192.0.2.52 || die "the new address is not there"
	[ "$("$WG" show wg-cr02 persistent-keepalive | cut -f2)" = 7 ] || die "the new file is not used"
	expect_binding "$kind"
	[ "$(policy)" = "$before" ] || die "ifdown and ifup changed rules: $(policy)"
	tunnel_works "after ifdown, a change and ifup"
	result "$kind-change" works

	# The VRF is made again under the running tunnel.
	capture_start "decoy-$kind" decoy up0 "udp port $PORT"
	ifaces ifdown vrf_external
	wan_down
	if [ "$kind" != mark ] && has_attr; then
		[ "$(bound)" = "vrf_external (missing)" ] || die "bind device: '$(bound)'"
	fi
	tunnel_lost "without its VRF"
	ifaces ifup vrf_external
	wan_up
	tunnel_works "after the VRF was made again"
	expect_binding "$kind"
	result "$kind-recreate" works
	capture_stop "decoy-$kind"
	leaked=$(capture_count "decoy-$kind")
	if [ "$kind" = mark ]; then
		# This is what the mark alone is worth: the table is gone, main is next.
		[ "$leaked" -gt 0 ] || die "nothing leaked with the mark alone: this proves nothing"
		result mark-leaks yes
	else
		assert_none "decoy-$kind" "encrypted packets in the default VRF"
		result "$kind-leaks" no
	fi
}
