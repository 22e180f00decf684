#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: another socket wants the port all the time, under 40 changes of the device: it gets it when unbinding at most
# needs: attr
# tool: bind-dev
# timeout: 240
# packages: perl-base
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
p_calls 198.51.100.1
works p
# A socket that is not bound asks for the port as fast as it can. It waits for nobody: another device of
# wireguard would wait for the lock under which a device changes its sockets.
want_port() {
	ip netns exec r perl -MSocket -e '
		my $n = 0;
		until (-e "/tmp/stop") {
			socket(my $s, AF_INET, SOCK_DGRAM, 0) or die "socket: $!";
			if (bind($s, sockaddr_in($ARGV[0], INADDR_ANY))) {
				open(my $f, ">", "/tmp/taken") or die "taken: $!";
				select(undef, undef, undef, 0.05) until -e "/tmp/stop";
			}
			syswrite(STDOUT, ".\n") unless $n++ % 100;
		}' "$RPORT" >/tmp/asked
}
# asked COUNT: how many hundred times it asked, at least.
asked() {
	[ "$(wc -l </tmp/asked)" -ge "$1" ]
}
# start_fight, end_fight: want_port in the background, before and after what happens between.
start_fight() {
	rm -f /tmp/stop /tmp/taken
	: >/tmp/asked
	want_port &
	fighter=$!
	wait_for "the other to ask" asked 3
}
end_fight() {
	[ -e /tmp/taken ] || wait_for "the other to ask again" asked $(($(wc -l </tmp/asked) + 3))
	touch /tmp/stop
	wait $fighter || die "the other failed"
}

say "between two devices: never given up"
start_fight
for _ in $(seq 10); do
	bind_to ext0
	bind_to red
done
end_fight
[ ! -e /tmp/taken ] || die "the port was taken between two devices"
works p
result between "0 of 20 taken"

say "from no device to one: never given up"
for _ in $(seq 10); do
	bind_to off
	start_fight
	bind_to red
	end_fight
	[ ! -e /tmp/taken ] || die "the port was taken"
done
works p
result narrowed "0 of 10 taken"

say "to no device: the sockets are closed and opened, so it may be taken; then nothing leaves and the binding stays"
taken=0
for _ in $(seq 10); do
	start_fight
	if r "$WG" set wg0 bind-dev off 2>/tmp/refused; then
		bound_to off
		[ "$(sockets "$RPORT")" = 2 ] || die "$(sockets "$RPORT") sockets"
		end_fight
	else
		grep -q 'in use' /tmp/refused || die "$(cat /tmp/refused)"
		taken=$((taken + 1))
		wait_for "the other to say that it has the port" test -e /tmp/taken
		bound_to red
		capture_start out r any "udp and src port $RPORT and dst port $PPORT"
		silent r
		capture_stop out
		assert_none out "packets of a device that has no sockets"
		end_fight
	fi
	bind_to red
	works p
done
result unbound "$taken of 10 taken"
