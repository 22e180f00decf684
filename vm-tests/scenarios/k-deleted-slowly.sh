#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the kernel announces once more that the bound device goes, when another device has its name and index
# needs: attr
# tool: bind-dev
# timeout: 120
# packages: perl-base
# suite: kernel
#
# A process holds a reference to the VRF: it sends a frame by it, and waits for room in its socket.
# What fills the socket waits for the link address of a neighbour that does not exist, behind a device
# outside of the VRF. As long as the reference is held, `ip link del` waits, and the kernel sends
# NETDEV_UNREGISTER again every second (netdev_wait_allrefs_any() in net/core/dev.c).
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# hold_device DEVICE: HOLDER becomes the process that waits with the reference.
hold_device() {
	local index
	index=$(ip -n r -o link show "$1" | cut -d: -f1)
	ip -n r route add 192.0.2.128/25 dev main0 table 1001
	r sysctl -qw net.ipv4.neigh.main0.mcast_solicit=600 net.ipv4.neigh.main0.unres_qlen_bytes=1000000
	# AF_PACKET, SOCK_DGRAM, ETH_P_IP; SO_SNDBUF; struct sockaddr_ll; an IPv4 header to 192.0.2.129.
	ip netns exec r perl -MSocket -e '
		socket(my $s, 17, SOCK_DGRAM, unpack("S", pack("n", 0x800))) or die "socket: $!";
		setsockopt($s, SOL_SOCKET, SO_SNDBUF, 4608) or die "SO_SNDBUF: $!";
		my $to = pack("S n i S C C x8", 17, 0x800, $ARGV[0], 0, 0, 6);
		my $packet = pack("C C n N C C n a4 a4 x980", 0x45, 0, 1000, 0, 64, 253, 0,
			inet_aton("198.51.100.1"), inet_aton("192.0.2.129"));
		while (1) { send($s, $packet, 0, $to) or die "send: $!"; }' "$index" 2>/tmp/holder &
	HOLDER=$!
	wait_for "a process that waits for room to send by $1" waits_in_send
}

waits_in_send() {
	local stack
	stack=$(cat "/proc/$HOLDER/wchan")
	echo "it is in $stack: $(cat /tmp/holder)"
	[ "$stack" = sock_alloc_send_pskb ]
}

bound_topology
# The kernel complains after ten seconds by default, which a busy host may need here.
sysctl -qw net.core.netdev_unregister_timeout_secs=300
bind_to red
p_calls 198.51.100.1
works p
index=$(ip -n r -o link show red | cut -d: -f1)
[ "$index" -lt 256 ] || die "the index is $index"
hold_device red

say "it is deleted, and the command waits"
ip -n r link del red &
deleting=$!
has_gone() { [ "$(ip -n r -o link show type vrf | grep -c ' red:')" = 0 ]; }
wait_for "red to go" has_gone
[ "$(sockets "$RPORT")" = 0 ] || die "sockets remain"

say "another red with the same index: bound at once"
ip -n r link add red index "$index" type vrf table 1001
ip -n r link set red up
ip -n r link set ext0 master red
bound_addresses
[ "$(sockets "$RPORT")" = 2 ] || die "not bound again"
before=$(socket_inodes "$RPORT")

say "what is announced again is not about this one"
since=$SECONDS
four_seconds() { [ $((SECONDS - since)) -gt 4 ]; }
wait_for "four announcements" four_seconds
kill -0 $deleting || die "the first red is gone, nothing was announced again"
[ "$(socket_inodes "$RPORT")" = "$before" ] || die "the sockets were closed or made again"
works p
result announced-again ignored
kill -KILL "$HOLDER"
wait "$HOLDER" || true
wait $deleting || die "ip link del failed"
[ "$(socket_inodes "$RPORT")" = "$before" ] || die "the sockets were closed or made again at the end"
works p
