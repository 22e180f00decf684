#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: two sites, wg outside in vrf_external, underlay IPv6
# needs: any
# tool: bind-dev
# timeout: 90
# suite: demo, smoke
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/front-door.sh
front_door 6
