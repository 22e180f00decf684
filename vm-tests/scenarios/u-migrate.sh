#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a router with FwMark, rules and the sysctl goes over to bind-dev, and back, as docs/migration.md says
# needs: any
# tool: bind-dev
# timeout: 240
# smp: 1
# packages: ifupdown-ng, wireguard-tools
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/life.sh
. /lib/wgvrf/ifupdown-ng.sh

wg() {
	run "$WG" "$@"
}
shows() {
	"$WG" show wg-cr02 | has -x "  $1" || die "'$1' is not in: $("$WG" show wg-cr02)"
}
# step NAME MOST COMMANDS...: a flow of pings, 10 a second, before, between and after them. MOST may be lost.
answered() {
	grep -c 'icmp_seq=[0-9]* ttl' /tmp/flow || true
}
reaches() {
	echo "$(answered) of $1"
	[ "$(answered)" -ge "$1" ]
}
step() {
	local name=$1 most=$2 last got flow
	shift 2
	say "$name"
	: >/tmp/flow
	ping -n -i 0.1 $FAR_INSIDE4 >/tmp/flow 2>&1 &
	flow=$!
	wait_for "the flow to begin" reaches 10
	"$@"
	wait_for "the flow to go on" reaches $(($(answered) + 20))
	kill -INT $flow
	wait $flow || true
	last=$(sed -n 's/.*icmp_seq=\([0-9]*\) ttl.*/\1/p' /tmp/flow | sort -n | tail -n 1)
	got=$(answered)
	result "$name" "$((last - got)) of $last lost"
	[ $((last - got)) -le "$most" ] || die "$name: $((last - got)) of $last lost"
}
is_bound() {
	if has_attr; then
		shows "bind device: vrf_external"
	else
		shows "bind device: vrf_external (fwmark $1)"
		if binds_sockets; then
			shows "receives: from the bind device only"
		else
			shows "receives: from everywhere (its sockets are not bound)"
		fi
	fi
}

router_world
tool_binds || skip "this wg has no bind-dev"
# The package brought its own wg, and wg-quick runs the one beside itself.
[ "$(readlink -f "$(dirname "$(command -v wg-quick)")/wg")" = "$(readlink -f "$WG")" ] ||
	ln -sf "$WG" "$(dirname "$(command -v wg-quick)")/wg"
# The files as the page prints them.
config /etc/wireguard/wg-cr02.conf "FwMark = 0x1023"
sed -i 's/ table vrf_external$/ table 1023/' /etc/network/interfaces
for line in "up ip rule add fwmark 0x1023 table 1023" "up ip -6 rule add fwmark 0x1023 table 1023"; do
	grep -qxF "	$line" /etc/network/interfaces || die "not in the file: $line"
done
mkdir -p /etc/sysctl.d
echo "net.ipv4.udp_l3mdev_accept = 1" >/etc/sysctl.d/60-l3mdev.conf
mkdir -p /var/backups
mkdir -m700 /var/backups/before-bind-dev && cp -a /etc/wireguard /etc/network /etc/sysctl.d /var/backups/before-bind-dev/
echo "# Debian 12 has one" >/etc/sysctl.conf
mkdir -p /etc/systemd/network /etc/NetworkManager/system-connections
cp -a /etc/sysctl.conf /var/backups/before-bind-dev/
cp -a /etc/systemd/network /var/backups/before-bind-dev/systemd-network
cp -a /etc/NetworkManager/system-connections /var/backups/before-bind-dev/
boot
wan_up
run sysctl -p /etc/sysctl.d/60-l3mdev.conf
tunnel_works "by a mark, rules and the sysctl"
# ifupdown-ng adds two rules for the VRF. Without them, as on other routers, the mark has 999.
for family in -4 -6; do
	for rule in "fwmark 0x1023" "iif vrf_external" "oif vrf_external"; do
		while ip $family rule show | has "$rule"; do
			# shellcheck disable=SC2086 # two words
			run ip $family rule del $rule
		done
	done
	run ip $family rule add fwmark 0x1023 table 1023
	ip $family rule show | has '^999:.*fwmark 0x1023 lookup vrf_external' || die "no rule 999: $(ip $family rule)"
	ip $family rule show | has '^1000:.*l3mdev-table' || die "no rule 1000: $(ip $family rule)"
done
tunnel_works "by rules 999 and 1000"
before=$(policy)
endpoint=$(ip netns exec site2 "$WG" show wg-cr02 endpoints)
capture_start decoy decoy up0 "udp port $PORT"

bind() {
	wg set wg-cr02 bind-dev vrf_external
	wg show wg-cr02
	wg show all bind-dev
	is_bound 0x1023
}
unbind() {
	wg set wg-cr02 bind-dev off
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still bound"
	[ "$("$WG" show wg-cr02 fwmark)" = 0x1023 ] || die "the mark is gone"
	[ "$(policy)" = "$before" ] || die "not the rules of before: $(policy)"
}
step bind 2 bind
step bind-back 2 unbind
step bind-again 2 bind

write_down() {
	sed -i '/^\[Interface\]/a BindDev = vrf_external' /etc/wireguard/wg-cr02.conf
	if [ "$("$WG" show wg-cr02 bind-dev)" != off ]; then
		wg syncconf --dry-run wg-cr02 /etc/wireguard/wg-cr02.conf >/tmp/changes
		! grep -v '^+ ' /tmp/changes || die "syncconf would change something"
	fi
	wg syncconf wg-cr02 /etc/wireguard/wg-cr02.conf
	is_bound 0x1023
	wg syncconf wg-cr02 <(wg-quick strip wg-cr02)
	is_bound 0x1023
}
state() {
	"$WG" showconf wg-cr02
	policy
}
take_out() {
	sed -i '/^BindDev/d' /etc/wireguard/wg-cr02.conf
	wg syncconf wg-cr02 /etc/wireguard/wg-cr02.conf
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still bound"
}
before_file=$(state)
step file 2 write_down
[ "$(state)" = "$before_file" ] || die "syncconf changed something"
step file-back 2 take_out
step file-again 2 write_down

close_sysctl() {
	run sysctl -w net.ipv4.udp_l3mdev_accept=0
	[ "$(grep -rl udp_l3mdev_accept /etc/sysctl.* /etc/network /etc/wireguard)" = /etc/sysctl.d/60-l3mdev.conf ] || die "the file is not found"
	sed -i '/udp_l3mdev_accept/d' /etc/sysctl.d/60-l3mdev.conf
	[ ! -s /etc/sysctl.d/60-l3mdev.conf ] || die "the file still sets something"
}
open_sysctl() {
	cp -a /var/backups/before-bind-dev/sysctl.d/60-l3mdev.conf /etc/sysctl.d/60-l3mdev.conf
	run sysctl -w net.ipv4.udp_l3mdev_accept=1
	[ "$(cat /etc/sysctl.d/60-l3mdev.conf)" = "net.ipv4.udp_l3mdev_accept = 1" ] || die "the file is not as before"
}
# Where `wg show` says "from everywhere" the page keeps the sysctl.
if binds_sockets; then
	step sysctl 0 close_sysctl
	step sysctl-back 0 open_sysctl
	close_sysctl
fi

own_mark() {
	if has_attr; then
		wg set wg-cr02 fwmark off
	else
		wg set wg-cr02 fwmark 0x770000ff
	fi
	is_bound 0x770000ff
}
take_mark() {
	wg set wg-cr02 fwmark 0x1023
	is_bound 0x1023
}
give_up() {
	local present
	wg show all fwmark
	! "$WG" show all fwmark | has 0x1023 || die "a tunnel has the mark"
	sed -i '/^FwMark/d' /etc/wireguard/wg-cr02.conf
	sed -i '/fwmark 0x1023/d' /etc/network/interfaces
	# As a second ifup of the VRF leaves them.
	ip rule add pref 996 fwmark 0x1023 table 1023
	ip -6 rule add pref 996 fwmark 0x1023 table 1023
	while ip rule del fwmark 0x1023 table 1023; do :; done
	while ip -6 rule del fwmark 0x1023 table 1023; do :; done
	ip rule show table 1023 && ip -6 rule show table 1023
	present=$(state)
	wg syncconf wg-cr02 /etc/wireguard/wg-cr02.conf
	[ "$(state)" = "$present" ] || die "syncconf changed something: $(state)"
	! policy | has 'fwmark 0x1023' || die "the rules stay"
	is_bound 0x770000ff
}
take_rules() {
	run ip rule add fwmark 0x1023 table 1023
	run ip -6 rule add fwmark 0x1023 table 1023
	sed -i '/^\[Interface\]/a FwMark = 0x1023' /etc/wireguard/wg-cr02.conf
	cp -a /var/backups/before-bind-dev/network/interfaces /etc/network/interfaces
	grep -qx 'FwMark = 0x1023' /etc/wireguard/wg-cr02.conf || die "the mark is not in the file again"
	grep -q 'up ip rule add fwmark 0x1023' /etc/network/interfaces || die "the rules are not in the file again"
}
step mark 2 own_mark
step rules 2 give_up
step rules-back 2 take_rules
step mark-back 2 take_mark
[ "$(ip netns exec site2 "$WG" show wg-cr02 endpoints)" = "$endpoint" ] || die "the peer has seen another address"
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
tunnel_works "in the end"
