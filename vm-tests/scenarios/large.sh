#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: 10 000 peers with 20 000 prefixes, and one peer with 20 000, as Debian's C wg sees them
# needs: any
# tool: ours
# packages: wireguard-tools
# timeout: 900
# memory: 2048
# suite: large, long
#
# What does not fit one netlink message has to be cut into several, and what the kernel sends in
# several has to be put together. The C tool does both; every line of both dumps must be equal.
set -euo pipefail
. /lib/wgvrf/lib.sh

# A kernel with threaded NAPI has a thread for each peer, and a small guest's limit is below that.
sysctl -qw kernel.threads-max=60000 kernel.pid_max=65536

C=/usr/bin/wg.debian
[[ $("$C" --version) == wireguard-tools* ]] || die "no C wg in the guest"
(umask 077 && "$WG" genkey >/tmp/key)

# many PEERS: a file with two prefixes a peer, one a family. Digits are base64, too.
many() {
	local n
	echo "[Interface]"
	echo "PrivateKey = $(cat /tmp/key)"
	for ((n = 1; n <= $1; n++)); do
		printf '[Peer]\nPublicKey = %042d0=\nPresharedKey = %042d4=\nAllowedIPs = 10.%d.%d.%d/32, fd00:%x::/64\n' \
			$n $n $((n >> 16)) $((n >> 8 & 255)) $((n & 255)) $n
		printf 'Endpoint = 192.0.2.%d:%d\nPersistentKeepalive = %d\n' $((n % 250 + 1)) $((n % 60000 + 1)) $((n % 600 + 1))
	done
}

# one PREFIXES: a single peer has them all.
one() {
	local n
	printf '[Interface]\nPrivateKey = %s\n[Peer]\nPublicKey = %042d8=\n' "$(cat /tmp/key)" 1
	for ((n = 0; n < $1; n += 2)); do
		printf 'AllowedIPs = 172.%d.%d.%d/32, fd01:%x::/64\n' $((16 + (n >> 16))) $((n >> 8 & 255)) $((n & 255)) $n
	done
}

# same WHAT PEERS PREFIXES: both tools' dumps, and the count.
same() {
	"$WG" show wg0 dump | tail -n +2 | sort >/tmp/ours
	"$C" show wg0 dump | tail -n +2 | sort >/tmp/theirs
	[ "$(wc -l </tmp/theirs)" = "$2" ] || die "$1: the C wg sees $(wc -l </tmp/theirs) peers instead of $2"
	[ "$(cut -f4 /tmp/theirs | tr , '\n' | grep -c /)" = "$3" ] ||
		die "$1: the C wg sees $(cut -f4 /tmp/theirs | tr , '\n' | grep -c /) prefixes instead of $3"
	# A peer's prefixes come in the kernel's order, which is the same for both.
	cmp /tmp/ours /tmp/theirs || die "$1: the dumps differ: $(diff /tmp/ours /tmp/theirs | head -n4)"
	result "$1" "$2 peers, $3 prefixes"
}

many 10000 >/tmp/many.conf
one 20000 >/tmp/one.conf
ip link add wg0 type wireguard

say "set by ours, read by both"
run "$WG" setconf wg0 /tmp/many.conf
same setconf 10000 20000
say "the same again changes nothing"
cp /tmp/theirs /tmp/before
run "$WG" syncconf wg0 /tmp/many.conf
same syncconf 10000 20000
cmp /tmp/before /tmp/theirs || die "syncconf of the same file changed something"
say "half of the peers go"
many 5000 >/tmp/half.conf
run "$WG" syncconf wg0 /tmp/half.conf
same half 5000 10000

say "set by the C wg, read by both"
run "$C" setconf wg0 /tmp/many.conf
same by-c 10000 20000
cmp /tmp/before /tmp/theirs || die "the C wg sets something else than ours"

say "one peer with all prefixes"
run "$WG" setconf wg0 /tmp/one.conf
same one-peer 1 20000
"$C" show wg0 dump | cut -f4 >/tmp/by-ours
run "$C" setconf wg0 /tmp/one.conf
[ "$("$C" show wg0 dump | cut -f4)" = "$(cat /tmp/by-ours)" ] || die "the C wg sets other prefixes"
say "and one more to each family"
run "$WG" set wg0 peer "$(printf '%042d8=' 1)" allowed-ips +10.0.0.0/8,+fd02::/16
same incremental 1 20002

say "where sockets have less room than a message can have"
sysctl -qw net.core.wmem_default=65536
many 1000 >/tmp/thousand.conf
run "$WG" setconf wg0 /tmp/thousand.conf
same small-buffer 1000 2000
