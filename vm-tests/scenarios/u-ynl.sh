#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: the kernel's own pyynl/cli.py with the spec of the series binds, reads, unbinds, is refused
# needs: attr
# tool: bind-dev
# kernels: patched-7.3, debug-7.3
# timeout: 180
# smp: 1
# memory: 1024
# packages: python3, python3-yaml, python3-jsonschema
# source: tools/net/ynl/pyynl/cli.py tools/net/ynl/pyynl/__init__.py tools/net/ynl/pyynl/lib/__init__.py tools/net/ynl/pyynl/lib/doc_generator.py tools/net/ynl/pyynl/lib/nlspec.py tools/net/ynl/pyynl/lib/specdir.py tools/net/ynl/pyynl/lib/ynl.py Documentation/netlink/genetlink-legacy.yaml Documentation/netlink/specs/wireguard.yaml
# suite: users
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/router.sh

TREE=/lib/wgvrf/source/patched
SPEC=$TREE/Documentation/netlink/specs/wireguard.yaml
tool_binds || skip "this wg has no bind-dev"
ynl() {
	python3 $TREE/tools/net/ynl/pyynl/cli.py "$@"
}
# get FIELD: of wg-cr02, as JSON.
get() {
	ynl --spec $SPEC --output-json --dump get-device --json '{"ifname": "wg-cr02"}' >/tmp/got
	# Each time Python starts costs seconds in a translated guest: no second one for a word of JSON.
	sed -n "s/.*\"$1\": \(\"[^\"]*\"\|[0-9]*\).*/\1/p" /tmp/got
}
# set_device JSON: as the members of the request, beside the name.
set_device() {
	echo "+ set-device $1"
	ynl --spec $SPEC --do set-device --json "{\"ifname\": \"wg-cr02\", $1}"
}
# bound_is NAME: both our wg and YNL say so; "off" is YNL's empty string.
bound_is() {
	local name=$1
	[ "$("$WG" show wg-cr02 bind-dev)" = "$name" ] || die "wg: bound to $("$WG" show wg-cr02 bind-dev)"
	[ "$name" != off ] || name=
	[ "$(get bind-dev)" = "\"$name\"" ] || die "YNL: bound to $(get bind-dev)"
}

say "the spec is one by its schema"
ynl --spec $SPEC --validate || die "the spec is not valid"
router_world
ip link add vrf_external type vrf table 1023
ip link set vrf_external up
wan_up
config /etc/wireguard/plain.conf
ip link add wg-cr02 type wireguard
ip addr add $INSIDE4 dev wg-cr02
ip addr add $INSIDE6 dev wg-cr02
ip link set wg-cr02 up
"$WG" setconf wg-cr02 /etc/wireguard/plain.conf
bound_is off
tunnel_lost "unbound"

set_device '"bind-dev": "vrf_external"'
bound_is vrf_external
grep -q "\"listen-port\": $PORT" /tmp/got || die "port: $(cat /tmp/got)"
tunnel_works "bound by YNL"
result set works

say "what does not name the binding leaves it alone"
set_device '"fwmark": 119'
[ "$("$WG" show wg-cr02 fwmark)" = 0x77 ] || die "the mark was not set"
bound_is vrf_external
set_device '"fwmark": 0'
tunnel_works "after another attribute"
result absent kept

# refused ERRNO EXTACK JSON
refused() {
	! set_device "$3" >/tmp/refused 2>&1 || die "accepted: $3"
	sed 's/^/   /' /tmp/refused
	grep -qF "$1" /tmp/refused || die "not '$1': $(cat /tmp/refused)"
	grep -qF "$2" /tmp/refused || die "no '$2' in the extack: $(cat /tmp/refused)"
	bound_is vrf_external
}
say "errors have words"
refused "No such device" "No such device to bind to" '"bind-dev": "nowhere"'
refused "Too many levels of symbolic links" "Cannot bind to itself" '"bind-dev": "wg-cr02"'
# One byte too many: the policy that was made from the spec.
refused "Invalid argument" "'max-length': 15" '"bind-dev": "0123456789abcdef"'
tunnel_works "after what was refused"
result errors works

set_device '"bind-dev": ""'
bound_is off
tunnel_lost "unbound by YNL"
result unset works
