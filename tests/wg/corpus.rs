// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The cases: calls, files and device states. What each must do is in tests/golden, recorded from
//! the reference.

use crate::tool::{Case, DIR};

/// The private key 00 01 02 … 1f, and the public keys 01 01 …, 02 02 …
pub const K: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const K1: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub const K2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
pub const K3: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

pub fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn private() -> String {
    (0..32).map(|byte: u8| format!("{byte:02x}")).collect()
}

/// A device with four peers in all kinds of states, with fixed times.
pub fn full() -> String {
    format!(
        "private_key={}\nlisten_port=51820\nfwmark=1023\n\
         public_key={}\npreshared_key={}\nendpoint=192.0.2.1:51820\n\
         last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\nrx_bytes=1023\n\
         tx_bytes=1024\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\n\
         allowed_ip=2001:db8::/32\nallowed_ip=10.0.0.1/32\nprotocol_version=1\n\
         public_key={}\nendpoint=[fe80::1%1]:51820\nlast_handshake_time_sec=1700000000\n\
         last_handshake_time_nsec=999999999\nrx_bytes=1048576\ntx_bytes=1099511627776\n\
         persistent_keepalive_interval=0\n\
         public_key={}\npreshared_key={}\nrx_bytes=0\ntx_bytes=0\nlast_handshake_time_sec=0\n\
         last_handshake_time_nsec=0\npersistent_keepalive_interval=65535\n\
         endpoint=[2001:db8::1]:1\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\n\
         public_key={}\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n\
         rx_bytes=1073741824\ntx_bytes=18446744073709551615\n\
         persistent_keepalive_interval=3661\nallowed_ip=1.2.3.4/3\nallowed_ip=::1.2.3.4/128\n\
         allowed_ip=::ffff:1.2.3.4/128\nallowed_ip=1:0:0:2::/64\nallowed_ip=::1:0/128\n",
        private(),
        hex(1),
        hex(9),
        hex(2),
        hex(3),
        "0".repeat(64),
        hex(4),
    )
}

/// Peers whose handshakes and keepalives are of all ages.
fn make_ages() -> String {
    let mut text = format!("private_key={}\nlisten_port=1\n", private());
    let day = 86400;
    for (at, age) in [
        0,
        1,
        -100,
        59,
        60,
        61,
        120,
        3599,
        3600,
        3661,
        7200,
        day - 1,
        day,
        2 * day,
        364 * day,
        365 * day - 1,
        365 * day,
        2 * 365 * day + 2 * day + 7200 + 122,
    ]
    .iter()
    .enumerate()
    {
        let key = hex(u8::try_from(at + 1).expect("few peers"));
        let keepalive = (*age).clamp(0, 65535);
        text += &format!(
            "public_key={key}\nlast_handshake_time_sec=@now{:+}@\nlast_handshake_time_nsec=0\n\
             persistent_keepalive_interval={keepalive}\n",
            -age
        );
    }
    text
}

fn make_sizes() -> String {
    let mut text = String::new();
    let sizes: [(u64, u64); 9] = [
        (0, 1),
        (1023, 1024),
        (1025, 1048575),
        (1048576, 1048577),
        (1073741823, 1073741824),
        (1099511627775, 1099511627776),
        (1536, 1572864),
        (1_000_000_000_000_000, 1_000_000_000_000_000_000),
        (1047527424, u64::MAX),
    ];
    for (at, (rx, tx)) in sizes.iter().enumerate() {
        let key = hex(u8::try_from(at + 1).expect("few peers"));
        text += &format!("public_key={key}\nrx_bytes={rx}\ntx_bytes={tx}\n");
    }
    text
}

/// Handshakes that differ only below the second, and one that is not even a second old.
fn make_ties() -> String {
    [
        (1, 100, 1),
        (2, 100, 5),
        (3, 0, 0),
        (4, 200, 0),
        (5, 0, 7),
        (6, 100, 3),
        (7, 0, 0),
        (8, 100, 5),
    ]
    .iter()
    .map(|(key, sec, nsec)| {
        format!(
            "public_key={}\nlast_handshake_time_sec={sec}\nlast_handshake_time_nsec={nsec}\n",
            hex(*key)
        )
    })
    .collect()
}

struct Group {
    name: &'static str,
    cases: Vec<Case>,
}

impl Group {
    fn new(name: &'static str) -> Self {
        Group {
            name,
            cases: Vec::new(),
        }
    }

    fn add(&mut self, args: &[&str]) -> &mut Case {
        self.cases.push(Case {
            name: format!("{}-{:03}", self.name, self.cases.len()),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Case::default()
        });
        self.cases.last_mut().expect("just added")
    }

    /// With one empty device, wg0.
    fn on_empty(&mut self, args: &[&str]) -> &mut Case {
        let case = self.add(args);
        case.devices = vec![("wg0".to_owned(), String::new(), 0)];
        case
    }

    fn done(self) -> (&'static str, Vec<Case>) {
        (self.name, self.cases)
    }
}

pub const TRUNCATED_PORT: &str = "a port above 65535 is an error";
pub const UNREAD_FILE: &str = "a file that cannot be read is an error";
pub const SECRET: &str = "a wrong secret key is not shown";
pub const LONG_NAME: &str = "a name that is too long changes nothing";
pub const NO_SETTLED_ERRNO: &str = "the error of a userspace device is shown in words";

/// Every group of cases with the name of its golden file.
pub fn groups() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        top(),
        keys(),
        show(),
        set_values(),
        set_shapes(),
        key_files(),
        files("setconf"),
        files("addconf"),
        syncconf(),
        conf_sources(),
    ]
}

fn top() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("top");
    for args in [
        &[][..],
        &["-h"],
        &["--help"],
        &["help"],
        &["-v"],
        &["--version"],
        &["version"],
        &["-V"],
        &["--"],
        &["--", "show"],
        &["-hv"],
        &["--hel"],
        &["--help=x"],
        &["bogus"],
        &["sho"],
        &["shows"],
        &["SHOW"],
        &[""],
        &["", "x"],
        &["help", "x"],
        &["help", "show"],
        &["-h", "x"],
        &["--version", "x"],
        &["show", "--help"],
        &["show", "-h"],
        &["show", "help"],
        &["show", "-h", "x"],
        &["show", "a", "b", "c"],
        &["show", "--", "dump"],
        &["show", "interfaces", "x"],
        &["show", "interfaces"],
        &["show", "all"],
        &["show", "all", "bogus"],
        &["show", "all", "dump"],
        &["showconf"],
        &["showconf", "a", "b"],
        &["showconf", "--help"],
        &["set"],
        &["set", "--help"],
        &["set", "wg0"],
        &["set", "-h", "x"],
        &["setconf"],
        &["setconf", "--help"],
        &["setconf", "a"],
        &["setconf", "a", "b", "c"],
        &["setconf", "-h", "x"],
        &["addconf"],
        &["syncconf"],
        &["syncconf", "--help"],
        &["genkey", "x"],
        &["genkey", "--help"],
        &["genpsk", "-h"],
        &["pubkey", "x"],
        &["pubkey", "--help"],
    ] {
        group.add(args);
    }
    group.done()
}

fn keys() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("keys");
    for input in [
        K.to_owned(),
        format!("{K}\n"),
        format!("{K}\r\n"),
        format!("{K} \t\x0b\x0c\n\n"),
        format!("{K}\0"),
        format!("{K}  \n\0 "),
        format!(" {K}\n"),
        format!("{K}\nx"),
        format!("{K} x"),
        format!("{K}="),
        format!("{K}x"),
        format!("{}\n", &K[..43]),
        K[..43].to_owned(),
        format!("{}==\n", &K[..42]),
        format!("{}9=\n", &K[..42]),
        format!("{}\0", &K[..43]),
        "x".repeat(44),
        "\n".to_owned(),
        String::new(),
        K1.to_owned(),
        format!("{}=", "A".repeat(43)),
        format!("{}8=", "/".repeat(42)),
    ] {
        group.add(&["pubkey"]).stdin = input;
    }
    group.done()
}

fn show() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("show");
    let fields = [
        "public-key",
        "private-key",
        "listen-port",
        "fwmark",
        "peers",
        "preshared-keys",
        "endpoints",
        "allowed-ips",
        "latest-handshakes",
        "transfer",
        "persistent-keepalive",
        "dump",
        "bogus",
        "interfaces",
        "all",
        "",
    ];
    let one = |state: &str| vec![("wg0".to_owned(), state.to_owned(), 0)];
    for (state, name) in [
        (full(), "full"),
        (String::new(), "empty"),
        (make_ties(), "ties"),
    ] {
        for field in fields {
            let case = group.add(&["show", "wg0", field]);
            case.name += &format!("-{name}-{field}");
            case.devices = one(&state);
            let case = group.add(&["show", "all", field]);
            case.name += &format!("-{name}-all-{field}");
            case.devices = one(&state);
        }
        group.add(&["showconf", "wg0"]).devices = one(&state);
    }
    // Without absolute times, these can be compared on any day.
    let mut states = vec![String::new(), make_ages(), make_sizes()];
    let timeless: Vec<String> = full()
        .lines()
        .filter(|line| !line.starts_with("last_handshake"))
        .map(|line| format!("{line}\n"))
        .collect();
    states.push(timeless.concat());
    states.push(format!(
        "listen_port=1\npublic_key={}\nrx_bytes=1\n",
        hex(1)
    ));
    states.push("fwmark=5\n".to_owned());
    states.push("listen_port=5\nfwmark=0\n".to_owned());
    for state in &states {
        for args in [
            &["show", "wg0"][..],
            &["show"],
            &["show", "all"],
            &[],
            &["show", "interfaces"],
            &["showconf", "wg0"],
        ] {
            // Times in a state come out of `showconf` in no way.
            group.add(args).devices = one(state);
        }
        for (name, value) in [
            ("WG_HIDE_KEYS", "never"),
            ("WG_HIDE_KEYS", "always"),
            ("WG_HIDE_KEYS", ""),
            ("WG_COLOR_MODE", "always"),
            ("WG_COLOR_MODE", "never"),
            ("WG_COLOR_MODE", "auto"),
            ("WG_COLOR_MODE", "ALWAYS"),
        ] {
            let case = group.add(&["show", "wg0"]);
            case.devices = one(state);
            case.env = vec![(name.to_owned(), value.to_owned())];
        }
    }
    // Several devices, some of which fail. Their order is the directory's, so there is one
    // that works at most.
    let broken = ("wg7".to_owned(), String::new(), 1);
    let missing = ("wg8".to_owned(), String::new(), 2);
    for args in [
        &["show"][..],
        &["show", "all"],
        &["show", "all", "dump"],
        &["show", "all", "peers"],
        &["show", "wg7"],
        &["show", "wg7", "dump"],
        &["show", "wg7", "bogus"],
        &["showconf", "wg7"],
    ] {
        group.add(args).devices = vec![broken.clone()];
        group.add(args).devices = vec![broken.clone(), ("wg0".to_owned(), full(), 0)]
            .into_iter()
            .map(|(name, state, errno)| {
                let timeless = state.replace("=1700000000", "=0");
                (
                    name,
                    timeless
                        .replace("nsec=999999999", "nsec=0")
                        .replace("nsec=5", "nsec=0"),
                    errno,
                )
            })
            .collect();
    }
    group.add(&["show", "all", "bogus"]).devices = vec![missing.clone()];
    group.add(&["show", "interfaces"]).devices = vec![missing];
    for state in [
        "garbage\n",
        "listen_port=99999\n",
        "foo=bar\n",
        "listen_port=\n",
        "=\n",
    ] {
        group.add(&["show", "wg0", "listen-port"]).devices = one(state);
    }
    group.done()
}

/// Every keyword of `wg set` with good and bad values.
fn set_values() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("set-values");
    for value in [
        "0",
        "1",
        "65535",
        "domain",
        "tftp",
        "http",
        "ssh",
        "nosuchservice",
        "-1",
        "+5",
        "0x10",
        "010",
        " 7",
        "7 ",
        "\t7",
        "",
        "99999999999999999999",
        "4294967295",
        "1.5",
        "1a",
        "-0",
        "+",
        "-",
        "+-5",
        "DOMAIN",
    ] {
        group.on_empty(&["set", "wg0", "listen-port", value]);
    }
    for value in ["65536", "131072", "2147483647", "4294967301", "-4294967291"] {
        group
            .on_empty(&["set", "wg0", "listen-port", value])
            .differs = Some(TRUNCATED_PORT);
    }
    for value in [
        "0",
        "off",
        "OFF",
        "oFf",
        "1",
        "0x10",
        "0X10",
        "0xffffffff",
        "4294967295",
        "4294967296",
        "0x100000000",
        "-1",
        "010",
        "08",
        "",
        "0x",
        "abc",
        "0xg",
        " 1",
        "1 ",
        "off ",
        "0b1",
        "+1",
        "99999999999999999999999",
        "0x-1",
        "0x0x1",
        "0x00000000000000000000001",
        "0x1 ",
        "0x 1",
        "00x1",
        "1e3",
        "0xFFFFFFFF",
        "0x+1",
        "000000000000000000000000000001",
    ] {
        group.on_empty(&["set", "wg0", "fwmark", value]);
    }
    for value in [
        "0",
        "off",
        "OFF",
        "Off",
        "1",
        "65535",
        "65536",
        "-1",
        "0x10",
        "010",
        "",
        " 1",
        "1 ",
        "a",
        "+1",
        "99999999999999999999",
        "of",
        "offf",
        "00000000000000000000000005",
    ] {
        group.on_empty(&["set", "wg0", "peer", K, "persistent-keepalive", value]);
    }
    for value in [
        "1.2.3.4:5",
        "1.2.3.4",
        "[::1]:5",
        "::1:5",
        "[::1]",
        "[fe80::1%lo]:5",
        "[fe80::1%1]:5",
        "[fe80::1%nope]:5",
        "[fe80::1%77]:5",
        "fe80::1%1:5",
        "[fe80::1%lo%lo]:5",
        "[2001:db8::1%lo]:5",
        "[2001:db8::1%3]:5",
        "[ff02::1%lo]:5",
        "[ff05::1%1]:5",
        "1.2.3.4:http",
        "1.2.3.4:tftp",
        "1.2.3.4:0",
        "1.2.3.4:",
        ":5",
        "",
        "[]:5",
        "[::1]5",
        "[::1]:",
        "localhost:5",
        "[1.2.3.4]:5",
        "[localhost]:5",
        "1.2.3:5",
        "0x7f.1:5",
        "127.1:5",
        "1.2.3.4: 5",
        "1.2.3.4:5 ",
        " 1.2.3.4:5",
        "1.2.3.4:+5",
        "1.2.3.4:-5",
        "[::1",
        "a:b:5",
        "[::ffff:1.2.3.4]:5",
        "[::1.2.3.4]:5",
        "[::1:0]:5",
        "1.2.3.4:nosuch",
        "[::1]:5x",
        "[::1]]:5",
        "1.2.3.4:0x10",
        "1.2.3.4:010",
        "::5",
        "(none)",
        "[a]b:5",
        "[:5",
        "]:5",
        ":",
        "::",
        "[[::1]]:5",
        "[",
        "]",
        "[]",
        "a",
        "x:y:",
        "256.1.1.1:5",
        "1.2.3.4.5:5",
        "a..b:5",
        "ip6-localhost:5",
        "1.2.3.4:4294967295",
        "1.2.3.4:99999999999999999999",
        "[1:2:3:4:5:6:7:8]:9",
        "4294967295:5",
        "1:5",
        "0:0",
    ] {
        group.on_empty(&["set", "wg0", "peer", K, "endpoint", value]);
    }
    for value in ["1.2.3.4:65536", "1.2.3.4:99999", "[::1]:131077"] {
        group
            .on_empty(&["set", "wg0", "peer", K, "endpoint", value])
            .differs = Some(TRUNCATED_PORT);
    }
    for value in [
        "10.0.0.0/8",
        "10.0.0.1/8",
        "10.0.0.1",
        "::/0",
        "::1",
        "2001:db8::1/32",
        "",
        " ",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/a",
        "::/129",
        "::/128",
        "10.0.0.0/8,",
        "10.0.0.0/8,,11.0.0.0/8",
        ",",
        "10.0.0.0/8, 11.0.0.0/8",
        " 10.0.0.0/8",
        "10.0.0.0/8 ",
        "10.0.0.0/8 11.0.0.0/8",
        "+10.0.0.0/8",
        "-10.0.0.0/8",
        "+10.0.0.0/8,10.1.0.0/16",
        "10.1.0.0/16,+10.0.0.0/8",
        "-10.0.0.0/8,+::/0",
        "+",
        "-",
        "+,",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "10/8",
        "010.0.0.0/8",
        "00.0.0.0/8",
        "10.0.0.0/8/8",
        "fe80::1%lo/64",
        "10.0.0.0/8\t,\n11.0.0.0/8",
        "::ffff:1.2.3.4/100",
        "::ffff:1.2.3.4",
        "::1.2.3.4",
        "1.2.3.4/0",
        "+ 10.0.0.0/8",
        "++10.0.0.0/8",
        "+-1.0.0.0/8",
        "+10.0.0.0/33",
        "-10.0.0.1/8",
        "host/8",
        "host/40",
        "10.0.0.0/256",
        "10.0.0.0/4294967304",
        "10.0.0.0/18446744073709551624",
        "/8",
        "/",
        "(none)",
        "10.0.0.0/0x8",
        "10.0.0.0 /8",
        "10.0.0.0/ 8",
        "1.2.3.4/8,2.3.4.5/40",
        "1.2.3.4/40,host/2",
        "1.2.3.4/00000000000000000000008",
        " + 1.0.0.0/8 , - 2.0.0.0/8",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7::",
        "::1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8::",
        "::0001",
        "::00001",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3",
        "::1.2.3.4.5",
        "::g",
        "1:2",
        ":1",
        "1:",
        "::1:",
        "0:0:0:0:0:0:0:0",
        "2001:DB8::/32",
        "1.2.3.4,",
        "-1.2.3.4,-1.2.3.4",
        "0.0.0.0/0",
        "255.255.255.255/31",
        "::/1",
        "8000::/1",
        "8000::/0",
        "1.2.3.4/32,1.2.3.4/32",
    ] {
        group.on_empty(&["set", "wg0", "peer", K, "allowed-ips", value]);
    }
    let cased = K.to_lowercase();
    let short = K[..43].to_owned();
    let spaced = format!(" {K}");
    let tailed = format!("{K}x");
    let last = format!("{}9=", &K[..42]);
    for value in [
        "", "x", &cased, &short, &spaced, &tailed, &last, K1, "remove",
    ] {
        group.on_empty(&["set", "wg0", "peer", value]);
    }
    group.done()
}

/// Arguments of `wg set` in all orders and combinations.
fn set_shapes() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("set-shapes");
    let null = "/dev/null";
    for args in [
        &["peer"][..],
        &["peer", K],
        &["peer", K, "remove"],
        &["peer", K, "remove", "remove"],
        &["peer", K, "remove", "x"],
        &["peer", K, "remove", "listen-port", "1"],
        &["peer", K, "peer"],
        &["peer", K, "peer", K1],
        &["peer", K, "peer", K],
        &["peer", K, "remove", "peer", K],
        &["remove"],
        &["endpoint", "1.2.3.4:5"],
        &["allowed-ips", "10.0.0.0/8"],
        &["preshared-key", null],
        &["persistent-keepalive", "5"],
        &["peer", K, "listen-port", "5"],
        &["peer", K, "fwmark", "5"],
        &["peer", K, "private-key", null],
        &["bogus"],
        &["bogus", "x"],
        &["listen-port"],
        &["fwmark"],
        &["private-key"],
        &["peer", K, "endpoint"],
        &["peer", K, "allowed-ips"],
        &["peer", K, "preshared-key"],
        &["peer", K, "persistent-keepalive"],
        &["LISTEN-PORT", "5"],
        &["Peer", K],
        &["listen-port", "1", "listen-port", "2"],
        &["fwmark", "1", "fwmark", "0"],
        &[""],
        &["listen-port", "1", ""],
        &["listen-port", "1", "fwmark"],
        &["fwmark", "1", "bogus"],
        &["listen-port", "fwmark", "5"],
        &[
            "peer",
            K,
            "remove",
            "endpoint",
            "1.2.3.4:5",
            "allowed-ips",
            "1.2.3.4",
        ],
        &[
            "peer",
            K,
            "allowed-ips",
            "1.2.3.4",
            "allowed-ips",
            "5.6.7.8",
        ],
        &[
            "peer",
            K,
            "allowed-ips",
            "+1.2.3.4",
            "allowed-ips",
            "5.6.7.8",
        ],
        &[
            "peer",
            K,
            "allowed-ips",
            "1.2.3.4",
            "allowed-ips",
            "+5.6.7.8",
        ],
        &["peer", K, "allowed-ips", "", "allowed-ips", "+5.6.7.8"],
        &["peer", K, "allowed-ips", "+5.6.7.8", "allowed-ips", ""],
        &["peer", K, "endpoint", "1.2.3.4:5", "endpoint", "[::1]:6"],
        &[
            "peer",
            K,
            "persistent-keepalive",
            "5",
            "persistent-keepalive",
            "off",
        ],
        &[
            "listen-port",
            "1",
            "fwmark",
            "2",
            "private-key",
            null,
            "peer",
            K1,
            "preshared-key",
            null,
            "endpoint",
            "1.2.3.4:5",
            "persistent-keepalive",
            "7",
            "allowed-ips",
            "10.0.0.0/8,::/0",
            "peer",
            K2,
            "remove",
            "peer",
            K3,
            "allowed-ips",
            "1.1.1.1",
        ],
        // The first error is reported, also where it takes the longest to find.
        &["listen-port", "x", "fwmark", "y"],
        &["fwmark", "x", "listen-port"],
        &["private-key", "/nonexistent", "fwmark", "x"],
        &["fwmark", "x", "private-key", "/nonexistent"],
        &["listen-port", "x", "private-key", "/nonexistent"],
        &["peer", K, "endpoint", "[fe80::1%nope]:5", "bogus"],
        &["peer", K, "endpoint", "a:b:5", "peer", "x"],
        &["peer", K, "preshared-key", "/nonexistent", "endpoint", "x"],
        &["peer", K, "allowed-ips", "1.2.3.4/8", "bogus"],
        &[
            "peer",
            K,
            "endpoint",
            "1.2.3.4:5",
            "allowed-ips",
            "1.2.3.4/8",
            "peer",
            "x",
        ],
    ] {
        let mut all = vec!["set", "wg0"];
        all.extend(args);
        group.on_empty(&all);
    }
    for value in [
        "foo",
        "+1",
        "4294967295",
        "2147483647",
        "2147483648",
        "1 ",
        "0x1",
        "",
        "-0",
        "-1",
        "Infinity",
        " 1",
        "infinity ",
    ] {
        for endpoint in ["1.2.3.4:5", "1.2.3.4", "", "[::1"] {
            group
                .on_empty(&["set", "wg0", "peer", K, "endpoint", endpoint])
                .env = vec![(
                "WG_ENDPOINT_RESOLUTION_RETRIES".to_owned(),
                value.to_owned(),
            )];
        }
    }
    group.on_empty(&["set", "wg0", "listen-port", "5"]).env = vec![(
        "WG_ENDPOINT_RESOLUTION_RETRIES".to_owned(),
        "foo".to_owned(),
    )];
    // Devices that are not there, and one that says no.
    for args in [
        &["set", "nope", "listen-port", "1"][..],
        &["set", "", "listen-port", "1"],
        &["set", "nope", "bogus"],
        &["showconf", "nope"],
        &["show", "nope"],
        &["show", "nope", "dump"],
        &["show", "nope", "bogus"],
        &["show", "a/b"],
        &["show", "../x"],
        &["show", ""],
        &["showconf", "all"],
    ] {
        group.add(args);
    }
    let case = group.add(&["set", "wg0", "fwmark", "1"]);
    case.devices = vec![("wg0".to_owned(), String::new(), 1)];
    case.differs = Some(NO_SETTLED_ERRNO);
    // The kernel has no longer names than the device of this one.
    let case = group.add(&["set", "longname-012345x", "fwmark", "1"]);
    case.devices = vec![("longname-012345".to_owned(), String::new(), 0)];
    case.differs = Some(LONG_NAME);
    for args in [
        &["set", "wg0", K][..],
        &["set", "wg0", "peer", K1, K],
        &["set", "wg0", "peer", K1, "allowed-ips", K],
    ] {
        group.on_empty(args).differs = Some(SECRET);
    }
    group.done()
}

fn key_files() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("key-files");
    let path = format!("{DIR}/key");
    for (content, secret) in [
        (format!("{K}\n"), false),
        (K.to_owned(), false),
        (String::new(), false),
        ("\n".to_owned(), false),
        ("garbage\n".to_owned(), false),
        (format!("{K} x\n"), false),
        (format!("\n{K}\n"), false),
        (format!("{K}\n\n"), false),
        (format!("{K}\r\n"), false),
        (format!("{K}\t\x0b\x0c"), false),
        (format!("{K}\0"), false),
        (K[..43].to_owned(), false),
        ("x".repeat(44), true),
        (format!("{}A", &K[..43]), true),
        (format!(" {}", &K[..43]), true),
        ("\n".repeat(44), true),
        (format!("{}=", "A".repeat(43)), false),
    ] {
        for args in [
            &["set", "wg0", "private-key", &path][..],
            &["set", "wg0", "peer", K1, "preshared-key", &path],
        ] {
            let case = group.on_empty(args);
            case.files = vec![("key".to_owned(), content.clone().into_bytes())];
            case.differs = secret.then_some(SECRET);
        }
    }
    for path in ["/dev/null", "/nonexistent", "", "/", "/dev/zero"] {
        group.on_empty(&["set", "wg0", "private-key", path]);
    }
    for input in [
        K.to_owned(),
        format!("{K}\n"),
        String::new(),
        "x".to_owned(),
    ] {
        group
            .on_empty(&["set", "wg0", "private-key", "/dev/stdin"])
            .stdin = input;
    }
    group.on_empty(&["set", "wg0", "private-key", K]);
    group.on_empty(&["set", "wg0", "peer", K1, "preshared-key", K]);
    group.done()
}

/// Texts of configuration files, good and bad.
pub fn list_texts() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let i = "[Interface]\n";
    let p = format!("[Peer]\nPublicKey = {K}\n");
    let p2 = format!("[Peer]\nPublicKey = {K2}\n");
    let mut texts: Vec<(Vec<u8>, Option<&'static str>)> = Vec::new();
    for text in [
        "",
        "\n\n",
        "# c\n",
        i,
        "[interface]\n",
        "[INTERFACE]",
        "  [Interface]  \n",
        "[ Interface ]\n",
        "[Inter face]\n",
        "[Interface",
        "Interface]\n",
        "[Foo]\n",
        "ListenPort = 1\n",
        "[Interface]#c\n",
        "[Interface] x\n",
        "x [Interface]\n",
        "[Peer]Foo\n",
        "[Peer]\n",
        "[Peer]\n[Peer]\n",
        "[Peer]\n[Interface]\n",
        "[Peer]\n[Peer]\nfoo\n",
        "[Peer]\nEndpoint=1.2.3.4:5\n",
        "[Peer]\nEndpoint=1.2.3.4\n",
        "[Peer]\nPublicKey = x\n",
        "[Peer]\nPublicKey =\n",
        "x\nx\n",
        "[Inter\0face]\n",
        "\0",
        "[Interface]\0x\n",
        "\u{feff}[Interface]\n",
        "[Interface]\r\nListenPort = 5\r\n",
        "\r[Interface]\rListenPort = 5\r",
    ] {
        texts.push((text.as_bytes().to_vec(), None));
    }
    for line in [
        "ListenPort=1",
        "listenport = 1",
        " Listen Port = 1",
        "ListenPort : 1",
        "ListenPort 1",
        "ListenPort =",
        "ListenPort = ",
        "ListenPort == 1",
        "ListenPort = 1 # c",
        "ListenPort = 1#c",
        "#ListenPort = 1",
        "ListenPort = 1 ; c",
        "; c",
        "ListenPort = 1\nListenPort = 2",
        "ListenPort = 1\0\nFwMark=1",
        "ListenPort = 1\x002",
        "ListenPort\0 = 2",
        "ListenPort=\x005",
        "\0ListenPort=5",
        "ListenPort=5\0#\n#x\0\nFwMark=3",
        "FwMark = off",
        "FwMark = 0x5",
        "FwMark = 0",
        "FwMark=",
        "FwMark = 0xg",
        "Address = 1.2.3.4",
        "Foo",
        "=",
        "= 1",
        "ListenPort = 1\n[Interface]\nFwMark=1",
        "ListenPort=1 FwMark=1",
        "[Peer",
        "ListenPort = 5\\",
        "ListenPort = [Interface]",
        "\x0bListenPort = 5",
        "L i s t e n P o r t = 5",
        "ListenPort = 5 5",
        "ListenPort = http",
        "ListenPort = tftp",
        "Jc = 1",
        "\tListenPort\t=\t5\t",
        "ListenPortx = 5",
        "xListenPort = 5",
        "ListenPort = 1 = 2",
        "PublicKey = x",
        "Endpoint = 1.2.3.4:5",
        "PreSharedKey = x",
        "AllowedIPs = ::/0",
        "Remove = 1",
        "peer = x",
    ] {
        texts.push((
            format!("{i}{line}\n").into_bytes(),
            line.starts_with("PreSharedKey").then_some(SECRET),
        ));
    }
    texts.push((
        format!("{i}ListenPort = 65536\n").into_bytes(),
        Some(TRUNCATED_PORT),
    ));
    texts.push((format!("{i}PrivateKey = {K}\n").into_bytes(), None));
    texts.push((
        format!("{i}PrivateKey = {} {}\n", &K[..10], &K[10..]).into_bytes(),
        None,
    ));
    texts.push((format!("{i}PrivateKey = {K}\0aa\n").into_bytes(), None));
    texts.push((format!("{i}PrivateKey = \n").into_bytes(), None));
    for value in ["x", "(none)", &format!("{K} x"), "/dev/null"] {
        texts.push((
            format!("{i}PrivateKey = {value}\n").into_bytes(),
            Some(SECRET),
        ));
        texts.push((
            format!("{p}PresharedKey = {value}\n").into_bytes(),
            Some(SECRET),
        ));
    }
    texts.push((format!("{i}PublicKey = {K}\n").into_bytes(), None));
    for line in [
        "",
        "Endpoint = 1.2.3.4:5\nEndpoint=[::1]:6",
        "Endpoint=",
        "Endpoint=1.2.3.4",
        "Endpoint = [::1] : 5",
        "Endpoint = local host:5",
        "AllowedIPs = 10.0.0.0/8, 11.0.0.0/8\nAllowedIPs = ::/0",
        "AllowedIPs =",
        "AllowedIPs = 10.0.0.1/8",
        "AllowedIPs = +10.0.0.0/8",
        "AllowedIPs = -10.0.0.0/8,::/0",
        "AllowedIPs = 10.0.0.0/8,",
        "AllowedIPs = 10.0.0.0/8 # foo",
        "AllowedIPs = 10/8",
        "AllowedIPs = 10.0.0.0/8\nAllowedIPs = +11.0.0.0/8",
        "AllowedIPs = +11.0.0.0/8\nAllowedIPs = 10.0.0.0/8",
        "AllowedIPs = 10.0.0.0/40",
        "PresharedKey = ",
        "PersistentKeepalive = 25",
        "PersistentKeepalive = off",
        "PersistentKeepalive = 0",
        "PersistentKeepalive = 70000",
        "PersistentKeepalive = ",
        "ListenPort = 5",
        "Foo = x",
        "remove = x",
        "Remove",
        "AdvancedSecurity = on",
        "PublicKey = x",
        "peer = x",
        "persistent-keepalive = 5",
        "allowedips=1.2.3.4",
    ] {
        texts.push((format!("{p}{line}\n").into_bytes(), None));
    }
    texts.push((format!("{p}PrivateKey = x\n").into_bytes(), Some(SECRET)));
    texts.push((format!("{p}PresharedKey = {K2}\n").into_bytes(), None));
    texts.push((format!("{p}{p}").into_bytes(), None));
    texts.push((format!("{p}PublicKey = {K2}\n").into_bytes(), None));
    texts.push((
        format!("[Peer]\nEndpoint=1.2.3.4:5\nPublicKey={K}\n").into_bytes(),
        None,
    ));
    texts.push((
        format!("{i}ListenPort=5\n{p}Endpoint=1.2.3.4:5\n{p2}AllowedIPs=::/0\n{i}FwMark=3\n")
            .into_bytes(),
        None,
    ));
    texts.push((format!("{p}{i}ListenPort=5\n").into_bytes(), None));
    texts.push((format!("{p}[Peer]\n{i}ListenPort=x\n").into_bytes(), None));
    texts.push((
        format!("{i}FwMark = 1{}\n", " ".repeat(5000)).into_bytes(),
        None,
    ));
    texts.push(("a".repeat(5000).into_bytes(), Some(SECRET)));
    texts.push((
        b"[Interface]\n# \xff\xfe\nListenPort = 5 # \x80\n".to_vec(),
        None,
    ));
    // Secrets in places where none is meant to be.
    for line in [
        format!("{i}PrivatKey = {K}\n"),
        format!("{i}PrivateKey: {K}\n"),
        format!("{p}PresharedKey {K}\n"),
        format!("{p}PSK = {K}\n"),
        format!("{p}AllowedIPs = {K}\n"),
        format!("{p}PersistentKeepalive = {K}\n"),
        format!("{i}FwMark = {K}\n"),
    ] {
        texts.push((line.into_bytes(), Some(SECRET)));
    }
    texts.push((format!("{i}PublicKey = {K}\n").into_bytes(), None));
    texts
}

fn files(verb: &'static str) -> (&'static str, Vec<Case>) {
    let mut group = Group::new(verb);
    let path = format!("{DIR}/conf");
    for (text, differs) in list_texts() {
        let case = group.on_empty(&[verb, "wg0", &path]);
        case.files = vec![("conf".to_owned(), text)];
        case.differs = differs;
    }
    group.done()
}

fn syncconf() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("syncconf");
    let path = format!("{DIR}/conf");
    let peer = |byte: u8, lines: &[&str]| {
        use base64::Engine as _;
        let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        let mut text = format!("[Peer]\nPublicKey={key}\n");
        for line in lines {
            text += line;
            text += "\n";
        }
        text
    };
    let psk = format!("PresharedKey={K3}");
    let zero = format!("PresharedKey={}=", "A".repeat(43));
    let i = format!("[Interface]\nPrivateKey={K}\nListenPort=51820\nFwMark=0x3ff\n");
    let device = format!(
        "private_key={}\nlisten_port=51820\nfwmark=1023\n\
         public_key={}\npreshared_key={}\nendpoint=192.0.2.1:51820\n\
         persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=2001:db8::/32\n\
         public_key={}\npreshared_key={}\nendpoint=192.0.2.2:51820\nallowed_ip=11.0.0.0/8\n\
         public_key={}\nallowed_ip=12.0.0.0/8\npersistent_keepalive_interval=5\n",
        private(),
        hex(1),
        hex(9),
        hex(2),
        "0".repeat(64),
        hex(3)
    );
    for peers in [
        vec![],
        vec![peer(1, &[])],
        vec![peer(1, &[]), peer(2, &[]), peer(3, &[])],
        vec![peer(3, &[]), peer(2, &[]), peer(1, &[])],
        vec![peer(4, &[]), peer(1, &["AllowedIPs=10.0.0.0/8"])],
        vec![peer(1, &[&psk])],
        vec![peer(2, &[&psk])],
        vec![peer(1, &[&zero])],
        vec![peer(
            1,
            &[
                "Endpoint=192.0.2.1:51820",
                "AllowedIPs=10.0.0.0/8,2001:db8::/32",
                "PersistentKeepalive=25",
                &psk,
            ],
        )],
        vec![peer(1, &["Endpoint=192.0.2.9:51820"])],
        vec![peer(1, &["AllowedIPs=+13.0.0.0/8"])],
        vec![peer(1, &["AllowedIPs=-10.0.0.0/8"])],
        vec![peer(5, &["AllowedIPs=-10.0.0.0/8"])],
        vec![peer(1, &[]), peer(1, &[])],
        vec![peer(1, &[]), peer(1, &[&psk])],
        vec![peer(1, &[&psk]), peer(1, &[])],
        vec![
            peer(1, &["AllowedIPs=10.0.0.0/8"]),
            peer(1, &["AllowedIPs=11.0.0.0/8"]),
        ],
        vec![
            peer(2, &["AllowedIPs=10.0.0.0/8"]),
            peer(1, &[]),
            peer(3, &["AllowedIPs=11.0.0.0/8"]),
        ],
        vec![peer(9, &["Endpoint=1.2.3.4:5"])],
        vec![peer(1, &["PersistentKeepalive=off"])],
        vec![
            peer(3, &["PersistentKeepalive=0"]),
            peer(9, &["PersistentKeepalive=0"]),
        ],
        vec![peer(1, &["AllowedIPs=10.0.0.5/8"])],
        vec![
            peer(2, &[]),
            peer(4, &[]),
            peer(2, &["AllowedIPs=1.0.0.0/8"]),
        ],
        vec![
            peer(3, &[]),
            peer(4, &[]),
            peer(3, &["AllowedIPs=1.0.0.0/8"]),
        ],
        vec!["[Peer]\n".to_owned()],
        vec!["x\n".to_owned()],
    ] {
        for head in [i.as_str(), ""] {
            for state in [device.as_str(), ""] {
                let case = group.add(&["syncconf", "wg0", &path]);
                case.devices = vec![("wg0".to_owned(), state.to_owned(), 0)];
                case.files = vec![(
                    "conf".to_owned(),
                    format!("{head}{}", peers.concat()).into_bytes(),
                )];
            }
        }
    }
    group.done()
}

/// Where a configuration may come from, and who may not be there.
fn conf_sources() -> (&'static str, Vec<Case>) {
    let mut group = Group::new("conf-sources");
    let path = format!("{DIR}/conf");
    let text = format!("[Interface]\nListenPort=8\n[Peer]\nPublicKey={K}\n");
    for verb in ["setconf", "addconf", "syncconf"] {
        for path in ["/nonexistent", "/dev/null", ""] {
            group.on_empty(&[verb, "wg0", path]);
        }
        group.on_empty(&[verb, "wg0", "/"]).differs = Some(UNREAD_FILE);
        group.on_empty(&[verb, "wg0", "/dev/stdin"]).stdin = text.clone();
        for name in ["nope", ""] {
            group.add(&[verb, name, "/dev/null"]);
            group.add(&[verb, name, "/nonexistent"]);
            group.add(&[verb, name, &path]).files =
                vec![("conf".to_owned(), text.clone().into_bytes())];
        }
        let case = group.add(&[verb, "wg0", &path]);
        case.files = vec![("conf".to_owned(), text.clone().into_bytes())];
        case.devices = vec![("wg0".to_owned(), String::new(), 1)];
        case.differs = (verb != "syncconf").then_some(NO_SETTLED_ERRNO);
    }
    group.done()
}
