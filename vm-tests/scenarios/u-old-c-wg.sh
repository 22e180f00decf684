#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the C wg, 1.0.20210914 and 1.0.20260223, on a patched kernel never disturbs a binding
# needs: attr
# tool: bind-dev
# timeout: 120
# smp: 1
# programs: wg-bookworm, wg-sid
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

has_program wg-bookworm
has_program wg-sid
[[ $(wg-bookworm --version) == *1.0.20210914* ]] || die "not the tool that was meant: $(wg-bookworm --version)"
[[ $(wg-sid --version) == *1.0.20260223* ]] || die "not the tool that was meant: $(wg-sid --version)"
router_world
tool_binds || skip "this wg has no bind-dev"
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
wan_up
config /etc/wireguard/ours.conf "BindDev = vrf_external"
config /etc/wireguard/plain.conf
ip link add wg-cr02 type wireguard
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
run "$WG" setconf wg-cr02 /etc/wireguard/ours.conf
tunnel_works "bound by our wg"

still() {
	[ "$("$WG" show wg-cr02 bind-dev)" = vrf_external ] || die "$1 unbound the tunnel"
	tunnel_works "after $1"
}

# Tried again: a keepalive or a second may pass between the two.
same_dump() {
	[ "$("$OLD" show wg-cr02 dump)" = "$("$WG" show wg-cr02 dump)" ]
}
# The only difference in what people read is the line of the binding.
same_show() {
	diff <("$OLD" show wg-cr02) <("$WG" show wg-cr02 | grep -v '^  bind device: ')
}

never_disturbs() {
	local before
	OLD=$1
	say "$OLD: reading"
	wait_for "equal dumps" same_dump
	wait_for "an output that differs by the binding only" same_show
	# showconf of the old tool cannot know: this is what a save with it loses.
	diff <("$OLD" showconf wg-cr02) <("$WG" showconf wg-cr02 | grep -v '^BindDev = ') ||
		die "showconf differs by more than the binding"
	still "reading"
	result "$OLD-show" equal

	say "$OLD: writing"
	run "$OLD" set wg-cr02 listen-port $PORT
	still "set listen-port to the same"
	run "$OLD" set wg-cr02 fwmark 0x77
	still "set fwmark"
	run "$OLD" set wg-cr02 fwmark off
	run "$OLD" set wg-cr02 private-key /tmp/site1.key
	still "set private-key"
	run "$OLD" set wg-cr02 peer "$(cat /tmp/site2.pub)" persistent-keepalive 10
	still "set of a peer"
	result "$OLD-set" kept
	run "$OLD" addconf wg-cr02 /etc/wireguard/plain.conf
	still addconf
	result "$OLD-addconf" kept
	run "$OLD" syncconf wg-cr02 /etc/wireguard/plain.conf
	still syncconf
	result "$OLD-syncconf" kept
	run "$OLD" setconf wg-cr02 /etc/wireguard/plain.conf
	still setconf
	result "$OLD-setconf" kept
	# Another port makes other sockets.
	run "$OLD" set wg-cr02 listen-port 51009
	still "set listen-port to another"
	run "$OLD" set wg-cr02 listen-port $PORT
	still "set listen-port back"
	result "$OLD-port" kept

	say "$OLD: a file with BindDev is refused as a whole"
	before=$("$WG" showconf wg-cr02)
	! "$OLD" setconf wg-cr02 /etc/wireguard/ours.conf 2>/tmp/refused || die "the old tool took BindDev"
	grep -q "Line unrecognized" /tmp/refused || die "another error: $(cat /tmp/refused)"
	[ "$("$WG" showconf wg-cr02)" = "$before" ] || die "the refused file changed something"
	result "$OLD-refused" whole
}
never_disturbs wg-bookworm
never_disturbs wg-sid

say "our setconf of a file without BindDev, in contrast, states everything"
run "$WG" setconf wg-cr02 /etc/wireguard/plain.conf
[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still bound"
tunnel_lost "unbound"
