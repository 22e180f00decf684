# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Looking for a line in what a command prints.

# has GREP-ARGUMENTS...: whether a line of the input matches. Reads all of it: grep -q leaves at
# the first match, ip writes its next line into a pipe without a reader, dies of it, and pipefail
# makes "not there" of what was there, more often on one processor. (Nor does grep without -q read
# on when its output is /dev/null, as in wait_for.)
has() {
	local input
	input=$(cat)
	grep -q "$@" <<<"$input"
}
