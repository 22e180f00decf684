// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The programs of the machine that the other commands need, and the Debian package of each.
//!
//! As root what is missing is installed from the machine's own apt sources, nothing else is
//! touched; without root the packages and the command are named.

use std::path::Path;
use std::process::Command;

use crate::{Error, Progress, Result, process};

/// What a program is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Fetching and unpacking Debian's packages.
    Packages,
    /// Booting guests.
    Vm,
    /// Building the patched module against Debian's headers.
    Module,
    /// Building a whole kernel.
    Kernel,
    /// Checking and exporting a series.
    Patches,
    /// Building each patch in every way: `--builds all`.
    Matrix,
    /// Posting one, be it to ourselves: the unit tests do that.
    Posting,
    /// Readers of what we write (man page, completions, archives): a test without one is skipped.
    Reading,
}

/// How presence is seen: a program on PATH, or a file of a library.
enum Sign {
    Program(&'static str),
    File(&'static str),
}

struct Requirement {
    sign: Sign,
    package: &'static str,
    uses: &'static [For],
}

use For::{Kernel, Matrix, Module, Packages, Patches, Posting, Reading, Vm};
use Sign::{File, Program};

#[rustfmt::skip]
const NEEDS: &[Requirement] = &[
    Requirement { sign: Program("git"), package: "git", uses: &[Packages, Module, Kernel, Patches, Posting] },
    Requirement { sign: Program("tar"), package: "tar", uses: &[Packages] },
    Requirement { sign: Program("xz"), package: "xz-utils", uses: &[Packages] },
    Requirement { sign: Program("qemu-system-x86_64"), package: "qemu-system-x86", uses: &[Vm] },
    Requirement { sign: Program("make"), package: "make", uses: &[Module, Kernel, Patches] },
    // The compiler that Debian built its kernels with, by its versioned name.
    Requirement { sign: Program("gcc-12"), package: "gcc-12", uses: &[Module] },
    Requirement { sign: Program("gcc"), package: "gcc", uses: &[Kernel, Patches] },
    // objtool, of the headers' kbuild package and of a whole kernel.
    Requirement { sign: File("/usr/include/libelf.h"), package: "libelf-dev", uses: &[Module, Kernel, Patches] },
    Requirement { sign: Program("flex"), package: "flex", uses: &[Kernel, Patches] },
    Requirement { sign: Program("bison"), package: "bison", uses: &[Kernel, Patches] },
    Requirement { sign: Program("bc"), package: "bc", uses: &[Kernel, Patches] },
    Requirement { sign: Program("cmp"), package: "diffutils", uses: &[Kernel, Patches] },
    Requirement { sign: Program("perl"), package: "perl", uses: &[Kernel, Patches, Posting] },
    Requirement { sign: Program("sparse"), package: "sparse", uses: &[Patches] },
    Requirement { sign: Program("clang-19"), package: "clang-19", uses: &[Matrix] },
    Requirement { sign: Program("s390x-linux-gnu-gcc"), package: "gcc-s390x-linux-gnu", uses: &[Matrix] },
    // allmodconfig's modules are signed.
    Requirement { sign: File("/usr/include/openssl/ssl.h"), package: "libssl-dev", uses: &[Matrix] },
    Requirement { sign: Program("codespell"), package: "codespell", uses: &[Patches] },
    // The generator of netlink code out of its specification.
    Requirement { sign: File("/usr/lib/python3/dist-packages/yaml/__init__.py"), package: "python3-yaml", uses: &[Patches] },
    Requirement { sign: File("/usr/lib/python3/dist-packages/jsonschema/__init__.py"), package: "python3-jsonschema", uses: &[Patches] },
    Requirement { sign: File("/usr/lib/git-core/git-send-email"), package: "git-email", uses: &[Patches, Posting] },
    // It only recommends this, and cannot start without.
    Requirement { sign: File("/usr/share/perl5/Mail/Address.pm"), package: "libmailtools-perl", uses: &[Patches, Posting] },
    Requirement { sign: Program("mandoc"), package: "mandoc", uses: &[Reading] },
    Requirement { sign: Program("zsh"), package: "zsh", uses: &[Reading] },
    Requirement { sign: Program("fish"), package: "fish", uses: &[Reading] },
];

/// Sees to it that everything for `uses` is there, or says what is missing.
pub fn ensure(uses: &[For], progress: &Progress) -> Result<()> {
    let missing = missing(uses);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || process::which("apt-get").is_none() {
        return Err(Error::other(format!(
            "missing: {packages}\nas root: apt-get install --no-install-recommends {packages}"
        )));
    }
    progress.step(&format!("install {packages}"));
    let mut result = install(&missing);
    if result.is_err() {
        // Fresh machines have no package lists, or ones that name files that are gone.
        process::run(apt().args(["-qq", "update"]))?;
        result = install(&missing);
    }
    result?;
    progress.done();
    match self::missing(uses).as_slice() {
        [] => Ok(()),
        left => Err(Error::other(format!(
            "still missing after the installation: {}",
            left.join(" ")
        ))),
    }
}

/// Like [`ensure`], for what is worth having and no reason to stop: without root, or without a
/// network, what is missing stays so.
pub fn offer(uses: &[For], progress: &Progress) {
    if is_root() {
        // The tests that need it say what is not there.
        let _ = ensure(uses, progress);
    }
}

pub fn has(program: &str) -> bool {
    process::which(program).is_some()
}

fn missing(uses: &[For]) -> Vec<&'static str> {
    NEEDS
        .iter()
        .filter(|need| need.uses.iter().any(|u| uses.contains(u)))
        .filter(|need| match need.sign {
            Program(name) => process::which(name).is_none(),
            File(path) => !Path::new(path).exists(),
        })
        .map(|need| need.package)
        .collect()
}

fn install(packages: &[&str]) -> Result<String> {
    process::run(
        apt()
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt may be at work: wait for it.
        .args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn is_root() -> bool {
    process::run(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_has_a_need_and_every_package_one_line() {
        for what in [
            Packages, Vm, Module, Kernel, Patches, Matrix, Posting, Reading,
        ] {
            assert!(
                NEEDS.iter().any(|n| n.uses.contains(&what)),
                "{what:?} needs nothing"
            );
        }
        let mut names: Vec<_> = NEEDS.iter().map(|n| n.package).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NEEDS.len());
    }
}
