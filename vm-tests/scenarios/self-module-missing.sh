#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a module that it cannot load as its own error
# suite: selftest
# kernels: debian-6.1
# modules: no_such_module
# expect: harness-error no_such_module
:
