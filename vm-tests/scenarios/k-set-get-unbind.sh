#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: attribute: set, get, repeat, unbind, and a message without it
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel, tree
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bound_to off
p_calls 198.51.100.1
silent p
bind_to red
bound_to red
works p
say "a command without bind-dev leaves the binding alone"
r "$WG" set wg0 fwmark 0x5 listen-port "$RPORT"
r "$WG" set wg0 peer "$PKEY" persistent-keepalive 25
bound_to red
works p
bind_to off
bound_to off
silent p
say "a file without BindDev unbinds, and says so"
bind_to red
works p
r "$WG" showconf wg0 | sed '/^BindDev/d' >/tmp/plain.conf
for verb in syncconf setconf; do
	r "$WG" $verb wg0 /tmp/plain.conf 2>/tmp/err || die "$verb: $(cat /tmp/err)"
	grep -qx 'wg0: no longer bound to red: the file has no BindDev' /tmp/err || die "$verb does not say it: $(cat /tmp/err)"
	bound_to off
	bind_to red
done
bind_to off
silent p
bind_to red
works p
say "the same again does not touch the sockets"
before=$(socket_inodes "$RPORT")
[ "$(wc -w <<<"$before")" = 2 ] && [[ $before != 0* ]] || die "no two sockets: $before"
flow_start
for _ in 1 2 3 4 5; do bind_to red; done
flow_stop 0
after=$(socket_inodes "$RPORT")
[ "$before" = "$after" ] || die "the sockets changed: '$before' '$after'"
