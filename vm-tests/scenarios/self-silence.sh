#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a machine that ends without a verdict
# suite: selftest
# kernels: debian-6.1
# expect: silence in the middle of the scenario
echo 1 >/proc/sys/kernel/sysrq
echo b >/proc/sysrq-trigger
sleep 60
