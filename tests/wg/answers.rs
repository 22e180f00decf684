// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Userspace devices that break their protocol, or stretch it. What is expected is what Debian
//! 12's wireguard-tools 1.0.20210914 does with the same answers, except where a line says why not.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use crate::Test;
use crate::corpus::hex;
use crate::sandbox;
use crate::tool;
use crate::uapi::{Device, Raw};

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "answers::half_an_answer_is_none",
            run: half_an_answer_is_none,
        },
        Test {
            name: "answers::values_at_their_edges",
            run: values_at_their_edges,
        },
        Test {
            name: "answers::folder_that_cannot_be_read",
            run: folder_that_cannot_be_read,
        },
        Test {
            name: "answers::sockets_without_a_program",
            run: sockets_without_a_program,
        },
    ]
}

/// Exit code, standard output and standard error; a tool that hangs is ended and gives 124.
fn ask(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new("timeout")
        .arg("5")
        .args(tool::ours())
        .args(args)
        .output()
        .expect("run");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

const PROTOCOL: &str = "Protocol error";
const INPUT_OUTPUT: &str = "Input/output error";

fn half_an_answer_is_none() -> Result<(), String> {
    sandbox::check_needed()?;
    // The answer, and what `show` and `set` say: `None` for success.
    let cases: &[(&[u8], Option<&str>, Option<&str>)] = &[
        (b"", Some(PROTOCOL), Some(PROTOCOL)),
        (b"\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"\nerrno=0\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"listen_port=7\nerrno=0", Some(PROTOCOL), Some(PROTOCOL)),
        (b"listen_port=7\nerrno=0\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"listen_port=7\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0\r\n\r\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"listen_port=7\r\nerrno=0\n\n", Some(PROTOCOL), None),
        (b"errno=0\n\r\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0\n\r\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (
            b"listen_port=7\nx=\0y\nerrno=0\n\n",
            Some(PROTOCOL),
            Some(PROTOCOL),
        ),
        (b"errno=0\n\0\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0\nnonsense\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno= 0\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (b"errno=0x\n\n", Some(PROTOCOL), Some(PROTOCOL)),
        (
            b"errno=0\nerrno=5\n\n",
            Some(INPUT_OUTPUT),
            Some(INPUT_OUTPUT),
        ),
        (b"errno=0\nlisten_port=70000\n\n", Some(PROTOCOL), None),
        (b"listen_port=7\nerrno=0\n\n", None, None),
        (b"errno=5\nlisten_port=7\nerrno=0\n\n", None, None),
        (b"errno=0\nlisten_port=7\n\n", None, None),
        (b"x=\xff\nlisten_port=7\nerrno=0\n\n", None, None),
        (b"\xff=x\nlisten_port=7\nerrno=0\n\n", None, None),
        (b"listen_port=7\nerrno=0\n\nlisten_port=8\nx", None, None),
    ];
    for holds in [false, true] {
        for (answer, show, set) in cases {
            // A device that keeps the connection and does not end its answer is only waited for.
            let ends = answer.starts_with(b"\n") || answer.windows(2).any(|two| two == b"\n\n");
            if holds && !ends {
                continue;
            }
            let _device = Device::start_raw(
                "wg0",
                Raw {
                    answer: answer.to_vec(),
                    holds,
                    reads: usize::MAX,
                },
            );
            let text = String::from_utf8_lossy(answer).into_owned();
            let (code, stdout, stderr) = ask(&["show", "wg0", "dump"]);
            match show {
                None => assert_eq!(
                    (code, stdout.as_str(), stderr.as_str()),
                    (Some(0), "(none)\t(none)\t7\toff\n", ""),
                    "show: {text:?}"
                ),
                Some(why) => {
                    assert_eq!((code, stdout.as_str()), (Some(1), ""), "show: {text:?}");
                    let wanted = format!("Unable to access interface: {why}");
                    assert!(stderr.starts_with(&wanted), "show: {text:?}: {stderr}");
                }
            }
            let (code, _, stderr) = ask(&["set", "wg0", "listen-port", "7"]);
            match set {
                None => assert_eq!((code, stderr.as_str()), (Some(0), ""), "set: {text:?}"),
                Some(why) => {
                    assert_eq!(code, Some(1), "set: {text:?}");
                    let wanted = format!("Unable to modify interface: {why}");
                    assert!(stderr.starts_with(&wanted), "set: {text:?}: {stderr}");
                }
            }
        }
    }
    Ok(())
}

fn values_at_their_edges() -> Result<(), String> {
    sandbox::check_needed()?;
    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    // Lines of a peer, and its line in `dump` behind the key: `None` for a protocol error.
    let cases = [
        (
            "last_handshake_time_sec=9223372036854775807\n\
             last_handshake_time_nsec=9223372036854775807\n",
            Some("(none)\t(none)\t(none)\t9223372036854775807\t0\t0\toff"),
        ),
        ("last_handshake_time_sec=9223372036854775808\n", None),
        ("last_handshake_time_nsec=9223372036854775808\n", None),
        (
            "last_handshake_time_sec=5\nlast_handshake_time_nsec=4000000000\n",
            Some("(none)\t(none)\t(none)\t5\t0\t0\toff"),
        ),
        (
            "rx_bytes=18446744073709551616\ntx_bytes=99999999999999999999999\n",
            Some("(none)\t(none)\t(none)\t0\t18446744073709551615\t18446744073709551615\toff"),
        ),
        ("rx_bytes=+1\n", None),
        ("rx_bytes=-1\n", None),
        ("rx_bytes= 1\n", None),
        (
            "endpoint=localhost:53\n",
            Some("(none)\t127.0.0.1:53\t(none)\t0\t0\t0\toff"),
        ),
        (
            "endpoint=1.2.3.4:domain\n",
            Some("(none)\t1.2.3.4:53\t(none)\t0\t0\t0\toff"),
        ),
        (
            "endpoint=::1:5\n",
            Some("(none)\t[::1]:5\t(none)\t0\t0\t0\toff"),
        ),
        (
            "endpoint=[fe80::1%1]:5\n",
            Some("(none)\t[fe80::1%lo]:5\t(none)\t0\t0\t0\toff"),
        ),
        // The reference dies of a segmentation fault.
        ("endpoint=nosuch.invalid:53\n", None),
        // The reference takes it for port 4464.
        ("endpoint=1.2.3.4:70000\n", None),
        ("endpoint=\n", None),
        ("endpoint=[::1\n", None),
        ("endpoint=[::1]5\n", None),
        ("endpoint=1.2.3.4\n", None),
        ("endpoint=1.2.3.4:\n", None),
        // The reference takes 256 for 0 and 288 for 32: another network than the device's.
        ("allowed_ip=10.0.0.0/256\n", None),
        ("allowed_ip=10.0.0.0/288\n", None),
        ("allowed_ip=10.0.0.0/33\n", None),
        ("allowed_ip=10.0.0.0/\n", None),
        ("allowed_ip=10.0.0.0/-1\n", None),
        (
            "allowed_ip=10.0.0.0/008\n",
            Some("(none)\t(none)\t10.0.0.0/8\t0\t0\t0\toff"),
        ),
        ("persistent_keepalive_interval=65536\n", None),
        (
            "persistent_keepalive_interval=65535\n",
            Some("(none)\t(none)\t(none)\t0\t0\t0\t65535"),
        ),
    ];
    for (lines, wanted) in cases {
        // A second peer: what is wrong with the first does not hide it where it is shown.
        let state = format!("public_key={}\n{lines}public_key={}\n", hex(1), hex(2));
        let _device = Device::start("wg0", &state, 0);
        let (code, stdout, stderr) = ask(&["show", "wg0", "dump"]);
        match wanted {
            Some(wanted) => {
                assert_eq!(code, Some(0), "{lines}: {stderr}");
                let mut shown = stdout.lines().skip(1);
                let peer = format!("{KEY}\t{wanted}");
                assert_eq!(shown.next(), Some(peer.as_str()), "{lines}");
                assert!(shown.next().is_some(), "{lines}");
            }
            None => {
                assert_eq!((code, stdout.as_str()), (Some(1), ""), "{lines}");
                let wanted = "Unable to access interface: Protocol error";
                assert!(stderr.starts_with(wanted), "{lines}: {stderr}");
            }
        }
    }
    // A key of zeros is shown as the key that it is.
    let zero = "0".repeat(64);
    let _device = Device::start("wg0", &format!("private_key={zero}\n"), 0);
    let (_, stdout, _) = ask(&["show", "wg0", "dump"]);
    assert_eq!(
        stdout,
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\t\
         L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=\t0\toff\n"
    );
    Ok(())
}

fn folder_that_cannot_be_read() -> Result<(), String> {
    sandbox::check_needed()?;
    const FOLDER: &str = "/var/run/wireguard";
    fs::remove_dir_all(FOLDER).expect("empty folder");
    // No folder at all is no devices.
    let missing = ask(&["show", "interfaces"]);
    fs::write(FOLDER, "").expect("a file");
    let file = [
        ask(&["show", "interfaces"]),
        ask(&["show"]),
        ask(&["show", "all", "dump"]),
    ];
    fs::remove_file(FOLDER).expect("the file");
    std::os::unix::fs::symlink(FOLDER, FOLDER).expect("a loop");
    let endless = ask(&["show", "interfaces"]);
    fs::remove_file(FOLDER).expect("the link");
    fs::create_dir_all(FOLDER).expect("the folder");
    assert_eq!(missing, (Some(0), String::new(), String::new()));
    for (code, stdout, stderr) in file {
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let wanted = "Unable to list interfaces: Not a directory";
        assert!(stderr.starts_with(wanted), "{stderr}");
    }
    assert_eq!(endless.0, Some(1), "{endless:?}");
    Ok(())
}

/// A socket that its program left is removed and the kernel is asked; what is no socket stays.
fn sockets_without_a_program() -> Result<(), String> {
    sandbox::check_needed()?;
    let kernels = ask(&["show", "wg7"]);
    assert_eq!(kernels.0, Some(1));
    let path = Path::new("/var/run/wireguard/wg7.sock");
    for verb in ["show", "showconf"] {
        drop(UnixListener::bind(path).expect("a socket"));
        assert_eq!(ask(&[verb, "wg7"]), kernels);
        assert!(!path.exists(), "{verb}");
    }
    fs::write(path, "").expect("a file");
    assert_eq!(ask(&["show", "wg7"]), kernels);
    assert_eq!(ask(&["show", "interfaces"]).1, "");
    assert!(path.exists());
    fs::remove_file(path).expect("the file");
    // One that lets nobody in is a program's all the same, and what it says is the error.
    let _strange = UnixDatagram::bind(path).expect("a socket");
    let (code, _, stderr) = ask(&["show", "wg7"]);
    let wanted = "Unable to access interface: Protocol wrong type for socket";
    assert!(code == Some(1) && stderr.starts_with(wanted), "{stderr}");
    fs::remove_file(path).expect("the socket");
    Ok(())
}
