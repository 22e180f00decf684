#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: Debian's wg-quick, unmodified, with our wg: up, save, strip, reload, down; the traps
# needs: any
# tool: bind-dev
# timeout: 120
# smp: 1
# packages: wireguard-tools, nftables
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/router.sh

router_world
tool_binds || skip "this wg has no bind-dev"
# The package brought its own wg; ours is put over it by the harness. wg-quick looks beside
# itself first, so make sure that this is the one it runs.
[ "$(readlink -f "$(dirname "$(command -v wg-quick)")/wg")" = "$(readlink -f "$WG")" ] ||
	ln -sf "$WG" "$(dirname "$(command -v wg-quick)")/wg"

ip link add vrf_external type vrf table 1023
ip link set vrf_external up
wan_up
udp_l3mdev_accept 0
binds_sockets || udp_l3mdev_accept 1

quick() {
	run wg-quick "$@" >/tmp/quick.log 2>&1 || {
		cat /tmp/quick.log >&2
		die "wg-quick $*"
	}
}

no_trace() {
	[ ! -e /sys/class/net/wg-cr02 ] || die "wg-cr02 is still there"
	[ "$(policy | grep -v 'proto 119')" = "$clean" ] || die "rules left behind: $(policy)"
	ip link show vrf_external >/dev/null || die "the VRF is gone"
	[ -n "$(ip route show table 1023 default)" ] || die "the VRF's table lost its default route"
}
clean=$(policy)

say "Table = off, as the manual advises"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external" "Address = $INSIDE4, $INSIDE6" "Table = off"
quick up wg-cr02
tunnel_works "after wg-quick up"
result up works

say "save and strip give the same file back"
cp /etc/wireguard/wg-cr02.conf /tmp/before.conf
quick save wg-cr02
grep -q '^BindDev = vrf_external$' /etc/wireguard/wg-cr02.conf ||
	die "save lost the binding: $(cat /etc/wireguard/wg-cr02.conf)"
grep -q '^Table = off$' /etc/wireguard/wg-cr02.conf || die "save lost Table"
! grep -q '^FwMark' /etc/wireguard/wg-cr02.conf ||
	die "save wrote the fallback's own mark: a kernel with the attribute would keep it for ever"
cmp <(wg-quick strip wg-cr02) <("$WG" showconf wg-cr02 && echo) ||
	cmp <(wg-quick strip wg-cr02) <("$WG" showconf wg-cr02) || die "strip differs from showconf"
result save works

say "reload, as wg-quick@.service does"
# Not the time of the handshake: a second one may have been on its way. A peer that was made anew
# counts from nothing.
received() {
	"$WG" show wg-cr02 transfer | cut -f2
}
before=$(received)
[ "$before" -gt 0 ] || die "the tunnel works and has received nothing"
run bash -c '"$1" syncconf wg-cr02 <(wg-quick strip wg-cr02)' bash "$WG"
[ "$(received)" -ge "$before" ] || die "the reload ended the session"
[ "$("$WG" show wg-cr02 bind-dev)" = vrf_external ] || die "the reload unbound the tunnel"
tunnel_works "after a reload"
result reload works

quick down wg-cr02
no_trace
quick up wg-cr02
tunnel_works "after down and up with the saved file"
quick down wg-cr02
result down works

# What wg-quick's own rules are made of; a kernel may lack it.
if ! nft -c -f - >/dev/null 2>&1 <<-END; then
	table ip wgvrf-probe {
		chain preraw {
			type filter hook prerouting priority -300;
			iifname != "wg-cr02" fib saddr type != local ct mark set mark drop
		}
	}
	END
	say "no nf_tables with fib and conntrack in this kernel: wg-quick cannot do Table = auto"
	result table-auto "not tried"
	exit 0
fi
say "the trap: Table = auto with a default route, where wg-quick takes the mark for a table"
config /etc/wireguard/wg-cr02.conf "BindDev = vrf_external" "Address = $INSIDE4, $INSIDE6"
before=$(ip route show table 1023)
quick up wg-cr02
sed 's/^/   /' /tmp/quick.log
[ "$(ip route show table 1023)" = "$before" ] ||
	die "wg-quick put its route into the VRF's table: $(ip route show table 1023)"
tunnel_works "with Table = auto"
ip route get 192.0.2.200 | has 'dev wg-cr02' || die "the default route is not in the tunnel"
quick down wg-cr02
no_trace
[ "$(ip route show table 1023)" = "$before" ] || die "wg-quick down changed the VRF's table"
result table-auto harmless
