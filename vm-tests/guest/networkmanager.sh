# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A router with Debian's NetworkManager; shared by u-networkmanager.sh and u-systemd-networkmanager.sh.

# networkmanager_config: our example, and what the packages' maintainer scripts do.
networkmanager_config() {
	echo "messagebus:x:101:101::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
	echo "messagebus:x:101:" >>/etc/group
	echo "netdev:x:102:" >>/etc/group
	echo 0123456789abcdef0123456789abcdef >/etc/machine-id
	mkdir -p /run/dbus /var/lib/NetworkManager /etc/NetworkManager/system-connections
	# It has the two devices of our files, and leaves those of the world around it alone.
	cat >/etc/NetworkManager/NetworkManager.conf <<-END
		[main]
		plugins=keyfile
		dns=none
		auth-polkit=false
		no-auto-default=*
		[logging]
		level=DEBUG
		domains=DEVICE,VPN,CORE,IP
		[keyfile]
		unmanaged-devices=*,except:interface-name:wg-cr02,except:interface-name:vrf_external
	END
	cp /lib/wgvrf/examples/networkmanager/*.nmconnection /etc/NetworkManager/system-connections/
	sed -i "s|PRIVATE_KEY|$(cat /tmp/site1.key)|; s|PUBLIC_KEY_OF_THE_PEER|$(cat /tmp/site2.pub)|" \
		/etc/NetworkManager/system-connections/wg-cr02.nmconnection
	chmod 600 /etc/NetworkManager/system-connections/*
	# What only a kernel without the attribute needs.
	! has_attr || sed -i '/^fwmark=/d' /etc/NetworkManager/system-connections/wg-cr02.nmconnection
}
