#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: random changes while allocations fail, in system calls and in softirqs; nothing leaks or hangs
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

# faults N: of each N allocations that are subject to it, one fails with a chance of one half; 0: none.
faults() {
	echo 0 >$FAULTS/probability
	[ "$1" != 0 ] || return 0
	echo "$1" >$FAULTS/interval
	echo 50 >$FAULTS/probability
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

show_under_faults() (
	fail_me
	r "$WG" show wg0
)

churn_topology

say "allocations of the changing tasks fail"
echo Y >$FAULTS/task-filter
faults 997
# Without fail_me nothing fails; with it, out of 50 programs some must.
failed=0
for _ in $(seq 30); do
	show_under_faults >/dev/null 2>&1 || failed=$((failed + 1))
done
[ $failed -gt 0 ] || die "30 programs ran under fault injection and none failed"
[ $failed -lt 30 ] || die "30 programs ran under fault injection and all failed"
say "wg show: $failed of 30 failed"
churn_patience $((20 * ${WGVRF_SLOW:-1}))
churn 40 fail_me
faults 0

say "the allocations of packets fail, in every context"
echo N >$FAULTS/task-filter
echo Y >$FAULTS/cache-filter
caches=0
for cache in skbuff_head_cache skbuff_fclone_cache skbuff_small_head; do
	[ -e /sys/kernel/slab/$cache/failslab ] || continue
	echo 1 >/sys/kernel/slab/$cache/failslab
	caches=$((caches + 1))
done
[ $caches -gt 0 ] || die "no cache of packets takes faults"
faults 11
churn 20
faults 0
churn_patience_end

say "and it still works"
churn_settle
ip -n r link del wg0
