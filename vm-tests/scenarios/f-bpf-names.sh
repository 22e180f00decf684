#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: names and indices that are another device's now, and a command that was killed half way
# needs: fallback
# tool: ours
# packages: bpftool, strace
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
vrf_add r vrf_b 2000
fb_keys
fb_wg0

say "bound by an altname: set down it waits for the VRF"
ip -n r link property add dev vrf_external altname outside
r_wg set wg0 bind-dev outside
expect_receives bound
ip -n r link set wg0 down
expect_receives bound
ip -n r link set wg0 up
expect_receives bound
expect_on vrf_external
result altname bound

# rename FROM TO: a link that is up has to be set down first.
rename() {
	ip -n r link set "$1" down
	ip -n r link set "$1" name "$2"
	ip -n r link set "$2" up
}
swap_names() {
	rename vrf_external other
	rename vrf_b vrf_external
	rename other vrf_b
}
# expect_from DEVICE: show, JSON and doctor say that wg0 receives from it.
expect_from() {
	expect_receives other
	ip netns exec r "$WG" show wg0 json | tr -d '\n\t ' | has "\"receivesFrom\":\[\"$1\"\]" || die "not in JSON"
	ip netns exec r "$WG" show wg0 | has "receives: from $1 " || die "not said by show"
}
say "two VRFs swap their names: the next sockets are on the one that has the name"
swap_names
expect_receives bound
ip -n r link set wg0 down
expect_from vrf_external
ip -n r link set wg0 up
expect_on vrf_external
expect_from vrf_external
ip netns exec r "$WG" doctor wg0 >/tmp/doctor || true
has 'receives-other.*bound to vrf_external, and not to vrf_b' </tmp/doctor || die "not said by doctor: $(cat /tmp/doctor)"
r_wg set wg0 bind-dev vrf_b
expect_receives bound
swap_names
r_wg set wg0 bind-dev vrf_external
expect_receives bound

say "a plain device has the name of the VRF that is gone"
r_wg set wg0 bind-dev vrf_b
ip -n r link del vrf_b
expect_receives nothing
ip -n r link add vrf_b type dummy
ip -n r link set vrf_b up
ip -n r link set wg0 down
expect_from vrf_b
ip -n r link set wg0 up
expect_on vrf_b
expect_from vrf_b
ip -n r link del vrf_b
r_wg set wg0 bind-dev off
expect_hooks 0
result names told

say "a plain device has the index of a tunnel that is gone: the entry goes"
ip -n r link add wgx type wireguard
r_wg set wgx private-key /tmp/r.key listen-port 51060 bind-dev vrf_external
index=$(ip netns exec r cat /sys/class/net/wgx/ifindex)
ip -n r link del wgx
ip -n r link add plain index "$index" type dummy
r_wg set wg0 peer "${PUB[peer]}" persistent-keepalive 0
expect_hooks 0
result index freed

say "a FIFO and a socket among the names of namespaces: nobody waits for them"
mkdir -p /run/netns
mkfifo /run/netns/fifo
r_wg set wg0 bind-dev vrf_external
timeout 60 ip netns exec r "$WG" set wg0 bind-dev off || die "it waited"
rm /run/netns/fifo
expect_hooks 0
result fifo passed

say "killed while it is closed: no file is printed that would not bind it again"
r_wg set wg0 bind-dev vrf_external
ip netns exec r strace -o /tmp/calls "$WG" set wg0 bind-dev off 2>/dev/null
calls=$(grep -c '^sendto(' /tmp/calls)
for ((i = calls; i > 0; i--)); do
	r_wg set wg0 bind-dev vrf_external
	(ip netns exec r strace -o /tmp/trace -e trace=sendto -e inject=sendto:signal=KILL:when=$i \
		"$WG" set wg0 bind-dev off) >/dev/null 2>&1 || true
	[ "$(mark_of wg0)" != 0x78000000 ] || break
done
[ $i -gt 0 ] || die "never killed while closed"
r_fails "left it closed, so no file" -- showconf wg0
r_wg set wg0 bind-dev off
expect_hooks 0
result killed "refused after call $i of $calls"
