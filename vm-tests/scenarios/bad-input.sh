#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: bad input: one line that names the value and the remedy, exit 1, nothing changed
# needs: any
# tool: ours
# timeout: 60
# smp: 1
# suite: smoke
set -euo pipefail
. /lib/wgvrf/lib.sh

# expect_error WORDS... -- COMMAND...: exit 1, nothing on stdout, one line on stderr that holds
# each of the WORDS.
expect_error() {
	local words=() code=0 word
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	"$@" >/tmp/out 2>/tmp/err || code=$?
	say "$* -> $code: $(cat /tmp/err)"
	[ "$code" = 1 ] || die "exit code $code instead of 1: $*"
	[ ! -s /tmp/out ] || die "output on stdout of a failed command: $*"
	[ "$(wc -l </tmp/err)" = 1 ] || die "not one line on stderr: $*"
	for word in "${words[@]}"; do
		grep -qiF -- "$word" /tmp/err || die "the error does not say '$word': $*"
	done
}

# state: everything an error must leave as it was.
state() {
	ip netns exec a "$WG" showconf wg0
	ip -n a rule show
	ip -n a -6 rule show
	ip netns exec a "$WG" show wg0 fwmark
	ip netns exec a ss -lun
}

in_a() {
	ip netns exec a "$@"
}

netns_add a
vrf_add a vrf_external 1023
ip -n a link add br0 type bridge
ip -n a link set br0 up
ip -n a link add wg0 type wireguard
(umask 077 && "$WG" genkey >/tmp/key)
in_a "$WG" set wg0 listen-port 51001 private-key /tmp/key
ip -n a link set wg0 up
state >/tmp/before

expect_error wg9 "No such device" -- in_a "$WG" set wg9 bind-dev vrf_external
expect_error wg9 "No such device" -- in_a "$WG" show wg9
expect_error vrf_nowhere -- in_a "$WG" set wg0 bind-dev vrf_nowhere
expect_error a-name-of-more-than-15 -- in_a "$WG" set wg0 bind-dev a-name-of-more-than-15
expect_error "no/slash" -- in_a "$WG" set wg0 bind-dev no/slash
if has_attr; then
	expect_error wg0 -- in_a "$WG" set wg0 bind-dev wg0
else
	expect_error br0 bridge VRF -- in_a "$WG" set wg0 bind-dev br0
	expect_error WGDEVICE_A_BIND_DEV -- in_a env WG_BIND_DEV_MODE=kernel "$WG" set wg0 bind-dev vrf_external
fi
expect_error WG_BIND_DEV_MODE sometimes -- in_a env WG_BIND_DEV_MODE=sometimes "$WG" set wg0 bind-dev vrf_external

# Several things in one command, the last one wrong: none of them done.
expect_error vrf_nowhere -- in_a "$WG" set wg0 listen-port 51002 fwmark 0x1234 bind-dev vrf_nowhere

# A file whose last line is wrong.
(umask 077 && printf '[Interface]\nListenPort = 51003\nBindDev = vrf_nowhere\n' >/tmp/bad.conf)
expect_error vrf_nowhere -- in_a "$WG" setconf wg0 /tmp/bad.conf

# Without root. The fallback stops in front of the kernel, at its lock.
chmod 755 /tmp
not_permitted="Operation not permitted"
has_attr || not_permitted=CAP_NET_ADMIN
expect_error "$not_permitted" -- in_a setpriv --reuid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \
	"$WG" set wg0 bind-dev vrf_external

state >/tmp/after
diff -u /tmp/before /tmp/after || die "an error changed something"
result unchanged ok

# Without the module: nothing to talk to, and no way to load it.
ip -n a link del wg0
if rmmod wireguard 2>/dev/null; then
	echo /bin/false >/proc/sys/kernel/modprobe
	expect_error wireguard modprobe -- in_a "$WG" set wg0 bind-dev vrf_external
	modprobe wireguard
	result without-module ok
else
	say "wireguard is built in: it cannot be absent here"
fi
