#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: binding writes no file and pins nothing that would outlive a reboot
# needs: any
# tool: ours
# packages: bpftool, findutils
# timeout: 120
# smp: 1
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/has.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/bpf.sh
fb_topology
fb_bpf
fb_tunnel 4
[ -e /sys/fs/bpf ] || die "no /sys/fs/bpf"
mount -t bpf bpf /sys/fs/bpf
CONF=/etc/wireguard/wg0.conf
(umask 077 && printf '[Interface]\nPrivateKey = %s\nListenPort = %s\nBindDev = vrf_external\n' "$(cat /tmp/r.key)" $PORT >$CONF)

# files: each with its time, size and inode, in all that a system keeps or that a service may write to.
# What the scenario itself writes is in /tmp and in WGVRF_DIR.
files() {
	find / -xdev \( -path /tmp -o -path /proc -o -path /dev -o -path /sys -o -path /run \) -prune -o \
		-printf '%p %T@ %s %i\n'
	find /run -path "$WGVRF_DIR" -prune -o -printf '%p %T@ %s %i\n'
	find /sys/fs/bpf /dev/shm -printf '%p %T@ %s %i\n'
}
# unchanged WHEN: nor is anything new in them.
unchanged() {
	files | LC_ALL=C sort | diff /tmp/files - || die "$1: files changed"
}
# Without root's namespace mounts: wg runs as on a host.
host_wg() {
	echo "+ wg $*"
	nsenter --net=/run/netns/r "$WG" "$@"
}

# A program writes its cache or its history when it first runs, if ever.
host_wg show >/dev/null
files | LC_ALL=C sort >/tmp/files
say "$(wc -l </tmp/files) files"
for mode in auto port; do
	[ $mode = auto ] || ! has_attr || continue
	export WG_BIND_DEV_MODE=$mode
	host_wg set wg0 bind-dev vrf_external
	expect_bind vrf_external
	wait_for "the tunnel" ping_tunnel
	host_wg show wg0 >/dev/null
	host_wg showconf wg0 >/dev/null
	unchanged "bound, $mode"
	# What there is beside files goes with the kernel: programs and maps of BPF, rules, marks.
	has_attr || ! tells_apart || [ "$(bpftool prog show | grep -c 'name wg_bind_dev')" = 2 ] || die "no programs of ours: $(bpftool prog show)"
	host_wg setconf wg0 $CONF
	host_wg syncconf wg0 $CONF
	unchanged "after a file, $mode"
	host_wg set wg0 peer "${PUB[peer]}" endpoint $PEER4:$PEER_PORT allowed-ips $TUNNEL.0/24
	host_wg set wg0 bind-dev off
	unchanged "unbound, $mode"
	result "$mode" "no file"
done
say "and what is written is seen"
: >/run/wireguard/left
! files | LC_ALL=C sort | diff /tmp/files - >/tmp/seen || die "a new file is not seen"
grep -q '/run/wireguard/left' /tmp/seen || die "not seen: $(cat /tmp/seen)"
