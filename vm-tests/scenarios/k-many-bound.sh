#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a VRF that many devices are bound to is deleted without a grace period for each of them
# needs: attr
# tool: bind-dev
# timeout: 400
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

# milliseconds COMMAND...: how long it takes.
milliseconds() {
	local start=${EPOCHREALTIME/./}
	"$@"
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

# make COUNT: devices bound to red, with a port each, down.
make() {
	local n
	for n in $(seq "$1"); do
		echo "link add wgm$n type wireguard"
	done >/tmp/links
	ip -n r -batch /tmp/links
	for n in $(seq "$1"); do
		r "$WG" set "wgm$n" listen-port $((20000 + n)) bind-dev red
	done
}

# delete_under COUNT: a VRF that COUNT devices are bound to, first all down, then all running.
delete_under() {
	local n few many
	say "$1 running devices: about the time that it takes when they are down"
	make "$1"
	few=$(milliseconds ip -n r link del red)
	ip -n r link add red type vrf table 1001
	result "deleted-$1-down" "$few ms"
	for n in $(seq "$1"); do echo "link set wgm$n up"; done >/tmp/up
	ip -n r -batch /tmp/up
	[ "$(r ss -lunH | grep -c '%red')" -ge "$1" ] || die "they are not bound"
	many=$(milliseconds ip -n r link del red)
	result "deleted-$1" "$many ms"
	[ "$(r ss -lunH | wc -l)" = 0 ] || die "sockets are left"
	result "created-$1" "$(milliseconds ip -n r link add red type vrf table 1001) ms"
	[ "$(r ss -lunH | grep -c '%red')" -ge "$1" ] || die "they are not bound again"
	[ "$many" -lt $((few + 4000 * ${WGVRF_SLOW:-1})) ] || die "$many ms instead of $few ms when nothing is running"
	# One by one, or the end of the guest finds that their namespace is still busy with them.
	for n in $(seq "$1"); do echo "link del wgm$n"; done >/tmp/gone
	ip -n r -batch /tmp/gone
}

bound_wires
for count in ${WGVRF_MANY:-10 200}; do
	delete_under "$count"
done
