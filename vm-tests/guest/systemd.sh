# SPDX-License-Identifier: GPL-2.0-only OR MIT
# systemd with udev on the router, for u-systemd-*.sh: as PID 1 of a PID namespace. Everything else is
# the guest's own: devices, /sys, cgroups and the network.
. /lib/wgvrf/has.sh

trap 'code=$?; [ $code = 0 ] || systemd_report' EXIT
systemd_report() {
	inside systemctl --no-pager --full status "wg-bind@*" "sys-subsystem-net-devices-wg*"
	inside systemctl --no-pager list-jobs
	ip -br link
	ip rule
	"$WG" show
}

# systemd_setup SERVICE...: our unit for wg-cr02, and what a boot starts beside udev.
systemd_setup() {
	local unit examples=/lib/wgvrf/examples/systemd
	[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
	mkdir -p /etc/systemd/system /etc/systemd/system-generators /etc/udev/rules.d
	# What sets up a machine is done, and would empty /tmp. A translated guest has no time for it.
	for unit in /lib/systemd/system/{sysinit,local-fs,sockets}.target.wants/*; do
		[[ $unit == *udevd* || $unit == *dbus* ]] || ln -sf /dev/null "/etc/systemd/system/${unit##*/}"
	done
	for unit in /lib/systemd/system-generators/*; do
		ln -sf /dev/null "/etc/systemd/system-generators/${unit##*/}"
	done
	# No service is ended because the machine is slow.
	mkdir -p /etc/systemd/system/service.d
	printf '[Service]\nWatchdogSec=0\nTimeoutStartSec=900\n' >/etc/systemd/system/service.d/slow.conf
	cp "$examples/wg-bind@.service" /etc/systemd/system/
	echo BIND_DEV=vrf_external >/etc/wireguard/wg-cr02.bind
	printf '[Unit]\nAllowIsolate=yes\n' >/etc/systemd/system/router.target
	for unit in systemd-udevd "$@"; do
		echo "Wants=$unit.service" >>/etc/systemd/system/router.target
	done
	# As the unit's own words say.
	run systemctl -q enable "$(systemd-escape --template=wg-bind@.service wg-cr02)"
}

# It takes no orders from outside of its PID namespace.
inside() {
	nsenter --target "$(pgrep -o -x systemd)" --pid --mount timeout 60 "$@"
}

systemd_boot() {
	unshare --pid --fork --kill-child --mount --mount-proc \
		/lib/systemd/systemd --system --unit=router.target --show-status=no --log-target=console >/tmp/systemd.log 2>&1 &
	WAIT_FOR_SECONDS=300 wait_for "systemd to boot" inside systemctl is-active router.target
}

# bound_and_up: the unit has done both.
bound_and_up() {
	echo "bound: '$(bound)', $(ip -br link show dev wg-cr02 2>&1)"
	[[ $(bound) == vrf_external* ]] && [ -n "$(ip link show dev wg-cr02 up)" ]
}
