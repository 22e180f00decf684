#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: set, setconf and syncconf killed at each call that changes something: nothing leaks, the next command mends it
# needs: any
# tool: ours
# packages: strace, bpftool, wireguard-tools
# timeout: 3600
# cmdline: log_buf_len=16M
# memory: 1024
# smp: 1
# suite: long
# kernels: debian-6.1, patched-6.1, debian-6.12, patched-6.12, debian-7.3, vanilla-7.3, patched-7.3
#
# Not the debug kernel: ten minutes were not enough for the first 37 of hundreds of points.
#
# strace kills the command as it enters each call that can change something, and a few of the others.
# What the kernel then has is read by other programs: ip, ss, the C wg, bpftool. A tunnel that was bound
# sends nothing outside its VRFs, but where it is being unbound: then it may once the mark is gone, and by
# then its sockets are on no VRF. Nor does its port receive from elsewhere. The same command once more
# reaches its end; so does the one that takes it back, which is tried instead at every third point; and
# unbinding leaves nothing.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh

C=/usr/bin/wg.debian
CHANGES='sendto|bpf|write|flock|mkdir|unlink|rename'
# Of these calls, the ones that only ask: a dump, a socket's or a rule's, and what a program or a map is.
READS='^sendto[(].*(NLM_F_DUMP|0x300|RTM_GET|SOCK_DIAG_BY_FAMILY|nlctrl)|^bpf[(]BPF_(OBJ_GET|[A-Z]+_GET_|MAP_LOOKUP|PROG_QUERY)'
FEW=2
# The marks of vrf_b, and of a tunnel whose sockets are made again.
MARK_B=0x770000d0
CLOSED=0x78000000
# One that is kept while the VRF changes.
OWN_MARK=0x1234
POINTS=0
OTHER_PORT=51009
OPEN=0
fb_topology
vrf_add r vrf_b 2000
fb_bpf
fb_tunnel 4

# state: everything that the commands of this scenario change. A peer's place in the list is free,
# and an endpoint is where its last packet came from.
state() {
	all_rules
	ip netns exec r "$C" showconf wg0 | grep -v '^Endpoint' |
		awk 'BEGIN { RS = "" } { gsub("\n", "\t"); print }' | sort
	sockets
	sockets $OTHER_PORT
}

# no_hooks: a program that was detached is freed a moment later.
no_hooks() {
	has_attr || wait_for "the hooks to be free" hooks_are_free
}
hooks_are_free() {
	! { bpftool prog show && bpftool map show; } | has 'name wg_bind_dev'
}

# send_one: wg0 wants to send, whether anything answers or not.
send_one() {
	ip netns exec r ping -n -c1 -W0.1 $TUNNEL.2 >/dev/null 2>&1 || true
}

# kill_at CALL NUMBER COMMAND...: whether it was killed; without a kill it has to succeed.
kill_at() {
	local call=$1 number=$2 code=0
	shift 2
	rm -f /tmp/trace
	# In a shell of its own, which keeps bash's word on each kill for itself.
	(ip netns exec r strace -o /tmp/trace -e trace="$call" -e inject="$call:signal=KILL:when=$number" \
		"$WG" "$@" >/dev/null 2>/tmp/err || exit $?) 2>/dev/null || code=$?
	[ $code != 0 ] || return 1
	grep -q '+++ killed by SIGKILL' /tmp/trace || die "ended with $code without a kill: $(cat /tmp/err /tmp/trace)"
}

# kills NAME COMMAND...: kills it everywhere. Each time begins with the state that `back` restores.
kills() {
	local name=$1 before after call number points=0 ended=0
	shift
	before=$(state)
	ip netns exec r strace -o /tmp/calls "$WG" "$@" 2>/tmp/err || die "$*: $(cat /tmp/err)"
	after=$(state)
	[ "$before" != "$after" ] || die "the command does nothing: $*"
	back
	[ "$(state)" = "$before" ] || die "the start is not the start: $(state)"
	# What comes before the first socket is the loader's. Between two changes the kernel is in one state, so
	# of each kind of call that changes nothing a few are enough, spread over all of them.
	awk -v changes="^($CHANGES)\$" -v reads="$READS" -v few=$FEW '
		{ call = $0; sub(/[(].*/, "", call) }
		call !~ /^[a-z0-9_]+$/ { next }
		{ number[call]++ }
		call == "socket" { begun = 1 }
		begun { kind[++n] = call ($0 ~ reads ? " that reads" : ""); of[kind[n]]++; point[n] = call " " number[call] }
		END {
			for (i = 1; i <= n; i++) {
				nth = ++seen[kind[i]]
				if (kind[i] ~ changes || nth == 1 ||
				    int((nth - 1) * few / of[kind[i]]) != int((nth - 2) * few / of[kind[i]]))
					print point[i]
			}
		}' /tmp/calls >/tmp/points
	say "$name: $(wc -l </tmp/points) of $(grep -c '^[a-z]' /tmp/calls) system calls: $(cut -d' ' -f1 /tmp/points | sort | uniq -c | tr -s '\n ' ' ')"
	while read -r call number <&3; do
		[ "$call" != exit_group ] || continue
		if ! kill_at "$call" "$number" "$@"; then
			# How often it reads /proc depends on the other processes.
			ended=$((ended + 1))
			back
			continue
		fi
		points=$((points + 1))
		look "$call number $number"
		if [ $((points % 3)) != 0 ]; then
			ip netns exec r "$WG" "$@" 2>/tmp/err ||
				die "killed at $call number $number, and then it fails: $(cat /tmp/err)"
			[ "$(state)" = "$after" ] ||
				die "killed at $call number $number, and run again: $(state | diff <(echo "$after") - || true)"
			works
		fi
		back
		[ "$(state)" = "$before" ] ||
			die "killed at $call number $number, and taken back: $(state | diff <(echo "$before") - || true)"
	done 3</tmp/points
	[ $points -ge 10 ] || die "$name: $points kills prove little"
	[ $ended -le $((points / 10)) ] || die "$name: the command came to its end $ended times of $((points + ended))"
	POINTS=$((POINTS + points))
	result "$name" "$points kills"
}

# Where the kernel has no attribute, the mark decides what is sent: without one the tunnel is not bound
# yet, or no longer, and sends by main, as it did and will. Then it receives from everywhere, too.
look() {
	local leaked
	is_whole "$1"
	if has_attr; then
		[ -n "$(sockets | tr -d '*\n')" ] || return 0
	elif [ "$(ip netns exec r "$C" show wg0 fwmark)" = off ]; then
		[ -z "$(sockets | tr -d '*\n')" ] || die "killed at $1, it sends by main and receives from the VRF: $(state)"
		OPEN=$((OPEN + 1))
		return 0
	fi
	capture_catch_up leak
	leaked=$(capture_count leak)
	send_one
	capture_catch_up leak
	[ "$(capture_count leak)" = "$leaked" ] || die "killed at $1, ciphertext leaves by main: $(state)"
}
# is_whole: a mark of ours has its rules in both families. A closed device has the closing ones.
is_whole() {
	local mark family rules
	! has_attr || return 0
	mark=$(ip netns exec r "$C" show wg0 fwmark)
	[ "$mark" != off ] || return 0
	for family in 4 6; do
		[ $family = 4 ] || has_ipv6 || continue
		rules=$(ours $family)
		[ "$mark" = $CLOSED ] || [[ $rules == *"fwmark $mark lookup"* ]] ||
			die "killed at $1: IPv$family is not steered: $(state)"
		[[ $rules == *"fwmark $mark unreachable"* ]] || die "killed at $1: IPv$family is not closed: $(state)"
	done
}
# An answer also ends what wg0 would send again later.
works() {
	wait_for "the tunnel" ping_tunnel
	has_attr || expect_hooks 1
}
# sees_leaks: while wg0 is unbound, the look for leaks sees one. What is sent is encrypted a moment later.
sees_leaks() {
	capture_catch_up leak
	wait_for "the look for leaks to see one" has_leaked "$(capture_count leak)"
}
has_leaked() {
	send_one
	capture_catch_up leak
	[ "$(capture_count leak)" -gt "$1" ]
}
watch
back() {
	ip netns exec r "$WG" set wg0 bind-dev off 2>/tmp/err || die "unbinding: $(cat /tmp/err)"
	no_hooks
}
kills bind set wg0 bind-dev vrf_external
sees_leaks

say "and the way back"
back() {
	ip netns exec r "$WG" set wg0 bind-dev vrf_external 2>/tmp/err || die "binding again: $(cat /tmp/err)"
	wait_for "the tunnel" ping_tunnel
}
back
# Nothing of ours is left by a command that was killed, once it was run again.
works() {
	no_hooks
}
OPEN=0
kills unbind set wg0 bind-dev off
has_attr || result unbound-and-unfinished "$OPEN kills"
run ip netns exec r "$WG" set wg0 bind-dev off
sees_leaks
capture_stop all

# From here on the tunnel is bound before and after. Without the attribute it sends by the VRF that its
# sockets are on, or not at all; nowhere is its port open.
look() {
	local on
	is_whole "$1"
	on=$({ sockets && sockets $OTHER_PORT; } | sort -u | tr '\n' ' ')
	if ! has_attr; then
		case $(ip netns exec r "$C" show wg0 fwmark)/$on in
		"$CLOSED"/* | "$MARK/vrf_external " | "$MARK_B/vrf_b ") ;;
		"$OWN_MARK/vrf_external ") leads_to 1023 "$1" ;;
		"$OWN_MARK/vrf_b ") leads_to 2000 "$1" ;;
		*) die "killed at $1, it sends by one way and receives by another: $(state)" ;;
		esac
	fi
	send_one
	[[ $on != *'*'* ]] || die "killed at $1: its port is open: $(state)"
}
# leads_to TABLE WHERE: of two lookups for one mark the first one counts.
leads_to() {
	local family first
	for family in 4 6; do
		[ $family = 4 ] || has_ipv6 || continue
		first=$(ours $family | awk -v mark=$OWN_MARK '$3 == mark && $4 == "lookup" && !n++ { print $5 }')
		[ "$first" = "$1" ] || die "killed at $2: IPv$family goes to table $first, and it receives from $on: $(state)"
	done
}
works() {
	wait_for "the tunnel" ping_tunnel
}
back() {
	ip netns exec r "$WG" set wg0 bind-dev vrf_b 2>/tmp/err || die "binding again: $(cat /tmp/err)"
}
back
watch
kills rebind set wg0 bind-dev vrf_external
if ! has_attr; then
	back() {
		ip netns exec r "$WG" set wg0 fwmark $OWN_MARK bind-dev vrf_b 2>/tmp/err || die "binding again: $(cat /tmp/err)"
	}
	back
	kills rebind-by-one-mark set wg0 fwmark $OWN_MARK bind-dev vrf_external
fi
assert_none leak "ciphertext in the default VRF"

# conf KEEPALIVE FIRST END: a file with the peer, and others by number.
conf() {
	local n
	printf '[Interface]\nPrivateKey = %s\nListenPort = %s\nBindDev = vrf_external\n' "$(cat /tmp/r.key)" $PORT
	printf '[Peer]\nPublicKey = %s\nEndpoint = %s:%s\nAllowedIPs = %s.0/24\nPersistentKeepalive = %s\n' \
		"${PUB[peer]}" $PEER4 $PEER_PORT $TUNNEL "$1"
	for ((n = $2; n < $3; n++)); do
		printf '[Peer]\nPublicKey = %042d0=\nPresharedKey = %042d4=\nAllowedIPs = 10.1.0.%d/32, fd00:%x::/64\n' $n $n $n $n
	done
}
conf 25 1 60 >/tmp/before.conf
# More than a message holds.
conf 30 40 160 >/tmp/after.conf
# Another VRF and another port.
sed "s/^ListenPort.*/ListenPort = $OTHER_PORT/; s/^BindDev.*/BindDev = vrf_b/" /tmp/before.conf >/tmp/other.conf
back() {
	ip netns exec r "$WG" setconf wg0 /tmp/other.conf 2>/tmp/err || die "setconf: $(cat /tmp/err)"
}
back
kills setconf-moves setconf wg0 /tmp/before.conf
assert_none leak "ciphertext in the default VRF"
for verb in setconf syncconf; do
	back() {
		ip netns exec r "$WG" setconf wg0 /tmp/before.conf 2>/tmp/err || die "setconf: $(cat /tmp/err)"
	}
	back
	kills $verb $verb wg0 /tmp/after.conf
	assert_none leak "ciphertext in the default VRF"
done
assert_some wan "ciphertext in the VRF"
capture_stop all
run ip netns exec r "$WG" set wg0 bind-dev off
no_hooks
[ -z "$(ours 4)$(ours 6)" ] || die "rules of ours are left: $(ours 4) $(ours 6)"
result kills $POINTS
has_attr || [ $POINTS -ge 200 ] || die "$POINTS kills: 200 are wanted"
