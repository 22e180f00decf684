#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: whichever system call fails, the binding is whole or not there
# needs: fallback
# packages: strace
# timeout: 400
#
# strace makes the first, the second, the third ... message to the kernel fail, and then the
# first, the second ... answer, until the command no longer sends that many.
set -euo pipefail
. /lib/wgvrf/lib.sh
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

# faults FROM TO COMMAND...: FROM is where it starts, TO where it would end; the command is
# tried with each fault in turn.
faults() {
	local call error n code before after
	before=$(state)
	r_wg "$@"
	after=$(state)
	[ "$before" != "$after" ] || die "the command does nothing: $*"
	for call in sendto:EPERM recvfrom:ENOBUFS; do
		error=${call#*:}
		call=${call%:*}
		n=0
		while :; do
			n=$((n + 1))
			# Back to the start.
			back
			[ "$(state)" = "$before" ] || die "the start is not the start: $(state)"
			code=0
			ip netns exec r strace -f -o /tmp/trace -e trace="$call" \
				-e inject="$call:error=$error:when=$n" "$WG" "$@" 2>/tmp/err || code=$?
			if ! grep -q INJECTED /tmp/trace; then
				[ $code = 0 ] || die "failed without a fault: $(cat /tmp/err)"
				break
			fi
			[ $n -lt 200 ] || die "no end of faults"
			# A fault may be survived (a note instead of an answer), never half survived.
			if [ $code = 0 ]; then
				[ "$(state)" = "$after" ] || {
					cat /tmp/err /tmp/trace
					die "$call number $n failed with $error, exit 0, but the state is $(state)"
				}
			elif [ "$(state)" != "$before" ] && ! whole; then
				cat /tmp/err /tmp/trace
				die "$call number $n failed with $error; exit 1, and left $(state)"
			fi
		done
		say "$call: $((n - 1)) faults"
		result "$call ${*: -1}" "$((n - 1)) faults"
	done
}

# whole: if the device has a mark of ours, all of the mark's rules are there; nothing leaks.
whole() {
	local mark
	mark=$(mark_of wg0)
	[ "$mark" = off ] && return 0
	for family in 4 6; do
		ours $family | grep -q "fwmark $mark lookup" || return 1
		ours $family | grep -q "fwmark $mark unreachable" || return 1
	done
}

back() {
	ip netns exec r "$WG" set wg0 bind-dev off 2>/dev/null
}
say "bind"
faults set wg0 bind-dev vrf_external

back() {
	ip netns exec r "$WG" set wg0 bind-dev vrf_b 2>/dev/null
}
say "rebind"
back
faults set wg0 bind-dev vrf_external
say "unbind"
back
faults set wg0 bind-dev off
