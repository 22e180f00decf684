#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: netlink under fire: peers come and go during a dump, and each call fails once
# needs: any
# tool: ours
# packages: strace, wireguard-tools
# timeout: 600
# suite: long
#
# No command hangs, and none that ends with 0 has shown a half. The C wg says what is true.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh

C=/usr/bin/wg.debian
# How long a command may take, in seconds.
LIMIT=$((60 * ${WGVRF_SLOW:-1}))
fb_topology
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

say "calls fail"
configuration 0 120 0 >/tmp/before.conf
TOTAL=0
is_whole() {
	sort /tmp/out | cmp -s - /tmp/wanted
}
ip -n r link add wg0 type wireguard
r_c setconf wg0 /tmp/before.conf
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
result total $TOTAL
