# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A second VRF on the router of fallback.sh, which leads to the peer by a wire and addresses of its own.

fb_other_vrf() {
	vrf_add r vrf_other 3000
	veth_pair r other0 peer p2
	ip -n r link set other0 master vrf_other
	ip -n r addr add 192.0.2.10/24 dev other0
	ip -n peer addr add 192.0.2.1/24 dev p2
	ip -n r route add default via 192.0.2.1 dev other0 table 3000
	has_ipv6 || return 0
	ip -n r addr add 2001:db8:c::10/64 dev other0 nodad
	ip -n peer addr add 2001:db8:c::1/64 dev p2 nodad
	ip -n r -6 route add default via 2001:db8:c::1 dev other0 table 3000
}
