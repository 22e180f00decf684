#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: what was queued while the device was missing goes out when it is back
# needs: attr
# tool: bind-dev
# timeout: 90
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
bind_to red
r_calls 198.51.100.2
ip -n r link set ext0 nomaster
ip -n r link del red
r ping -n -c 3 -i 0.3 -W 1 10.9.0.2 >/dev/null && die "passed"
say "it comes back under a name that a ready-made VRF is renamed to"
ip -n r link add ready type vrf table 1001
ip -n r link set ext0 master ready
ip -n r link set ready up
bound_addresses
ip -n r link set ready down
ip -n r link set ready name red
ip -n r link set red up
bound_addresses
works r
