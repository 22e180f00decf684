// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where keys are in the memory of a tool that is held in the middle of its work.
//!
//! Somebody reads memory after the fact: a core file, swap, a debugger. A key may be there once,
//! for the work that is left to be done, and nowhere else: not in freed memory, not on the stack.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use wg_vrf::key::Key;

use crate::Test;
use crate::sandbox;
use crate::tool::{self, DIR};
use crate::uapi::Device;

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "secrets::files",
            run: files,
        },
        Test {
            name: "secrets::arguments",
            run: arguments,
        },
        Test {
            name: "secrets::output",
            run: output,
        },
        Test {
            name: "secrets::dry_run",
            run: dry_run,
        },
        Test {
            name: "secrets::own_keys",
            run: own_keys,
        },
        Test {
            name: "secrets::wrong_key",
            run: wrong_key,
        },
        Test {
            name: "secrets::key_for_a_name",
            run: key_for_a_name,
        },
        Test {
            name: "secrets::no_core_files",
            run: no_core_files,
        },
        Test {
            name: "secrets::others_cannot_read_its_memory",
            run: others_cannot_read_its_memory,
        },
    ]
}

const PEERS: u64 = 40;

/// Keys that no memory has by chance.
fn key(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed;
    for eight in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        eight.copy_from_slice(&(mixed ^ (mixed >> 31)).to_ne_bytes());
    }
    bytes
}

fn base64(bytes: [u8; 32]) -> String {
    Key::from_bytes(bytes).to_base64().to_string()
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secrets: a private key, and a preshared one for each peer.
fn list_secrets() -> Vec<[u8; 32]> {
    (0..=PEERS).map(key).collect()
}

fn make_public(peer: u64) -> [u8; 32] {
    key(1000 + peer)
}

/// All that a process can write to, as it is now.
fn take_snapshot(child: &Child) -> Vec<Vec<u8>> {
    let process = format!("/proc/{}", child.id());
    let maps = fs::read_to_string(format!("{process}/maps")).expect("maps");
    let memory = File::open(format!("{process}/mem")).expect("mem");
    let mut regions = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().expect("a range");
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).expect("hex"));
        let mut bytes = vec![0; usize::try_from(end - start).expect("size")];
        // Guard pages of threads cannot be read.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            regions.push(bytes);
        }
    }
    regions
}

/// How many copies of the secrets are there, most for one secret: raw, base64, hexadecimal.
fn count_copies(regions: &[Vec<u8>], secrets: &[[u8; 32]]) -> [usize; 3] {
    let mut needles: HashMap<[u8; 8], Vec<(usize, Vec<u8>)>> = HashMap::new();
    for (at, secret) in secrets.iter().enumerate() {
        let forms = [
            // Of what is freed, malloc(3) overwrites the first half.
            secret[16..].to_vec(),
            // Without the padding.
            base64(*secret).as_bytes()[..43].to_vec(),
            hex(*secret).into_bytes(),
        ];
        for (form, bytes) in forms.into_iter().enumerate() {
            let start = bytes[..8].try_into().expect("eight");
            needles
                .entry(start)
                .or_default()
                .push((at * 3 + form, bytes));
        }
    }
    let mut counts = vec![0; secrets.len() * 3];
    for region in regions {
        for (at, window) in region.windows(8).enumerate() {
            // Most of memory is zero.
            if window[0] == 0 && window[1] == 0 {
                continue;
            }
            let start: [u8; 8] = window.try_into().expect("eight");
            for (which, bytes) in needles.get(&start).into_iter().flatten() {
                counts[*which] += usize::from(region[at..].starts_with(bytes));
            }
        }
    }
    let most = |form: usize| {
        counts
            .iter()
            .skip(form)
            .step_by(3)
            .max()
            .copied()
            .unwrap_or(0)
    };
    [most(0), most(1), most(2)]
}

pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(args: &[String], stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Running {
    let tool = tool::ours();
    let child = Command::new(&tool[0])
        .args(&tool[1..])
        .args(args)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("run");
    Running(child)
}

/// Waits until `is` holds.
pub fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A socket that takes nothing more, and its other end.
pub fn full() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().expect("sockets");
    writer.set_nonblocking(true).expect("socket");
    while writer.write(b"\n").is_ok() {}
    writer.set_nonblocking(false).expect("socket");
    (reader, writer.into())
}

/// Waits until the process sleeps in write(2).
pub fn wait_for_write(running: &Running) {
    let path = format!("/proc/{}/wchan", running.0.id());
    wait("the tool does not write", || {
        fs::read_to_string(&path).is_ok_and(|name| name.contains("alloc_send_pskb"))
    });
}

fn text(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn config() -> String {
    let mut text = format!("[Interface]\nPrivateKey = {}\n", base64(key(0)));
    for peer in 1..=PEERS {
        text += &format!(
            "[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = 10.0.{peer}.0/24\n",
            base64(make_public(peer)),
            base64(key(peer))
        );
    }
    text
}

/// The state of a device that has all the keys.
fn state() -> String {
    let mut text = format!("private_key={}\n", hex(key(0)));
    for peer in 1..=PEERS {
        let (public, preshared) = (hex(make_public(peer)), hex(key(peer)));
        text += &format!("public_key={public}\npreshared_key={preshared}\n");
    }
    text
}

fn files() -> Result<(), String> {
    sandbox::check_needed()?;
    let path = format!("{DIR}/secrets.conf");
    // With a byte that is not UTF-8, which stands in a comment.
    for tail in [&b""[..], b"# caf\xe9\n"] {
        for verb in ["setconf", "addconf", "syncconf"] {
            let device = Device::start("wg0", "", 0);
            device.hold_sets();
            let content = [config().as_bytes(), tail].concat();
            fs::write(&path, content).expect("file");
            let args = text(&[verb, "wg0", &path]);
            let running = start(&args, Stdio::null(), Stdio::null(), Stdio::inherit());
            wait("no request", || !device.take_sets().is_empty());
            thread::sleep(Duration::from_millis(50));
            let [raw, base64, hex] = count_copies(&take_snapshot(&running.0), &list_secrets());
            assert!(
                raw <= 1 && base64 == 0 && hex <= 1,
                "{verb}: {raw} raw, {base64} base64, {hex} hexadecimal copies of one key"
            );
        }
    }
    let _ = fs::remove_file(&path);
    Ok(())
}

fn arguments() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", "", 0);
    device.hold_sets();
    let file = |number: u64| {
        let path = format!("{DIR}/secret-{number}");
        fs::write(&path, base64(key(number))).expect("file");
        path
    };
    let mut args = text(&["set", "wg0", "private-key", &file(0)]);
    for peer in 1..=PEERS {
        let public = base64(make_public(peer));
        args.extend(text(&["peer", &public, "preshared-key", &file(peer)]));
    }
    let running = start(&args, Stdio::null(), Stdio::null(), Stdio::inherit());
    wait("no request", || !device.take_sets().is_empty());
    thread::sleep(Duration::from_millis(50));
    let [raw, base64, hex] = count_copies(&take_snapshot(&running.0), &list_secrets());
    for number in 0..=PEERS {
        let _ = fs::remove_file(format!("{DIR}/secret-{number}"));
    }
    assert!(
        raw <= 1 && base64 == 0 && hex <= 1,
        "set: {raw} raw, {base64} base64, {hex} hexadecimal copies of one key"
    );
    Ok(())
}

/// What a device has, while it is printed.
fn output() -> Result<(), String> {
    sandbox::check_needed()?;
    let _device = Device::start("wg0", &state(), 0);
    for args in [
        &["show", "wg0"][..],
        &["show", "all", "dump"],
        &["show", "wg0", "dump"],
        &["show", "wg0", "preshared-keys"],
        &["show", "wg0", "json"],
        &["showconf", "wg0"],
    ] {
        let (_reader, writer) = full();
        let running = start(&text(args), Stdio::null(), writer.into(), Stdio::inherit());
        wait_for_write(&running);
        let [raw, base64, hex] = count_copies(&take_snapshot(&running.0), &list_secrets());
        // The text is what waits to be written.
        assert!(
            raw <= 1 && base64 <= 1 && hex == 0,
            "{args:?}: {raw} raw, {base64} base64, {hex} hexadecimal copies of one key"
        );
    }
    Ok(())
}

/// What a file would change, while it is printed: the file has a copy of each key, and the device.
fn dry_run() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", &state(), 0);
    let path = format!("{DIR}/secrets.conf");
    // Another preshared key for one peer, and another port, so that there is something to say.
    let other = config().replace(&base64(key(1)), &base64(key(PEERS + 1)));
    fs::write(&path, other.replacen("\n", "\nListenPort = 51001\n", 1)).expect("file");
    let (_reader, writer) = full();
    let args = text(&["syncconf", "--dry-run", "wg0", &path]);
    let running = start(&args, Stdio::null(), writer.into(), Stdio::inherit());
    wait_for_write(&running);
    let memory = take_snapshot(&running.0);
    let _ = fs::remove_file(&path);
    let mut secrets = list_secrets();
    secrets.push(key(PEERS + 1));
    let [raw, base64, hex] = count_copies(&memory, &secrets);
    assert!(
        raw <= 2 && base64 == 0 && hex == 0,
        "{raw} raw, {base64} base64, {hex} hexadecimal copies of one key"
    );
    assert_eq!(device.take_sets(), [""; 0]);
    Ok(())
}

fn own_keys() -> Result<(), String> {
    sandbox::check_needed()?;
    for verb in ["genkey", "genpsk"] {
        let (mut reader, writer) = full();
        let running = start(
            &text(&[verb]),
            Stdio::null(),
            writer.into(),
            Stdio::inherit(),
        );
        wait_for_write(&running);
        let memory = take_snapshot(&running.0);
        let mut printed = String::new();
        reader.read_to_string(&mut printed).expect("a key");
        let made = Key::from_base64(printed.trim()).expect("a key");
        let [raw, base64, hex] = count_copies(&memory, &[*made.as_bytes()]);
        assert!(
            raw <= 1 && base64 == 1 && hex == 0,
            "{verb}: {raw} raw, {base64} base64, {hex} hexadecimal copies"
        );
    }
    let (_reader, writer) = full();
    let path = format!("{DIR}/private");
    fs::write(&path, base64(key(0))).expect("file");
    let input = File::open(&path).expect("file");
    let running = start(
        &text(&["pubkey"]),
        input.into(),
        writer.into(),
        Stdio::inherit(),
    );
    wait_for_write(&running);
    let found = count_copies(&take_snapshot(&running.0), &[key(0)]);
    let _ = fs::remove_file(&path);
    assert_eq!(
        found,
        [0, 0, 0],
        "pubkey has no more use for the private key"
    );
    Ok(())
}

/// A secret with a typing error is a secret, and so are those before it. A long line does not leave it
/// where the line was shorter.
fn wrong_key() -> Result<(), String> {
    sandbox::check_needed()?;
    let path = format!("{DIR}/secrets.conf");
    let last = base64(key(PEERS));
    for behind in [0, 4000] {
        let wrong = format!("{}!={}", &last[..42], "x".repeat(behind));
        fs::write(&path, config().replace(&last, &wrong)).expect("file");
        let _device = Device::start("wg0", "", 0);
        let (_reader, writer) = full();
        let args = text(&["setconf", "wg0", &path]);
        let running = start(&args, Stdio::null(), Stdio::null(), writer.into());
        wait_for_write(&running);
        let memory = take_snapshot(&running.0);
        let _ = fs::remove_file(&path);
        assert_eq!(count_copies(&memory, &list_secrets()), [0, 0, 0]);
        // Of the wrong one, what decodes is most of it.
        let partial = &key(PEERS)[..30];
        let left = |needle: &[u8]| {
            memory
                .iter()
                .any(|region| region.windows(needle.len()).any(|w| w == needle))
        };
        assert!(!left(partial), "a failed decode leaves the key");
        // malloc(3) overwrites the start of what is freed.
        assert!(
            !left(&wrong.as_bytes()[10..40]),
            "the text of the wrong key is left"
        );
    }
    Ok(())
}

/// A key where the name of a file, or another word, is to stand: what is said ends up in a log.
fn key_for_a_name() -> Result<(), String> {
    sandbox::check_needed()?;
    let _device = Device::start("wg0", "", 0);
    // One has a slash, as a path may.
    for secret in [base64(key(0)), format!("ab/cd/{}", &base64(key(1))[6..])] {
        assert!(Key::from_base64(&secret).is_some(), "{secret}");
        let (secret, public) = (secret.as_str(), base64(make_public(1)));
        let endpoint = format!("{secret}:51820");
        let calls: &[(&[&str], bool)] = &[
            (&["set", "wg0", "private-key", secret], true),
            (&["set", "wg0", "private-key", &secret[..43]], true),
            (
                &["set", "wg0", "peer", &public, "preshared-key", secret],
                true,
            ),
            (&["setconf", "wg0", secret], true),
            (&["addconf", "wg0", secret], true),
            (&["syncconf", "wg0", secret], true),
            (&["reresolve", "wg0", secret], true),
            (&["set", "wg0", secret], false),
            (&["set", "wg0", "listen-port", secret], false),
            (&["set", "wg0", "fwmark", secret], false),
            (&["set", "wg0", "bind-dev", secret], false),
            (&["set", "wg0", "peer", &public, secret], false),
            (&["set", "wg0", "peer", &public, "endpoint", secret], false),
            (
                &["set", "wg0", "peer", &public, "endpoint", &endpoint],
                false,
            ),
            (
                &["set", "wg0", "peer", &public, "allowed-ips", secret],
                false,
            ),
            (
                &[
                    "set",
                    "wg0",
                    "peer",
                    &public,
                    "persistent-keepalive",
                    secret,
                ],
                false,
            ),
            (&["set", secret, "listen-port", "5"], false),
            (&["show", secret], false),
            (&["show", "wg0", secret], false),
            (&["show", "all", secret], false),
            (&["showconf", secret], false),
            (&["setconf", secret, "/dev/null"], false),
            (&["doctor", secret], false),
            (&[secret], false),
        ];
        for (call, path) in calls {
            let outcome = tool::call(&tool::ours(), &text(call), "", &[]);
            let said = &outcome.stderr;
            assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
            assert!(said.contains("(hidden)"), "{call:?}: {said}");
            for part in [&secret[..5], &secret[8..20], &secret[30..43]] {
                assert!(!said.contains(part), "{call:?}: {said}");
            }
            let told = said.contains("(this is a key; give the name of a file)");
            assert_eq!(told, *path, "{call:?}: {said}");
        }
    }
    // A path is shown.
    let long = "/etc/wireguard/keys/interfaces/external/wg0";
    let call = text(&["set", "wg0", "private-key", long]);
    let outcome = tool::call(&tool::ours(), &call, "", &[]);
    assert!(outcome.stderr.contains(long), "{outcome:?}");
    Ok(())
}

fn no_core_files() -> Result<(), String> {
    sandbox::check_needed()?;
    let tool = tool::ours();
    let (_reader, writer) = full();
    let line = format!("ulimit -c unlimited; exec {} genkey", tool.join(" "));
    let child = Command::new("bash")
        .args(["-c", &line])
        .stdout(writer)
        .spawn();
    let running = Running(child.expect("run"));
    wait_for_write(&running);
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.0.id())).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core = core.expect("a limit").split_whitespace().nth(4);
    assert_eq!(core, Some("0"), "{limits}");
    Ok(())
}

/// Nor do other processes of its user look into its memory: that belongs to root.
fn others_cannot_read_its_memory() -> Result<(), String> {
    sandbox::check_needed()?;
    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    let probe = Command::new(nobody[0])
        .args(&nobody[1..])
        .args(tool::ours())
        .arg("help")
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return Err("setpriv cannot run the tool as another user".to_owned());
    }
    let (_reader, writer) = full();
    let child = Command::new(nobody[0])
        .args(&nobody[1..])
        .args(tool::ours())
        .arg("genkey")
        .stdout(writer)
        .spawn();
    let running = Running(child.expect("run"));
    wait_for_write(&running);
    let memory = fs::metadata(format!("/proc/{}/mem", running.0.id())).expect("mem");
    assert_eq!(memory.uid(), 0);
    Ok(())
}
