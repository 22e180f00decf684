// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Mount and network namespaces in which the tests own /var/run/wireguard, /etc and loopback.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use crate::Test;
use crate::namespaces::{self, CHROOT, ROOT, USER, Way};

const MARK: &str = "WG_VRF_TESTS_SANDBOX";

/// The only services that exist in the sandbox.
const SERVICES: &str = "domain 53/udp\ndomain 53/tcp\ntftp 69/udp\nssh 22/tcp\nhttp 80/tcp\n";

/// The exit code of a test that cannot run here; its reason is on standard output.
const SKIPPED: u8 = 77;

/// This program again, in new namespaces where the system allows them.
fn new_process() -> Command {
    static WAY: OnceLock<Option<Way>> = OnceLock::new();
    let this = env::current_exe().expect("path of the tests");
    match WAY.get_or_init(|| namespaces::find_way(&[ROOT, USER, CHROOT])) {
        Some(way) => {
            let mut command = Command::new("unshare");
            command.args(*way).arg(this).env(MARK, "inside");
            command
        }
        None => {
            let mut command = Command::new(this);
            command.env(MARK, "none");
            command
        }
    }
}

/// Whether this process was made for one test or mode.
pub fn is_inside() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs this program again inside of namespaces, with its arguments, and gives its exit code;
/// `None` where it is inside already.
pub fn enter() -> Option<ExitCode> {
    if is_inside() {
        set_up();
        return None;
    }
    let status = new_process().args(env::args().skip(1)).status();
    let code = status.expect("run the tests again").code().unwrap_or(1);
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Runs the test of this name in a process of its own. It panics where the test fails.
pub fn run_in_own(name: &str) -> Result<(), String> {
    let output = new_process().arg(name).stdin(Stdio::null()).output();
    let output = output.expect("run the test again");
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(i32::from(SKIPPED)) {
        return Err(stdout.trim_end().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{stdout}{stderr}",
        output.status
    );
    Ok(())
}

/// Runs one test in this process, which was made for it.
pub fn run_test(test: &Test) -> ExitCode {
    set_up();
    match (test.run)() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("{reason}");
            ExitCode::from(SKIPPED)
        }
    }
}

/// `Err` with the reason for a skip where the tests are not in their own namespaces.
pub fn check_needed() -> Result<(), String> {
    match env::var(MARK).as_deref() {
        Ok("inside") => Ok(()),
        _ => Err("needs ip(8), and root or user namespaces (in a chroot: root)".to_owned()),
    }
}

fn set_up() {
    if check_needed().is_err() {
        return;
    }
    let libraries = fs::read("/etc/ld.so.cache").ok();
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).status();
        assert!(status.is_ok_and(|s| s.success()), "{program} {args:?}");
    };
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    if !Path::new("/var/run").is_symlink() {
        run("mount", &["-t", "tmpfs", "tmpfs", "/var/run"]);
    }
    // An /etc of our own: names, services and their order must not depend on the machine.
    run("mount", &["-t", "tmpfs", "tmpfs", "/etc"]);
    run("ip", &["link", "set", "lo", "up"]);
    let write = |path: &str, text: &[u8]| fs::write(path, text).expect(path);
    if let Some(libraries) = libraries {
        write("/etc/ld.so.cache", &libraries);
    }
    write("/etc/hosts", b"127.0.0.1 localhost\n::1 ip6-localhost\n");
    write("/etc/nsswitch.conf", b"hosts: files dns\nservices: files\n");
    write("/etc/services", SERVICES.as_bytes());
    write(
        "/etc/resolv.conf",
        b"nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
    );
    write("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    fs::create_dir_all("/var/run/wireguard").expect("/var/run/wireguard");
    fs::create_dir_all(crate::tool::DIR).expect(crate::tool::DIR);
}
