# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A router with Debian's systemd-networkd, for life.sh; shared by u-networkd*.sh. It has no
# BindDev: `wg set ... bind-dev` comes after it, as packaging/examples/systemd/wg-bind@.service
# has it.
. /lib/wgvrf/has.sh

NETWORKD=/lib/systemd/systemd-networkd
ETC=/etc/systemd/network
[ -x $NETWORKD ] || die "no $NETWORKD in the guest"
# What networkd said, when something fails.
trap 'code=$?; [ $code = 0 ] || { tail -n 40 /tmp/networkd.log; ip -br addr; ip rule; "$WG" show; }' EXIT

# networkd_config: our example, as its README says. networkd wants its user and a machine's id, and
# waits for udev unless /sys is read-only, as in a container.
networkd_config() {
	echo "systemd-network:x:998:998::/:/usr/sbin/nologin" >>/etc/passwd
	echo "systemd-network:x:998:" >>/etc/group
	echo 0123456789abcdef0123456789abcdef >/etc/machine-id
	mkdir -p $ETC /run/systemd/netif
	(
		umask 077
		cd /lib/wgvrf/examples
		install -m640 -g systemd-network networkd/20-wg-cr02.netdev /etc/systemd/network/
		install -m640 -g systemd-network /tmp/site1.key /etc/wireguard/wg-cr02.key
		chgrp systemd-network /etc/wireguard
		chmod 750 /etc/wireguard
		install -m644 networkd/10-vrf_external.netdev networkd/*.network /etc/systemd/network/
		# What only a kernel without the attribute needs.
		has_attr || install -Dm644 networkd/foreign-rules.conf /etc/systemd/networkd.conf.d/foreign-rules.conf
	)
	[ "$(stat -c '%a %G' $ETC/20-wg-cr02.netdev)" = "640 systemd-network" ] || die "others read 20-wg-cr02.netdev"
	sed -i "s|PUBLIC_KEY_OF_THE_PEER|$(cat /tmp/site2.pub)|" $ETC/20-wg-cr02.netdev
	chgrp systemd-network $ETC/20-wg-cr02.netdev
	chown -R systemd-network: /run/systemd/netif
	! has_attr || sed -i '/^FirewallMark/d' $ETC/20-wg-cr02.netdev
}

# networkd_mark: the administrator's own mark, in the tunnel and in rules for the VRF's table.
networkd_mark() {
	sed -i '/^FirewallMark/d; s/^ListenPort=.*/&\nFirewallMark=0x1023/' $ETC/20-wg-cr02.netdev
	cat >>$ETC/10-vrf_external.network <<-END

		[RoutingPolicyRule]
		FirewallMark=0x1023
		Table=1023
		Family=both
	END
}

networkd() {
	unshare -m bash -c 'mount -o remount,bind,ro /sys && exec "$1"' bash $NETWORKD >>/tmp/networkd.log 2>&1 &
	networkd=$!
}
networkd_stop() {
	kill $networkd
	wait $networkd || true
}
networkd_again() {
	networkd_stop
	: >/tmp/networkd.log
	rm -f /run/systemd/netif/links/*
	networkd
	wait_for "networkd to set its devices again" networkd_is_done
}
# What it writes when it has set all of a device.
networkd_is_done() {
	networkd_runs
	grep -H ADMIN_STATE "/run/systemd/netif/links/$(index_of wg-cr02)" \
		"/run/systemd/netif/links/$(index_of vrf_external)" | tee /tmp/networkd.state
	[ "$(grep -c =configured$ /tmp/networkd.state)" = 2 ]
}
networkd_runs() {
	kill -0 $networkd 2>/dev/null || die "networkd ended: $(tail -n 20 /tmp/networkd.log)"
}
# It sets addresses when the link is up. bind_unit brings the link up.
made() {
	networkd_runs
	[ -n "$("$WG" show wg-cr02 peers)" ]
}
has_address() {
	networkd_runs
	ip -4 addr show dev wg-cr02 | has "$1"
}
# wan0 is networkd's too: it puts it into the VRF.
wan_ready() {
	ip route show table 1023 | has '^default via 198.51.100.1'
}
vrf_is_there() {
	[ -e /sys/class/net/vrf_external ]
}
vrf_has_rules() {
	ip rule | has 'fwmark 0x1023 lookup' && ip -6 rule | has 'fwmark 0x1023 lookup'
}

wan_comes() {
	wan_link
	wait_for "networkd to put wan0 into the VRF" wan_ready
}
wan_goes() {
	wan_down
}

# bind_unit: what the unit of the example runs, as it stands there.
bind_unit() {
	local line
	while read -r line; do
		# What may fail is for udev, which is not here.
		[[ $line != -* ]] || continue
		line=${line//%I/wg-cr02}
		line=${line//\$\{BIND_DEV\}/vrf_external}
		# shellcheck disable=SC2086 # words, as systemd splits them
		run ${line/#\/usr\/bin\/wg /$WG } || return
	done < <(sed -n 's/^ExecStart\(Post\)\?=//p' "/lib/wgvrf/examples/systemd/wg-bind@.service")
}

# CONFIG (both or mark) is the scenario's.
boot() {
	networkd
	wait_for "networkd to make the tunnel" made
	wait_for "networkd to set the rules of the VRF" vrf_has_rules
	if [ "$CONFIG" = mark ]; then
		ip link set wg-cr02 up
	else
		bind_unit
	fi
	wait_for "networkd to set the address" has_address "${INSIDE4%/*}"
}
# networkd sets its devices again when it starts.
change() {
	sed -i 's|^Address=192.0.2.42/31|&\nAddress=192.0.2.52/32|' $ETC/20-wg-cr02.network
	sed -i 's/^PersistentKeepalive=.*/PersistentKeepalive=7/' $ETC/20-wg-cr02.netdev
	networkd_again
	wait_for "networkd to set the new address" has_address 192.0.2.52
	wait_for "networkd to set the new keepalive" eval \
		'[ "$("$WG" show wg-cr02 persistent-keepalive | cut -f2)" = 7 ]'
}
vrf_goes() {
	networkd_stop
	ip link del vrf_external
}
vrf_comes() {
	networkd
	wait_for "networkd to make the VRF again" vrf_is_there
	wait_for "networkd to set the rules of the VRF" vrf_has_rules
}
