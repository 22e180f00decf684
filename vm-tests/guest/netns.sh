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
	# Its sleep reads from stdin, which must never say anything, nor end.
	[ -p /run/wgvrf/silence ] || mkfifo /run/wgvrf/silence
	bash "$file" 0<>/run/wgvrf/silence 2>&1 | sed -u 's/\x1b\[[0-9;]*m//g' | tee /tmp/netns.log || code=$?
	steps=$(grep -c '^\[+\]' /tmp/netns.log || true)
	result steps "$steps"
	[ $code = 0 ] || die "netns.sh ended with $code after $steps steps: $(tail -n 12 /tmp/netns.log | grep '^\[+\]' | tail -n 1)"
	# Its last words. Without them it ended early, which must not pass unnoticed.
	grep -q 'Objects that were created were also destroyed' /tmp/netns.log || die "netns.sh ended early"
}
