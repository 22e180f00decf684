#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: netlink under fire: peers come and go, the device goes in the middle of each verb, calls fail
# needs: any
# tool: ours
# packages: strace, bpftool, wireguard-tools
# timeout: 1800
# suite: long
#
# No command hangs, and none that ends with 0 has shown or changed a half. The C wg, ip and ss say
# what is true. strace stops the command after a message, the device goes, and the command goes on.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh

C=/usr/bin/wg.debian
# How long a command may take, in seconds.
LIMIT=$((60 * ${WGVRF_SLOW:-1}))
fb_topology
fb_bpf
fb_keys

# peers FIRST END KEEPALIVE: peers by number; a message holds about fifty.
peers() {
	local n
	for ((n = $1; n < $2; n++)); do
		printf '[Peer]\nPublicKey = %042d0=\nAllowedIPs = 10.1.%d.%d/32, fd00:%x::/64\nPersistentKeepalive = %d\n' \
			$n $((n >> 8)) $((n & 255)) $n "$3"
	done
}

# configuration FIRST END KEEPALIVE: a whole file.
configuration() {
	printf '[Interface]\nPrivateKey = %s\nListenPort = %s\n' "$(cat /tmp/r.key)" $PORT
	peers "$@"
}

# r_c WORDS...: the C wg on the router.
r_c() {
	ip netns exec r "$C" "$@"
}

configuration 0 300 0 >/tmp/many.conf
ip -n r link add wg0 type wireguard
r_c setconf wg0 /tmp/many.conf
r_c show wg0 dump | tail -n +2 | sort >/tmp/stay

say "peers come and go at full speed"
peers 1000 1100 7 >/tmp/come.conf
gone=()
for ((n = 1000; n < 1100; n++)); do
	gone+=(peer "$(printf '%042d0=' $n)" remove)
done
export WG C
ip netns exec r bash -c 'while [ ! -e /tmp/enough ]; do "$C" addconf wg0 /tmp/come.conf; "$C" set wg0 "$@"; echo . >>/tmp/rounds; done' _ "${gone[@]}" &
writer=$!
: >/tmp/rounds
read_whole=0 given_up=0
for ((n = 0; n < 60; n++)); do
	code=0
	ip netns exec r timeout $LIMIT "$WG" show wg0 dump >/tmp/dump 2>/tmp/err || code=$?
	if [ $code != 0 ]; then
		grep -q 'it changed during each of' /tmp/err || die "show ended with $code: $(cat /tmp/err)"
		[ ! -s /tmp/dump ] || die "show failed and printed $(wc -l </tmp/dump) lines"
		given_up=$((given_up + 1))
		continue
	fi
	read_whole=$((read_whole + 1))
	# Those that stay are all there, as the C wg saw them; the others are of the hundred.
	tail -n +2 /tmp/dump | sort >/tmp/seen
	comm -23 /tmp/stay /tmp/seen >/tmp/lost
	[ ! -s /tmp/lost ] || die "$(wc -l </tmp/lost) of 300 peers are not in a dump of $(wc -l </tmp/dump) lines: $(head -n 3 /tmp/lost)"
	[ -z "$(cut -f1 /tmp/seen | uniq -d)" ] || die "a peer is there twice: $(cut -f1 /tmp/seen | uniq -d | head -n 3)"
	awk -F '\t' 'NF != 8' /tmp/seen >/tmp/torn
	[ ! -s /tmp/torn ] || die "torn lines: $(head -n 3 /tmp/torn)"
done
: >/tmp/enough
wait $writer
[ "$(wc -l </tmp/rounds)" -ge 10 ] || die "$(wc -l </tmp/rounds) rounds of peers: nothing was under fire"
[ $read_whole -gt 0 ] || die "no dump of 60 was read"
result dumps "$read_whole whole, $given_up given up, $(wc -l </tmp/rounds) rounds of 100 peers"
ip -n r link del wg0

# --- the device goes in the middle ------------------------------------------------------

configuration 0 120 0 >/tmp/before.conf
configuration 60 200 5 | sed '/^ListenPort/aBindDev = vrf_external' >/tmp/after.conf
peers 200 330 6 >/tmp/add.conf

begin() {
	ip -n r link add wg0 type wireguard
	r_c setconf wg0 /tmp/before.conf
	ip -n r link set wg0 up
}

# finish: whatever has become of it.
finish() {
	local place
	for place in "r wg0" "r wg7" "decoy wg0"; do
		# shellcheck disable=SC2086 # two words
		set -- $place
		ip -n "$1" link del "$2" 2>/dev/null || true
	done
	[ -e /tmp/vrf ] || return 0
	rm /tmp/vrf
	vrf_add r vrf_external 1023
	ip -n r link set wan0 master vrf_external
	ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
	! has_ipv6 || {
		ip -n r addr replace 2001:db8:a::10/64 dev wan0 nodad
		ip -n r -6 route replace default via 2001:db8:a::1 dev wan0 table 1023
	}
}

deleted() {
	ip -n r link del wg0
}
renamed() {
	ip -n r link set wg0 name wg7
}
moved() {
	ip -n r link set wg0 netns decoy
}
vrf_deleted() {
	: >/tmp/vrf
	ip -n r link del vrf_external
}

# place: where the device is now, as "NETNS NAME"; nothing once it is deleted.
place() {
	local try
	for try in "r wg0" "r wg7" "decoy wg0"; do
		! ip -n ${try% *} link show ${try#* } >/dev/null 2>&1 || echo "$try"
	done
}

# what_is: the device's configuration by the C wg, wherever the device is.
what_is() {
	local at
	at=$(place)
	[ -z "$at" ] || ip netns exec ${at% *} "$C" showconf ${at#* } | sort
}

# stopped_at CALL NUMBER: starts the command and waits until it stands still. Its exit code comes by
# `go_on`. No more than so many calls: it has ended.
stopped_at() {
	local call=$1 number=$2
	shift 2
	rm -f /tmp/trace
	: >/tmp/trace
	ip netns exec r strace -f -o /tmp/trace -e trace="$call" -e inject="$call:signal=STOP:when=$number" \
		"$WG" "$@" >/tmp/out 2>/tmp/err &
	command=$!
	wait_for "the command to stop or end" stands_still
	grep -q 'stopped by SIGSTOP' /tmp/trace
}
stands_still() {
	grep -q 'stopped by SIGSTOP\|exited with' /tmp/trace
}

# go_on: CODE is how it ended. It ends within the limit.
go_on() {
	local end=$((SECONDS + LIMIT))
	kill -CONT "$(sed -n '1s/ .*//p' /tmp/trace)" 2>/dev/null || true
	while kill -0 $command 2>/dev/null; do
		[ $SECONDS -lt $end ] || die "it hangs: $(tail -n 5 /tmp/trace)"
		sleep 0.05
	done
	CODE=0
	wait $command || CODE=$?
}

# whole_binding: what the kernel has of ours is a binding that holds, or nothing that passes main.
whole_binding() {
	local at mark family
	has_attr && return 0
	at=$(place)
	[ -n "$at" ] || return 0
	mark=$(ip netns exec ${at% *} "$C" show ${at#* } fwmark)
	[ "$mark" != off ] || return 0
	for family in 4 6; do
		[ $family = 4 ] || has_ipv6 || continue
		ours $family | has "fwmark $mark unreachable" || return 1
	done
}

# fire EVENT "CALL STEP" COMMAND...: the event after each STEP-th call.
fire() {
	local event=$1 call=${2% *} step=${2#* } n=1 points=0 passed=0
	shift 2
	while :; do
		begin
		if ! stopped_at "$call" $n "$@"; then
			go_on
			finish
			break
		fi
		$event
		go_on
		points=$((points + 1))
		! grep -q 'panicked' /tmp/err || die "$*, $event at $call $n: $(cat /tmp/err)"
		if [ $CODE = 0 ]; then
			passed=$((passed + 1))
			is_whole "$event" || die "$*, $event at $call $n: ended with 0: $(head -n 3 /tmp/err) $(diff /tmp/wanted <(what_is) | head -n 5)"
		else
			[ $CODE = 1 ] && [ -s /tmp/err ] || die "$*, $event at $call $n: ended with $CODE, said '$(cat /tmp/err)'"
		fi
		whole_binding || die "$*, $event at $call $n: ended with $CODE, half a binding: $(all_rules) $(what_is | grep FwMark)"
		finish
		n=$((n + step))
	done
	[ $points -gt 0 ] || die "no $call in $*"
	say "$event, $call: $points times, $passed ended with 0"
	result "$1-${2:-}-$event-$call" "$points, $passed with 0"
	TOTAL=$((TOTAL + points))
}

# clean: the next bind and unbind of another device clears what a device that is gone has left.
clean() {
	fb_wg0 wg3 51003
	r_wg set wg3 bind-dev vrf_external
	r_wg set wg3 bind-dev off
	ip -n r link del wg3
	[ -z "$(ours 4)$(! has_ipv6 || ours 6)" ] || die "rules of ours are left: $(ours 4) $(ours 6)"
	has_attr || expect_hooks 0
}

TOTAL=0
say "reading"
# What is shown is what the C wg shows; only the name may be either.
is_whole() {
	sed 's/wg7/wg0/' /tmp/out | sort | cmp -s - /tmp/wanted
}
for words in "show wg0" "show wg0 dump" "show all allowed-ips" "showconf wg0"; do
	begin
	# shellcheck disable=SC2086 # words
	r_c $words | sort >/tmp/wanted
	finish
	for event in deleted renamed moved; do
		# shellcheck disable=SC2086 # words
		fire $event "sendto 1" $words
		# shellcheck disable=SC2086 # words
		fire $event "recvfrom 3" $words
	done
done

say "changing"
# The change is there, wherever the device is now. A device that is deleted shows nothing.
is_whole() {
	[ -z "$(place)" ] || [ "$(what_is | grep -v FwMark)" = "$(cat /tmp/wanted)" ]
}
for words in "set wg0 bind-dev vrf_external" "setconf wg0 /tmp/after.conf" "syncconf wg0 /tmp/after.conf" "addconf wg0 /tmp/add.conf"; do
	begin
	# shellcheck disable=SC2086 # words
	ip netns exec r "$WG" $words 2>/tmp/err || die "$words: $(cat /tmp/err)"
	what_is | grep -v FwMark >/tmp/wanted
	ip netns exec r "$WG" set wg0 bind-dev off
	finish
	for event in deleted renamed moved vrf_deleted; do
		[[ $event != vrf_deleted || $words == set* ]] || continue
		# shellcheck disable=SC2086 # words
		fire $event "sendto 1" $words
	done
	clean
done

# --- calls fail -------------------------------------------------------------------------

say "calls fail"
is_whole() {
	sort /tmp/out | cmp -s - /tmp/wanted
}
begin
for words in "show wg0 dump" "showconf wg0"; do
	# shellcheck disable=SC2086 # words
	r_c $words | sort >/tmp/wanted
	for fault in sendto:EINTR sendto:EBUSY sendto:EMSGSIZE sendto:ENOBUFS recvfrom:EINTR recvfrom:ENOBUFS recvfrom:EBUSY recvfrom:EAGAIN; do
		call=${fault%:*} error=${fault#*:} points=0 passed=0
		for ((n = 1; n < 200; n++)); do
			code=0
			# shellcheck disable=SC2086 # words
			ip netns exec r timeout $LIMIT strace -f -o /tmp/trace -e trace="$call" \
				-e inject="$call:error=$error:when=$n" "$WG" $words >/tmp/out 2>/tmp/err || code=$?
			if ! grep -q INJECTED /tmp/trace; then
				[ $code = 0 ] || die "$words failed without a fault: $(cat /tmp/err)"
				break
			fi
			points=$((points + 1))
			if [ $code = 0 ]; then
				passed=$((passed + 1))
				is_whole || die "$words, $call $n ended with $error: 0, and not all is shown"
			else
				[ $error != EINTR ] || die "$words, $call $n: an interruption is no error: $(cat /tmp/err)"
				[ $code = 1 ] && [ -s /tmp/err ] || die "$words, $call $n, $error: ended with $code, said '$(cat /tmp/err)'"
			fi
		done
		[ $points -gt 0 ] || die "no $call in $words"
		result "${words%% *}-$call-$error" "$points, $passed with 0"
		TOTAL=$((TOTAL + points))
	done
done
finish
result total $TOTAL
