#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: systemd-networkd makes VRF and tunnel, wg binds it; a restart leaves the binding alone
# needs: any
# tool: bind-dev
# timeout: 120
# packages: systemd
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

NETWORKD=/lib/systemd/systemd-networkd
[ -x $NETWORKD ] || die "no $NETWORKD in the guest"
router_world
tool_binds || skip "this wg has no bind-dev"
has_attr || udp_l3mdev_accept 1

# networkd wants its user and a machine's id, and waits for udev unless /sys is read-only, as in a container.
echo "systemd-network:x:998:998::/:/usr/sbin/nologin" >>/etc/passwd
echo "systemd-network:x:998:" >>/etc/group
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /etc/systemd/network /run/systemd/netif
cp /lib/wgvrf/examples/networkd/* /etc/systemd/network/
sed -i "s|PUBLIC_KEY_OF_THE_PEER|$(cat /tmp/site2.pub)|" /etc/systemd/network/20-wg-cr02.netdev
install -m640 -g systemd-network /tmp/site1.key /etc/wireguard/wg-cr02.key
chgrp systemd-network /etc/systemd/network/20-wg-cr02.netdev
chmod 640 /etc/systemd/network/20-wg-cr02.netdev
chgrp systemd-network /etc/wireguard
chmod 750 /etc/wireguard
chown -R systemd-network: /run/systemd/netif
# What only a kernel without the attribute needs.
if has_attr; then
	sed -i '/^FirewallMark/d' /etc/systemd/network/20-wg-cr02.netdev
else
	mkdir -p /etc/systemd/networkd.conf.d
	mv /etc/systemd/network/foreign-rules.conf /etc/systemd/networkd.conf.d/
fi

# What networkd said, when something fails.
trap 'code=$?; [ $code = 0 ] || tail -n 40 /tmp/networkd.log' EXIT
networkd() {
	unshare -m bash -c 'mount -o remount,bind,ro /sys && exec "$1"' bash $NETWORKD >>/tmp/networkd.log 2>&1 &
	networkd=$!
}
networkd_stop() {
	kill $networkd
	wait $networkd || true
}
configured() {
	ip -4 addr show dev wg-cr02 | grep -q ${INSIDE4%/*} && [ -n "$("$WG" show wg-cr02 peers)" ]
}

networkd
configured_or_say() {
	configured || { kill -0 $networkd || die "networkd ended: $(tail -n 20 /tmp/networkd.log)"; false; }
}
wait_for "networkd to make the tunnel" configured_or_say
say "$(ip -br link show type vrf)"
run "$WG" set wg-cr02 bind-dev vrf_external
# wan0 is networkd's too: it appears, and networkd puts it into the VRF.
ip link add wan0 type veth peer name i1 netns internet
ip -n internet link set i1 up
ip -n internet addr add 198.51.100.1/24 dev i1
wan_ready() {
	ip route show table 1023 | grep -q '^default via 198.51.100.1'
}
wait_for "networkd to put wan0 into the VRF" wan_ready
tunnel_works "made by networkd and bound by wg"
result up works

say "networkd starts again and sets its device again"
before=$(bound)
networkd_stop
: >/tmp/networkd.log
networkd
sleep 8
kill -0 $networkd || die "networkd ended: $(tail -n 20 /tmp/networkd.log)"
[ "$(bound)" = "$before" ] || die "networkd disturbed the binding: '$(bound)' instead of '$before'"
tunnel_works "after networkd started again"
result restart kept

say "the VRF goes and networkd makes it again"
networkd_stop
ip link del vrf_external
ip link del wan0
networkd
vrf_is_back() {
	[ -e /sys/class/net/vrf_external ]
}
wait_for "networkd to make the VRF again" vrf_is_back
ip link add wan0 type veth peer name i1 netns internet
ip -n internet link set i1 up
ip -n internet addr add 198.51.100.1/24 dev i1
wait_for "networkd to put wan0 into the VRF" wan_ready
tunnel_works "after the VRF was made again"
[ "$(bound)" = "$before" ] || die "bound: '$(bound)' instead of '$before'"
result recreate works

if ! has_attr; then
	say "the trap: networkd as it comes removes the rules of the fallback"
	rm /etc/systemd/networkd.conf.d/foreign-rules.conf
	networkd_stop
	networkd
	rules_gone() {
		[ "$(our_rules)" = 0 ]
	}
	# Which of networkd's events removes them is networkd's business, and not every start has
	# it; what wg says afterwards is ours.
	for ((n = 0; n < 30; n++)); do
		rules_gone && break
		sleep 1
	done
	if rules_gone; then
		# Nothing steers the mark any more, and wg says so.
		[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still shown as bound: $(bound)"
		result without-foreign-rules.conf unbound
	else
		[ "$(bound)" = "$before" ] || die "bound: '$(bound)' instead of '$before'"
		result without-foreign-rules.conf kept
	fi
fi
