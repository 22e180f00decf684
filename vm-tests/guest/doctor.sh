# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What the doctor-*.sh scenarios have in common: the router is the namespace r, its device wg0.
. /lib/wgvrf/has.sh

# doctor WORDS...: its output is in /tmp/doctor, its exit code in DOCTOR.
doctor() {
	DOCTOR=0
	ip netns exec r "$WG" doctor "$@" >/tmp/doctor 2>/tmp/doctor.err || DOCTOR=$?
	[ ! -s /tmp/doctor.err ] || die "wg doctor $*: $(cat /tmp/doctor.err)"
}

# codes: what was found, each once.
codes() {
	sed -n 's/^\([a-z][a-z0-9-]*\)\( (note)\)\{0,1\}: [^ ].*\.$/\1/p' /tmp/doctor | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# healthy WHEN: nothing is found, and the exit code says so; JSON as well.
healthy() {
	doctor
	[ "$DOCTOR" = 0 ] && [ -z "$(codes)" ] || die "$1: exit $DOCTOR, $(cat /tmp/doctor)"
	grep -qx 'nothing found' /tmp/doctor || die "$1: $(cat /tmp/doctor)"
	doctor json
	[ "$DOCTOR" = 0 ] && grep -q '"findings": \[\]' /tmp/doctor || die "$1: $(cat /tmp/doctor)"
	echo "   nothing found $1"
}

# says CODE EXIT [WORDS]: this code is found, the exit code is EXIT, and its lines have the words.
says() {
	doctor
	sed 's/^/   | /' /tmp/doctor
	[ "$DOCTOR" = "$2" ] || die "$1: exit code $DOCTOR, expected $2"
	codes | tr ' ' '\n' | has -x "$1" || die "$1 is not found, but '$(codes)'"
	grep "^$1" /tmp/doctor | has -F -- "${3:-}" || die "$1: not said: $3"
}

# commands CODE: what it says is to be run.
commands() {
	awk -v code="$1" '/^[a-z]/ { on = index($0, code ": ") == 1 || index($0, code " (note): ") == 1; next }
		/^    / { if (on) print substr($0, 5) }' /tmp/doctor
}

# mends CODE [SED]: CODE is found, its commands are run as they are (but for the words in capitals,
# which SED fills in), and then it is not found any more.
mends() {
	local code=$1 line
	says "$code" 1
	commands "$code" | sed "${2:-}" >/tmp/commands
	[ -s /tmp/commands ] || die "$code: no command"
	while IFS= read -r line; do
		echo "+ $line"
		ip netns exec r bash -c "$line" >/tmp/ran 2>&1 </dev/null || die "$code: '$line' fails: $(cat /tmp/ran)"
	done </tmp/commands
	doctor
	! codes | tr ' ' '\n' | has -x "$code" || die "$code: still found: $(cat /tmp/doctor)"
	result "$code" "found and mended"
}

# advises CODE EXIT WORDS: what cannot be mended by a command.
advises() {
	says "$1" "$2"
	grep -A1 "^$1" /tmp/doctor | has -F -- "$3" || die "$1: not advised: $3"
	result "$1" "found, with advice"
}

# filter_names_slave NIC PORT WORKS...: a packet filter that takes the tunnel's packets by the name
# of the interface lets none in; the command makes it work.
filter_names_slave() {
	local nic=$1 port=$2
	shift 2
	ip netns exec r nft -f - <<-NFT
		table inet doctor {
			chain early {
				type filter hook prerouting priority -300; policy accept;
				iifname "$nic" accept
			}
			chain input {
				type filter hook input priority 0; policy drop;
				iifname "lo" accept
				iifname "wg0" accept
				iifname "$nic" udp dport $port accept
			}
		}
	NFT
	if "$@" >/dev/null 2>&1; then die "the filter lets the tunnel's packets in: this proves nothing"; fi
	mends filter-names-slave
	wait_for "the tunnel behind the mended filter" "$@"
	ip netns exec r nft delete table inet doctor
}
