// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs that guests get beyond what Debian 12 packages: the `wg` under test, other versions
//! of the C tool, and clients of WireGuard in other languages that are built here.
//!
//! The guest is told of a program that this machine cannot have, and skips with that reason: only
//! an absence is such a reason, a mistake of ours is an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::table::find_crate_folder;
use kit::cache::{Key, STRIPPED};
use kit::debian::{BOOKWORM, Closure};
use kit::process::run;
use kit::{Cache, Debian, Error, Result, cargo};

/// Debian 12's Go, as good as any newer one for programs as small as ours.
const GO_PACKAGES: &[&str] = &["golang-1.19-go", "golang-1.19-src"];
const GO_ROOT: &str = "usr/lib/go-1.19";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program of this machine, with the libraries that it needs.
    Local(PathBuf),
    /// A program of an unpacked root (`usr/bin/wg`), run by that root's own loader.
    Rooted(PathBuf, &'static str),
    Lacking(String),
}

impl Program {
    /// Hashes the bytes of the program and not its place: another machine comes to the same hash.
    pub fn hash_program(&self, cache: &Cache) -> Result<String> {
        let key = match self {
            // As the guest gets it: what says where it was built is taken off.
            Self::Local(program) => Key::new().add_file("file", &strip_program(program, cache)?)?,
            // The root is named by the packages in it, its libraries among them.
            Self::Rooted(root, program) => {
                let name = root.file_name().unwrap_or_default();
                let key = Key::new().add_value("root", name.as_encoded_bytes());
                key.add_file("file", &root.join(program))?
            }
            Self::Lacking(why) => Key::new().add_value("lacking", why),
        };
        Ok(key.finish())
    }
}

/// The `wg` that guests get: ours, quickly built; or a program that a person hands over; or
/// `debian:SUITE`, the C tool of that suite.
pub fn find_wg(choice: Option<&str>, cache: &Cache) -> Result<Program> {
    let Some(choice) = choice else {
        return Ok(Program::Local(cargo::build_wg("dev", &cache.progress)?));
    };
    if let Some(suite) = choice.strip_prefix("debian:") {
        return find_c_tool(suite, cache);
    }
    match Path::new(choice).canonicalize() {
        Ok(path) if path.is_file() => Ok(Program::Local(path)),
        _ => {
            let what = "give a path, or debian:sid for Debian's C tool";
            Err(Error::other(format!("--wg: no program `{choice}'; {what}")))
        }
    }
}

/// `wg-SUITE`: Debian's C tool of that suite. `go-NAME`: what is in `guest-programs/NAME`.
pub fn make_program(name: &str, cache: &Cache) -> Result<Program> {
    match name.split_once('-') {
        Some(("wg", suite)) => find_c_tool(suite, cache),
        Some(("go", client)) => build_go(client, cache),
        _ => bail!("`programs: {name}' is none of wg-SUITE, go-NAME"),
    }
}

/// The C tool of a suite, with the C library that it was built for, and that one's loader.
fn find_c_tool(suite: &str, cache: &Cache) -> Result<Program> {
    let debian = Debian::new(cache, &[suite])?;
    let packages = ["wireguard-tools", "libc6"];
    let root = debian.unpack_packages(&packages, Closure::Named)?;
    Ok(Program::Rooted(root, "usr/bin/wg"))
}

/// A debug build is ten times as large as its code, and every guest would unpack it. Its build id
/// goes as well: a hash that has the folder it was built in.
pub fn strip_program(program: &Path, cache: &Cache) -> Result<PathBuf> {
    let key = Key::new().add_value("without", "build-id");
    let key = key.add_file("program", program)?.finish();
    cache.keep_file(STRIPPED, &key, |place| {
        fs::copy(program, place)?;
        // Without binutils, or for a script, the program is as good as it is.
        let options = ["--strip-debug", "--remove-section=.note.gnu.build-id"];
        let _ = run(Command::new("strip").args(options).arg(place));
        Ok(())
    })
}

/// Builds a Go program of ours, once for each state of its sources.
fn build_go(name: &str, cache: &Cache) -> Result<Program> {
    let folder = find_crate_folder().join("guest-programs").join(name);
    let mut key = Key::new().add_value("program", name);
    for file in ["go.mod", "go.sum", "main.go"] {
        key = key.add_file(file, &folder.join(file))?;
    }
    let key = format!("{name}-{}", key.finish());
    if let Some(program) = cache.get("go", &key) {
        return Ok(Program::Local(program));
    }
    let debian = Debian::new(cache, BOOKWORM)?;
    let root = debian.unpack_packages(GO_PACKAGES, Closure::Named)?;
    let root = root.join(GO_ROOT);
    let path = cache.open_folder("go-path")?;
    // Folders of its own. Where modules come from is the machine's business (GOPROXY,
    // GONOSUMDB); what they are is not: go.sum has their hashes.
    let go = || {
        let mut command = Command::new(root.join("bin/go"));
        command.current_dir(&folder).env("GOROOT", &root);
        command.env("GOPATH", &path);
        command.env("GOCACHE", path.join("build"));
        // Without cgo ours is a static program, for any C library.
        for word in "GOENV=off GOWORK=off GOFLAGS=-modcacherw CGO_ENABLED=0 LC_ALL=C".split(' ') {
            command.envs(word.split_once('='));
        }
        command
    };
    cache.begin_step(&format!("modules of {name}"));
    // On its own: a machine without the modules lacks something, a program that does not compile
    // is wrong.
    let modules = run(go().args(["mod", "download"]));
    cache.end_step();
    let why = "the Go modules that it is built of cannot be downloaded here; \
               a GOPROXY that has them helps";
    match modules {
        Err(Error::Failed { output: said, .. })
            if !said.contains("go.sum") && !said.contains("checksum") =>
        {
            return Ok(Program::Lacking(why.into()));
        }
        other => drop(other?),
    }
    let program = cache.keep_file("go", &key, |place| {
        cache.begin_step(&format!("build {name}"));
        let mut build = go();
        build.args(["build", "-mod=readonly", "-trimpath", "-o"]);
        run(build.arg(place).arg("."))?;
        cache.end_step();
        Ok(())
    })?;
    Ok(Program::Local(program))
}
