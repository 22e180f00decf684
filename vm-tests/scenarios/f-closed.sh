#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: fallback: without a way through the VRF, nothing leaves by another
# needs: fallback
# tool: ours
# timeout: 120
# smp: 1
# suite: smoke
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/fallback.sh
. /lib/wgvrf/closed.sh
fb_closed 4
