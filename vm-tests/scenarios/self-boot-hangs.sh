#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a guest that never reaches init
# suite: selftest
# kernels: debian-6.1
# cmdline: rdinit=/usr/bin/cat
# boot: 30
# expect: boot-timeout
:
