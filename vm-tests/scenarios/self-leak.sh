#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports an interface that outlives its namespace
# suite: selftest
# kernels: debian-6.1
# expect: leak 1 interfaces created, 0 destroyed
set -euo pipefail
. /lib/wgvrf/lib.sh
netns_add a
ip -n a link add wg0 type wireguard
ip -n a link set wg0 up
# A second hold on the namespace, which is never given back.
touch /tmp/hold
mount --bind /run/netns/a /tmp/hold
