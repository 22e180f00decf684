#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a port taken while the device was missing: closed, until somebody tries again
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh
. /lib/wgvrf/doctor.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
ip -n r link del red
ip netns exec r socat -u "UDP4-RECV:$RPORT" OPEN:/dev/null &
taker=$!
wait_for "socat to listen" bash -c "[ \"\$(ip netns exec r ss -lunH | wc -l)\" = 1 ]"
ip -n r link add red type vrf table 1001
ip -n r link set red up
ip -n r link set ext0 master red
bound_addresses
bound_to red
[ "$(sockets "$RPORT")" = 1 ] || die "$(sockets "$RPORT") sockets"
refused "in use" bind-dev red
if "$WG" --help | has ' doctor:'; then
	r "$WG" show wg0 | has -x '  bind device: red (there are no sockets on it)'
	r "$WG" show wg0 json | has '"receives": *"nothing"'
	says port-taken 1 "none of its own is bound to red"
fi
silent p
kill $taker
wait $taker || true
say "the same setting again tries again"
bind_to red
[ "$(sockets "$RPORT")" = 2 ] || die "no sockets"
works p
