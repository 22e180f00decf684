#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: why its rules are not at priority 0: wg-quick's own would change places
# needs: any
# tool: any
# timeout: 60
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
netns_add r
ip -n r link add lan0 type dummy
ip -n r link add tun0 type dummy
ip -n r link set lan0 up
ip -n r link set tun0 up
ip -n r addr add 100.64.0.2/24 dev lan0
ip -n r route add default dev tun0 table 51820

# as_wg_quick add|del: the two rules of Table = auto, in wg-quick's order.
as_wg_quick() {
	ip -n r rule "$1" not fwmark 51820 table 51820
	ip -n r rule "$1" table main suppress_prefixlength 0
}

# way ADDRESS: the interface that an unmarked packet takes.
way() {
	ip -n r route get "$1" | sed -n 's/.* dev \([^ ]*\).*/\1/p'
}

say "the pair at 97 and 98: the later of wg-quick's rules gets in front, as wg-quick wants it"
ip -n r rule add pref 97 fwmark 0x42 lookup 1023
ip -n r rule add pref 98 fwmark 0x42 unreachable
as_wg_quick add
ip -n r rule show | tee /tmp/rules
[ "$(way 100.64.0.9) $(way 192.0.2.1)" = "lan0 tun0" ] || die "not wg-quick's order"
sed -n 2p /tmp/rules | has suppress_prefixlength || die "wg-quick's rule is not in front"
result at-97 "wg-quick's rules in front"
as_wg_quick del
ip -n r rule del pref 97
ip -n r rule del pref 98

say "the pair at 0: it stays in front, but wg-quick's two rules change places"
ip -n r rule add pref 0 fwmark 0x42 lookup 1023
ip -n r rule add pref 0 fwmark 0x42 unreachable
as_wg_quick add
ip -n r rule show | tee /tmp/rules
sed -n 2p /tmp/rules | has 'fwmark 0x42 lookup 1023' || die "the pair is not in front"
[ "$(way 100.64.0.9) $(way 192.0.2.1)" = "tun0 tun0" ] ||
	die "the order is kept: the pair could be at 0 after all"
result at-0 "connected networks go into the tunnel"
