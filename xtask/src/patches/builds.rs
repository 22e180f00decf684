// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each patch builds with no warning that was not there before it.
//!
//! Only drivers/net/wireguard is compiled. A tree that is built as a module is built against
//! Debian's headers; a whole tree is configured in several ways, by `build-driver.sh`. Verdicts
//! are cached by what was compiled, so that a reworded message costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::{Key, remove};
use kit::{Error, Event, Result, process};
use vm_tests::kernel::module;
use vm_tests::kernel::series::Series;
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::Build;

use super::finding::{Finding, doc};
use super::folder::{Set, read_file, write_file};
use super::{Context, git};

const SCRIPT: &str = include_str!("build-driver.sh");
/// What of a series is compiled.
const COMPILED: &[&str] = &["drivers/net/wireguard", "include"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    None,
    /// What CI runs: each patch by default, all of them without IPv6 and without L3 master devices
    Some,
    /// Each patch also as modules, with clang, 32 bits, big-endian, lockdep, allmodconfig
    All,
}

/// What allnoconfig lacks; the options of a configuration come after it and override it.
const COMMON: &str = "64BIT=y SMP=y MODULES=y MULTIUSER=y NET=y INET=y IPV6=y IP_ADVANCED_ROUTER=y \
    IP_MULTIPLE_TABLES=y IPV6_MULTIPLE_TABLES=y NETDEVICES=y NET_CORE=y NET_L3_MASTER_DEV=y \
    NET_VRF=y WIREGUARD=y WIREGUARD_DEBUG=y";

/// Name, arguments of make, options. `Which::Some` takes the first three.
const CONFIGS: &[(&str, &str, &str)] = &[
    ("default", "ARCH=x86_64 C=1", ""),
    ("ipv6-n", "ARCH=x86_64", "IPV6=n IPV6_MULTIPLE_TABLES=n"),
    ("l3mdev-n", "ARCH=x86_64", "NET_L3_MASTER_DEV=n NET_VRF=n"),
    ("modules", "ARCH=x86_64", "NET_VRF=m WIREGUARD=m"),
    ("vrf-n", "ARCH=x86_64", "NET_VRF=n WIREGUARD_DEBUG=n"),
    ("up", "ARCH=x86_64", "SMP=n"),
    (
        "lockdep",
        "ARCH=x86_64 C=1",
        "DEBUG_KERNEL=y PROVE_LOCKING=y DEBUG_ATOMIC_SLEEP=y",
    ),
    ("clang", "ARCH=x86_64 CC=clang-19", ""),
    ("32-bit", "ARCH=i386 C=1", "64BIT=n"),
    // For sparse's and the compiler's view of byte orders.
    (
        "big-endian",
        "ARCH=s390 C=1 CROSS_COMPILE=s390x-linux-gnu-",
        "",
    ),
    // A warning is compared with those before, so it must not be an error.
    ("allmodconfig", "ARCH=x86_64 C=1", "WERROR=n"),
];

/// Findings, and how many builds there were.
type Built = (Vec<Finding>, usize);

/// Builds after each patch of a tree; `repo` has the series on the tree's source.
pub fn check_tree(set: &Set, repo: &Path, which: Which, context: &Context) -> Result<Built> {
    if set.tree.build == Build::Module {
        return check_modules(set, context);
    }
    let source = Source::find(&set.tree, &context.cache, &context.progress)?;
    let place = Place {
        name: &source.version,
        repo,
        pristine: Some(&source.whole()?),
    };
    check_configs(set, which, &place, context)
}

/// After each patch against the headers of Debian's own kernel.
fn check_modules(
    set: &Set,
    Context {
        cache, progress, ..
    }: &Context,
) -> Result<Built> {
    let (mut findings, mut count) = (Vec::new(), 0);
    let mut series = Series::read(&set.dir)?;
    let patches = std::mem::take(&mut series.patches);
    for (mail, patch) in set.mails.iter().zip(patches) {
        series.patches.push(patch);
        if !COMPILED.iter().any(|path| mail.touches(path)) {
            continue;
        }
        let made = module::build_with(&set.tree, &series, &["W=1", "C=1"], cache, progress);
        let found = match made {
            Ok(module) => read_warnings(&read_log(&module.file.with_file_name("build.log"))?),
            Err(error @ Error::Failed { .. }) => vec![find_error(&error.to_string())],
            Err(error) => return Err(error),
        };
        count += 1;
        findings.extend(found.iter().map(|w| describe(set, &mail.file, "module", w)));
    }
    Ok((findings, count))
}

fn describe(set: &Set, file: &str, config: &str, what: &str) -> Finding {
    Finding::new(set.path(file), format!("{config}: {what}"))
        .by("builds", doc::NETDEV)
        .repair(set.reword())
}

/// A source that is configured and built in many ways.
pub struct Place<'a> {
    /// Part of cache keys: the version, or the commit of a clone.
    pub name: &'a str,
    /// The series on top of the source.
    pub repo: &'a Path,
    /// The source, where the repository holds a part of it only. Never written to.
    pub pristine: Option<&'a Path>,
}

/// What a build said: its warnings, or the first error of one that failed.
type Verdict = std::result::Result<Vec<String>, String>;

pub fn check_configs(
    set: &Set,
    which: Which,
    place: &Place<'_>,
    context: &Context,
) -> Result<Built> {
    let commits = git::list_commits(place.repo, git::BASE, git::SERIES)?;
    let files = set.mails.iter().map(|m| m.file.as_str());
    let states: Vec<_> = files.zip(&commits).collect();
    // With other parts of the source in the repository it is another folder: git would take
    // files away that it no longer knows.
    let base = git::run(place.repo, &["rev-parse", "base^{tree}"])?;
    let name = format!("matrix-{}-{}", place.name, &base[..12]);
    let _lock = context.cache.lock(&name)?;
    let area = context.cache.folder("build")?.join(name);
    let (mut findings, mut count) = (Vec::new(), 0);
    let quick = if which == Which::All {
        CONFIGS.len()
    } else {
        3
    };
    for config in &CONFIGS[..quick] {
        let build = |commit: &str| build(&area, config, commit, place, context);
        // CI builds each patch in the first configuration, and the whole series in the others.
        let last = which == Which::Some && config.0 != CONFIGS[0].0;
        let mut verdicts = Vec::new();
        for (file, commit) in &states[if last { states.len() - 1 } else { 0 }..] {
            count += 1;
            verdicts.push((*file, build(commit)?));
        }
        if verdicts.iter().any(|(_, v)| *v != Ok(Vec::new())) {
            // Something is said: was it said before the series, too?
            count += 1;
            let before = build(git::BASE)?.map_err(|first| {
                Error::other(format!("{}: the source as it is: {first}", config.0))
            })?;
            let new = find_new(before, verdicts);
            findings.extend(new.iter().map(|(f, what)| describe(set, f, config.0, what)));
        }
    }
    Ok((findings, count))
}

/// Each warning or error at the first patch that has it.
fn find_new(mut known: Vec<String>, verdicts: Vec<(&str, Verdict)>) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for (file, verdict) in verdicts {
        for what in verdict.unwrap_or_else(|first| vec![first]) {
            if !known.contains(&what) {
                known.push(what.clone());
                found.push((file, what));
            }
        }
    }
    found
}

/// The first line of what the compiler of a configuration says about itself. Without a compiler
/// nothing is built, which is not the same as passed.
fn ask_compiler(arguments: &str) -> Result<String> {
    let mut words = arguments.split_whitespace();
    let compiler = words.find_map(|word| match word.split_once('=')? {
        ("CC", name) => Some(name.to_owned()),
        ("CROSS_COMPILE", prefix) => Some(format!("{prefix}gcc")),
        _ => None,
    });
    let compiler = compiler.unwrap_or_else(|| "gcc".to_owned());
    process::run(Command::new(compiler).arg("--version"))
}

/// Builds one state, or finds what an earlier build of it said.
fn build(
    area: &Path,
    (name, arguments, options): &(&str, &str, &str),
    commit: &str,
    place: &Place<'_>,
    context: &Context,
) -> Result<Verdict> {
    let (base, common) = match *name {
        "allmodconfig" => ("allmodconfig", ""),
        _ => ("allnoconfig", COMMON),
    };
    let options = format!("{common} {options}");
    let mut key = Key::new()
        .add("recipe", SCRIPT)
        .add("source", place.name)
        .add("config", format!("{name} {arguments} {options}"))
        .add("compiler", ask_compiler(arguments)?);
    for path in COMPILED {
        let tree = format!("{commit}:{path}");
        key = key.add(path, git::run(place.repo, &["rev-parse", &tree])?);
    }
    let log = area.join(format!("{name}.log"));
    let run = |commit: &str, base: &str| {
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "build-driver.sh"]);
        script.arg(area).arg(place.repo);
        script.args([commit, name, base, &options]);
        process::logged(script.args(arguments.split(' ')), &log)
    };
    let key = format!("{name}-{}", key.finish());
    let kept = context.cache.file("patch-build", &key, |path| {
        let subject = git::run(place.repo, &["log", "-1", "--format=%s", commit])?;
        let step = format!("build {name}: {}", subject.trim());
        context.progress.step(&step);
        if !area.join("index").exists() {
            prepare_source(area, place.pristine)?;
            run(git::BASE, "")?;
        }
        run(commit, base)?;
        context.progress.tell(Event::Done);
        write_file(path, &read_warnings(&read_log(&log)?).join("\n"))
    });
    match kept {
        Ok(path) => Ok(Ok(read_file(&path)?.lines().map(str::to_owned).collect())),
        // Not kept: it may have been the machine.
        Err(Error::Failed { .. }) => Ok(Err(find_error(&read_log(&log)?))),
        Err(error) => Err(error),
    }
}

fn prepare_source(area: &Path, pristine: Option<&Path>) -> Result<()> {
    let src: PathBuf = area.join("src");
    remove(area)?;
    fs::create_dir_all(area).map_err(Error::io("create", area))?;
    match pristine {
        // Hard links: what git brings replaces a file, and is never written into one.
        Some(from) => process::run(Command::new("cp").arg("-al").args([from, &src]))?,
        None => process::run(Command::new("mkdir").arg(&src))?,
    };
    Ok(())
}

fn read_log(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The compiler's and sparse's warnings about the driver and its header, without line numbers.
fn read_warnings(log: &str) -> Vec<String> {
    let warns = |l: &&str| l.contains(": warning:") || l.contains(": error:");
    let lines = log
        .lines()
        .filter(warns)
        .filter(|l| l.contains("wireguard"));
    let mut found: Vec<String> = lines.map(strip_place).collect();
    found.dedup();
    found
}

/// `…/drivers/net/wireguard/socket.c:61:7: warning: x` → `drivers/net/wireguard/socket.c: warning: x`
fn strip_place(line: &str) -> String {
    let places = ["drivers/net/wireguard", "include/uapi"];
    let start = places.iter().filter_map(|place| line.find(place)).min();
    let line = &line[start.unwrap_or(0)..];
    let (place, text) = line.split_once(": ").unwrap_or((line, ""));
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {text}")
}

fn find_error(log: &str) -> String {
    let words = ["error:", "Error ", "*** ", "fatal:"];
    let mut lines = log.lines().filter(|l| words.iter().any(|w| l.contains(w)));
    let first = lines.next().map(strip_place);
    first.unwrap_or_else(|| "make failed without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_new() {
        let lines = |all: &[&str]| Ok(all.iter().map(|l| (*l).to_owned()).collect());
        let broken = ("4", Err("broken".to_owned()));
        let verdicts = vec![
            ("2", lines(&["old", "pot"])),
            ("3", lines(&["pot"])),
            broken,
        ];
        let found = find_new(vec!["old".to_owned()], verdicts);
        assert_eq!(found, [("2", "pot".to_owned()), ("4", "broken".to_owned())]);
    }

    #[test]
    fn warnings_lose_their_place_and_others_are_not_ours() {
        let log = "  CC x\n\
            /tmp/src/drivers/net/wireguard/socket.c:61:7: warning: unused variable 'pot' [-W]\n\
            ../drivers/net/wireguard/socket.c:70:7: warning: unused variable 'pot' [-W]\n\
            /tmp/src/kernel/fork.c:1:2: warning: other\n";
        let want = "drivers/net/wireguard/socket.c: warning: unused variable 'pot' [-W]";
        assert_eq!(read_warnings(log), [want]);
        let log = "x\n/s/drivers/net/wireguard/a.c:3:4: error: no pot\n";
        assert_eq!(find_error(log), "drivers/net/wireguard/a.c: error: no pot");
    }
}
