# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Takes a mail from git send-email in the place of a mail server: keeps it in a file, and its
# recipients in another one, beside this script.
cd "${0%/*}"
n=$(printf %04d "$(ls | grep -c 'mail$')")
for word; do case $word in *@*) echo "$word" ;; esac; done >"$n.to"
cat >"$n.mail"
