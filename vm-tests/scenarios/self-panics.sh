#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a panic as a panic
# suite: selftest
# kernels: debian-6.1
# expect: panic sysrq triggered crash
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
sleep 60
