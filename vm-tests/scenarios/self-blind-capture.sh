#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: a capture that sees nothing fails by itself
# suite: selftest
# kernels: debian-6.1
# expect: failed did not see its canary
set -euo pipefail
. /lib/wgvrf/lib.sh
netns_add a
netns_add b
veth_pair a v0 b v1
# As tcpdump does in a guest where it may not write: it starts, and sees nothing.
mv /usr/bin/tcpdump /usr/bin/tcpdump.real
cat >/usr/bin/tcpdump <<'EOF'
#!/bin/bash
case " $* " in *" -r "*) exec /usr/bin/tcpdump.real "$@" ;; esac
echo "tcpdump: listening on nothing" >&2
exec sleep 1000
EOF
chmod 755 /usr/bin/tcpdump
capture_start v a v0 "udp"
capture_stop v
assert_none v
