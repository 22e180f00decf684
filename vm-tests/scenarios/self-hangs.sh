#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness ends a scenario at its limit, even one that ignores signals
# suite: selftest
# kernels: debian-6.1
# timeout: 3
# expect: scenario-timeout at its limit
trap '' TERM INT HUP
(
	trap '' TERM
	setsid sleep 1000
) &
while :; do sleep 1; done
