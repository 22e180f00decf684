#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the kernel's own netns.sh with what the series adds to it
# needs: attr
# tool: any
# timeout: 400
# memory: 1024
# packages: iperf3, ncat, iptables
# modules: ip_tables iptable_filter iptable_nat iptable_mangle xt_nat xt_length xt_mark ipip
# source: tools/testing/selftests/wireguard/netns.sh
# suite: kernel, long
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/netns.sh

kernel_netns patched
# The additions are skipped aloud by a wg without bind-dev, and by no other.
if [[ $("$WG" set 2>&1) == *bind-dev* ]]; then
	! grep SKIP /tmp/netns.log || die "skipped although this wg has bind-dev"
	grep -q 'wg set wg0 bind-dev' /tmp/netns.log || die "nothing was bound"
	result additions run
else
	grep SKIP /tmp/netns.log || die "this wg has no bind-dev, and nobody said that something is skipped"
	result additions skipped
fi
