// SPDX-License-Identifier: GPL-2.0-only OR MIT
module wg-vrf/wgctrl-client

go 1.19

// What is under test: the library by which Go programs set WireGuard devices.
require golang.zx2c4.com/wireguard/wgctrl v0.0.0-20230429144221-925a1e7659e6

require (
	github.com/josharian/native v1.1.0 // indirect
	github.com/mdlayher/genetlink v1.3.2 // indirect
	github.com/mdlayher/netlink v1.7.2 // indirect
	github.com/mdlayher/socket v0.4.1 // indirect
	golang.org/x/crypto v0.8.0 // indirect
	golang.org/x/net v0.9.0 // indirect
	golang.org/x/sync v0.1.0 // indirect
	golang.org/x/sys v0.7.0 // indirect
)
