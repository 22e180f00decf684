# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What scenarios are written with. Sourced under `set -euo pipefail`.

WG=${WG:-/usr/bin/wg}
WGVRF_DIR=${WGVRF_DIR:-/run/wgvrf}
mkdir -p "$WGVRF_DIR/captures"
set -E
# Starting a program is what costs time in a translated guest: this sleep starts none. Not `read -t`:
# see init.
enable -f /usr/lib/bash/sleep sleep

# --- saying ------------------------------------------------------------------------------

# say TEXT: one step, for people.
say() {
	echo "-- $*"
}

# run COMMAND...: shows it, then runs it.
run() {
	echo "+ $*"
	"$@"
}

# result KEY VALUE: one cell of a table; the runner collects them.
result() {
	echo "@result $1 ${*:2}"
}

# die TEXT: the assertion that does not hold.
die() {
	echo "FAILED: $*" >&2
	echo "$*" >"$WGVRF_DIR/reason"
	trap - ERR
	# Also from a subshell or a function whose code is looked at.
	[ "$BASHPID" = "$$" ] || kill -USR1 "$$"
	exit 1
}

# skip TEXT: this scenario cannot say anything here.
skip() {
	echo "SKIPPED: $*"
	echo "$*" >"$WGVRF_DIR/reason"
	# Nor may a scenario's own last look make a failure of it.
	trap - ERR EXIT
	exit 77
}

# has_program NAME: skips when the harness could not get what `# programs:' asks for.
has_program() {
	[ ! -e "/lib/wgvrf/lacks/$1" ] || skip "no $1: $(<"/lib/wgvrf/lacks/$1")"
	[ -x "/usr/bin/$1" ] || die "$1 is not among the scenario's programs"
}

# A command that fails without an `|| die` still says where.
wgvrf_unexpected() {
	local code=$1 line=$2 command=$3
	[ -s "$WGVRF_DIR/reason" ] ||
		echo "line $line: '$command' ended with $code" | tee "$WGVRF_DIR/reason" >&2
}
trap 'wgvrf_unexpected "$?" "${BASH_SOURCE[0]##*/}:$LINENO" "$BASH_COMMAND"' ERR
trap 'trap - ERR; exit 1' USR1

# has_attr: whether this kernel's wireguard knows WGDEVICE_A_BIND_DEV.
has_attr() {
	[ "${WGVRF_KERNEL_HAS_ATTR:-0}" = 1 ]
}

# binds_sockets: whether our wg can bind the sockets of this kernel's wireguard. It uses the
# attribute, or a program at the bind hooks, which has to tell sockets apart or was told that it may
# bind all those on the port.
binds_sockets() {
	has_attr || { [ -e /sys/fs/cgroup/cgroup.controllers ] &&
		{ [ -e /sys/kernel/btf/vmlinux ] || [ "${WG_BIND_DEV_RECEIVE:-}" = bound ]; }; }
}

# wait_for WHAT COMMAND...: until the command succeeds, for at most WAIT_FOR_SECONDS (20), times
# what a slow kernel needs. With a single argument, the command is its own description. If time runs
# out, the last lines that the command printed are part of the message.
wait_for() {
	local what=$1 limit=$((${WAIT_FOR_SECONDS:-20} * ${WGVRF_SLOW:-1})) end
	local said=$WGVRF_DIR/waited.$BASHPID
	end=$((SECONDS + limit))
	[ $# = 1 ] || shift
	until "$@" >"$said" 2>&1; do
		[ $SECONDS -lt $end ] || die "waited $limit s in vain for $what: $(tail -n 3 "$said")"
		sleep 0.1
	done
}

# --- building ----------------------------------------------------------------------------

# netns_add NAME: a namespace whose loopback is up and whose addresses are usable at once.
netns_add() {
	ip netns add "$1"
	local settings=(net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0)
	[ ! -e /proc/sys/net/ipv6 ] || settings+=(net.ipv6.conf.all.accept_dad=0
		net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0)
	ip netns exec "$1" sysctl -qw "${settings[@]}"
	ip -n "$1" link set lo up
}

# veth_pair NS1 IF1 NS2 IF2: a wire between two namespaces, both ends up.
veth_pair() {
	ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
	ip -n "$1" link set "$2" up
	ip -n "$3" link set "$4" up
}

# vrf_add NS NAME TABLE: a VRF that does not fall through to main, as vrf.rst advises.
vrf_add() {
	ip -n "$1" link add "$2" type vrf table "$3"
	ip -n "$1" link set "$2" up
	ip -n "$1" route add table "$3" unreachable default metric 4278198272
	[ ! -e /proc/sys/net/ipv6 ] ||
		ip -n "$1" -6 route add table "$3" unreachable default metric 4278198272
}

# --- listening ---------------------------------------------------------------------------
#
# A capture that sees nothing proves nothing, unless it is known to see. So each one must catch
# a canary first, and again at its end: a frame of an unused protocol, sent out of the interface
# under the capture (on "any": out of one of the namespace's interfaces).

# Told apart by its length (with one link header or another) and by being no IP.
WGVRF_CANARY='len >= 960 and len <= 1020 and not ip and not ip6'

# capture_start NAME NETNS INTERFACE FILTER: listens until capture_stop.
capture_start() {
	local name=$1 ns=$2 interface=$3 filter=$4 dir=$WGVRF_DIR/captures/$1
	[ "$name" != all ] || die "a capture cannot be called all: capture_stop all means each"
	[ ! -e "$dir/pid" ] || die "capture $name is already running"
	rm -rf "$dir"
	mkdir -p "$dir"
	printf '%s\n' "$ns" >"$dir/netns"
	printf '%s\n' "$interface" >"$dir/interface"
	printf '%s\n' "$filter" >"$dir/filter"
	# The file exists before it is read: bash ends without a word when $(<file) finds none.
	: >"$dir/log"
	# -Z root: it would drop to a user that may write nothing here. -U: each packet at once.
	nsenter --net="/run/netns/$ns" tcpdump -Z root --immediate-mode -U -n -s 256 -i "$interface" \
		-w "$dir/pcap" "($filter) or ($WGVRF_CANARY)" >/dev/null 2>"$dir/log" &
	echo $! >"$dir/pid"
	wait_for "tcpdump on $ns $interface" wgvrf_listening "$dir"
	wgvrf_canary "$name"
}

wgvrf_listening() {
	[[ $(<"$1/log") == *"listening on"* ]] || ! kill -0 "$(<"$1/pid")" 2>/dev/null
}

# wgvrf_canary NAME: one more canary, which the capture must see.
wgvrf_canary() {
	local name=$1 dir=$WGVRF_DIR/captures/$1 ns interface end serial frame
	ns=$(<"$dir/netns")
	interface=$(<"$dir/interface")
	kill -0 "$(<"$dir/pid")" 2>/dev/null || die "capture $name does not run: $(<"$dir/log")"
	if [ "$interface" = any ]; then
		interface=$(ip -n "$ns" -o link show up | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' |
			grep -vx lo | head -n1)
		interface=${interface:-lo}
	fi
	# Fourteen bytes for a link header (an unused multicast address, an unused
	# protocol), then the bytes to look for.
	serial="canary $name $SRANDOM."
	printf -v frame '%-996s' "wgvrf-wgvrf-wg$serial"
	end=$((SECONDS + 5 * ${WGVRF_SLOW:-1}))
	while [ $SECONDS -le $end ]; do
		nsenter --net="/run/netns/$ns" socat -u - "INTERFACE:$interface" 2>"$dir/canary" \
			<<<"$frame" || true
		sleep 0.1
		! grep -aqF "$serial" "$dir/pcap" || return 0
		sleep 0.2
	done
	die "capture $name on $ns $interface is blind: it did not see its canary: $(cat "$dir/canary" "$dir/log")"
}

wgvrf_read() {
	local dir=$WGVRF_DIR/captures/$1
	tcpdump -Z root -n -r "$dir/pcap" "$2" 2>/dev/null || true
}

# capture_stop NAME|all: ends a capture, after it proved that it still sees.
capture_stop() {
	local name=$1 dir=$WGVRF_DIR/captures/$1
	if [ "$name" = all ]; then
		for dir in "$WGVRF_DIR"/captures/*/pid; do
			[ ! -e "$dir" ] || capture_stop "$(basename "$(dirname "$dir")")"
		done
		return
	fi
	[ -e "$dir/pid" ] || die "capture $name does not run"
	wgvrf_canary "$name"
	# Not SIGINT: what is started in the background ignores it.
	kill -TERM "$(<"$dir/pid")"
	wait "$(<"$dir/pid")" 2>/dev/null || true
	rm "$dir/pid"
}

# capture_count NAME [FILTER]: how many packets it caught, the canary aside.
capture_count() {
	local filter
	[ -e "$WGVRF_DIR/captures/$1/pcap" ] || die "there is no capture $1"
	filter="($(<"$WGVRF_DIR/captures/$1/filter")) and not ($WGVRF_CANARY)"
	[ -z "${2:-}" ] || filter="($filter) and ($2)"
	wgvrf_read "$1" "$filter" | wc -l
}

# capture_show NAME [LINES]: its first packets, for a message.
capture_show() {
	wgvrf_read "$1" "($(<"$WGVRF_DIR/captures/$1/filter")) and not ($WGVRF_CANARY)" |
		head -n "${2:-5}"
}

# capture_catch_up NAME: a capture that still runs has seen all that was sent until now.
capture_catch_up() {
	[ ! -e "$WGVRF_DIR/captures/$1/pid" ] || wgvrf_canary "$1"
}

# assert_none NAME WHAT: the capture saw nothing.
assert_none() {
	local n
	capture_catch_up "$1"
	n=$(capture_count "$1")
	[ "$n" = 0 ] || {
		capture_show "$1" >&2
		die "$n ${2:-packets} seen by capture $1, expected none"
	}
	echo "   0 ${2:-packets in capture $1}"
}

# assert_some NAME WHAT [LEAST]: the capture saw at least LEAST (1).
assert_some() {
	local n
	capture_catch_up "$1"
	n=$(capture_count "$1")
	[ "$n" -ge "${3:-1}" ] || die "$n ${2:-packets} seen by capture $1, expected at least ${3:-1}"
	echo "   $n ${2:-packets in capture $1}"
}
