# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=bash
# What the programs of this folder share: roots of Debian's releases. They need root and debootstrap.

# need THING PACKAGE: a program of this machine, or a file in a root, and the package that has it.
need() {
	case $1 in
	/*) [ ! -e "$1" ] || return 0 ;;
	*) [ -z "$(command -v "$1")" ] || return 0 ;;
	esac
	echo "${0##*/}: no ${1##*/}: apt install $2" >&2
	exit 1
}

# find_mirror: where the apt of this machine has Debian from.
find_mirror() {
	local uris
	uris=$(apt-get update --print-uris)
	uris=$(sed -n "s|^'\([^ ]*/debian\)/dists/.*|\1|p" <<<"$uris")
	uris=${WGVRF_DEBIAN_MIRROR:-${uris%%$'\n'*}}
	[ -n "$uris" ] || {
		echo "${0##*/}: the apt of this machine has no mirror of Debian; WGVRF_DEBIAN_MIRROR names one" >&2
		return 1
	}
	echo "$uris"
}

# make_root DIR RELEASE [BASE]: a small Debian in DIR, or a copy of BASE, whose apt reaches the mirror of
# this machine. RELEASE is one of packaging/modules, or sid.
make_root() {
	local root=$1 release=${2%-backports} mirror script
	mirror=$(find_mirror)
	mkdir -p "$root"
	if [ $# = 3 ]; then
		cp -a --reflink=auto "$3/." "$root"
	else
		need debootstrap debootstrap
		# sid's script does for a release that this debootstrap does not know.
		script=/usr/share/debootstrap/scripts/$release
		[ -e "$script" ] || script=${script%/*}/sid
		debootstrap --variant=minbase "$release" "$root" "$mirror" "$script" >"$root.log" 2>&1 || {
			tail -n 25 "$root.log" >&2
			echo "${0##*/}: debootstrap $release failed" >&2
			exit 1
		}
	fi
	apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv|Check-)' \
		>"$root/etc/apt/apt.conf.d/99machine" || true
	# Folders that are served for a test are on this machine.
	echo 'Acquire::http::Proxy::127.0.0.1 "DIRECT";' >>"$root/etc/apt/apt.conf.d/99machine"
	cp /etc/resolv.conf "$root/etc/"
	# A mirror by https, perhaps with a certificate of one's own.
	mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" || true
	cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" || true
	list_sources "$2" >"$root/etc/apt/sources.list"
	# Who has kernels of the backports has their metapackages, too.
	[ "$release" = "$2" ] || pin_kernels "$root" "$2" 500
}

# list_sources RELEASE: its lines of sources.list.
list_sources() {
	local release=${1%-backports} mirror suites suite
	mirror=$(find_mirror)
	suites=("$release")
	if [ "$release" != sid ]; then
		suites+=("$release-updates")
		echo "deb ${WGVRF_DEBIAN_SECURITY_MIRROR:-$mirror-security} $release-security main"
	fi
	[ "$release" = "$1" ] || suites+=("$1")
	for suite in "${suites[@]}"; do
		echo "deb $mirror $suite main"
	done
}

# pin_kernels ROOT RELEASE PRIORITY: the kernels of ROOT, and linux-base with them, are those of RELEASE. With
# 500 a newer one of another source wins.
pin_kernels() {
	printf '%s\n' "Package: linux-*" "Pin: release n=$2*" "Pin-Priority: $3" \
		>"$1/etc/apt/preferences.d/kernels"
}
