#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the device or its VRF goes in the middle of each verb: no hang, no half that is shown, no leak, and it can be mended
# needs: any
# tool: ours
# packages: strace, bpftool, wireguard-tools
# timeout: 1800
# cmdline: log_buf_len=16M
# memory: 1024
# smp: 1
# suite: long
# kernels: debian-6.1, patched-6.1, debian-6.12, patched-6.12, debian-7.3, vanilla-7.3, patched-7.3
#
# Not the debug kernel: the part that reads took 34 minutes there, beside other guests.
#
# strace stops the command behind one of its messages to the kernel. Meanwhile the device is deleted,
# deleted and made again, renamed or moved to another namespace, or its VRF is deleted. Then the command
# goes on. What the kernel has after that is read by other programs: ip, ss, the C wg, bpftool.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh

C=/usr/bin/wg.debian
CLOSED=0x78000000
# How long a command may take once it goes on, in seconds.
LIMIT=$((60 * ${WGVRF_SLOW:-1}))
EVENTS=(deleted remade renamed moved vrf-deleted)
# For each verb and event; the next event takes other places.
POINTS=2
OTHER_PORT=51009
TOTAL=0

fb_topology
netns_add q
fb_bpf
fb_keys
ip -n peer link add wg1 type wireguard
ip netns exec peer "$C" set wg1 listen-port $PEER_PORT private-key /tmp/peer.key \
	peer "${PUB[r]}" allowed-ips $TUNNEL.0/24
ip -n peer addr add $TUNNEL.2/24 dev wg1
ip -n peer link set wg1 up

# conf KEEPALIVE [LINE]: a file with more peers than a message holds.
conf() {
	local n
	printf '[Interface]\nPrivateKey = %s\nListenPort = %s\n%s\n' "$(cat /tmp/r.key)" $PORT "${2:-}"
	printf '[Peer]\nPublicKey = %s\nEndpoint = %s:%s\nAllowedIPs = %s.0/24\nPersistentKeepalive = %s\n' \
		"${PUB[peer]}" $PEER4 $PEER_PORT $TUNNEL "$1"
	for ((n = 0; n < 60; n++)); do
		printf '[Peer]\nPublicKey = %042d0=\nAllowedIPs = 10.1.0.%d/32, fd00:%x::/64\nPersistentKeepalive = %d\n' $n $n $n "$1"
	done
}
conf 25 >/tmp/plain.conf
conf 30 'BindDev = vrf_external' >/tmp/after.conf
sed '1,/^$/d' /tmp/after.conf >/tmp/peers.conf

# make_wg0: unbound, with all its peers, and up.
make_wg0() {
	ip -n r link add wg0 type wireguard
	ip netns exec r "$C" setconf wg0 /tmp/plain.conf
	ip -n r addr add $TUNNEL.1/24 dev wg0
	ip -n r link set wg0 up
}

# make_all BOUND: the start of each round, whatever is left of the last one.
make_all() {
	ip -n r link del wg0 2>/dev/null || ip -n r link del wg9 2>/dev/null || ip -n q link del wg0 2>/dev/null || true
	make_vrf
	make_wg0
	[ "$1" != bound ] || r_sets "the start" wg0 bind-dev vrf_external
}

# make_vrf: where it is gone.
make_vrf() {
	[ ! -e /run/vrf-is-gone ] || {
		# These are of no device.
		ip -n r route flush table 1023
		! has_ipv6 || ip -n r -6 route flush table 1023
		vrf_add r vrf_external 1023
		ip -n r link set wan0 master vrf_external
		ip -n r route replace default via 198.51.100.1 dev wan0 table 1023
		rm /run/vrf-is-gone
	}
}

# r_sets WHEN WORDS...: `wg set` that has to succeed.
r_sets() {
	ip netns exec r timeout $LIMIT "$WG" set "${@:2}" 2>/tmp/said || die "$1: wg set ${*:2}: $(cat /tmp/said)"
}

# mark NETNS NAME: by the C wg.
mark() {
	ip netns exec "$1" "$C" show "$2" fwmark
}

# stop_behind NUMBER WORDS...: the command, stopped behind this message of it. 1 if it came to its end.
stop_behind() {
	local number=$1
	shift
	rm -f /tmp/trace
	: >/tmp/trace
	ip netns exec r timeout --foreground $((4 * LIMIT)) strace -f -o /tmp/trace -e trace=sendto \
		-e inject="sendto:signal=STOP:when=$number" "$WG" "$@" >/tmp/out 2>/tmp/err &
	COMMAND=$!
	wait_for "wg to stop" is_stopped_or_over
	grep -q 'stopped by SIGSTOP' /tmp/trace
}
is_stopped_or_over() {
	grep -q 'stopped by SIGSTOP' /tmp/trace || ! kill -0 $COMMAND 2>/dev/null
}

# go_on: CODE is what the command ended with.
go_on() {
	STOPPED=$(awk '/stopped by SIGSTOP/ { print $1; exit }' /tmp/trace)
	wait_for "the command to end" is_over
	CODE=0
	wait $COMMAND || CODE=$?
	[ $CODE -lt 124 ] || die "it ended with $CODE: $(cat /tmp/err)"
}
is_over() {
	# strace counts in each thread, so that another one may be stopped, too.
	kill -CONT "$STOPPED" 2>/dev/null || true
	! kill -0 $COMMAND 2>/dev/null
}

# happen EVENT: NS and NAME say where the device is then. Deleting one whose dump is being read waits
# for the reader, so it is not waited for.
happen() {
	NS=r NAME=wg0
	case $1 in
	deleted) ip -n r link del wg0 & ;;
	remade)
		{
			ip -n r link del wg0
			make_wg0
		} &
		;;
	renamed)
		NAME=wg9
		{
			ip -n r link set wg0 down
			ip -n r link set wg0 name wg9
			ip -n r link set wg9 up
		} &
		;;
	moved)
		NS=q
		{
			ip -n r link set wg0 netns q
			ip -n q addr add $TUNNEL.1/24 dev wg0
			ip -n q link set wg0 up
		} &
		;;
	vrf-deleted)
		touch /run/vrf-is-gone
		ip -n r link del vrf_external &
		;;
	esac
	EVENT_PID=$!
	# Most are over at once. Some wait for the command.
	for ((tick = 0; tick < 10; tick++)); do
		kill -0 $EVENT_PID 2>/dev/null || break
		sleep 0.1
	done
}

# look WHERE MAY: a mark of ours has its rules in both families, and no packet leaves by main, unless the
# device MAY (be open) and has no mark.
look() {
	local mark family leaked
	if ! has_attr; then
		mark=$(mark $NS $NAME)
		# The new device may get the mark that this command was given: it is not bound by it.
		if [ "$mark" = off ] || [ "$2/$mark" = may/0x77 ]; then
			[ "$2" = may ] || die "$1: it was bound, and has no mark: $(all_rules)"
			return 0
		fi
		for family in 4 6; do
			[ "$mark" = $CLOSED ] || ours $family | has "fwmark $mark lookup" ||
				die "$1: IPv$family is not steered: $(all_rules)"
			ours $family | has "fwmark $mark unreachable" || die "$1: IPv$family is not closed: $(all_rules)"
		done
	elif [ "$2" = may ]; then
		return 0
	fi
	capture_catch_up leak
	leaked=$(capture_count leak)
	ip netns exec $NS ping -n -c1 -W0.1 $TUNNEL.2 >/dev/null 2>&1 || true
	capture_catch_up leak
	[ "$(capture_count leak)" = "$leaked" ] || die "$1: ciphertext leaves by main: $(all_rules)"
}

# mend WHERE: the device, brought back to where it was, is bound by one command, works, and is unbound
# without a trace.
mend() {
	if [ $NS = q ]; then
		ip -n q link set wg0 netns r
		ip -n r addr add $TUNNEL.1/24 dev wg0
		ip -n r link set wg0 up
	fi
	make_vrf
	r_sets "$1" $NAME bind-dev vrf_external
	# What was given up in the middle may have left it without its peers, its port or its key.
	ip netns exec r timeout $LIMIT "$WG" setconf $NAME /tmp/after.conf 2>/tmp/said || die "$1: setconf: $(cat /tmp/said)"
	wait_for "the tunnel after: $1" ping_tunnel
	r_sets "$1" $NAME bind-dev off
	has_attr || wait_for "the hooks to be free after: $1" hooks_are_free
	[ -z "$(ours 4)$(ours 6)" ] || die "$1: rules of ours are left: $(ours 4) $(ours 6)"
}
hooks_are_free() {
	! { bpftool prog show && bpftool map show; } | has 'name wg_bind_dev'
}

# settled: a dump without handshakes and counters, which go on by themselves.
settled() {
	awk -F '\t' -v OFS='\t' 'NF == 8 { $5 = $6 = $7 = "" } { print }' | sort
}

# is_whole NAME EVENT: what a command that ended with 0 shows is what the C wg showed before, or nothing of
# wg0. One that is just being made again may have any part of its configuration.
is_whole() {
	local bound='^BindDev = vrf_external$'
	case $2 in
	remade) return 0 ;;
	# Rules know the table only.
	vrf-deleted) bound='^BindDev = \(vrf_external\|table:1023\)$' ;;
	esac
	case $1 in
	dump | all-dump)
		sed 's/^wg[09]\t//' /tmp/out | settled >/tmp/seen
		cmp -s /tmp/seen /tmp/before || { [ "$1" = all-dump ] && [ ! -s /tmp/out ]; }
		;;
	showconf) [ "$(grep -c '^PublicKey' /tmp/out)" = 61 ] && grep -q "$bound" /tmp/out ;;
	json) [ "$(grep -c '"allowedIps"' /tmp/out)" = 61 ] ;;
	esac
}

# goes_during NAME bound|open may|never WORDS...: for each event and a few places. NEVER means that the
# device was bound before and is after, so it is at no time open.
goes_during() {
	local name=$1 start=$2 may=$3 messages number event e p points=0 zero=0
	shift 3
	make_all "$start"
	ip netns exec r strace -f -o /tmp/trace -e trace=sendto "$WG" "$@" >/tmp/out 2>/tmp/err || die "$*: $(cat /tmp/err)"
	# Of the first thread: strace counts in each.
	messages=$(awk 'NR == 1 { first = $1 } $1 == first && /sendto\(/ { n++ } END { print n + 0 }' /tmp/trace)
	[ "$messages" -ge 1 ] || die "$*: no message"
	for ((e = 0; e < ${#EVENTS[@]}; e++)); do
		event=${EVENTS[e]}
		for ((p = 0; p < POINTS; p++)); do
			number=$(((p * ${#EVENTS[@]} + e) * messages / (POINTS * ${#EVENTS[@]}) + 1))
			make_all "$start"
			ip netns exec r "$C" show wg0 dump | settled >/tmp/before
			stop_behind $number "$@" || die "$*: no message $number, of $messages: $(cat /tmp/err)"
			happen "$event"
			go_on
			wait $EVENT_PID || die "$event: ended with $?"
			points=$((points + 1))
			if [ $CODE = 0 ]; then
				zero=$((zero + 1))
				is_whole "$name" "$event" || die "$*: $event behind message $number: 0, and a half is shown: $(head -n 5 /tmp/out)"
			else
				[ $CODE = 1 ] && [ -s /tmp/err ] || die "$*: $event behind message $number: $CODE without a word"
			fi
			case $event in
			deleted)
				# The next device of the name has nothing of it.
				make_wg0
				;;
			remade) look "$*: $event behind message $number" may ;;
			*) look "$*: $event behind message $number" "$may" ;;
			esac
			mend "$*: $event behind message $number"
		done
	done
	TOTAL=$((TOTAL + points))
	result "$name" "$points, $zero with 0, of $messages messages"
}

watch
say "what reads"
goes_during dump bound never show wg0 dump
goes_during all-dump bound never show all dump
goes_during showconf bound never showconf wg0
goes_during json bound never show wg0 json
say "what changes"
goes_during bind open may set wg0 bind-dev vrf_external
goes_during unbind bound may set wg0 bind-dev off
goes_during port bound never set wg0 listen-port $OTHER_PORT
goes_during mark bound never set wg0 fwmark 0x77
goes_during peer bound never set wg0 peer "${PUB[peer]}" persistent-keepalive 7
goes_during setconf bound never setconf wg0 /tmp/after.conf
goes_during syncconf bound never syncconf wg0 /tmp/after.conf
goes_during addconf bound never addconf wg0 /tmp/peers.conf

say "and the look for leaks sees one"
make_all open
leaked=$(capture_count leak)
has_leaked() {
	poke 1
	capture_catch_up leak
	[ "$(capture_count leak)" -gt "$leaked" ]
}
wait_for "a leak" has_leaked
assert_some wan "ciphertext in the VRF"
capture_stop all
result total $TOTAL
