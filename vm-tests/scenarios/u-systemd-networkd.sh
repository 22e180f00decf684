#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: wg-bind@.service and udev rules with networkd: bound after boot, tunnel or VRF made again
# needs: any
# tool: bind-dev
# timeout: 600
# smp: 1
# packages: systemd, udev, bpftool
# memory: 1024
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh
. /lib/wgvrf/networkd.sh
. /lib/wgvrf/systemd.sh

router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1
networkd_config
systemd_setup systemd-networkd
cp /lib/wgvrf/examples/systemd/6*-wg-bind*.rules /etc/udev/rules.d/
capture_start decoy decoy up0 "udp port $PORT"

say "boot"
systemd_boot
wait_for "wg-bind@.service to bind the tunnel and bring it up" bound_and_up
wan_link
wait_for "networkd to put wan0 into the VRF" wan_ready
tunnel_works "after boot"
result boot works

say "the timer that looks names up again runs as long as the tunnel is there"
timer=$(systemd-escape --template=wg-reresolve@.timer wg-cr02)
timer_is() {
	local state
	state=$(inside systemctl is-active "$timer" || true)
	echo "$timer: $state"
	[ "$state" = "$1" ]
}
cp /lib/wgvrf/examples/systemd/wg-reresolve@.* /etc/systemd/system/
# As for networkd: the peer of a name, and nothing else.
printf '[Peer]\nPublicKey = %s\nEndpoint = %s:%s\n' "$(cat /tmp/site2.pub)" "$FAR4" "$PORT" >/etc/wireguard/wg-cr02.conf
run "$WG" reresolve wg-cr02 /etc/wireguard/wg-cr02.conf
run inside systemctl daemon-reload
run inside sh -c 'systemctl enable --now "$(systemd-escape --template=wg-reresolve@.timer wg-cr02)"'
wait_for "the timer to run" timer_is active
# A peer that was never heard, and whose address changed: the service of the timer sets the one of the name.
run "$WG" set wg-cr02 peer "$(cat /tmp/site2.pub)" remove
run "$WG" set wg-cr02 peer "$(cat /tmp/site2.pub)" allowed-ips 0.0.0.0/0,::/0 endpoint 203.0.113.99:$PORT persistent-keepalive 25
run inside systemctl start "$(systemd-escape --template=wg-reresolve@.service wg-cr02)"
"$WG" show wg-cr02 endpoints | has "$FAR4:$PORT" || die "the endpoint stays: $("$WG" show wg-cr02 endpoints)"
tunnel_works "after the service"
result reresolve works

say "a link whose name is a command: root's shell takes it for a name"
for name in 'x;>is-run;' 'y$(id>is-run)' '`id>is-run`'; do
	echo "BIND_DEV=vrf_external" >"/etc/wireguard/$name.bind"
	for kind in dummy wireguard; do
		ip link add "$name" type $kind
		run inside udevadm settle
		ip link del "$name"
	done
	rm "/etc/wireguard/$name.bind"
done
for file in /etc/wireguard/is-run /is-run; do
	[ ! -e $file ] || die "the name of a link was run as a command"
done

say "the link goes down, and a service sets it up again: its sockets are made in another cgroup"
run inside ip link set wg-cr02 down
run inside systemctl --no-block restart "$(systemd-escape --template=wg-bind@.service wg-cr02)"
wait_for "the tunnel to be up" bound_and_up
tunnel_works "after down and up"
result down-up works

say "the tunnel is deleted, and networkd makes it again"
index=$(index_of wg-cr02)
run ip link del wg-cr02
wait_for "the timer to stop" timer_is inactive
run inside systemctl --no-block restart systemd-networkd
is_new() {
	[ -e /sys/class/net/wg-cr02 ] && [ "$(index_of wg-cr02)" != "$index" ]
}
wait_for "networkd to make the tunnel again" is_new
wait_for "wg-bind@.service to bind the new tunnel and bring it up" bound_and_up
wait_for "the timer to run again" timer_is active
tunnel_works "after it was made again"

say "the VRF is deleted, and networkd makes it again: the tunnel is bound to the new one"
index=$(index_of vrf_external)
run ip link del vrf_external
tunnel_lost "without its VRF"
run inside systemctl --no-block restart systemd-networkd
vrf_is_new() {
	[ -e /sys/class/net/vrf_external ] && [ "$(index_of vrf_external)" != "$index" ]
}
wait_for "networkd to make the VRF again" vrf_is_new
wait_for "networkd to put wan0 into the VRF" wan_ready
tunnel_works "after the VRF was made again"
result vrf-again works

if ! has_attr && binds_sockets; then
	say "the tunnel is deleted: nothing stays for its port"
	# Its socket would start it again.
	run inside systemctl --no-block stop systemd-networkd.socket systemd-networkd.service
	networkd_is_gone() {
		! pgrep systemd-network
	}
	wait_for "networkd to stop" networkd_is_gone
	run ip link del wg-cr02
	# The unit's command runs in systemd's PID namespace, where nothing tells whether a moved interface
	# needs the entry. Out here all processes show.
	no_program() {
		! "$WG" set wg-cr02 bind-dev off && bpftool prog show >/tmp/programs || return 1
		! has 'name wg_bind_dev' </tmp/programs
	}
	wait_for "the bind hooks to be removed" no_program
	result gone nothing
fi
capture_stop decoy
assert_none decoy "encrypted packets in the default VRF"
result recreate works

say "a link that no file names: the rule has nothing to do, and udev nothing to log"
command=$(sed -n '/^ACTION/,$p' /etc/udev/rules.d/61-wg-bind-again.rules | sed 's/\\$//' | tr -d '\n')
command=${command#*"-c '"}
command=${command%"'\""}
command=${command//\$\$/\$}
[[ $command == *systemctl*restart* ]] || die "the command of the rule is not there"
for files in some none; do
	[ $files = some ] || rm /etc/wireguard/*.bind
	inside env INTERFACE=d0 sh -c "${command//%%/%}" >/tmp/rule 2>&1 || die "exit $?: $(cat /tmp/rule)"
	[ ! -s /tmp/rule ] || die "$(cat /tmp/rule)"
done
result rule quiet
