#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a Go program with wgctrl sets a bound device again: the binding is left alone
# needs: any
# tool: bind-dev
# timeout: 90
# smp: 1
# programs: go-wgctrl-client
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

has_program go-wgctrl-client
router_world
tool_binds || skip "this wg has no bind-dev"
binds_sockets || udp_l3mdev_accept 1
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
wan_up
config /etc/wireguard/ours.conf "BindDev = vrf_external"
ip link add wg-cr02 type wireguard
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
run "$WG" setconf wg-cr02 /etc/wireguard/ours.conf
tunnel_works "bound by our wg"
before=$(bound)
rules=$(policy)
[[ $before == vrf_external* ]] || die "bound: '$before'"
SITE2=$(cat /tmp/site2.pub)

still() {
	[ "$(bound)" = "$before" ] || die "$1: '$(bound)' instead of '$before'"
	[ "$(policy)" = "$rules" ] || die "$1 changed rules: $(policy)"
	tunnel_works "after $1"
}
client() {
	local verb=$1
	shift
	run go-wgctrl-client "$verb" wg-cr02 "$@" || die "wgctrl failed: $verb $*"
}

say "reading: an attribute that it does not know is none of its business"
client show >/tmp/shown
cat /tmp/shown
grep -q "type=\"Linux kernel\" port=$PORT mark=.* key=$(cat /tmp/site1.pub)" /tmp/shown || die "the device"
grep -q "peer $SITE2 endpoint=$FAR4:$PORT keepalive=25 prefixes=2" /tmp/shown || die "the peer"
result show works

say "writing"
client key "$(cat /tmp/site1.key)"
still "a private key"
client peer "$SITE2" 10
[ "$("$WG" show wg-cr02 persistent-keepalive | cut -f2)" = 10 ] || die "the keepalive was not set"
still "a peer's keepalive"
client replace "$SITE2" $FAR4:$PORT 0.0.0.0/0 ::/0
[ "$("$WG" show wg-cr02 persistent-keepalive | cut -f2)" = off ] || die "the peers were not replaced"
still "new peers in place of the old"
# Another port makes other sockets.
client port 51009
[ "$("$WG" show wg-cr02 listen-port)" = 51009 ] || die "the port was not set"
still "another port"
client port $PORT
still "the port as it was"
result set kept

if has_attr; then
	client mark 0x77
	[ "$("$WG" show wg-cr02 fwmark)" = 0x77 ] || die "the mark was not set"
	still "a mark"
	client mark 0
	still "no mark"
	result mark kept
else
	# The mark binds. Taking it away unbinds, and wg says so.
	client mark 0
	[ "$("$WG" show wg-cr02 bind-dev)" = off ] || die "still shown as bound: $(bound)"
	result mark "unbound, as its fwmark is gone"
fi
