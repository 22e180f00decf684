#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Compiles drivers/net/wireguard of one commit in one configuration. What it says is the log.
#
#   build-driver.sh AREA REPOSITORY COMMIT NAME BASE "OPTION=y OPTION=n" ARGUMENT-OF-MAKE...
#
# AREA/src is the source, AREA/index what git knows of it, AREA/NAME the objects.
set -eu
area=$1 repository=$2 commit=$3 obj=$1/$4 base=$5 options=$6
shift 6
unset MAKEFLAGS MFLAGS CFLAGS
export LC_ALL=C

# git writes the files that differ, and replaces a file: others may have a link to it.
GIT_INDEX_FILE=$area/index GIT_DIR=$repository/.git GIT_WORK_TREE=$area/src \
	git -C "$area/src" -c core.sparseCheckout=false read-tree --reset -u "$commit"
[ "$base" ] || exit 0

build() { nice make -C "$area/src" O="$obj" -j"$(nproc)" "$@"; }

# Of two values of an option the later one counts.
wanted=$(printf 'CONFIG_%s\n' $options | awk -F= '{ last[$1] = $0 } END { for (o in last) print last[o] }' | sort)
if [ "$wanted" != "$(cat "$obj/fragment" 2>/dev/null)" ]; then
	rm -rf "$obj"
	mkdir -p "$obj"
	printf '%s\n' "$wanted" >"$obj/new"
	build KCONFIG_ALLCONFIG="$obj/new" "$@" "$base"
	# What was asked for and is not there. What is not there is off.
	for option in $wanted; do
		got=$(grep "^${option%=*}=" "$obj/.config" || echo "${option%=*}=n")
		[ "$got" = "$option" ] || { echo "configuration does not get $option: error: $got"; exit 1; }
	done
	mv "$obj/new" "$obj/fragment"
fi
# An object that is not compiled again does not warn again.
rm -rf "$obj/drivers/net/wireguard"
build W=1 "$@" drivers/net/wireguard/
