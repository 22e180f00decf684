// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Names of endpoints: what is tried again, how often, and all at the same time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Test;
use crate::corpus::{K, K1, K2, K3, hex};
use crate::dns::Server;
use crate::sandbox;
use crate::tool::{self, Case, DIR, Outcome};
use crate::uapi::Device;

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "names::answers",
            run: answers,
        },
        Test {
            name: "names::retries",
            run: retries,
        },
        Test {
            name: "names::thousand_at_once",
            run: thousand_at_once,
        },
        Test {
            name: "names::dead_name_holds_nobody_up",
            run: dead_name_holds_nobody_up,
        },
        Test {
            name: "names::unknown_name_of_a_bound_device",
            run: unknown_name_of_a_bound_device,
        },
        Test {
            name: "names::reresolve",
            run: reresolve,
        },
        Test {
            name: "names::interface_of_bytes",
            run: interface_of_bytes,
        },
        Test {
            name: "names::interface_with_escapes",
            run: interface_with_escapes,
        },
        Test {
            name: "names::first_error_is_reported",
            run: first_error_is_reported,
        },
    ]
}

fn set_endpoint(name: &str, retries: &str) -> Outcome {
    let case = Case {
        args: ["set", "wg0", "peer", K, "endpoint", name]
            .map(str::to_owned)
            .to_vec(),
        env: vec![(
            "WG_ENDPOINT_RESOLUTION_RETRIES".to_owned(),
            retries.to_owned(),
        )],
        devices: vec![("wg0".to_owned(), String::new(), 0)],
        ..Case::default()
    };
    tool::run(&tool::ours(), &case)
}

fn setconf(text: String, retries: &str) -> Outcome {
    let case = Case {
        args: vec![
            "setconf".to_owned(),
            "wg0".to_owned(),
            format!("{DIR}/conf"),
        ],
        env: vec![(
            "WG_ENDPOINT_RESOLUTION_RETRIES".to_owned(),
            retries.to_owned(),
        )],
        files: vec![("conf".to_owned(), text.into_bytes())],
        devices: vec![("wg0".to_owned(), String::new(), 0)],
        ..Case::default()
    };
    tool::run(&tool::ours(), &case)
}

/// Words, exit codes and addresses as the reference gave them for the same name server.
fn answers() -> Result<(), String> {
    sandbox::check_needed()?;
    Server::get();
    for (name, address) in [
        ("ok.test:51820", "192.0.2.7:51820"),
        ("six.test:51820", "[2001:db8::7]:51820"),
        ("[ok.test]:1", "192.0.2.7:1"),
    ] {
        let outcome = set_endpoint(name, "2");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(
            outcome.sets[0].contains(&format!("\nendpoint={address}\n")),
            "{outcome:?}"
        );
        assert_eq!(outcome.stderr, "");
    }
    for (name, words) in [
        ("nx.test:1", "Name or service not known: `nx.test:1'\n"),
        (
            "nodata.test:1",
            "No address associated with hostname: `nodata.test:1'\n",
        ),
        ("a..b:1", "Name or service not known: `a..b:1'\n"),
    ] {
        let outcome = set_endpoint(name, "infinity");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), words));
        assert!(outcome.sets.is_empty());
    }
    Ok(())
}

fn retries() -> Result<(), String> {
    sandbox::check_needed()?;
    let server = Server::get();
    let line = |name: &str| format!("Temporary failure in name resolution: `{name}:1'");
    let again =
        |name: &str, pause: &str| format!("{}. Trying again in {pause} seconds...\n", line(name));

    let outcome = set_endpoint("fail0.test:1", "0");
    assert_eq!(outcome.stderr, format!("{}\n", line("fail0.test")));
    assert_eq!(
        (outcome.code, server.count_asked("fail0.test")),
        (Some(1), 1)
    );

    for name in ["fail2.test", "refused.test"] {
        let outcome = set_endpoint(&format!("{name}:1"), "2");
        let words = [
            again(name, "1.00"),
            again(name, "1.20"),
            line(name),
            "\n".to_owned(),
        ];
        assert_eq!(outcome.stderr, words.concat());
        assert_eq!((outcome.code, server.count_asked(name)), (Some(1), 3));
    }

    let outcome = set_endpoint("flaky.test:1", "2");
    let words = [again("flaky.test", "1.00"), again("flaky.test", "1.20")].concat();
    assert_eq!((outcome.code, outcome.stderr), (Some(0), words));
    assert!(outcome.sets[0].contains("\nendpoint=192.0.2.7:1\n"));
    Ok(())
}

fn peers(names: impl IntoIterator<Item = String>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for (at, name) in names.into_iter().enumerate() {
        let mut key = [1u8; 32];
        key[..8].copy_from_slice(&at.to_be_bytes());
        let key = base64::engine::general_purpose::STANDARD.encode(key);
        text += &format!(
            "[Peer]\nPublicKey = {key}\nEndpoint = {name}:{}\n",
            at % 60000 + 1
        );
    }
    text
}

/// 1000 names of 100 ms each: 100 s one after the other.
fn thousand_at_once() -> Result<(), String> {
    sandbox::check_needed()?;
    Server::get();
    let start = Instant::now();
    let outcome = setconf(peers((0..1000).map(|at| format!("slow{at}.test"))), "3");
    let took = start.elapsed();
    // On a busy machine a packet may get lost, and its name be tried again.
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for port in [1, 500, 1000] {
        assert!(outcome.sets[0].contains(&format!("\nendpoint=192.0.2.7:{port}\n")));
    }
    // A second, on a machine that does nothing else; one after the other would take 100.
    assert!(took < Duration::from_secs(40), "took {took:?}");
    Ok(())
}

fn dead_name_holds_nobody_up() -> Result<(), String> {
    sandbox::check_needed()?;
    let server = Server::get();
    let outcome = setconf(peers(["fail9.test", "ok9.test"].map(str::to_owned)), "1");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.sets.is_empty());
    assert_eq!(
        (
            server.count_asked("fail9.test"),
            server.count_asked("ok9.test")
        ),
        (2, 1)
    );
    Ok(())
}

/// The reference resolves while it parses, so a bad name comes before a bad line after it.
fn first_error_is_reported() -> Result<(), String> {
    sandbox::check_needed()?;
    Server::get();
    let outcome = setconf(
        peers(["nx8.test", "fail8.test"].map(str::to_owned)) + "Foo = 1\n",
        "3",
    );
    // The other name may have said meanwhile that it is tried again.
    let words = "Name or service not known: `nx8.test:1'\nConfiguration parsing error\n";
    assert!(outcome.stderr.ends_with(words), "{}", outcome.stderr);
    assert_eq!(outcome.code, Some(1));
    Ok(())
}

/// The name server that knows the name may be in the VRF.
fn unknown_name_of_a_bound_device() -> Result<(), String> {
    sandbox::check_needed()?;
    Server::get();
    let peer = format!("[Peer]\nPublicKey = {K}\nEndpoint = nosuch.test:1\n");
    let bound = setconf(format!("[Interface]\nBindDev = vrf_external\n{peer}"), "0");
    assert_eq!(bound.code, Some(1));
    assert!(
        bound.stderr.contains("`ip vrf exec vrf_external wg ...'"),
        "{}",
        bound.stderr
    );
    let free = setconf(peer, "0");
    assert_eq!(free.code, Some(1));
    assert!(!free.stderr.contains("vrf"), "{}", free.stderr);
    Ok(())
}

/// As contrib/reresolve-dns of wireguard-tools: only peers that were silent for more than 135 seconds.
fn reresolve() -> Result<(), String> {
    sandbox::check_needed()?;
    Server::get();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_secs();
    let at = |byte: u8, ago: u64, endpoint: &str| {
        let then = if ago == 0 { 0 } else { now - ago };
        format!(
            "public_key={}\nendpoint={endpoint}\nlast_handshake_time_sec={then}\n\
             last_handshake_time_nsec=0\n",
            hex(byte)
        )
    };
    let state = [
        at(1, 600, "198.51.100.1:1"),
        at(2, 100, "198.51.100.1:1"),
        at(3, 600, "192.0.2.7:1"),
        at(4, 0, "198.51.100.1:1"),
    ]
    .concat();
    // Of wg-quick. The last peer is not on the device.
    let peer = |key: &str, name: &str| {
        format!("[Peer]\nPublicKey = {key}\nAllowedIPs = ::/0\nEndpoint = {name}:1\n")
    };
    let conf = format!(
        "[Interface]\nAddress = 10.0.0.1/24\nPrivateKey = {K}\n{}{}{}{}{}",
        peer(K1, "ok.test"),
        peer(K2, "ok.test"),
        peer(K3, "ok.test"),
        peer(&key(4), "nx.test"),
        peer(&key(5), "nx5.test"),
    );
    let case = Case {
        args: ["reresolve", "wg0", &format!("{DIR}/conf")]
            .map(str::to_owned)
            .to_vec(),
        files: vec![("conf".to_owned(), conf.into_bytes())],
        devices: vec![("wg0".to_owned(), state, 0)],
        ..Case::default()
    };
    let outcome = tool::run(&tool::ours(), &case);
    assert_eq!(outcome.code, Some(1), "a name is not known: {outcome:?}");
    assert_eq!(outcome.stderr, "Name or service not known: `nx.test:1'\n");
    assert_eq!(
        outcome.stdout,
        format!("wg0: peer {K1}: endpoint: 198.51.100.1:1 -> 192.0.2.7:1\n")
    );
    assert_eq!(
        outcome.sets,
        [format!(
            "set=1\npublic_key={}\nendpoint=192.0.2.7:1\n\n",
            hex(1)
        )]
    );
    // A peer that the program refuses keeps no other one from its address.
    let case = Case {
        devices: vec![(
            "wg0".to_owned(),
            [1, 3, 4]
                .map(|byte| at(byte, 600, "198.51.100.1:1"))
                .concat(),
            -22,
        )],
        ..case
    };
    let outcome = tool::run(&tool::ours(), &case);
    assert_eq!(
        (outcome.code, outcome.sets.len()),
        (Some(1), 2),
        "{outcome:?}"
    );
    assert_eq!(outcome.stderr.matches("Invalid argument").count(), 2);
    Ok(())
}

fn wg(args: &[&[u8]]) -> (Option<i32>, Vec<u8>, String) {
    let tool = tool::ours();
    let output = Command::new(&tool[0])
        .args(&tool[1..])
        .args(args.iter().map(|arg| OsStr::from_bytes(arg)))
        .output()
        .expect("run");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), output.stdout, stderr)
}

/// The kernel allows nearly any byte in the name of an interface, and a file system as well.
fn interface_of_bytes() -> Result<(), String> {
    sandbox::check_needed()?;
    let name = &b"gr\xfcn"[..];
    let device = Device::start(OsStr::from_bytes(name), "listen_port=5\nfwmark=7\n", 0);
    for (args, wanted) in [
        (&[&b"show"[..], b"interfaces"][..], &b"gr\xfcn\n"[..]),
        (&[b"show", name, b"listen-port"], b"5\n"),
        (&[b"show", b"all", b"fwmark"], b"gr\xfcn\t0x7\n"),
        (
            &[b"show", b"all", b"dump"],
            b"gr\xfcn\t(none)\t(none)\t5\t0x7\n",
        ),
        (
            &[b"showconf", name],
            b"[Interface]\nListenPort = 5\nFwMark = 0x7\n\n",
        ),
        // For people, and for what takes text only.
        (
            &[b"show", name],
            b"interface: gr%fcn\n  listening port: 5\n  fwmark: 0x7\n",
        ),
        (&[b"show", b"gr%fcn", b"fwmark"], b"0x7\n"),
    ] {
        let (code, stdout, stderr) = wg(args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(stdout, wanted, "{args:?}");
    }
    let (code, json, _) = wg(&[b"show", name, b"json"]);
    assert_eq!(code, Some(0));
    assert!(json.starts_with(b"{\n\t\"gr%fcn\": {"), "{json:?}");
    let conf = format!("{DIR}/bytes.conf");
    std::fs::write(&conf, "[Interface]\nListenPort = 6\n").expect("file");
    for args in [
        &[&b"set"[..], name, b"fwmark", b"8"][..],
        &[b"setconf", name, conf.as_bytes()],
        &[b"addconf", name, conf.as_bytes()],
        &[b"syncconf", name, conf.as_bytes()],
    ] {
        let (code, _, stderr) = wg(args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(device.take_sets().len(), 1, "{args:?}");
    }
    assert_eq!(wg(&[b"reresolve", name, conf.as_bytes()]).0, Some(0));
    let (code, text, _) = wg(&[b"doctor", name]);
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&text));
    let _ = std::fs::remove_file(&conf);

    // A % in the name of a socket stands for itself.
    let _other = Device::start("wg0", "fwmark=9\n", 0);
    assert_eq!(wg(&[b"show", b"wg%30", b"fwmark"]).0, Some(1));
    let _literal = Device::start("wg%fc", "fwmark=10\n", 0);
    let (code, stdout, _) = wg(&[b"show", b"wg%fc", b"fwmark"]);
    assert_eq!((code, stdout.as_slice()), (Some(0), &b"0xa\n"[..]));
    Ok(())
}

/// Those on the terminal get no control characters; programs get the name.
fn interface_with_escapes() -> Result<(), String> {
    sandbox::check_needed()?;
    let name = &b"a\x1b[31mb"[..];
    let _device = Device::start(OsStr::from_bytes(name), "listen_port=5\n", 0);
    for args in [&[&b"show"[..]][..], &[b"show", name]] {
        let (code, stdout, _) = wg(args);
        assert_eq!(code, Some(0));
        let wanted = &b"interface: a?[31mb\n  listening port: 5\n"[..];
        assert_eq!(stdout, wanted, "{args:?}");
    }
    assert_eq!(wg(&[b"show", b"interfaces"]).1, b"a\x1b[31mb\n");
    let line = &b"a\x1b[31mb\t5\n"[..];
    assert_eq!(wg(&[b"show", b"all", b"listen-port"]).1, line);
    Ok(())
}

fn key(byte: u8) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode([byte; 32])
}
