// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The programs of the machine that the other commands need, and the Debian package of each. As root
//! what is missing is installed from the machine's own apt sources; else packages and command are named.

use std::path::Path;
use std::process::Command;

use crate::{Progress, Result, process};

/// The purpose of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Fetching and unpacking Debian's packages.
    Packages,
    /// wg beside the C tool.
    Measuring,
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
    /// Building Debian packages.
    Packaging,
    /// Posting one, be it to ourselves: the unit tests do that.
    Posting,
    /// What tests run: `ip`, and readers of what we write. A test without its program is skipped.
    Reading,
}

use For::{Kernel, Matrix, Measuring, Module, Packages, Packaging, Patches, Posting, Reading, Vm};

/// A program on PATH or a file of a library, the package that has it, and what needs it.
#[rustfmt::skip]
const NEEDS: &[(&str, &str, &[For])] = &[
    ("git", "git", &[Packages, Module, Kernel, Patches, Posting]),
    ("tar", "tar", &[Packages]),
    ("xz", "xz-utils", &[Packages]),
    ("qemu-system-x86_64", "qemu-system-x86", &[Vm]),
    ("make", "make", &[Module, Kernel, Patches]),
    // The compiler that Debian built its kernels with, by its versioned name.
    ("gcc-12", "gcc-12", &[Module]),
    ("gcc", "gcc", &[Kernel, Patches, Packaging]),
    // objtool, of the headers' kbuild package and of a whole kernel.
    ("/usr/include/libelf.h", "libelf-dev", &[Module, Kernel, Patches]),
    ("flex", "flex", &[Kernel, Patches]),
    ("bison", "bison", &[Kernel, Patches]),
    ("bc", "bc", &[Kernel, Patches]),
    ("perl", "perl", &[Kernel, Patches, Posting]),
    ("sparse", "sparse", &[Patches]),
    ("clang-19", "clang-19", &[Matrix]),
    ("s390x-linux-gnu-gcc", "gcc-s390x-linux-gnu", &[Matrix]),
    // allmodconfig's modules are signed.
    ("/usr/include/openssl/ssl.h", "libssl-dev", &[Matrix]),
    ("codespell", "codespell", &[Patches]),
    // The generator of netlink code out of its specification.
    ("/usr/lib/python3/dist-packages/yaml/__init__.py", "python3-yaml", &[Patches]),
    ("/usr/lib/python3/dist-packages/jsonschema/__init__.py", "python3-jsonschema", &[Patches]),
    ("/usr/lib/git-core/git-send-email", "git-email", &[Patches, Posting]),
    // It only recommends this, and cannot start without.
    ("/usr/share/perl5/Mail/Address.pm", "libmailtools-perl", &[Patches, Posting]),
    ("dh", "debhelper", &[Packaging]),
    ("apt-ftparchive", "apt-utils", &[Packaging]),
    ("valgrind", "valgrind", &[Measuring]),
    ("ip", "iproute2", &[Reading]),
    ("mandoc", "mandoc", &[Reading]),
    ("zsh", "zsh", &[Reading]),
    ("fish", "fish", &[Reading]),
];

/// Sees to it that everything for `uses` is there, or says what is missing.
pub fn ensure_programs(uses: &[For], progress: &Progress) -> Result<()> {
    let missing = find_missing(uses);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let is_root = process::run(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || process::find_program("apt-get").is_none() {
        bail!("missing: {packages}\nas root: apt-get install --no-install-recommends {packages}");
    }
    progress.begin_step(&format!("install {packages}"));
    if install_packages(&missing).is_err() {
        // Fresh machines have no package lists, or ones that name files that are gone.
        process::run(prepare_apt().args(["-qq", "update"]))?;
        install_packages(&missing)?;
    }
    progress.end_step();
    match find_missing(uses).join(" ").as_str() {
        "" => Ok(()),
        left => bail!("still missing after the installation: {left}"),
    }
}

fn find_missing(uses: &[For]) -> Vec<&'static str> {
    let is_there = |sign: &str| match sign.starts_with('/') {
        true => Path::new(sign).exists(),
        false => process::find_program(sign).is_some(),
    };
    let needed = |for_what: &[For]| for_what.iter().any(|u| uses.contains(u));
    let missing = NEEDS
        .iter()
        .filter(|(sign, _, uses)| needed(uses) && !is_there(sign));
    missing.map(|(_, package, _)| *package).collect()
}

fn install_packages(packages: &[&str]) -> Result<String> {
    let options = ["-qq", "-y", "--no-install-recommends", "install"];
    process::run(prepare_apt().args(options).args(packages))
}

fn prepare_apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt may be at work: wait for it.
        .args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}
