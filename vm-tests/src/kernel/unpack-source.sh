# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Unpacks a linux-source package, or the named paths of it; nothing is written in between.
# $1 package file, $2 package name = archive name = top folder in it, $3 destination, rest: paths.
set -o pipefail
package=$1 name=$2 to=$3
shift 3
dpkg-deb --fsys-tarfile "$package" |
	tar -xO "./usr/src/$name.tar.xz" |
	xz -dc -T0 |
	tar -x -C "$to" --strip-components=1 "$@"
