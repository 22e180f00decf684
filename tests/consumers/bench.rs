// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where the cases run: namespaces of their own with userspace devices in them, and the programs
//! that were fetched before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use crate::namespaces::{self, CHROOT, ROOT, USER};
use crate::uapi::Devices;

/// Why a case cannot run here.
pub struct Skip(pub String);

/// Set for the process that runs inside the namespaces: where fetched packages are.
const INSIDE: &str = "WG_VRF_CONSUMERS_INSIDE";

/// The `wg` under test: that of this build, or another one whose path the environment gives
/// (the reference's, to see that the parsers are restated rightly).
fn wg() -> PathBuf {
    std::env::var_os("WG_VRF_TEST_WG").map_or_else(|| env!("CARGO_BIN_EXE_wg").into(), Into::into)
}

pub struct Bench {
    /// `None` without namespaces.
    devices: Option<Devices>,
    /// Fetched packages.
    cache: PathBuf,
    /// A directory with nothing but `wg` in it, for the front of PATH.
    bin: PathBuf,
    pub scratch: PathBuf,
}

impl Bench {
    /// Starts this program again in namespaces of its own, where
    /// /var/run/wireguard can be filled. `Err` is the exit status of that second run.
    pub fn enter() -> Result<Bench, ExitCode> {
        if let Some(cache) = std::env::var_os(INSIDE) {
            return Ok(Bench::new(cache.into(), Some(Devices::serve())));
        }
        let cache = cache();
        let Some(way) = namespaces::find_way(&[USER, ROOT, CHROOT]) else {
            return Ok(Bench::new(cache, None));
        };
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/wireguard && exec \"$@\"";
        let status = Command::new("unshare")
            .args(way)
            .args(["sh", "-c", script, "sh"])
            .arg(std::env::current_exe().expect("the path of this program"))
            .args(std::env::args_os().skip(1))
            .env(INSIDE, &cache)
            .status()
            .expect("unshare was there a moment ago");
        Err(ExitCode::from(status.code().map_or(1, |code| code as u8)))
    }

    fn new(cache: PathBuf, devices: Option<Devices>) -> Bench {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("consumers");
        // What an earlier run left must not decide what this one sees.
        let _ = std::fs::remove_dir_all(&scratch);
        let bin = scratch.join("bin");
        std::fs::create_dir_all(&bin).expect("a scratch directory");
        std::os::unix::fs::symlink(wg(), bin.join("wg")).expect("a link to wg");
        Bench {
            devices,
            cache,
            bin,
            scratch,
        }
    }

    /// The scripted devices.
    pub fn serve_devices(&self) -> Result<&Devices, Skip> {
        self.devices.as_ref().ok_or_else(|| {
            Skip("needs ip(8), and root or user namespaces (in a chroot: root)".to_owned())
        })
    }

    /// The directory of a fetched package.
    pub fn find_package(&self, name: &str) -> Result<PathBuf, Skip> {
        let dir = self.cache.join(name);
        if dir.join("complete").exists() {
            return Ok(dir);
        }
        Err(Skip(format!(
            "{name} is not here; `cargo test --test consumers -- --fetch' fetches it"
        )))
    }

    /// A program of the system.
    pub fn find_program(&self, name: &str) -> Result<(), Skip> {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
        if found {
            return Ok(());
        }
        Err(Skip(format!("{name} is not installed")))
    }

    /// A command that finds our `wg` first.
    pub fn prepare_command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("WG_HIDE_KEYS", "always")
            .env("WG_COLOR_MODE", "never")
            .stdin(Stdio::null());
        command
    }

    /// Our `wg`, which must succeed and say nothing on stderr.
    pub fn run_wg(&self, args: &[&str]) -> String {
        stdout(self.prepare_command("wg").args(args))
    }

    /// A script that must succeed; `$1`... are `args`.
    pub fn run_bash(&self, script: &str, args: &[&str]) -> String {
        stdout(
            self.prepare_command("bash")
                .args(["-euo", "pipefail", "-c", script, "bash"])
                .args(args),
        )
    }

    pub fn write_file(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.scratch.join(name);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).expect("a directory in the scratch directory");
        }
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .expect("a file in the scratch directory");
        file.write_all(content.as_bytes()).expect("room for it");
        path
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// Stdout of a command that must succeed without a word on stderr.
pub fn stdout(command: &mut Command) -> String {
    let out = command.output().expect("the command to start");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{command:?}: {}\n{}{}",
        out.status,
        text(&out.stdout),
        text(&out.stderr)
    );
    text(&out.stdout)
}

/// Everything about a command that may fail.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the command to start")
}

/// Where fetched packages are.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    base.join("wg-vrf/consumers")
}
