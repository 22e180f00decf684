// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Standard streams that are closed, files that do not end, and text that is meant for a terminal.

use std::process::Command;

use crate::Test;
use crate::corpus::{K, K1};
use crate::sandbox;
use crate::tool::{self, DIR};
use crate::uapi::Device;

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "streams::closed_input",
            run: closed_input,
        },
        Test {
            name: "streams::closed_output",
            run: closed_output,
        },
        Test {
            name: "streams::full_output",
            run: full_output,
        },
        Test {
            name: "streams::reader_gone",
            run: reader_gone,
        },
        Test {
            name: "streams::endless_comments",
            run: || read_endless("yes '# comment'"),
        },
        Test {
            name: "streams::endless_words",
            // As long as the lines of a peer.
            run: || read_endless("yes AllowedIPs=10.0.0.0/$(printf %0180d 8)"),
        },
        Test {
            name: "streams::endless_zeros",
            run: || read_endless("cat /dev/zero"),
        },
        Test {
            name: "streams::long_comments",
            run: long_comments,
        },
        Test {
            name: "streams::control_characters",
            run: control_characters,
        },
        Test {
            name: "streams::nearest_word",
            run: nearest_word,
        },
    ]
}

/// Runs a line of shell in which `$WG` is our tool; ends it after a while.
fn shell(line: &str) -> (Option<i32>, String, String) {
    let output = Command::new("timeout")
        .args(["300", "bash", "-c", line])
        .env("WG", tool::ours().join(" "))
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", "0")
        .output()
        .expect("run");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A closed input must not count as an empty file, which would clear the device.
fn closed_input() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", "listen_port=5\n", 0);
    for path in [
        "/dev/stdin",
        "/dev/fd/0",
        "/proc/self/fd/0",
        "/proc/thread-self/fd/0",
    ] {
        for call in [
            format!("setconf wg0 {path}"),
            format!("addconf wg0 {path}"),
            format!("syncconf wg0 {path}"),
            format!("set wg0 private-key {path}"),
            format!("set wg0 peer {K1} preshared-key {path}"),
        ] {
            let (code, _, stderr) = shell(&format!("$WG {call} <&-"));
            assert_eq!(code, Some(1), "{call}");
            // The words of fopen(3) in the reference.
            assert!(
                stderr.starts_with("fopen: No such file or directory"),
                "{call}: {stderr}"
            );
            assert!(device.take_sets().is_empty(), "{call}");
        }
    }
    // The other two, when they are taken for a file.
    for (path, closed) in [("/dev/stdout", ">&-"), ("/dev/fd/2", "2>&-")] {
        let (code, ..) = shell(&format!("$WG setconf wg0 {path} {closed}"));
        assert_eq!(code, Some(1), "{path}");
        assert!(device.take_sets().is_empty(), "{path}");
    }
    // By a link that a user made.
    std::os::unix::fs::symlink("/dev/stdin", format!("{DIR}/link")).expect("link");
    let (code, ..) = shell(&format!("$WG setconf wg0 {DIR}/link <&-"));
    let _ = std::fs::remove_file(format!("{DIR}/link"));
    assert_eq!(code, Some(1));
    assert!(device.take_sets().is_empty());
    // An input that is empty on purpose clears the device, as it does in the reference.
    for given in ["< /dev/null", "<> /dev/null", "<<< ''"] {
        let (code, _, stderr) = shell(&format!("$WG setconf wg0 /dev/stdin {given}"));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{given}");
        assert_eq!(device.take_sets().len(), 1, "{given}");
    }
    let (code, _, stderr) = shell("$WG set wg0 private-key /dev/null <&-");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(device.take_sets().len(), 1);
    let (code, ..) = shell("$WG pubkey <&-");
    assert_eq!(code, Some(1));
    Ok(())
}

/// A key that no reader can have got is not a success.
fn closed_output() -> Result<(), String> {
    sandbox::check_needed()?;
    let wanted = "Unable to write to standard output: Bad file descriptor\n";
    for verb in ["genkey", "genpsk", &format!("pubkey <<< {K}")] {
        for end in [">&-", "1< /dev/null"] {
            let (code, _, stderr) = shell(&format!("$WG {verb} {end}"));
            assert_eq!((code, stderr.as_str()), (Some(1), wanted), "{verb} {end}");
        }
        let (code, ..) = shell(&format!("$WG {verb} 1<> /dev/null"));
        assert_eq!(code, Some(0), "{verb}");
    }
    // Nor is anything else that was to be printed.
    let device = Device::start("wg0", "listen_port=5\n", 0);
    for call in [
        "show",
        "show wg0",
        "show wg0 json",
        "show interfaces",
        "showconf wg0",
        "help",
        "--version",
        "version --all",
        "doctor wg0",
        "syncconf --dry-run --exit-code wg0 /dev/null",
    ] {
        let (code, _, stderr) = shell(&format!("$WG {call} >&-"));
        assert_eq!((code, stderr.as_str()), (Some(1), wanted), "{call}");
    }
    // Who prints nothing needs no output.
    let (code, _, stderr) = shell("$WG set wg0 fwmark 7 >&-");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(device.take_sets().len(), 1);
    Ok(())
}

/// What could not be printed is an error, also where the exit code is to say something else.
fn full_output() -> Result<(), String> {
    sandbox::check_needed()?;
    let peer = format!("public_key={}\n", crate::corpus::hex(1));
    let _device = Device::start("wg0", &format!("listen_port=5\n{peer}"), 0);
    for (call, usual) in [
        ("syncconf --dry-run --exit-code wg0 /dev/null", 2),
        ("doctor wg0", 0),
        ("show wg0", 0),
    ] {
        let (code, stdout, _) = shell(&format!("$WG {call}"));
        assert_eq!(code, Some(usual), "{call}");
        assert!(!stdout.is_empty(), "{call}");
        let (code, _, stderr) = shell(&format!("$WG {call} > /dev/full"));
        let wanted = "Unable to write to standard output: No space left on device\n";
        assert_eq!((code, stderr.as_str()), (Some(1), wanted), "{call}");
    }
    Ok(())
}

/// A service may ignore SIGPIPE, as systemd's do unless they say otherwise: the reference then ends as
/// if all had been read.
fn reader_gone() -> Result<(), String> {
    sandbox::check_needed()?;
    let peers: String = (0..4000u32)
        .map(|number| format!("public_key={number:064x}\n"))
        .collect();
    let _device = Device::start("wg0", &format!("listen_port=5\n{peers}"), 0);
    for (call, code) in [
        ("show wg0", 0),
        ("show wg0 dump", 0),
        ("genkey", 0),
        ("syncconf --dry-run --exit-code wg0 /dev/null", 2),
    ] {
        for (before, wanted) in [("trap '' PIPE", code), ("true", 128 + 13)] {
            let line = format!("{before}; {{ sleep 0.3; $WG {call}; echo $? >&2; }} | true");
            let (_, _, stderr) = shell(&line);
            assert_eq!(stderr, format!("{wanted}\n"), "{line}");
        }
    }
    Ok(())
}

/// Comments take no memory: 200 MB of them within 100 MB of address space.
fn long_comments() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", "listen_port=5\n", 0);
    let (code, _, stderr) = shell(
        "yes '# a comment of some forty characters ......' | head -c 200000000 | \
         (ulimit -v 100000; $WG setconf wg0 /dev/stdin)",
    );
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(device.take_sets().len(), 1);
    Ok(())
}

/// A configuration and a key that do not end are refused, within bounds.
fn read_endless(source: &str) -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", "listen_port=5\n", 0);
    for call in ["setconf wg0 /dev/stdin", "set wg0 private-key /dev/stdin"] {
        let start = if call.contains("private-key") {
            format!("{{ printf %s {K}; {source}; }}")
        } else if source.contains("Allowed") {
            format!("{{ printf '[Peer]\\n'; {source}; }}")
        } else {
            source.to_owned()
        };
        let (code, _, stderr) = shell(&format!("{start} | (ulimit -v 1500000; $WG {call})"));
        assert_eq!(code, Some(1), "{call}: {source}: {stderr}");
        let lines = stderr.lines().count();
        assert!(
            (1..=3).contains(&lines) && stderr.len() < 4096,
            "{call}: {source}"
        );
        assert!(device.take_sets().is_empty(), "{call}: {source}");
    }
    Ok(())
}

/// A message that repeats a value is one line of plain characters.
fn control_characters() -> Result<(), String> {
    sandbox::check_needed()?;
    const BAD: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n\u{85}\u{202e}x";
    let _device = Device::start("wg0", "listen_port=5\n", 0);
    let file = format!("{DIR}/{}", BAD.replace('/', "-"));
    let key = format!("{DIR}/key-{}", BAD.replace('/', "-"));
    std::fs::write(&key, "AAAA\u{1b}").expect("file");
    let trailing = format!("{DIR}/trailing");
    std::fs::write(&trailing, format!("{K}\u{1b}")).expect("file");
    let bad = |before: &str| format!("{before}{BAD}");
    let mut calls: Vec<Vec<String>> = [
        &[BAD][..],
        &["show", BAD],
        &["show", "wg0", BAD],
        &["show", "all", BAD],
        &["showconf", BAD],
        &["set", BAD, "listen-port", "1"],
        &["set", "wg0", BAD],
        &["set", "wg0", BAD, "1"],
        &["set", "wg0", "listen-port", BAD],
        &["set", "wg0", "fwmark", BAD],
        &["set", "wg0", "bind-dev", BAD],
        &["set", "wg0", "private-key", BAD],
        &["set", "wg0", "private-key", &key],
        &["set", "wg0", "private-key", &trailing],
        &["set", "wg0", "peer", BAD],
        &["set", "wg0", "peer", K1, BAD],
        &["set", "wg0", "peer", K1, "preshared-key", &file],
        &["set", "wg0", "peer", K1, "endpoint", BAD],
        &["set", "wg0", "peer", K1, "endpoint", &bad("[")],
        &["set", "wg0", "peer", K1, "endpoint", &bad("[]")],
        &["set", "wg0", "peer", K1, "endpoint", &format!("{BAD}:1")],
        &[
            "set",
            "wg0",
            "peer",
            K1,
            "endpoint",
            &format!("1.2.3.4:{BAD}"),
        ],
        &["set", "wg0", "peer", K1, "persistent-keepalive", BAD],
        &["set", "wg0", "peer", K1, "allowed-ips", BAD],
        &["set", "wg0", "peer", K1, "allowed-ips", &bad("1.2.3.4/")],
        &["set", "wg0", "peer", K1, "allowed-ips", &bad("1:")],
        &["setconf", "wg0", &file],
        &["setconf", BAD, "/dev/null"],
        &["syncconf", "wg0", DIR],
    ]
    .iter()
    .map(|call| call.iter().map(|word| (*word).to_owned()).collect())
    .collect();
    // A newline ends a line of a file.
    let line = BAD.replace('\n', "");
    for (at, text) in [
        line.clone(),
        format!("[Interface]\n{line}=1"),
        format!("[Interface]\nListenPort={line}"),
        format!("[Interface]\nFwMark={line}"),
        format!("[Interface]\nBindDev={line}"),
        format!("[Interface]\nPrivateKey={line}"),
        format!("[Peer]\nPublicKey={line}"),
        format!("[Peer]\nEndpoint={line}"),
        format!("[Peer]\nEndpoint={line}:1"),
        format!("[Peer]\nAllowedIPs={line}"),
        format!("[Peer]\nPersistentKeepalive={line}"),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("{DIR}/control-{at}");
        std::fs::write(&path, format!("{text}\n")).expect("file");
        calls.push(vec!["setconf".to_owned(), "wg0".to_owned(), path]);
    }
    let mut wrong = Vec::new();
    for call in &calls {
        let outcome = tool::call(&tool::ours(), call, "", &[]);
        if outcome.code != Some(1) || outcome.stderr.is_empty() {
            wrong.push(format!("{call:?} is not refused: {outcome:?}"));
        }
        let control = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        // A value never ends the line that shows it.
        let torn = outcome.stderr.contains("\nx") || outcome.stderr.contains("\n?x");
        if outcome.stderr.contains(control) || torn {
            wrong.push(format!("{call:?}: {:?}", outcome.stderr));
        }
    }
    // The environment, too.
    for (name, args) in [
        (
            "WG_ENDPOINT_RESOLUTION_RETRIES",
            ["peer", K1, "endpoint", "1.2.3.4:5"].as_slice(),
        ),
        ("WG_BIND_DEV_MODE", &["bind-dev", "x"]),
    ] {
        let mut call = vec!["set".to_owned(), "wg0".to_owned()];
        call.extend(args.iter().map(|arg| (*arg).to_owned()));
        let env = [(name.to_owned(), BAD.to_owned())];
        let outcome = tool::call(&tool::ours(), &call, "", &env);
        assert_eq!(outcome.code, Some(1), "{name}");
        if outcome
            .stderr
            .contains(|c: char| c.is_control() && c != '\n')
        {
            wrong.push(format!("{name}: {:?}", outcome.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for at in 0..11 {
        let _ = std::fs::remove_file(format!("{DIR}/control-{at}"));
    }
    let _ = (std::fs::remove_file(&key), std::fs::remove_file(&trailing));
    Ok(())
}

fn nearest_word() -> Result<(), String> {
    sandbox::check_needed()?;
    let _device = Device::start("wg0", "", 0);
    std::fs::write(format!("{DIR}/near.conf"), "[Interface]\nBindDevice = x\n").expect("file");
    std::fs::write(
        format!("{DIR}/peer.conf"),
        "[Peer]\nAllowedIP = 10.0.0.0/8\n",
    )
    .expect("file");
    let peer_set = format!("set wg0 peer {K1} endpont 1.2.3.4:5");
    for (call, meant) in [
        ("set wg0 bnd-dev x", "`bind-dev'"),
        ("set wg0 listenport 5", "`listen-port'"),
        ("set wg0 private_key /dev/null", "`private-key'"),
        (peer_set.as_str(), "`endpoint'"),
        ("show wg0 allowed-ip", "`allowed-ips'"),
        ("shwo wg0", "`show'"),
        ("setconf wg0 /run/files/near.conf", "`BindDev'"),
        ("setconf wg0 /run/files/peer.conf", "`AllowedIPs'"),
    ] {
        let (code, _, stderr) = shell(&format!("$WG {call}"));
        assert_eq!(code, Some(1), "{call}");
        assert!(stderr.contains(meant), "{call}: {stderr}");
    }
    // Nothing is near to this.
    let (_, _, stderr) = shell("$WG set wg0 xyzzyxyzzy 1");
    assert!(!stderr.contains("did you mean"), "{stderr}");
    // A word that is right but in the wrong place.
    let (_, _, stderr) = shell("$WG set wg0 endpoint 1.2.3.4:5");
    assert!(stderr.contains("peer"), "{stderr}");
    let _ = std::fs::remove_file(format!("{DIR}/near.conf"));
    let _ = std::fs::remove_file(format!("{DIR}/peer.conf"));
    Ok(())
}
