#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the same while allocations fail at random, in system calls and in softirqs
# needs: attr
# tool: bind-dev
# kernels: debug-7.3
# timeout: 180
# suite: kernel
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh
. /lib/wgvrf/churn.sh

FAULTS=/sys/kernel/debug/failslab
[ -d $FAULTS ] || die "no $FAULTS: the kernel has no CONFIG_FAILSLAB"

# faults PERCENT: of the allocations that are subject to them; the number of failures is not limited.
faults() {
	echo "$1" >$FAULTS/probability
	echo 1 >$FAULTS/interval
	echo -1 >$FAULTS/times
	echo 0 >$FAULTS/space
	# A failure each line would fill the log; that they happen is asserted below.
	echo 0 >$FAULTS/verbose
	echo N >$FAULTS/ignore-gfp-wait
}

# Documentation/fault-injection: children inherit it.
fail_me() {
	echo 1 >"/proc/$BASHPID/make-it-fail"
}

churn_topology

say "a tenth of the allocations of the changing tasks fails"
echo Y >$FAULTS/task-filter
faults 10
# Without fail_me nothing fails; with it, out of 50 programs some must.
failed=0
for _ in $(seq 50); do
	(fail_me && exec "$WG" show wg0) >/dev/null 2>&1 || failed=$((failed + 1))
done
[ $failed -gt 0 ] || die "50 programs ran under fault injection and none failed: it does nothing"
say "wg show: $failed of 50 failed"
churn 15 fail_me
faults 0

say "the allocations of packets fail, in whatever context"
echo N >$FAULTS/task-filter
echo Y >$FAULTS/cache-filter
caches=0
for cache in skbuff_head_cache skbuff_fclone_cache skbuff_small_head; do
	[ -e /sys/kernel/slab/$cache/failslab ] || continue
	echo 1 >/sys/kernel/slab/$cache/failslab
	caches=$((caches + 1))
done
[ $caches -gt 0 ] || die "no cache of packets takes faults"
faults 5
churn 15
faults 0

say "and it still works"
churn_settle
ip -n r link del wg0
