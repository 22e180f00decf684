#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: automation: syncconf --dry-run and --exit-code tell what changes, and nothing on a second run
# needs: any
# tool: ours
# timeout: 120
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/router.sh
router_world
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
binds_sockets || udp_l3mdev_accept 1
wan_up
FILE=/etc/wireguard/wg-cr02.conf
config $FILE "BindDev = vrf_external"
ip link add wg-cr02 type wireguard

# sync EXIT [OPTION...]: its output is in /tmp/out.
sync() {
	local code=0 wanted=$1
	shift
	"$WG" syncconf "$@" wg-cr02 $FILE >/tmp/out 2>/tmp/err || code=$?
	sed 's/^/   /' /tmp/out
	[ $code = "$wanted" ] || die "syncconf $*: exit $code, expected $wanted: $(cat /tmp/out /tmp/err)"
	! grep -qF "$(cat /tmp/site1.key)" /tmp/out /tmp/err || die "the private key is shown"
}
state() {
	"$WG" showconf wg-cr02
	policy
}

say "a new device: what would be set is told, and nothing is"
state >/tmp/before
sync 2 --dry-run --exit-code
for line in "wg-cr02: private key: changed (hidden)" "wg-cr02: listen port: none -> $PORT" \
	"wg-cr02: bind device: off -> vrf_external" "wg-cr02: peer $(cat /tmp/site2.pub): added"; do
	grep -qxF "$line" /tmp/out || die "not said: $line"
done
state | diff /tmp/before - || die "a dry run changed something"
sync 2 --exit-code
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
tunnel_works "as the file says"

say "the same file again: nothing, and the session goes on"
at=$("$WG" show wg-cr02 latest-handshakes)
sync 0 --dry-run --exit-code
[ ! -s /tmp/out ] || die "said: $(cat /tmp/out)"
sync 0 --exit-code
sync 0
[ "$("$WG" show wg-cr02 latest-handshakes)" = "$at" ] || die "the session ended"
tunnel_works "after syncconf"
result again unchanged

say "one value"
sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 20/' $FILE
sync 0 --dry-run
[ "$(cat /tmp/out)" = "wg-cr02: peer $(cat /tmp/site2.pub): persistent keepalive: 25 -> 20" ] || die "said: $(cat /tmp/out)"
sync 2 --exit-code
sync 0 --exit-code
result one-value told

say "the command of the examples, twice: a peer that roamed stays where it is"
COMMAND="wg syncconf --exit-code wg-cr02 $FILE"
EXAMPLES=/lib/wgvrf/examples/automation
grep -qxF "    - name: $COMMAND" $EXAMPLES/salt.sls || die "Salt has another command"
grep -qxF "    - unless: ${COMMAND/syncconf/syncconf --dry-run}" $EXAMPLES/salt.sls || die "Salt looks by another command"
grep -qxF "  ansible.builtin.command: $COMMAND" $EXAMPLES/ansible.yml || die "Ansible has another command"
# apply EXIT: session and endpoint are as before.
apply() {
	local code=0
	# shellcheck disable=SC2086 # words
	run $COMMAND || code=$?
	[ $code = "$1" ] || die "exit $code, expected $1"
	[ "$("$WG" show wg-cr02 latest-handshakes)" = "$at" ] || die "the session ended"
	[ "$("$WG" show wg-cr02 endpoints)" = "$roamed" ] || die "not where the peer roamed to: $("$WG" show wg-cr02 endpoints)"
}
# As the template writes a peer that roams: without an endpoint.
sed -i '/^Endpoint/d' $FILE
ip netns exec site2 "$WG" set wg-cr02 listen-port 51045
ip netns exec site2 ping -n -c1 -W2 "${INSIDE4%/*}" >/dev/null || die "the far side is not heard"
roamed="$(cat /tmp/site2.pub)	$FAR4:51045"
at=$("$WG" show wg-cr02 latest-handshakes)
apply 0
sed -i 's/^PersistentKeepalive = .*/PersistentKeepalive = 15/' $FILE
sync 2 --dry-run --exit-code
apply 2
apply 0
sync 0 --dry-run --exit-code
tunnel_works "with the peer that roamed"
result roamed stays

if ! has_attr; then
	say "a rule of the fallback is gone: the file mends it, so it changes something"
	ip rule del pref 98
	sync 2 --dry-run --exit-code
	[ "$(cat /tmp/out)" = "wg-cr02: bind device: vrf_external (IPv4 not closed) -> vrf_external" ] || die "said: $(cat /tmp/out)"
	sync 2 --exit-code
	sync 0 --exit-code
	result faulty-binding told
fi

say "unbinding is told"
sed -i '/^BindDev/d' $FILE
sync 2 --dry-run --exit-code
grep -qxF "wg-cr02: bind device: vrf_external -> off" /tmp/out || die "said: $(cat /tmp/out)"
[[ $(bound) == vrf_external* ]] || die "a dry run unbound"
