#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: 100, 1 000 and 10 000 peers in the kernel: what our wg takes beside the C tool, call by call
# needs: fallback
# tool: ours
# packages: strace, time, valgrind
# programs: wg-sid
# kernels: debian-6.1, vanilla-7.3
# timeout: 3600
# memory: 2048
# icount: 0
# cmdline: wireguard.dyndbg=-p
# suite: cost, long
#
# Without the driver's debug messages: a hundred thousand of them do not fit the kernel's log, and what is lost
# looks like a leak. That the module can be unloaded afterwards shows that nothing holds it.
#
# Instructions in user mode are those that valgrind counts. The machine has one processor and its clock
# counts instructions, one a nanosecond: so the CPU time, user and system, is the number of instructions that
# the process takes in both modes, whatever the host does. Both tools run with one C library, that of the C
# tool. Scenarios get a debug build, whose instructions say nothing; its system calls are those of a release:
#     cargo build --locked --release --bin wg
#     cargo xtask vm run --kernel debian-6.1 --scenario w-cost --wg target/release/wg
set -euo pipefail
. /lib/wgvrf/lib.sh

SIZES=${SIZES:-100 1000 10000}
# Calls that ours may make beyond the C tool's, however many peers there are. What writes asks for the
# links, the rules of both families, the entries of the bind hooks and the namespace of the sockets, with a
# socket for each question; setconf made 181 more, syncconf 225. What shows the binding asks for as much of that
# as it needs (43 more), what does not show it for none (9).
MORE_WRITING=260 MORE_SHOWING=60
# The most percent of the C tool's instructions with 10 000 peers.
MOST=50
JOBS=("setconf wg0 /tmp/conf" "syncconf wg0 /tmp/conf" "show all dump" "show wg0" "showconf wg0" "show wg0 endpoints")

has_program wg-sid
[[ $(wg-sid --version) == *1.0.20260223* ]] || die "not the tool that was meant: $(wg-sid --version)"
ours=/opt/wg/wg
[ -e $ours ] || ours=/usr/bin/wg
loader=(/opt/wg-sid/lib/ld-linux-x86-64.so.2 --argv0 wg --library-path /opt/wg-sid/lib)
# A release has 2 MB, a debug build more than twice that.
release=yes
[ "$(stat -c %s $ours)" -lt 3000000 ] || release=
say "ours: $(stat -c %s $ours) bytes${release:+, a release}; $("$WG" version --all 2>&1 | sed -n 1p); $(valgrind --version); $(strace --version | sed -n 1p)"
# A kernel with threaded NAPI has a thread for each peer.
sysctl -qw kernel.threads-max=60000 kernel.pid_max=65536

# describe PEERS: three prefixes each, every other one has a preshared key and a keepalive. Digits are base64, too.
describe() {
	local n
	printf '[Interface]\nListenPort = 51820\nPrivateKey = %s\n' "$("$WG" genkey)"
	for ((n = 1; n <= $1; n++)); do
		printf '[Peer]\nPublicKey = %042d0=\nEndpoint = 192.0.%d.%d:%d\n' $n $((n >> 8)) $((n & 255)) $((1024 + n))
		printf 'AllowedIPs = 10.0.%d.%d/32, 172.16.%d.%d/32, fd00:%x::/64\n' \
			$((n >> 8)) $((n & 255)) $((n >> 8)) $((n & 255)) $n
		((n % 2)) || printf 'PresharedKey = %042d4=\nPersistentKeepalive = 25\n' $n
	done
}

# measure PROGRAM WORDS...: sets CPU (microseconds), CALLS, MEMORY (KiB) and INSTRUCTIONS (0: not counted).
measure() {
	local tool=("${loader[@]}" "$@") user system
	TIMEFORMAT='%3U %3S'
	read -r user system < <({ time /usr/bin/time -o /tmp/memory -f %M "${tool[@]}" >/dev/null 2>/tmp/err; } 2>&1)
	MEMORY=$(</tmp/memory)
	CPU=$((10#${user/./} + 10#${system/./}))
	strace -f -c -o /tmp/calls "${tool[@]}" >/dev/null 2>/tmp/err || die "${*:2}: $(cat /tmp/err)"
	CALLS=$(awk '$NF == "total" { print $4 }' /tmp/calls)
	INSTRUCTIONS=0
	if [ -n "$release" ]; then
		valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file=/dev/null "${tool[@]}" >/dev/null 2>/tmp/err ||
			die "${*:2}: $(cat /tmp/err)"
		INSTRUCTIONS=$(sed -n 's/,//g; s/.*I *refs: *//p' /tmp/err)
	fi
	[[ $CPU -gt 0 && $CALLS -gt 0 && $MEMORY -gt 0 && -n $INSTRUCTIONS ]] ||
		die "not measured: '$CPU' '$CALLS' '$MEMORY' '$INSTRUCTIONS': $(cat /tmp/err)"
}

# ratio A B: with two digits.
ratio() {
	printf '%d.%02d' $(($1 / $2)) $(($1 * 100 / $2 % 100))
}

ip link add wg0 type wireguard
for size in $SIZES; do
	(umask 077 && describe "$size" >/tmp/conf)
	"$WG" setconf wg0 /tmp/conf
	[ "$(wg-sid show wg0 peers | wc -l)" = "$size" ] || die "not $size peers"
	for job in "${JOBS[@]}"; do
		# shellcheck disable=SC2086 # words
		measure /opt/wg-sid/wg-sid $job
		cpu=$CPU calls=$CALLS memory=$MEMORY instructions=$INSTRUCTIONS
		# shellcheck disable=SC2086 # words
		measure $ours $job
		name=${job/ \/tmp\/conf/}
		text="CPU $CPU / $cpu ms = $(ratio $CPU "$cpu"), calls $CALLS / $calls, memory $MEMORY / $memory KiB = $(ratio "$MEMORY" "$memory")"
		[ -z "$release" ] ||
			text="instructions $INSTRUCTIONS / $instructions = $(ratio "$INSTRUCTIONS" "$instructions"), $text"
		name=${name// /-}
		result "$size-$name" "$text"
		more=$MORE_SHOWING
		[[ $name = show* ]] || more=$MORE_WRITING
		[ "$CALLS" -le $((calls + more)) ] || die "$job with $size peers: $CALLS calls, the C tool makes $calls"
		[[ $size -lt 10000 || -z $release || $((INSTRUCTIONS * 100)) -le $((instructions * MOST)) ]] ||
			die "$job with $size peers: more than $MOST % of the C tool's instructions"
	done
done

# Each peer waits for the kernel's readers: that takes longer than a guest has for its end.
ip link del wg0
