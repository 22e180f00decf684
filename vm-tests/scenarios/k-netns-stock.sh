#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the kernel's own netns.sh as it came
# needs: any
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

kernel_netns stock
