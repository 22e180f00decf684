#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: random changes from several tasks at once, the seed is printed; nothing leaks, nothing hangs
# needs: attr
# tool: bind-dev
# timeout: 120
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh
. /lib/wgvrf/churn.sh

churn_topology
churn "${CHURN_SECONDS:-20}"
say "and it still works"
churn_settle
ip -n r link del wg0
