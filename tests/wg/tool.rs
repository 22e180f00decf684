// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs a `wg`, ours or the reference, and keeps all that it did.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::uapi::{self, Device};

/// Where the files of a case live while it runs; the same for both tools.
pub const DIR: &str = "/run/files";

/// One call of the tool, in a world of files and devices.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub args: Vec<String>,
    pub stdin: String,
    pub env: Vec<(String, String)>,
    /// Name below [`DIR`] and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Name, state and error number.
    pub devices: Vec<(String, String, i32)>,
    /// Why our tool is meant to do something else here.
    pub differs: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `None` for a death by signal, and for a call that was ended for taking too long.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// What each device was asked to change.
    pub sets: Vec<String>,
}

/// Our tool: the one that was built with the tests, or WG_UNDER_TEST (an installed package).
pub fn ours() -> Vec<String> {
    command("WG_UNDER_TEST").unwrap_or_else(|| vec![env!("CARGO_BIN_EXE_wg").to_owned()])
}

/// The command of the reference, from WG_REFERENCE.
pub fn reference() -> Option<Vec<String>> {
    command("WG_REFERENCE")
}

fn command(variable: &str) -> Option<Vec<String>> {
    let command = std::env::var(variable).ok()?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

/// Makes the world of a case and runs `tool` in it.
pub fn run(tool: &[impl AsRef<str>], case: &Case) -> Outcome {
    let devices: Vec<Device> = case
        .devices
        .iter()
        .map(|(name, state, errno)| Device::start(name, state, *errno))
        .collect();
    for (name, content) in &case.files {
        fs::write(format!("{DIR}/{name}"), content).expect("file of a case");
    }
    let mut outcome;
    loop {
        let before = uapi::now();
        outcome = call(tool, &case.args, &case.stdin, &case.env);
        outcome.sets = devices.iter().flat_map(Device::take_sets).collect();
        // "5 seconds ago" is only certain within one second of the clock.
        if uapi::now() == before || !case.devices.iter().any(|(_, state, _)| state.contains('@')) {
            break;
        }
    }
    for (name, _) in &case.files {
        let _ = fs::remove_file(format!("{DIR}/{name}"));
    }
    outcome
}

/// Runs `tool`; the devices are there already.
pub fn call(
    tool: &[impl AsRef<str>],
    args: &[String],
    stdin: &str,
    env: &[(String, String)],
) -> Outcome {
    let tool: Vec<&str> = tool.iter().map(AsRef::as_ref).collect();
    let mut command = Command::new(tool[0]);
    command.arg0("wg").args(&tool[1..]).args(args);
    let mut child = command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("WG_ENDPOINT_RESOLUTION_RETRIES", "0")
        .envs(env.iter().map(|(k, v)| (k.as_str(), v.as_str())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the tool");
    let mut input = child.stdin.take().expect("stdin");
    // A tool that does not read its input is fine.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("end of the tool");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        sets: Vec::new(),
    }
}
