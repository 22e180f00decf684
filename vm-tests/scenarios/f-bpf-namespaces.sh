#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bind hook: entries of namespaces that are gone go, those of hidden ones stay, and a full map is said
# needs: fallback
# tool: ours
# packages: bpftool, python3
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
fb_tunnel 4

# entries: how many the map has.
entries() {
	bpftool map dump name wg_bind_dev -j | grep -o '"key"' | wc -l
}
expect_entries() {
	[ "$(entries)" = "$1" ] || die "$(entries) entries, expected $1"
}
# box: a namespace with a device that is bound to a VRF there.
box() {
	netns_add box
	vrf_add box vrf_box 1023
	ip -n box link add wgx type wireguard
	ip netns exec box "$WG" set wgx listen-port 51009 private-key /tmp/r.key bind-dev vrf_box
	ip -n box link set wgx up
}
# change: a command that changes something, and no binding.
change() {
	r_wg set wg0 peer "${PUB[peer]}" persistent-keepalive 0
}

say "a namespace that is deleted: its entry goes with the next change elsewhere"
r_wg set wg0 bind-dev vrf_external
box
change
expect_entries 2
ip netns del box
expect_entries 2
change
expect_entries 1
result deleted gone

say "deleted by name, but a file is open for it: the entry stays while it is"
box
exec 9</run/netns/box
ip netns del box
change
expect_entries 2
exec 9<&-
change
expect_entries 1
result open kept

say "mounted at another place: the same"
box
touch "/tmp/a box"
mount --bind /run/netns/box "/tmp/a box"
ip netns del box
change
expect_entries 2
umount "/tmp/a box"
change
expect_entries 1
result mounted kept

say "a process is in it"
box
ip netns exec box sleep 60 &
sleeper=$!
is_inside() {
	[ "$(readlink /proc/$sleeper/ns/net)" = "net:[$(stat -c %i /run/netns/box)]" ]
}
wait_for "the process to be inside" is_inside
ip netns del box
change
expect_entries 2
kill $sleeper
wait $sleeper || true
change
expect_entries 1
result process kept

say "binding sweeps, too"
box
ip netns del box
fb_wg0 wg7 51007
r_wg set wg7 bind-dev vrf_external
expect_entries 2
r_wg set wg7 bind-dev off
expect_entries 1

say "the last device is unbound, only a dead namespace has an entry: nothing stays"
box
ip netns del box
r_wg set wg0 bind-dev off
expect_hooks 0
result nothing-left ok

say "a full map: said, and the next one after a namespace is gone is bound"
box
bpftool map dump name wg_bind_dev -j >/tmp/map.json
id=$(bpftool map show -j | grep -o '"id":[0-9]*,"type":"hash","name":"wg_bind_dev"' | sed 's/"id":\([0-9]*\).*/\1/')
[ -n "$id" ] || die "no map: $(bpftool map show -j)"
python3 - "$id" >/tmp/batch <<-'END'
	import json
	import struct
	import sys

	entry = json.load(open("/tmp/map.json"))[0]
	key = bytes(int(byte, 16) for byte in entry["key"])
	value = " ".join(entry["value"])
	for port in range(1, 4096):
	    other = key[:8] + struct.pack("=I", port) + key[12:]
	    print("map update id", sys.argv[1], "key", *(f"0x{byte:02x}" for byte in other), "value", value)
END
bpftool batch file /tmp/batch >/dev/null
expect_entries 4096
r_wg set wg0 bind-dev vrf_external
grep -q 'no room for another port' /tmp/err || die "it is not said: $(cat /tmp/err)"
expect_on '*'
ip netns del box
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
expect_entries 1
r_wg set wg0 bind-dev off
expect_hooks 0
result full said
