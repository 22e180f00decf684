// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs that a scenario asks for by `# programs:`, beyond what Debian 12 packages: other
//! versions of the C tool, and clients of WireGuard in other languages that are built here.
//!
//! What cannot be had on this machine is told to the guest, which skips with that reason: only
//! an absence is such a reason, a mistake of ours is an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::runner::Tool;
use crate::run::scenario::crate_folder;
use kit::cache::{Cache, Key};
use kit::debian::{BOOKWORM, Closure, Debian, run};
use kit::error::{Error, Result};
use kit::progress::{Event, Progress};

/// Debian 12's Go, as good as any newer one for programs as small as ours.
const GO_PACKAGES: &[&str] = &["golang-1.19-go", "golang-1.19-src"];
const GO_ROOT: &str = "usr/lib/go-1.19";

/// A program, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Program(Tool),
    Lacking(String),
}

/// `wg-SUITE`: Debian's C tool of that suite. `go-NAME`: what is in `guest-programs/NAME`.
pub fn find(name: &str, cache: &Cache, progress: &Progress) -> Result<Found> {
    if let Some(suite) = name.strip_prefix("wg-") {
        return Ok(Found::Program(c_tool(suite, cache, progress)?));
    }
    if let Some(client) = name.strip_prefix("go-") {
        return go_program(client, cache, progress);
    }
    Err(Error::other(format!(
        "`programs: {name}' is none of wg-SUITE, go-NAME"
    )))
}

/// The C tool of a suite, with the C library that it was built for, and that one's loader.
pub fn c_tool(suite: &str, cache: &Cache, progress: &Progress) -> Result<Tool> {
    let debian = Debian::new(cache, &[suite], progress)?;
    Ok(Tool::Rooted {
        root: debian.unpack(&["wireguard-tools", "libc6"], Closure::Named)?,
        program: "usr/bin/wg".into(),
    })
}

/// Builds a Go program of ours, once for each state of its sources.
fn go_program(name: &str, cache: &Cache, progress: &Progress) -> Result<Found> {
    let folder = crate_folder().join("guest-programs").join(name);
    let mut key = Key::new().add("program", name);
    for file in ["go.mod", "go.sum", "main.go"] {
        key = key.add_file(file, &folder.join(file))?;
    }
    let key = format!("{name}-{}", key.finish());
    if let Some(program) = cache.get("go", &key) {
        return Ok(Found::Program(Tool::Program(program)));
    }
    let debian = Debian::new(cache, BOOKWORM, progress)?;
    let root = debian.unpack(GO_PACKAGES, Closure::Named)?.join(GO_ROOT);
    progress.step(&format!("modules of {name}"));
    // On its own: a machine without the modules lacks something, a program that does not compile
    // is wrong.
    let modules = run(go(&root, &folder, cache)?.args(["mod", "download"]));
    progress.tell(Event::Done);
    match modules {
        Err(Error::Failed { stderr, .. })
            if !stderr.contains("go.sum") && !stderr.contains("checksum") =>
        {
            return Ok(Found::Lacking(
                "the Go modules that it is built of cannot be downloaded here; \
                 a GOPROXY that has them helps"
                    .into(),
            ));
        }
        other => drop(other?),
    }
    let program = cache.file("go", &key, |place| {
        progress.step(&format!("build {name}"));
        run(go(&root, &folder, cache)?
            .args(["build", "-mod=readonly", "-trimpath", "-o"])
            .arg(place)
            .arg("."))?;
        progress.tell(Event::Done);
        Ok(())
    })?;
    Ok(Found::Program(Tool::Program(program)))
}

/// A go command with folders of its own. Where modules come from is the machine's business
/// (GOPROXY, GONOSUMDB); what they are is not: go.sum has their hashes.
fn go(root: &Path, folder: &Path, cache: &Cache) -> Result<Command> {
    let path: PathBuf = cache.folder("go-path")?;
    let mut command = Command::new(root.join("bin/go"));
    command
        .current_dir(folder)
        .env("GOROOT", root)
        .env("GOPATH", &path)
        .env("GOCACHE", path.join("build"))
        .env("GOENV", "off")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-modcacherw")
        // Ours is a static program then, for any C library.
        .env("CGO_ENABLED", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    Ok(command)
}
