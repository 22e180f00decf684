# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What the f-bpf-*.sh scenarios look at. They come after fallback.sh.

# fb_bpf: the router as it is out of the box. A kernel that does not describe its structures binds
# other programs' sockets on the port as well, and only when told that it may.
fb_bpf() {
	[ -e /sys/fs/cgroup/cgroup.controllers ] || die "no cgroup v2 on /sys/fs/cgroup"
	accept 0
	if [ ! -e /sys/kernel/btf/vmlinux ]; then
		export WG_BIND_DEV_RECEIVE=bound
		say "no BTF here: WG_BIND_DEV_RECEIVE=bound"
	fi
}

# tells_apart: whether the program can tell a process's socket from the kernel's own.
tells_apart() {
	[ -e /sys/kernel/btf/vmlinux ]
}

# sockets [PORT] [NETNS]: the device of each UDP socket on a port, `*` for none, as ss sees it.
sockets() {
	ip netns exec "${2:-r}" ss -lunH "sport = :${1:-$PORT}" |
		awk '{ n = split($4, part, "%"); if (n == 1) print "*"; else { sub(/].*|:.*/, "", part[2]); print part[2] } }'
}

# has_sockets PORT: whether any socket is on it.
has_sockets() {
	[ -n "$(sockets "$1")" ]
}

# expect_on DEVICE [PORT] [NETNS]: both families' sockets are on this device (`*`: on none).
expect_on() {
	local found wanted
	found=$(sockets "${2:-$PORT}" "${3:-r}")
	wanted=$(printf '%s\n%s' "$1" "$1")
	has_ipv6 || wanted=$1
	[ "$found" = "$wanted" ] || die "the sockets on port ${2:-$PORT} are on '$found', expected '$wanted'"
}

# expect_receives WORD|none [NAME]: what wg's JSON says about receiving.
expect_receives() {
	local said
	said=$(ip netns exec r "$WG" show "${2:-wg0}" json | sed -n 's/.*"receives": "\(.*\)".*/\1/p')
	[ "${said:-none}" = "$1" ] || die "wg show ${2:-wg0} json: receives '$said', expected '$1'"
}

# expect_hooks NUMBER: so many programs at each bind hook of the cgroup root, and as many of any
# kind in the kernel. bpftool is not ours.
expect_hooks() {
	local n
	bpftool cgroup show /sys/fs/cgroup >/tmp/hooks 2>&1 || die "bpftool: $(cat /tmp/hooks)"
	n=$(grep -c 'wg_bind_dev' /tmp/hooks || true)
	[ "$n" = $((2 * $1)) ] || die "$n programs of ours at the cgroup root, expected $((2 * $1)): $(cat /tmp/hooks)"
	# What was detached is freed a moment later.
	wait_for "$((2 * $1)) programs and $1 maps of ours in the kernel" are_in_kernel "$1"
}
are_in_kernel() {
	bpftool prog show | grep 'name wg_bind_dev' >/tmp/programs || true
	bpftool map show | grep 'name wg_bind_dev' >/tmp/maps || true
	cat /tmp/programs /tmp/maps
	[[ $(wc -l </tmp/programs) = $((2 * $1)) && $(wc -l </tmp/maps) = "$1" ]]
}

# attach_somebody multi|override|exclusive|link [CGROUP]: attaches a foreign program that allows everything
# to both hooks of the cgroup root, or of another one. It stays until it is detached; links, until the process in /tmp/links.pid ends.
attach_somebody() {
	python3 - "$1" "${2:-/sys/fs/cgroup}" <<-'END'
	import ctypes
	import os
	import signal
	import struct
	import sys

	SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
	PROG_LOAD, PROG_ATTACH, LINK_CREATE = 5, 8, 28
	CGROUP_SOCK_ADDR = 18
	HOOKS = {"cgroup_inet4_bind": 8, "cgroup_inet6_bind": 9}
	FLAGS = {"multi": 2, "override": 1, "exclusive": 0, "link": 0}
	libc = ctypes.CDLL(None, use_errno=True)


	def bpf(command, attributes):
	    buffer = ctypes.create_string_buffer(attributes, len(attributes))
	    done = libc.syscall(SYS_BPF, command, buffer, len(attributes))
	    if done < 0:
	        errno = ctypes.get_errno()
	        sys.exit(f"bpf({command}): {os.strerror(errno)}")
	    return done


	# r0 = 1; exit
	code = ctypes.create_string_buffer(struct.pack("=BBhi", 0xB7, 0, 0, 1) + struct.pack("=BBhi", 0x95, 0, 0, 0))
	license = ctypes.create_string_buffer(b"MIT")
	root = os.open(sys.argv[2], os.O_RDONLY)
	for hook in HOOKS.values():
	    load = struct.pack(
	        "=IIQQIIQII16sII", CGROUP_SOCK_ADDR, 2, ctypes.addressof(code), ctypes.addressof(license),
	        0, 0, 0, 0, 0, b"somebody", 0, hook,
	    )
	    program = bpf(PROG_LOAD, load)
	    if sys.argv[1] == "link":
	        bpf(LINK_CREATE, struct.pack("=IIII", program, root, hook, 0))
	    else:
	        bpf(PROG_ATTACH, struct.pack("=IIII", root, program, hook, FLAGS[sys.argv[1]]))
	if sys.argv[1] == "link":
	    holder = os.fork()
	    if holder == 0:
	        signal.pause()
	    with open("/tmp/links.pid", "w") as file:
	        file.write(str(holder))
	END
}
