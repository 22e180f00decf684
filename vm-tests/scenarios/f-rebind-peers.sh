#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: what comes and goes with a binding that moves: new peers are called by the new VRF only, old ones by the old one
# needs: fallback
# tool: ours
# timeout: 240
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
. /lib/wgvrf/other-vrf.sh
fb_topology
fb_bpf
accept 1
fb_tunnel 4
fb_other_vrf
NEW=$("$WG" genkey | "$WG" pubkey)
NEW_PORT=51999
# Where what is bound to this goes.
declare -A WIRE=([vrf_external]="peer p0" [vrf_other]="peer p2" [off]="decoy d0")

# on_wires NAME PORT: a capture on each wire of what is sent to this port.
on_wires() {
	local vrf
	for vrf in "${!WIRE[@]}"; do
		# shellcheck disable=SC2086 # namespace and device
		capture_start "$1-$vrf" ${WIRE[$vrf]} "udp dst port $2"
	done
}

# only_on NAME VRF WHAT: its capture saw some, the others nothing.
only_on() {
	local vrf
	for vrf in "${!WIRE[@]}"; do
		capture_stop "$1-$vrf"
		[ "$vrf" = "$2" ] || assert_none "$1-$vrf" "$3 where $vrf leads"
	done
	assert_some "$1-$2" "$3 where $2 leads"
}

# called VRF: the new peer was.
called() {
	[ "$(capture_count "new-$1")" -gt 0 ]
}

# moves NAME "FROM..." TO WORDS...: bound to FROM, a command moves it to TO and brings a peer.
moves() {
	local name=$1 from=$2 to=$3
	shift 3
	say "$name, $endpoint"
	# shellcheck disable=SC2086 # words
	r_wg set wg0 listen-port $PORT bind-dev $from
	on_wires new $NEW_PORT
	r_wg set wg0 "$@" peer "$NEW" endpoint "$endpoint:$NEW_PORT" persistent-keepalive 25 allowed-ips 10.98.0.0/24
	wait_for "the new peer to be called" called "$to"
	only_on new "$to" "calls of the new peer"
	r_wg set wg0 peer "$NEW" remove
	r_wg set wg0 bind-dev off fwmark off
	expect_ours
	result "$name" "$to only"
}

HOOKS=${WG_BIND_DEV_RECEIVE:-auto}
for receive in "$HOOKS" any; do
	export WG_BIND_DEV_RECEIVE=$receive
	endpoint=203.0.113.99
	[ "$receive" != any ] || endpoint="[2001:db8:b::99]"
	moves "$receive-own-mark" vrf_external vrf_other bind-dev vrf_other
	moves "$receive-kept-mark" "vrf_external fwmark 0x42" vrf_other bind-dev vrf_other
	moves "$receive-new-port" "vrf_external fwmark 0x42" vrf_other bind-dev vrf_other listen-port 51077
	moves "$receive-off" vrf_external off bind-dev off
	moves "$receive-off-kept-mark" "vrf_external fwmark 0x42" off bind-dev off fwmark 0x42
	export WG_BIND_DEV_MODE=port
	moves "$receive-port" vrf_external vrf_other bind-dev vrf_other
	moves "$receive-port-off" vrf_external off bind-dev off
	unset WG_BIND_DEV_MODE
done
export WG_BIND_DEV_RECEIVE=$HOOKS

say "a file that moves it and has another peer, under a ping to the one that goes"
r_wg set wg0 bind-dev vrf_external
wait_for "the tunnel" ping_tunnel
ip netns exec r ping -n -i 0.01 $TUNNEL.2 >/dev/null 2>&1 &
cat >/tmp/new.conf <<-END
	[Interface]
	PrivateKey = $(cat /tmp/r.key)
	ListenPort = $PORT
	BindDev = vrf_other
	[Peer]
	PublicKey = $NEW
	Endpoint = 203.0.113.99:$NEW_PORT
	PersistentKeepalive = 25
	AllowedIPs = 10.98.0.0/24
END
on_wires new $NEW_PORT
on_wires old $PEER_PORT
wait_for "packets of the ping" eval '[ "$(capture_count old-vrf_external)" -gt 20 ]'
r_wg setconf wg0 /tmp/new.conf
wait_for "the new peer to be called" called vrf_other
kill %1
only_on new vrf_other "calls of the new peer"
only_on old vrf_external "packets to the old peer"
result setconf "neither elsewhere"

say "what cannot be unbound is not changed"
r_wg set wg0 bind-dev vrf_external
expect_on vrf_external
ip -n r rule add pref 0 not fwmark 0x1 lookup 51820
ip netns exec r "$WG" showconf wg0 >/tmp/before
r_fails "could not be closed" -- set wg0 bind-dev off peer "$NEW" persistent-keepalive 7
ip netns exec r "$WG" showconf wg0 | diff /tmp/before - || die "something was changed"
expect_on vrf_external
ip -n r rule del pref 0 lookup 51820
result refused "nothing changed"
