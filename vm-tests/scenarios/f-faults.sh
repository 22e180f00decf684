#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: whichever system call fails, the binding is whole or not there
# needs: fallback
# tool: ours
# packages: strace
# timeout: 1200
# suite: long
# smp: 1
#
# strace makes one message to the kernel fail, each in turn, and then one answer in nine, until the
# command no longer sends or reads that many. The errors take turns. Files: every second message.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
vrf_add r vrf_b 2000
fb_tunnel 4
watch

CLOSED=0x78000000
ERRORS=(EPERM EINTR EBUSY ENOBUFS EMSGSIZE)
declare -A TABLES=([0x770000ff]=1023 [0x770000d0]=2000)
TURN=0
closed=0

# state: what must be either as before or as wanted.
state() {
	all_rules
	mark_of wg0
}

# faults NAME open|bound|unbinds COMMAND...: the command is tried with each fault in turn, always from the state
# that `back` restores.
faults() {
	local name=$1 start=$2 call error n step code before after number
	shift 2
	back
	before=$(state)
	r_wg "$@"
	after=$(state)
	[ "$before" != "$after" ] || die "the command does nothing: $*"
	back
	for call in sendto recvfrom; do
		n=1
		number=0
		# An answer takes several calls; one in nine is enough to see each kind fail.
		step=1
		[ "$1" = set ] || step=2
		[ "$call" = sendto ] || step=9
		while :; do
			error=${ERRORS[TURN++ % ${#ERRORS[@]}]}
			code=0
			ip netns exec r strace -f -o /tmp/trace -e trace="$call" \
				-e inject="$call:error=$error:when=$n" "$WG" "$@" 2>/tmp/err || code=$?
			if ! grep -q INJECTED /tmp/trace; then
				[ $code = 0 ] || die "failed without a fault: $(cat /tmp/err)"
				break
			fi
			[ $n -lt 400 ] || die "no end of faults"
			state >/tmp/state
			# A fault may be survived (a note instead of an answer), never half survived: what is more is
			# that rules stay, and it is said.
			if [ $code = 0 ]; then
				[ "$(cat /tmp/state)" = "$after" ] || only_rules_stay "$after" || {
					cat /tmp/err /tmp/trace
					die "$name: $call number $n failed with $error, exit 0, but the state is $(cat /tmp/state)"
				}
			elif [ "$(cat /tmp/state)" != "$before" ] && ! whole "$start"; then
				cat /tmp/err /tmp/trace
				die "$name: $call number $n failed with $error; exit $code, and left $(cat /tmp/state)"
			fi
			if [ "$(cat /tmp/state)" != "$before" ]; then
				back
				[ "$(state)" = "$before" ] || die "the start is not the start: $(state)"
			fi
			number=$((number + 1))
			n=$((n + step))
		done
		result "$name-$call" "$number faults"
	done
}

# only_rules_stay AFTER: beside what the command wanted there are rules, and it says so.
only_rules_stay() {
	[ -z "$(diff <(echo "$1") /tmp/state | sed -n '/^</p; /^>/{/proto 119/!p}')" ] &&
		grep -q '^the rules for .* stay: ' /tmp/err
}

# whole START: if the device has a mark of ours, all of the mark's rules are there, and take it to the
# table of its VRF. Or it is closed, because its sockets could not be made again: the next command that
# binds or unbinds goes on from there, as `back` shows. One that was bound is not open, but where it is told to
# be: an unbind gives up the mark before it removes the rules, so that it may fail later.
whole() {
	local mark family
	mark=$(mark_of wg0)
	if [ "$mark" = off ]; then
		[ "$1" != bound ] && [ -s /tmp/err ] || return 1
		# What is taken back takes its rules with it, or says that they stay.
		[ "$1" != open ] || ! has 'proto 119' </tmp/state || grep -q ' stay' /tmp/err
		return
	fi
	for family in 4 6; do
		[ "$mark" = $CLOSED ] || ours $family | has "fwmark $mark lookup ${TABLES[$mark]}\$" || return 1
		ours $family | has "fwmark $mark unreachable" || return 1
	done
	[ "$mark" != $CLOSED ] || sends_nothing
}

sends_nothing() {
	local name before
	closed=$((closed + 1))
	for name in wan leak; do capture_catch_up $name; done
	before=$(capture_count wan)/$(capture_count leak)
	ip netns exec r ping -n -c1 -W0.1 $TUNNEL.2 >/dev/null 2>&1 || true
	for name in wan leak; do capture_catch_up $name; done
	[ "$(capture_count wan)/$(capture_count leak)" = "$before" ]
}

# A file with peers, one of them with an endpoint, and the binding.
for line in "BindDev = vrf_external" ""; do
	printf '[Interface]\nPrivateKey = %s\nListenPort = %s\n%s\n[Peer]\nPublicKey = %s\nEndpoint = %s:%s\nAllowedIPs = %s.0/24\n' \
		"$(cat /tmp/r.key)" $PORT "$line" "${PUB[peer]}" $PEER4 $PEER_PORT $TUNNEL >"/tmp/file${line:+-bound}.conf"
done

back() {
	ip netns exec r "$WG" set wg0 bind-dev off 2>/dev/null
}
say "bind"
faults bind open set wg0 bind-dev vrf_external
faults setconf-binds open setconf wg0 /tmp/file-bound.conf

back() {
	ip netns exec r "$WG" set wg0 bind-dev vrf_b 2>/dev/null
}
say "rebind"
faults rebind bound set wg0 bind-dev vrf_external
faults syncconf-rebinds bound syncconf wg0 /tmp/file-bound.conf
say "unbind"
faults unbind unbinds set wg0 bind-dev off
faults setconf-unbinds unbinds setconf wg0 /tmp/file.conf
say "closed after $closed faults"
result closed "$closed"
capture_stop all
