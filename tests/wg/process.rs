// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a call does beside its text: random keys, files that others can read, outputs that end.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wg_vrf::key::Key;

use crate::Test;
use crate::corpus::{K, full};
use crate::sandbox;
use crate::tool::{self, DIR};
use crate::uapi::Device;

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "process::random_keys",
            run: random_keys,
        },
        Test {
            name: "process::world_accessible_file",
            run: world_accessible_file,
        },
        Test {
            name: "process::full_disk",
            run: full_disk,
        },
        Test {
            name: "process::reader_goes_away",
            run: reader_goes_away,
        },
        Test {
            name: "process::key_files",
            run: key_files,
        },
        Test {
            name: "process::version_all",
            run: version_all,
        },
        Test {
            name: "process::doctor",
            run: doctor,
        },
        Test {
            name: "process::syncconf_options",
            run: syncconf_options,
        },
        Test {
            name: "process::old_libc",
            run: old_libc,
        },
        Test {
            name: "process::only_libc",
            run: only_libc,
        },
    ]
}

/// What is built on Debian 13 starts on Debian 12, whose glibc is 2.36.
fn old_libc() -> Result<(), String> {
    const VERSION: &[u8] = b"GLIBC_2.";
    let program = fs::read(&tool::ours()[0]).expect("read wg");
    let numbers = program
        .windows(VERSION.len() + 2)
        .filter_map(|bytes| bytes.strip_prefix(VERSION))
        .filter_map(|digits| {
            std::str::from_utf8(digits)
                .ok()?
                .trim_end_matches('\0')
                .parse()
                .ok()
        });
    let newest: Option<u32> = numbers.max();
    assert!(newest.is_some_and(|newest| newest <= 36), "{newest:?}");
    Ok(())
}

/// The program needs the C library and its loader, and no other library.
fn only_libc() -> Result<(), String> {
    let listing = Command::new("readelf")
        .arg("--dynamic")
        .arg(&tool::ours()[0])
        .output()
        .map_err(|error| format!("readelf: {error}"))?;
    let listing = String::from_utf8_lossy(&listing.stdout);
    let needed: Vec<&str> = listing
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split(['[', ']']).nth(1))
        .collect();
    assert!(needed.contains(&"libc.so.6"), "{listing}");
    // Named where thread-local variables are looked up by the loader.
    let known = |name: &&str| *name == "libc.so.6" || name.starts_with("ld-linux");
    assert!(needed.iter().all(known), "{needed:?}");
    Ok(())
}

fn wg(args: &[&str]) -> Command {
    let tool = tool::ours();
    let mut command = Command::new(&tool[0]);
    command.args(&tool[1..]).args(args).stdin(Stdio::null());
    command
}

fn random_keys() -> Result<(), String> {
    let make = |verb: &str| {
        let output = wg(&[verb]).output().expect("run");
        assert!(output.status.success() && output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).expect("text");
        let key = Key::from_base64(text.strip_suffix('\n').expect("a line")).expect("a key");
        *key.as_bytes()
    };
    let private = [make("genkey"), make("genkey"), make("genkey")];
    assert!(private[0] != private[1] && private[1] != private[2]);
    for key in private {
        // RFC 7748, section 5.
        assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40));
    }
    // A preshared key is not clamped: of 32, some have these bits otherwise.
    let clamped = (0..32)
        .filter(|_| make("genpsk")[31] & 0xc0 == 0x40)
        .count();
    assert!(clamped < 32);
    Ok(())
}

fn world_accessible_file() -> Result<(), String> {
    sandbox::check_needed()?;
    let path = format!("{DIR}/genkey");
    let warning = "Warning: writing to world accessible file.\n\
                   Consider setting the umask to 077 and trying again.\n";
    // As the reference: any bit for others, on a regular file.
    for (mode, warned) in [
        (0o600, false),
        (0o640, false),
        (0o660, false),
        (0o601, true),
        (0o602, true),
        (0o604, true),
        (0o644, true),
    ] {
        for verb in ["genkey", "genpsk"] {
            let _ = fs::remove_file(&path);
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(mode).open(&path);
            let file = file.expect("file");
            let permissions = fs::Permissions::from_mode(mode);
            file.set_permissions(permissions).expect("mode");
            let output = wg(&[verb]).stdout(file).output().expect("run");
            assert!(output.status.success());
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(stderr, if warned { warning } else { "" }, "{mode:o}");
            assert_eq!(fs::read(&path).expect("key").len(), 45);
        }
    }
    let _ = fs::remove_file(&path);
    let null = fs::OpenOptions::new().write(true).open("/dev/null");
    let output = wg(&["genkey"]).stdout(null.expect("null")).output();
    assert!(
        output.expect("run").stderr.is_empty(),
        "a device is not a file"
    );
    Ok(())
}

fn full_disk() -> Result<(), String> {
    for verb in ["genkey", "help", "version"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = wg(&[verb]).stdout(full.expect("full")).output();
        let output = output.expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "Unable to write to standard output: No space left on device\n"
        );
    }
    Ok(())
}

fn reader_goes_away() -> Result<(), String> {
    sandbox::check_needed()?;
    // More than the pipe and the buffer of the tool hold.
    let peers: String = (0..4000u32)
        .map(|number| format!("public_key={number:064x}\n"))
        .collect();
    let _device = Device::start("wg0", &format!("{}{peers}", full()), 0);
    let mut child = wg(&["show", "wg0", "dump"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    drop(child.stdout.take());
    // As every C program: not an error, and nothing on stderr.
    let status = child.wait().expect("end");
    assert_eq!(status.signal(), Some(13), "{status:?}");
    Ok(())
}

/// A key from a pipe, and a pipe that gives none.
fn key_files() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", "", 0);
    let script = |text: &str| {
        let tool = tool::ours().join(" ");
        let script = format!("printf '{text}' | {tool} set wg0 private-key /dev/stdin");
        Command::new("sh")
            .args(["-c", &script])
            .output()
            .expect("run")
    };
    assert!(script(K).status.success());
    assert!(device.take_sets()[0].contains("private_key=0001"));
    let output = script("");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("Invalid length key in key file"),
        "{stderr}"
    );
    assert!(device.take_sets().is_empty());
    Ok(())
}

/// wg-quick puts its own folder in front of PATH, so the wg beside it counts.
fn version_all() -> Result<(), String> {
    sandbox::check_needed()?;
    let folder = Path::new(DIR).join("version-all");
    let (front, behind) = (folder.join("front"), folder.join("behind"));
    let install = |path: PathBuf| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "").expect("a program");
    };
    install(front.join("wg"));
    install(behind.join("wg-quick"));
    install(behind.join("wg"));
    let says = || {
        let path = format!("{}:{}", front.display(), behind.display());
        let output = wg(&["version", "--all"]).env("PATH", path).output();
        let output = output.expect("run");
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).expect("text")
    };
    let text = says();
    assert!(text.starts_with(concat!("wg-vrf ", env!("CARGO_PKG_VERSION"), "\n")));
    let (quick, wg) = (behind.join("wg-quick"), behind.join("wg"));
    let runs = format!(
        "\nwg-quick: {} runs {}, and not ",
        quick.display(),
        wg.display()
    );
    assert!(text.contains(&runs), "{text}");

    fs::remove_file(&wg).expect("remove");
    std::os::unix::fs::symlink(&tool::ours()[0], &wg).expect("a link");
    assert!(says().contains("which is this program"), "{}", says());
    fs::remove_file(&wg).expect("remove");
    fs::copy(&tool::ours()[0], &wg).expect("a copy");
    assert!(says().contains("which is this program"), "{}", says());
    fs::remove_dir_all(folder).expect("remove");
    Ok(())
}

/// Against the kernel's own routes: this namespace has a loopback and nothing else.
fn doctor() -> Result<(), String> {
    sandbox::check_needed()?;
    let state = |endpoint: &str| {
        let key = crate::corpus::hex(1);
        format!("listen_port=51820\npublic_key={key}\nendpoint={endpoint}:51821\n")
    };
    // Not a wg-quick of this machine.
    let ask = |args: &[&str]| {
        let output = wg(args).env("PATH", DIR).output().expect("run");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let near = Device::start("wg0", &state("127.0.0.9"), 0);
    let (code, text, stderr) = ask(&["doctor", "wg0"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{text}");
    // Which table of the local ones it is depends on whether there ever was a rule.
    assert!(text.contains("\n  to: 127.0.0.9: by lo, table "), "{text}");
    assert!(text.ends_with("\nnothing found\n"), "{text}");
    drop(near);

    let _far = Device::start("wg1", &state("192.0.2.7"), 0);
    let (code, text, _) = ask(&["doctor", "wg1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(
            "no-route: wg1: this host has no route to 192.0.2.7 (Network is unreachable).\n    \
             ip route add 192.0.2.7 via GATEWAY dev NIC\n"
        ),
        "{text}"
    );
    let (code, text, _) = ask(&["doctor", "all", "json"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("\"code\": \"no-route\""), "{text}");

    let (code, text, stderr) = ask(&["doctor", "wg9"]);
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(
        stderr.starts_with("Unable to access interface: "),
        "{stderr}"
    );
    let (code, _, stderr) = ask(&["doctor", "wg1", "xml"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("doctor [<interface> | all] [json]"),
        "{stderr}"
    );
    Ok(())
}

fn syncconf_options() -> Result<(), String> {
    sandbox::check_needed()?;
    let device = Device::start("wg0", &full(), 0);
    let conf = Path::new(DIR).join("sync.conf");
    let sync = |options: &[&str]| {
        let mut args = vec!["syncconf"];
        args.extend(options);
        args.extend(["wg0", conf.to_str().expect("text")]);
        let output = wg(&args).output().expect("run");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let stdout = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), stdout, stderr)
    };
    // What the device says of itself is no change, with secrets.
    let same = wg(&["showconf", "wg0"]).output().expect("run").stdout;
    fs::write(&conf, &same).expect("a file");
    let (code, out, _) = sync(&["--dry-run", "--exit-code"]);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(device.take_sets().is_empty());
    assert_eq!(sync(&["--exit-code"]).0, Some(0));

    let text = String::from_utf8(same).expect("text");
    let text = text.replace("ListenPort = 51820", "ListenPort = 51821");
    let secret = "PresharedKey = ";
    assert!(text.contains(secret), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with(secret));
    fs::write(&conf, lines.collect::<Vec<_>>().join("\n")).expect("a file");
    let _ = device.take_sets();
    let (code, out, _) = sync(&["--dry-run"]);
    assert_eq!(code, Some(0), "the code is asked for by an option");
    assert!(
        out.starts_with("wg0: listen port: 51820 -> 51821\n"),
        "{out}"
    );
    let secrets = text.matches(secret).count();
    let told = out.matches(": preshared key: changed (hidden)\n").count();
    assert_eq!((told, out.lines().count()), (secrets, secrets + 1), "{out}");
    assert!(device.take_sets().is_empty(), "a dry run changes nothing");
    assert_eq!(sync(&["--exit-code", "--dry-run"]).0, Some(2));
    assert!(device.take_sets().is_empty());
    let (code, out, _) = sync(&["--exit-code"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(device.take_sets()[0].contains("listen_port=51821"));
    // Without an option: as the reference.
    assert_eq!(sync(&[]).0, Some(0));
    // A name that looks like an option, and an option that is none.
    let (code, _, stderr) = sync(&["--nosuch"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("Usage: "), "{stderr}");
    Ok(())
}
