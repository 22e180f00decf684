#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: an alternative name is resolved, and the real one is kept
# needs: attr
# tool: bind-dev
# timeout: 60
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

bound_topology
ip -n r link property add dev red altname front-door
bind_to front-door
bound_to red
p_calls 198.51.100.1
works p
before=$(socket_inodes "$RPORT")
bind_to front-door
[ "$before" = "$(socket_inodes "$RPORT")" ] || die "the sockets changed"
