// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How known programs take our output apart and what they ask us to set, restated.
//!
//! Each is as strict as the program is: what would make it raise, panic or skip fails here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bench::{Bench, Skip, stdout};
use crate::uapi::{BARE, FULL, FULL_HEX, FULL_PSK, NEW, PRIVATE, PUBLIC, TUNNEL};

fn dump_all(bench: &Bench) -> Result<String, Skip> {
    bench.serve_devices()?;
    Ok(bench.run_wg(&["show", "all", "dump"]))
}

/// VyOS (ifconfig/wireguard.py): the first line of a new name has exactly 5 columns, any other
/// exactly 9, or its unpacking raises.
pub fn vyos(bench: &Bench) -> Result<(), Skip> {
    let dump = dump_all(bench)?;
    let mut devices: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in dump.lines() {
        let items: Vec<&str> = line.split('\t').collect();
        match devices.get_mut(items[0]) {
            None => {
                let [name, private, public, port, mark] = items[..] else {
                    panic!("{} columns instead of 5: {line}", items.len());
                };
                match name {
                    TUNNEL => assert_eq!((private, public, mark), (PRIVATE, PUBLIC, "0x1023")),
                    NEW => assert_eq!((private, public, mark), ("(none)", "(none)", "off")),
                    other => panic!("no such device: {other}"),
                }
                port.parse::<u16>().expect("a port");
                devices.insert(name, Vec::new());
            }
            Some(peers) => {
                let [_, key, psk, endpoint, ips, at, rx, tx, keep] = items[..] else {
                    panic!("{} columns instead of 9: {line}", items.len());
                };
                if key == FULL {
                    assert_eq!(psk, FULL_PSK);
                    assert_eq!(endpoint, "[2001:db8:b::10]:51001");
                    assert_eq!(ips.split(',').collect::<Vec<_>>(), ["0.0.0.0/0", "::/0"]);
                    assert_eq!((at, rx, tx, keep), ("1763815020", "1184", "1276", "25"));
                } else {
                    assert_eq!((psk, endpoint, ips), ("(none)", "(none)", "(none)"));
                    assert_eq!((at, rx, tx, keep), ("0", "0", "0", "off"));
                }
                peers.push(key);
            }
        }
    }
    let peers: Vec<(&str, usize)> = devices.iter().map(|(name, p)| (*name, p.len())).collect();
    assert_eq!(peers, [(TUNNEL, 2), (NEW, 0)]);
    Ok(())
}

/// VyOS configures with one call per peer, keys from files and /dev/null for none.
pub fn vyos_commands(bench: &Bench) -> Result<(), Skip> {
    let devices = bench.serve_devices()?;
    let key = bench.write_file("vyos.key", &format!("{PRIVATE}\n"));
    let key = key.to_string_lossy();
    devices.sets();
    bench.run_wg(&[
        "set",
        TUNNEL,
        "listen-port",
        "51002",
        "fwmark",
        "100",
        "private-key",
        &key,
        "peer",
        FULL,
        "preshared-key",
        "/dev/null",
        "persistent-keepalive",
        "15",
        "allowed-ips",
        "192.0.2.0/24,2001:db8::/32",
        "endpoint",
        "198.51.100.2:51820",
    ]);
    bench.run_wg(&["set", TUNNEL, "peer", FULL, "remove"]);
    let sets = devices.sets();
    assert_eq!(sets.len(), 2, "{sets:?}");
    let zero = "0".repeat(64);
    for part in [
        "private_key=8871444d4941647d6c21b662d6aa82ef137627aba2e4c8d8fde29181a6bf4944",
        "listen_port=51002",
        "fwmark=100",
        &format!("public_key={FULL_HEX}"),
        &format!("preshared_key={zero}"),
        "endpoint=198.51.100.2:51820",
        "persistent_keepalive_interval=15",
        "replace_allowed_ips=true",
        "allowed_ip=192.0.2.0/24",
        "allowed_ip=2001:db8::/32",
    ] {
        assert!(
            sets[0].split([' ', ',']).any(|word| word == part),
            "no {part} in {}",
            sets[0]
        );
    }
    assert_eq!(
        sets[1],
        format!("{TUNNEL}: public_key={FULL_HEX}, remove=true")
    );
    Ok(())
}

/// VyOS's operational mode looks for two words in what people read.
pub fn vyos_greps(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let shown = bench.run_wg(&["show", TUNNEL]);
    let value = |label: &str| {
        let line = shown.lines().find(|line| line.contains(label))?;
        line.split(": ").nth(1)
    };
    assert_eq!(value("public key"), Some(PUBLIC));
    assert_eq!(value("listening port"), Some("51001"));
    Ok(())
}

/// prometheus_wireguard_exporter: empty columns are dropped; five of them are an interface,
/// anything else is a peer whose fourth is a socket address or it panics.
fn exporter(dump: &str, prefix: Option<&str>) -> (usize, Vec<Option<SocketAddr>>) {
    let (mut interfaces, mut endpoints) = (0, Vec::new());
    for line in dump.lines() {
        let columns = prefix
            .into_iter()
            .chain(line.split('\t').filter(|c| !c.is_empty()));
        let columns: Vec<&str> = columns.collect();
        if columns.len() == 5 {
            interfaces += 1;
            continue;
        }
        endpoints.push(match columns[3] {
            "(none)" => None,
            text => Some(text.parse().unwrap_or_else(|err| panic!("{text}: {err}"))),
        });
        for number in [5, 6, 7] {
            columns[number].parse::<u64>().expect("a counter");
        }
    }
    (interfaces, endpoints)
}

pub fn prometheus(bench: &Bench) -> Result<(), Skip> {
    let far = "[2001:db8:b::10]:51001".parse().ok();
    assert_eq!(exporter(&dump_all(bench)?, None), (2, vec![far, None]));
    let one = bench.run_wg(&["show", TUNNEL, "dump"]);
    assert_eq!(exporter(&one, Some(TUNNEL)), (1, vec![far, None]));
    Ok(())
}

/// LuCI (rpcd ucode): tabs, fields by index, the first line of a new name is the interface.
pub fn luci(bench: &Bench) -> Result<(), Skip> {
    let dump = dump_all(bench)?;
    let mut interfaces = BTreeMap::new();
    let mut peers = Vec::new();
    for line in dump.lines() {
        let field: Vec<&str> = line.split('\t').collect();
        if interfaces.contains_key(field[0]) {
            let picked: Vec<&str> = [1, 3, 4, 5, 6, 7, 8].iter().map(|at| field[*at]).collect();
            peers.push(picked);
        } else {
            interfaces.insert(field[0], field[1..=4].to_vec());
        }
    }
    assert_eq!(interfaces[TUNNEL], [PRIVATE, PUBLIC, "51001", "0x1023"]);
    assert_eq!(interfaces[NEW], ["(none)", "(none)", "0", "off"]);
    let far = "[2001:db8:b::10]:51001";
    assert_eq!(
        peers,
        [
            vec![
                FULL,
                far,
                "0.0.0.0/0,::/0",
                "1763815020",
                "1184",
                "1276",
                "25"
            ],
            vec![BARE, "(none)", "(none)", "0", "0", "0", "off"],
        ]
    );
    Ok(())
}

/// LuCI makes its keys with us, through a shell.
pub fn luci_keys(bench: &Bench) -> Result<(), Skip> {
    let psk = bench.run_bash("wg genpsk", &[]);
    assert_eq!(psk.len(), 45, "{psk}");
    assert_eq!(
        bench
            .run_bash("echo \"$1\" | wg pubkey", &[PRIVATE])
            .trim_end(),
        PUBLIC
    );
    let made = bench.run_bash("k=$(wg genkey); echo $k; echo $k | wg pubkey", &[]);
    assert_eq!(made.lines().map(str::len).collect::<Vec<_>>(), [44, 44]);
    Ok(())
}

/// wg-easy and Firewalla: the first line is the interface, every other has 8 columns.
fn after_first(dump: &str) -> Vec<[&str; 8]> {
    let peers = dump.trim().split('\n').skip(1);
    peers
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            columns
                .try_into()
                .unwrap_or_else(|c| panic!("not 8 columns: {c:?}"))
        })
        .collect()
}

pub fn wg_easy(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let dump = bench.run_wg(&["show", TUNNEL, "dump"]);
    let peers = after_first(&dump);
    assert_eq!(peers[0][0], FULL);
    assert_eq!(peers[0][1], FULL_PSK);
    assert_eq!(peers[0][4..], ["1763815020", "1184", "1276", "25"]);
    assert_eq!(peers[1][2..], ["(none)", "(none)", "0", "0", "0", "off"]);
    assert_eq!(after_first(&bench.run_wg(&["show", NEW, "dump"])).len(), 0);
    Ok(())
}

/// pivpn: columns cut at any blank, so that none may hold one.
pub fn pivpn(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let script = "wg show \"$1\" dump | tail -n +2 | awk '{ print $1, $3, $4, $5, $6, $7 }'";
    let seen = bench.run_bash(script, &[TUNNEL]);
    let expected = format!(
        "{FULL} [2001:db8:b::10]:51001 0.0.0.0/0,::/0 1763815020 1184 1276\n\
         {BARE} (none) (none) 0 0 0\n"
    );
    assert_eq!(seen, expected);
    Ok(())
}

/// wg-json: bash reads the name up to a tab and the rest by blanks. A column too many lands in
/// the last variable, on which it does arithmetic. Printed as `path<TAB>value`.
const WG_JSON: &str = r#"
known=
wg show all dump | while read -r -d $'\t' name; do
    if [[ $name != "$known" ]]; then
        known=$name
        read -r private public port mark
        [[ $private = '(none)' ]] || printf '%s\n' "$name privateKey $private"
        [[ $public = '(none)' ]] || printf '%s\n' "$name publicKey $public"
        [[ $port = 0 ]] || printf '%s %u\n' "$name listenPort" $((port))
        [[ $mark = off ]] || printf '%s %u\n' "$name fwmark" $((mark))
    else
        read -r key psk endpoint ips at rx tx keep
        [[ $psk = '(none)' ]] || printf '%s\n' "$name $key presharedKey $psk"
        [[ $endpoint = '(none)' ]] || printf '%s\n' "$name $key endpoint $endpoint"
        [[ $at = 0 ]] || printf '%s %u\n' "$name $key latestHandshake" $((at))
        [[ $rx = 0 ]] || printf '%s %u\n' "$name $key transferRx" $((rx))
        [[ $tx = 0 ]] || printf '%s %u\n' "$name $key transferTx" $((tx))
        [[ $keep = off ]] || printf '%s %u\n' "$name $key persistentKeepalive" $((keep))
        [[ $ips = '(none)' ]] || printf '%s\n' "$name $key allowedIps $ips"
    fi
done
"#;

fn parse_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err} in\n{text}"))
}

/// A JSON value as the shell above prints it.
fn flatten_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(flatten_value).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The lines that wg-json would print, from our JSON without the two members that are ours.
fn lines_of(json: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, device) in json.as_object().expect("an object of devices") {
        for (member, value) in device.as_object().expect("a device") {
            match member.as_str() {
                "schema" | "bindDev" => {}
                "peers" => {
                    for (key, peer) in value.as_object().expect("an object of peers") {
                        for (member, value) in peer.as_object().expect("a peer") {
                            if value != &json!([]) {
                                lines.push(format!(
                                    "{name} {key} {member} {}",
                                    flatten_value(value)
                                ));
                            }
                        }
                    }
                }
                _ => lines.push(format!("{name} {member} {}", flatten_value(value))),
            }
        }
    }
    lines.sort();
    lines
}

pub fn wg_json(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let shell = bench.run_bash(WG_JSON, &[]);
    let mut theirs: Vec<&str> = shell.lines().collect();
    theirs.sort_unstable();
    assert!(theirs.len() > 8, "{shell}");
    let ours = stdout(
        bench
            .prepare_command("wg")
            .args(["show", "all", "json"])
            .env("WG_HIDE_KEYS", "never"),
    );
    assert_eq!(lines_of(&parse_json(&ours)), theirs);
    Ok(())
}

pub fn json_hides_keys(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let text = bench.run_wg(&["show", "all", "json"]);
    for secret in [PRIVATE, FULL_PSK] {
        assert!(!text.contains(secret), "{text}");
    }
    let json = parse_json(&text);
    assert_eq!(json[TUNNEL]["privateKey"], "(hidden)");
    assert_eq!(json[TUNNEL]["peers"][FULL]["presharedKey"], "(hidden)");
    assert_eq!(json[NEW], json!({ "schema": 1, "peers": {} }));
    let one = parse_json(&bench.run_wg(&["show", TUNNEL, "json"]));
    assert_eq!(one, json!({ TUNNEL: json[TUNNEL] }));
    Ok(())
}

/// Every member that is printed is in docs/json.md, and its example has the shape it describes.
pub fn json_documented(bench: &Bench) -> Result<(), Skip> {
    let page = include_str!("../../docs/json.md");
    let documented = |json: &Value| {
        let mut members = Vec::new();
        for device in json.as_object().expect("devices").values() {
            members.extend(device.as_object().expect("a device").keys());
            for peer in device["peers"].as_object().expect("peers").values() {
                members.extend(peer.as_object().expect("a peer").keys());
            }
            if let Some(bind) = device.get("bindDev") {
                members.extend(bind.as_object().expect("a binding").keys());
            }
        }
        for member in members {
            assert!(
                page.lines()
                    .any(|l| l.starts_with("| `") && l.contains(&format!("`{member}`"))),
                "{member} is in no table of docs/json.md"
            );
        }
    };
    let example = page
        .split("```json")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let example = parse_json(example.expect("an example"));
    assert_eq!(example[TUNNEL]["schema"], wg_vrf::render::json::SCHEMA);
    documented(&example);
    bench.serve_devices()?;
    documented(&parse_json(&bench.run_wg(&["show", "all", "json"])));
    Ok(())
}

/// OpenWrt pipes a file into syncconf and then reads endpoints with sed.
pub fn openwrt(bench: &Bench) -> Result<(), Skip> {
    let devices = bench.serve_devices()?;
    devices.sets();
    let conf = format!(
        "[Interface]\nPrivateKey={PRIVATE}\n[Peer]\nPublicKey={FULL}\nAllowedIPs=0.0.0.0/0\n"
    );
    bench.run_bash(
        "printf '%s' \"$2\" | wg syncconf \"$1\" /dev/stdin",
        &[TUNNEL, &conf],
    );
    let sets = devices.sets();
    assert_eq!(sets.len(), 1, "{sets:?}");
    assert!(
        sets[0].contains(&format!("public_key={FULL_HEX}")),
        "{}",
        sets[0]
    );
    // The other peer is not in the file.
    assert!(sets[0].contains("remove=true"), "{}", sets[0]);
    let seen = bench.run_bash(
        "wg show \"$1\" endpoints | sed -E 's/\\[?([0-9.:a-f]+)\\]?:([0-9]+)/\\1 \\2/'",
        &[TUNNEL],
    );
    assert_eq!(
        seen,
        format!("{FULL}\t2001:db8:b::10 51001\n{BARE}\t(none)\n")
    );
    Ok(())
}

/// Firewalla: dump without its first line, and changes of a single peer.
pub fn firewalla(bench: &Bench) -> Result<(), Skip> {
    let devices = bench.serve_devices()?;
    let tail = bench.run_bash("wg show \"$1\" dump | tail +2", &[TUNNEL]);
    assert_eq!(
        tail.lines()
            .map(|line| line.split('\t').count())
            .collect::<Vec<_>>(),
        [8, 8]
    );
    devices.sets();
    bench.run_wg(&[
        "set",
        TUNNEL,
        "peer",
        FULL,
        "endpoint",
        "203.0.113.10:51001",
    ]);
    bench.run_wg(&["set", TUNNEL, "peer", FULL, "allowed-ips", "10.0.0.0/8"]);
    let begin = format!("{TUNNEL}: public_key={FULL_HEX}, ");
    assert_eq!(
        devices.sets(),
        [
            format!("{begin}endpoint=203.0.113.10:51001"),
            format!("{begin}replace_allowed_ips=true, allowed_ip=10.0.0.0/8"),
        ]
    );
    Ok(())
}

/// The WireGuard addon proposed for ifupdown2 compares the keys of the file with those of
/// showconf: one that is in only one of them is reported as a difference.
pub fn ifupdown2_keys(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let shown = bench.run_wg(&["showconf", TUNNEL]);
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in shown.lines().filter(|line| !line.is_empty()) {
        match line.split_once(" = ") {
            Some((key, _)) => sections.last_mut().expect("a section").push(key),
            None => sections.push(vec![line]),
        }
    }
    sections
        .iter_mut()
        .for_each(|section| section.sort_unstable());
    assert_eq!(
        sections,
        [
            vec!["FwMark", "ListenPort", "PrivateKey", "[Interface]"],
            vec![
                "AllowedIPs",
                "Endpoint",
                "PersistentKeepalive",
                "PresharedKey",
                "PublicKey",
                "[Peer]"
            ],
            vec!["PublicKey", "[Peer]"],
        ]
    );
    Ok(())
}

/// wg-quick and others look for a name between blanks, on one line.
pub fn interfaces(bench: &Bench) -> Result<(), Skip> {
    bench.serve_devices()?;
    let text = bench.run_wg(&["show", "interfaces"]);
    assert_eq!(text.lines().count(), 1);
    let mut names: Vec<&str> = text.trim_end_matches('\n').split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, [TUNNEL, NEW]);
    assert_eq!(
        bench.run_wg(&["show", "all", "bind-dev"]).lines().count(),
        2
    );
    assert_eq!(bench.run_wg(&["show", TUNNEL, "bind-dev"]), "off\n");
    Ok(())
}
