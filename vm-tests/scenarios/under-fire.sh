#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: netlink under fire: peers come and go during a dump, and each message to and from the kernel fails once
# needs: any
# tool: ours
# packages: strace, bpftool, wireguard-tools
# timeout: 900
# cmdline: log_buf_len=16M
# suite: long
#
# No command hangs, and none that ends with 0 has shown a half, nor a bound device as one that is not:
# what showconf prints is set again. The C wg says what is true.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh

C=/usr/bin/wg.debian
# How long a command may take, in seconds.
LIMIT=$((180 * ${WGVRF_SLOW:-1}))
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
peers 1000 1100 7 >/tmp/come.conf
r_c addconf wg0 /tmp/come.conf
r_c show wg0 dump | tail -n +2 >/tmp/all
[ "$(wc -l </tmp/all)" = 400 ] || die "$(wc -l </tmp/all) peers instead of 400"
# A message of the C wg may end within a peer: for a while it has one of its prefixes, or none.
awk -F '\t' -v OFS='\t' '{ print; sub(/,.*/, "", $4); print; $4 = "(none)"; print }' /tmp/all | sort >/tmp/may

say "peers come and go at full speed"
gone=()
for ((n = 1000; n < 1100; n++)); do
	gone+=(peer "$(printf '%042d0=' $n)" remove)
done
export WG C
: >/tmp/rounds
ip netns exec r bash -c 'while [ ! -e /tmp/enough ]; do
	"$C" set wg0 "$@" && "$C" addconf wg0 /tmp/come.conf && echo . >>/tmp/rounds || exit 1
done' _ "${gone[@]}" &
writer=$!
read_whole=0 given_up=0 mixed=0
# More than 60 only until one was read while some of the hundred were there.
for ((n = 0; n < 60 || (mixed == 0 && n < 300); n++)); do
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
	comm -13 /tmp/may /tmp/seen >/tmp/strange
	[ ! -s /tmp/strange ] || die "peers that never were: $(head -n 3 /tmp/strange)"
	[ "$(wc -l </tmp/seen)" = 300 ] || [ "$(wc -l </tmp/seen)" = 400 ] || mixed=$((mixed + 1))
done
: >/tmp/enough
wait $writer || die "the C wg cannot change the device"
[ "$(wc -l </tmp/rounds)" -ge 10 ] || die "$(wc -l </tmp/rounds) rounds of peers: nothing was under fire"
[ $read_whole -ge 10 ] || die "$read_whole of $n dumps were read"
[ $mixed -gt 0 ] || die "no dump was read while some of the hundred were there"
result dumps "$read_whole whole, $mixed of them with a part of the hundred, $given_up given up, $(wc -l </tmp/rounds) rounds of 100 peers"
ip -n r link del wg0

say "calls fail"
configuration 0 120 0 >/tmp/before.conf
TOTAL=0
# is_whole WORDS: what the C wg shows, with the binding, which it does not know.
is_whole() {
	case $1 in
	*json)
		[ "$(grep -c '"allowedIps"' /tmp/out)" = 120 ] && grep -q '"device": "vrf_external"\|"state": "unknown"' /tmp/out
		;;
	*) sort /tmp/out | cmp -s - /tmp/wanted ;;
	esac
}
# what_is_wanted WORDS...
what_is_wanted() {
	case $1 in
	# A mark that was chosen is chosen again.
	showconf) r_c "$@" | sed '/^FwMark/d; s/^ListenPort.*/&\nBindDev = vrf_external/' ;;
	*) r_c "$@" ;;
	esac
}
ip -n r link add wg0 type wireguard
r_c setconf wg0 /tmp/before.conf
r_wg set wg0 bind-dev vrf_external
for words in "show wg0 dump" "showconf wg0" "show wg0 json"; do
	# shellcheck disable=SC2086 # words
	[[ $words == *json ]] || what_is_wanted $words | sort >/tmp/wanted
	for fault in sendto:EINTR sendto:EBUSY sendto:EMSGSIZE sendto:ENOBUFS recvfrom:EINTR recvfrom:ENOBUFS recvfrom:EBUSY recvfrom:EAGAIN; do
		call=${fault%:*} error=${fault#*:} points=0 passed=0
		for ((n = 1; ; n++)); do
			[ $n -lt 300 ] || die "no end of $call in $words"
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
				is_whole "$words" || die "$words, $call $n ended with $error: 0, and not all is shown"
			else
				[ $error != EINTR ] || die "$words, $call $n: an interruption is no error: $(cat /tmp/err)"
				[ $code = 1 ] && [ -s /tmp/err ] || die "$words, $call $n, $error: ended with $code, said '$(cat /tmp/err)'"
			fi
		done
		[ $points -gt 0 ] || die "no $call in $words"
		result "${words// /-}-$call-$error" "$points, $passed with 0"
		TOTAL=$((TOTAL + points))
	done
done
result total $TOTAL
