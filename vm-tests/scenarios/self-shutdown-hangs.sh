#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the harness reports a clean-up that does not end
# suite: selftest
# kernels: debian-6.1
# shutdown: 20
# expect: shutdown-timeout clean-up
printf '#!/bin/bash\nsleep 1000\n' >/usr/bin/dmesg
