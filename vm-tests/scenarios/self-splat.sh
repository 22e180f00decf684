#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a complaint of the kernel although the scenario passed
# suite: selftest
# kernels: debian-6.1
# expect: splat waiting for wg0
echo "unregister_netdevice: waiting for wg0 to become free. Usage count = 2" >/dev/kmsg
