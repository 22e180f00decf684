// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What each verb needs, and what is said without: the table of SECURITY.md, as far as it shows
//! without the kernel's WireGuard. The policy rules are those of the test's own namespace.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Test;
use crate::sandbox;
use crate::tool::{self, Outcome};
use crate::uapi::{Device, Raw};

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "rights::binding",
            run: binding,
        },
        Test {
            name: "rights::unbinding",
            run: unbinding,
        },
        Test {
            name: "rights::silent_neighbour",
            run: silent_neighbour,
        },
        Test {
            name: "rights::neighbours_rules",
            run: neighbours_rules,
        },
        Test {
            name: "rights::served_elsewhere",
            run: served_elsewhere,
        },
        Test {
            name: "rights::changed_elsewhere",
            run: changed_elsewhere,
        },
        Test {
            name: "rights::not_asked",
            run: not_asked,
        },
        Test {
            name: "rights::unlisted",
            run: unlisted,
        },
        Test {
            name: "rights::none",
            run: none,
        },
    ]
}

/// Runs our tool with all capabilities but these. Without the bind hooks: they are the host's.
fn run_without(capabilities: &str, words: &[&str]) -> Outcome {
    let mut tool = ["setpriv", "--inh-caps=-all", "--bounding-set", capabilities]
        .map(str::to_owned)
        .to_vec();
    tool.extend(tool::ours());
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let receive = ("WG_BIND_DEV_RECEIVE".to_owned(), "any".to_owned());
    tool::call(&tool, &words, "", &[receive])
}

/// The policy rules of ours in this namespace.
fn our_rules() -> Vec<String> {
    let list = |family: &str| {
        let output = Command::new("ip")
            .args([family, "rule", "show"])
            .output()
            .expect("ip rule");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = list("-4") + &list("-6");
    let ours = all.lines().filter(|line| line.contains("proto 119"));
    ours.map(str::to_owned).collect()
}

fn check_needed() -> Result<(), String> {
    sandbox::check_needed()?;
    let probe = Command::new("setpriv").arg("--version").output();
    probe.map(drop).map_err(|err| format!("setpriv: {err}"))
}

const BIND: [&str; 4] = ["set", "wg0", "bind-dev", "table:1023"];
/// The mark for that table.
const MARK: u32 = 0x7700_00ff;

fn check_bound(device: &Device) {
    let outcome = run_without("-sys_admin,-sys_ptrace,-bpf,-perfmon", &BIND);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(device.take_sets(), [format!("set=1\nfwmark={MARK}\n\n")]);
    assert_eq!(our_rules().len() % 2, 0);
    assert!(!our_rules().is_empty());
    let warning = "wg0: it is down, so nothing tells in which network namespace";
    assert!(outcome.stderr.contains(warning), "{outcome:?}");
}

/// CAP_NET_ADMIN over the namespace, and nothing else.
fn binding() -> Result<(), String> {
    check_needed()?;
    let device = Device::start("wg0", "", 0);
    let outcome = run_without("-net_admin", &BIND);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let refused = "Operation not permitted\n";
    let denied = "It takes CAP_NET_ADMIN";
    assert!(
        outcome.stderr.ends_with(refused) || outcome.stderr.contains(denied),
        "{outcome:?}"
    );
    assert_eq!(device.take_sets(), [""; 0]);
    assert_eq!(our_rules(), [""; 0]);
    check_bound(&device);
    Ok(())
}

/// A look into all other namespaces, or the rules stay, and that is said.
fn unbinding() -> Result<(), String> {
    check_needed()?;
    check_bound(&Device::start("wg0", "", 0));
    let before = our_rules();
    let device = Device::start("wg0", &format!("fwmark={MARK}\n"), 0);
    let off = ["set", "wg0", "bind-dev", "off"];
    let said = "the rules for fwmark 0x770000ff stay: it cannot be told";
    for capabilities in ["-sys_admin,-sys_ptrace", "-sys_admin"] {
        let outcome = run_without(capabilities, &off);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(device.take_sets(), ["set=1\nfwmark=0\n\n"]);
        assert_eq!(our_rules(), before);
        assert!(outcome.stderr.starts_with(said), "{outcome:?}");
    }
    // Nor may a device keep its mark to itself.
    let answer = b"nonsense\n\n".to_vec();
    let _other = Device::start_raw(
        "wg1",
        Raw {
            answer,
            holds: false,
            reads: usize::MAX,
        },
    );
    let outcome = run_without("-perfmon", &off);
    assert_eq!(our_rules(), before);
    assert!(
        outcome.stderr.contains("`wg1' does not tell its fwmark"),
        "{outcome:?}"
    );
    Ok(())
}

/// The program of another device is not waited for longer than for a moment, and only its first lines
/// are read.
fn silent_neighbour() -> Result<(), String> {
    check_needed()?;
    let device = Device::start("wg0", "", 0);
    let neighbour = |name, answer: &str| {
        let answer = answer.as_bytes().to_vec();
        let (holds, reads) = (true, usize::MAX);
        let raw = Raw {
            answer,
            holds,
            reads,
        };
        Device::start_raw(name, raw)
    };
    let _silent = neighbour("wg1", "");
    let key = "42".repeat(32);
    let _endless = neighbour("wg2", &format!("fwmark=7\npublic_key={key}\n"));
    let start = Instant::now();
    let outcome = run_without("-perfmon", &BIND);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(device.take_sets(), [format!("set=1\nfwmark={MARK}\n\n")]);
    let off = run_without("-perfmon", &["set", "wg0", "bind-dev", "off"]);
    assert!(off.stderr.contains("`wg1' does not tell"), "{off:?}");
    assert!(!off.stderr.contains("`wg2'"), "{off:?}");
    // Each of them waited for, it would be four minutes.
    assert!(start.elapsed() < Duration::from_secs(60));
    Ok(())
}

/// Rules that bind another device do not take a right from who may speak to a program.
fn neighbours_rules() -> Result<(), String> {
    check_needed()?;
    check_bound(&Device::start("wg0", "", 0));
    let before = our_rules();
    let device = Device::start("wg1", "listen_port=51001\n", 0);
    for entry in ["/var/run/wireguard", "/var/run/wireguard/wg1.sock"] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(entry, open).map_err(|err| format!("{entry}: {err}"))?;
    }
    // Nobody: the lock on the rules is out of reach.
    let nobody = "65534";
    let mut tool = ["setpriv", "--reuid", nobody, "--clear-groups"]
        .map(str::to_owned)
        .to_vec();
    tool.extend(tool::ours());
    let words = ["set", "wg1", "listen-port", "51002"].map(str::to_owned);
    let outcome = tool::call(&tool, &words, "", &[]);
    if outcome.stderr.starts_with("setpriv:") {
        return Err(outcome.stderr);
    }
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(device.take_sets(), ["set=1\nlisten_port=51002\n\n"]);
    assert_eq!(our_rules(), before);
    Ok(())
}

/// The folder of sockets is the host's: the program may be in another network namespace, where no rule
/// of this one reaches it.
fn served_elsewhere() -> Result<(), String> {
    check_needed()?;
    let device = Device::start("wg0", "listen_port=51001\n", 0);
    let outcome = run_without("-perfmon", &BIND);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let said = "its sockets are not in this network namespace";
    assert!(outcome.stderr.contains(said), "{outcome:?}");
    assert_eq!(device.take_sets(), [""; 0]);
    // Here it has one.
    let _socket = std::net::UdpSocket::bind(("0.0.0.0", 51001)).map_err(|err| err.to_string())?;
    let outcome = run_without("-perfmon", &BIND);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    Ok(())
}

/// A change from a namespace that shares the folder of sockets leaves the mark that rules go by where the
/// program is.
fn changed_elsewhere() -> Result<(), String> {
    check_needed()?;
    let _socket = std::net::UdpSocket::bind(("0.0.0.0", 51001)).map_err(|err| err.to_string())?;
    let device = Device::start("wg0", "listen_port=51001\n", 0);
    let bound = run_without("-perfmon", &BIND);
    assert_eq!(bound.code, Some(0), "{bound:?}");
    let before = our_rules();
    drop(device);
    let state = format!("listen_port=51001\nfwmark={MARK}\n");
    let device = Device::start("wg0", &state, 0);
    let mut tool = ["unshare", "--net"].map(str::to_owned).to_vec();
    tool.extend(tool::ours());
    let call = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let receive = ("WG_BIND_DEV_RECEIVE".to_owned(), "any".to_owned());
        tool::call(&tool, &words, "", &[receive])
    };
    for (words, code, said) in [
        (
            &["setconf", "wg0", "/dev/null"][..],
            0,
            "stays bound by fwmark",
        ),
        (&["set", "wg0", "fwmark", "off"], 0, "stays bound by fwmark"),
        (
            &["set", "wg0", "fwmark", "5"],
            1,
            "Cannot change the fwmark",
        ),
        (
            &["set", "wg0", "bind-dev", "off"],
            1,
            "Cannot unbind wg0 from here",
        ),
    ] {
        let outcome = call(words);
        assert_eq!(outcome.code, Some(code), "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{words:?}: {outcome:?}");
        let sets = device.take_sets().concat();
        assert!(!sets.contains("fwmark"), "{words:?}: {sets}");
    }
    assert_eq!(our_rules(), before);
    Ok(())
}

/// A change takes no answer but that to the change itself: the program may be slow to tell its state.
fn not_asked() -> Result<(), String> {
    check_needed()?;
    // Its link is here.
    for words in ["lo down", "lo name wg0"] {
        let words = [
            &["link", "set", "dev"][..],
            &words.split(' ').collect::<Vec<_>>(),
        ]
        .concat();
        let outcome = Command::new("ip")
            .args(words)
            .output()
            .map_err(|err| err.to_string())?;
        assert!(outcome.status.success(), "{outcome:?}");
    }
    let device = Device::start("wg0", "listen_port=1\n", 0);
    for words in [["listen-port", "5"], ["fwmark", "7"], ["listen-port", "0"]] {
        let outcome = run_without("-perfmon", &[&["set", "wg0"][..], &words].concat());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!((device.take_gets(), device.take_sets().len()), (0, 1));
    }
    Ok(())
}

/// Interfaces that cannot be listed are not interfaces without a fault.
fn unlisted() -> Result<(), String> {
    check_needed()?;
    let folder = "/var/run/wireguard";
    std::fs::remove_dir(folder).expect("a folder");
    std::fs::write(folder, "").expect("a file");
    let said = "Unable to list interfaces: Not a directory";
    for words in [
        &["doctor"][..],
        &["doctor", "all"],
        &["doctor", "json"],
        &["doctor", "all", "json"],
    ] {
        let outcome = run_without("-perfmon", words);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stdout.contains("not-looked-at"), "{outcome:?}");
        assert!(outcome.stdout.contains(said), "{outcome:?}");
    }
    Ok(())
}

/// No capability: a userspace device is its program's affair, keys are nobody's.
fn none() -> Result<(), String> {
    check_needed()?;
    let device = Device::start("wg0", "fwmark=7\n", 0);
    for (words, printed) in [
        (&["show", "interfaces"][..], "wg0\n"),
        (&["show", "wg0", "fwmark"], "0x7\n"),
        (&["showconf", "wg0"], "[Interface]\nFwMark = 0x7\n\n"),
        (&["set", "wg0", "fwmark", "8"], ""),
    ] {
        let outcome = run_without("-all", words);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            (printed, "")
        );
    }
    assert_eq!(device.take_sets(), ["set=1\nfwmark=8\n\n"]);
    let outcome = run_without("-all", &["genkey"]);
    assert_eq!((outcome.code, outcome.stdout.len()), (Some(0), 45));
    Ok(())
}
