#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: CAP_NET_ADMIN over the namespace of the sockets is needed, as for the port
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
# The device is in a namespace whose user is root there only. Its sockets stay in r.
unshare --user --map-root-user --net sleep 1000 &
user=$!
wait_for "the user namespace to have its root" grep -qE "^ +0 +0 +1$" "/proc/$user/uid_map"
wait_for "the other namespace" bash -c "[ \"\$(readlink /proc/$user/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
ip -n r link set wg0 netns "$user"
in_user() {
	nsenter --preserve-credentials --user --net -t "$user" "$@"
}
in_user ip addr add 10.9.0.1/24 dev wg0
in_user ip link set wg0 up
ip -n p link set wg0 down
ip -n p link set wg0 up
works p
flow_start
for words in "bind-dev blue" "bind-dev off" "bind-dev red" "listen-port 51077" "listen-port 51077 bind-dev blue"; do
	# shellcheck disable=SC2086
	! in_user "$WG" set wg0 $words 2>/tmp/err || die "accepted: $words"
	grep -q "not permitted" /tmp/err || die "$words: $(cat /tmp/err)"
	say "$words: $(cat /tmp/err)"
done
flow_stop 0
# What needs no such right still works, and the binding may be read.
in_user "$WG" set wg0 peer "$PKEY" persistent-keepalive 25
is=$(in_user "$WG" show wg0 bind-dev)
[ "$is" = red ] || die "bound to $is"
kill "$user"
