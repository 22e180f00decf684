# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Runs the kernel's own tools/testing/selftests/wireguard/netns.sh; it is part of the kernel's
# source, which the runner puts under /lib/wgvrf/source.

# kernel_netns FOLDER: with the wg under test; /tmp/netns.log is what it said, in plain text.
kernel_netns() {
	local file=/lib/wgvrf/source/$1/tools/testing/selftests/wireguard/netns.sh code=0 steps
	[ -e "$file" ] || die "the runner did not put $file here"
	# The package leaves the choice to update-alternatives.
	ln -sf iptables-legacy /usr/sbin/iptables
	[ "$(command -v wg)" -ef "$WG" ] || die "$(command -v wg) is not the wg under test"
	# It takes 0.1 s without a line for the end of the kernel's log. A busy host is slower, and
	# objects then seem to be left: the copy that runs here waits 5 s.
	sed 's/ -t 0\.1 -r line / -t 5 -r line /' "$file" >/tmp/netns.sh
	[ "$(diff "$file" /tmp/netns.sh | grep -c '^>')" = 1 ] || die "$file reads the kernel's log in another way"
	# Its sleep reads from stdin, which must never say anything, nor end.
	[ -p /run/wgvrf/silence ] || mkfifo /run/wgvrf/silence
	bash /tmp/netns.sh 0<>/run/wgvrf/silence 2>&1 | sed -u 's/\x1b\[[0-9;]*m//g' | tee /tmp/netns.log || code=$?
	steps=$(grep -c '^\[+\]' /tmp/netns.log || true)
	result steps "$steps"
	[ $code = 0 ] || die "netns.sh ended with $code after $steps steps: $(tail -n 12 /tmp/netns.log | grep '^\[+\]' | tail -n 1)"
	# Its last words. Without them it ended early, which must not pass unnoticed.
	grep -q 'Objects that were created were also destroyed' /tmp/netns.log || die "netns.sh ended early"
}
