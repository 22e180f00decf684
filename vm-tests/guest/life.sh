# SPDX-License-Identifier: GPL-2.0-only OR MIT
# One kind of configuration file on a router, from boot to re-creation of its VRF; on router.sh.
# Whose tool it is says how each of these is done there:
#
#     boot                    what the machine does by itself: all that is `auto`
#     wan_comes, wan_goes     the late link, and the hook that knows it
#     change                  192.0.2.52/32 as well, and a keepalive of 7 seconds
#     vrf_goes, vrf_comes     the VRF is made again under the running tunnel
. /lib/wgvrf/has.sh

# tool COMMAND...: shows it, and what it says only when it fails.
tool() {
	run "$@" >/tmp/tool.log 2>&1 || {
		cat /tmp/tool.log >&2
		die "$*"
	}
}

# expect_binding CONFIG: at once, or when the tool has done all that it was asked for.
expect_binding() {
	wait_for "the binding that a file with $1 asks for" binding_is "$1"
}

binding_is() {
	local is mark rules want_is=vrf_external want_mark=0x1023 want_rules=0
	is=$(bound)
	mark=$("$WG" show wg-cr02 fwmark)
	rules=$(our_rules)
	if [ "$1" = mark ]; then
		want_is=
	elif ! has_attr; then
		# The administrator's own mark is adopted where the file has none, too.
		want_is="vrf_external (fwmark 0x1023)"
		want_rules=$rules
	elif [ "$1" = bind ]; then
		want_mark=$mark
	fi
	echo "bind device: '$is', mark: $mark, rules of ours: $rules"
	[ "$is" = "$want_is" ] && [ "$mark" = "$want_mark" ] && [ "$rules" = "$want_rules" ]
}

# rules: which there are, however often the tool has added the router's own since the last time.
rules() {
	policy | cut -f2- | sort -u
}

rules_are() {
	rules
	[ "$(rules)" = "$1" ]
}

# whole_life CONFIG: one kind of file, from boot to re-creation.
whole_life() {
	local kind=$1 before leaked
	say "configuration: $kind"
	udp_l3mdev_accept 0
	boot
	expect_binding "$kind"
	tunnel_lost "without a WAN"
	wan_comes
	if [ "$kind" != mark ] && binds_sockets; then
		tunnel_works "without any sysctl"
	else
		tunnel_lost "while udp_l3mdev_accept is 0"
		udp_l3mdev_accept 1
		tunnel_works "with udp_l3mdev_accept=1"
	fi
	# OSPF needs it.
	wait_for "a link-local address" eval "ip -6 addr show dev wg-cr02 scope link | has inet6"
	result "$kind-boot" works

	wan_goes
	wan_comes
	tunnel_works "after the WAN dialled again"
	result "$kind-redial" works

	# Automation writes the file again.
	before=$(policy)
	run "$WG" setconf wg-cr02 /etc/wireguard/wg-cr02.conf
	expect_binding "$kind"
	[ "$(policy)" = "$before" ] || die "setconf changed rules: $(policy)"
	tunnel_works "after setconf"
	result "$kind-setconf" works

	before=$(rules)
	change
	wait_for "the new address" eval "ip -4 addr show dev wg-cr02 | has 192.0.2.52"
	wait_for "the new keepalive" eval '[ "$("$WG" show wg-cr02 persistent-keepalive | cut -f2)" = 7 ]'
	expect_binding "$kind"
	wait_for "the rules of before: $before" rules_are "$before"
	tunnel_works "after a changed address and file"
	result "$kind-change" works

	# The VRF is made again under the running tunnel.
	capture_start "decoy-$kind" decoy up0 "udp port $PORT"
	vrf_goes
	wan_goes
	if [ "$kind" != mark ] && has_attr; then
		wait_for "the binding to be missing" eval '[ "$(bound)" = "vrf_external (missing)" ]'
	fi
	tunnel_lost "without its VRF"
	vrf_comes
	wan_comes
	[ "$kind" = mark ] || bind_again
	tunnel_works "after the VRF was made again"
	expect_binding "$kind"
	result "$kind-recreate" works
	capture_stop "decoy-$kind"
	leaked=$(capture_count "decoy-$kind")
	if [ "$kind" = mark ]; then
		# This is what the mark alone is worth: the table is gone, main is next.
		[ "$leaked" -gt 0 ] || die "nothing leaked with the mark alone: this proves nothing"
		result mark-leaks yes
	else
		assert_none "decoy-$kind" "encrypted packets in the default VRF"
		result "$kind-leaks" no
	fi
}
