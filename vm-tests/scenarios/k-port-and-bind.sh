#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: port and device in one message, all or nothing, on a running device
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
r_calls 198.51.100.2
works r
for words in "blue listen-port 51011" "red listen-port 51012" "off listen-port 51013" "red listen-port 51013" \
	"ext0 listen-port 51014" "red listen-port $RPORT"; do
	# shellcheck disable=SC2086
	bind_to $words
	bound_to "${words%% *}"
	is=$(r "$WG" show wg0 listen-port)
	[ "$is" = "${words##* }" ] || die "port $is after $words"
	[ "$(sockets "$is")" = 2 ] || die "$(sockets "$is") sockets on port $is"
	[ "$(r ss -lunH | wc -l)" = 2 ] || die "old sockets remain: $(r ss -lunH)"
	case $words in
	red* | ext0*) works r ;;
	esac
done
say "a port chosen by the kernel"
bind_to red listen-port 0
is=$(r "$WG" show wg0 listen-port)
[ "$is" != 0 ] && [ "$(sockets "$is")" = 2 ] || die "port $is with $(sockets "$is") sockets"
works r
say "a foreign socket with SO_REUSEADDR is in the way of unbinding as much as any other"
ip netns exec r socat -u "UDP4-RECV:51020,reuseaddr,so-bindtodevice=blue" OPEN:/dev/null &
wait_for "socat to listen" r bash -c 'ss -lunH "sport = :51020" | grep -q .'
bind_to red listen-port 51020
works r
refused "in use" bind-dev off
works r
[ "$(sockets 51020)" = 3 ] || die "$(sockets 51020) sockets"
kill $!
wait_for "socat to end" r bash -c '[ "$(ss -lunH "sport = :51020" | wc -l)" = 2 ]'
bind_to off
bind_to red
works r
