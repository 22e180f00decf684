#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: whichever system call fails, the binding is whole or not there
# needs: fallback
# tool: ours
# packages: strace
# timeout: 400
# suite: long
# smp: 1
#
# strace makes the first, the second, the third ... message to the kernel fail, and then the
# first, the second ... answer, until the command no longer sends that many.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
fb_topology
accept
fb_keys
fb_wg0
vrf_add r vrf_b 2000

# state: what must be either as before or as wanted.
state() {
	all_rules
	mark_of wg0
}

# faults "CALL:ERROR ..." COMMAND...: the command is tried with each fault in turn, always from
# the state that `back` restores.
faults() {
	local calls=$1 call error n step code before after
	shift
	before=$(state)
	r_wg "$@"
	after=$(state)
	[ "$before" != "$after" ] || die "the command does nothing: $*"
	back
	for call in $calls; do
		error=${call#*:}
		call=${call%:*}
		n=1
		# An answer takes several calls; one in three is enough to see each kind fail.
		step=1
		[ "$call" = sendto ] || step=3
		while :; do
			code=0
			ip netns exec r strace -f -o /tmp/trace -e trace="$call" \
				-e inject="$call:error=$error:when=$n" "$WG" "$@" 2>/tmp/err || code=$?
			if ! grep -q INJECTED /tmp/trace; then
				[ $code = 0 ] || die "failed without a fault: $(cat /tmp/err)"
				break
			fi
			[ $n -lt 200 ] || die "no end of faults"
			n=$((n + step))
			state >/tmp/state
			# A fault may be survived (a note instead of an answer), never half survived.
			if [ $code = 0 ]; then
				[ "$(cat /tmp/state)" = "$after" ] || {
					cat /tmp/err /tmp/trace
					die "$call number $((n - step)) failed with $error, exit 0, but the state is $(cat /tmp/state)"
				}
			elif [ "$(cat /tmp/state)" != "$before" ] && ! whole; then
				cat /tmp/err /tmp/trace
				die "$call number $((n - step)) failed with $error; exit 1, and left $(cat /tmp/state)"
			fi
			if [ "$(cat /tmp/state)" != "$before" ]; then
				back
				[ "$(state)" = "$before" ] || die "the start is not the start: $(state)"
			fi
		done
		say "$call: $(((n - 1) / step)) faults"
		result "$call-${*: -1}" "$(((n - 1) / step)) faults"
	done
}

# whole: if the device has a mark of ours, all of the mark's rules are there; nothing leaks. Or it
# is closed, because its sockets could not be made again: the next command that binds or unbinds
# goes on from there, as `back` shows.
whole() {
	local mark
	mark=$(mark_of wg0)
	[ "$mark" = off ] && return 0
	for family in 4 6; do
		[ "$mark" = 0x78000000 ] || ours $family | has "fwmark $mark lookup" || return 1
		ours $family | has "fwmark $mark unreachable" || return 1
	done
}

back() {
	ip netns exec r "$WG" set wg0 bind-dev off 2>/dev/null
}
say "bind"
faults "sendto:EPERM recvfrom:ENOBUFS" set wg0 bind-dev vrf_external

back() {
	ip netns exec r "$WG" set wg0 bind-dev vrf_b 2>/dev/null
}
say "rebind"
back
faults sendto:EPERM set wg0 bind-dev vrf_external
say "unbind"
back
faults sendto:EPERM set wg0 bind-dev off
