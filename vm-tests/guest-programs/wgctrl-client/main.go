// SPDX-License-Identifier: GPL-2.0-only OR MIT

// A Go program as many are, which sets a WireGuard device through wgctrl:
//
//	wgctrl-client show DEVICE
//	wgctrl-client port DEVICE PORT
//	wgctrl-client mark DEVICE MARK
//	wgctrl-client key DEVICE BASE64
//	wgctrl-client peer DEVICE BASE64 SECONDS     (the keepalive of a peer that is there)
//	wgctrl-client replace DEVICE BASE64 ENDPOINT PREFIX...
//
// It knows nothing of bound devices: that is the point.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "wgctrl-client:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("a verb and a device are missing")
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	verb, device, rest := args[0], args[1], args[2:]
	if verb == "show" {
		return show(client, device)
	}
	config, err := configOf(verb, rest)
	if err != nil {
		return err
	}
	return client.ConfigureDevice(device, config)
}

func show(client *wgctrl.Client, name string) error {
	device, err := client.Device(name)
	if err != nil {
		return err
	}
	fmt.Printf("%s type=%q port=%d mark=%#x key=%s\n",
		device.Name, device.Type.String(), device.ListenPort, device.FirewallMark, device.PublicKey)
	for _, peer := range device.Peers {
		fmt.Printf("peer %s endpoint=%s keepalive=%d prefixes=%d\n", peer.PublicKey, peer.Endpoint,
			int(peer.PersistentKeepaliveInterval.Seconds()), len(peer.AllowedIPs))
	}
	return nil
}

func configOf(verb string, args []string) (wgtypes.Config, error) {
	var config wgtypes.Config
	if len(args) == 0 {
		return config, fmt.Errorf("%s: a value is missing", verb)
	}
	switch verb {
	case "port", "mark":
		number, err := strconv.ParseInt(args[0], 0, 64)
		if err != nil {
			return config, err
		}
		value := int(number)
		if verb == "port" {
			config.ListenPort = &value
		} else {
			config.FirewallMark = &value
		}
		return config, nil
	}
	key, err := wgtypes.ParseKey(args[0])
	if err != nil {
		return config, err
	}
	peer := wgtypes.PeerConfig{PublicKey: key}
	switch {
	case verb == "key":
		config.PrivateKey = &key
		return config, nil
	case verb == "peer" && len(args) == 2:
		seconds, err := strconv.Atoi(args[1])
		if err != nil {
			return config, err
		}
		interval := time.Duration(seconds) * time.Second
		peer.UpdateOnly = true
		peer.PersistentKeepaliveInterval = &interval
	case verb == "replace" && len(args) > 2:
		if peer.Endpoint, err = net.ResolveUDPAddr("udp", args[1]); err != nil {
			return config, err
		}
		for _, text := range args[2:] {
			_, prefix, err := net.ParseCIDR(text)
			if err != nil {
				return config, err
			}
			peer.AllowedIPs = append(peer.AllowedIPs, *prefix)
		}
		peer.ReplaceAllowedIPs = true
		config.ReplacePeers = true
	default:
		return config, fmt.Errorf("no such verb, or not its arguments: %s", verb)
	}
	config.Peers = []wgtypes.PeerConfig{peer}
	return config, nil
}
