// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each patch builds with no warning that was not there before it.
//!
//! Only drivers/net/wireguard is compiled. A tree that is built as a module is built against
//! Debian's headers; a whole tree is configured in several ways. Verdicts are cached by what was
//! compiled, so that a reworded message costs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::{Key, remove};
use kit::{Cache, Error, Event, Progress, Result, process};
use vm_tests::kernel::module;
use vm_tests::kernel::series::{Patch, Series};
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::Build;

use super::finding::{Finding, doc};
use super::folder::{Set, read_file, write_file};
use super::git;

/// Changes of this file that change a verdict: part of the cache key.
const RECIPE: &str = "2";

const DRIVER: &str = "drivers/net/wireguard";
/// What of a series is compiled.
const COMPILED: &[&str] = &[DRIVER, "include"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    None,
    /// What CI runs: each patch by default, all of them without IPv6 and without L3 master devices
    Some,
    /// Each patch also as modules, with clang, 32 bits, big-endian, lockdep, allmodconfig
    All,
}

#[derive(Debug, Default)]
pub struct Built {
    pub findings: Vec<Finding>,
    pub skipped: Vec<String>,
    pub count: usize,
}

impl Built {
    pub fn skip(what: &str) -> Self {
        Self {
            skipped: vec![format!("{what} (--builds none)")],
            ..Self::default()
        }
    }
}

/// One way to configure and compile.
#[derive(Clone, Debug)]
struct Config {
    name: &'static str,
    /// Part of `Which::Some`.
    quick: bool,
    arch: &'static str,
    compiler: Compiler,
    /// What the options are added to.
    base: &'static str,
    options: &'static str,
    sparse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    Gcc,
    Clang,
    /// A 64-bit big-endian machine, for sparse's and the compiler's view of byte orders.
    Cross,
}

/// What allnoconfig lacks; the options of a configuration come after it and override it.
const COMMON: &str = "64BIT=y SMP=y MODULES=y MULTIUSER=y NET=y INET=y IPV6=y IP_ADVANCED_ROUTER=y \
    IP_MULTIPLE_TABLES=y IPV6_MULTIPLE_TABLES=y NETDEVICES=y NET_CORE=y NET_L3_MASTER_DEV=y \
    NET_VRF=y WIREGUARD=y WIREGUARD_DEBUG=y ";
const SMALL: &str = "allnoconfig";

#[rustfmt::skip]
const CONFIGS: &[Config] = &[
    Config { name: "default", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "", sparse: true },
    Config { name: "ipv6-n", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "IPV6=n IPV6_MULTIPLE_TABLES=n", sparse: false },
    Config { name: "l3mdev-n", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "NET_L3_MASTER_DEV=n NET_VRF=n", sparse: false },
    Config { name: "modules", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "NET_VRF=m WIREGUARD=m", sparse: false },
    Config { name: "vrf-n", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "NET_VRF=n WIREGUARD_DEBUG=n", sparse: false },
    Config { name: "up", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "SMP=n", sparse: false },
    Config { name: "lockdep", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: SMALL, options: "DEBUG_KERNEL=y PROVE_LOCKING=y DEBUG_ATOMIC_SLEEP=y", sparse: true },
    Config { name: "clang", quick: false, arch: "x86_64", compiler: Compiler::Clang, base: SMALL, options: "", sparse: false },
    Config { name: "32-bit", quick: false, arch: "i386", compiler: Compiler::Gcc, base: SMALL, options: "64BIT=n", sparse: true },
    Config { name: "big-endian", quick: false, arch: "s390", compiler: Compiler::Cross, base: SMALL, options: "", sparse: true },
    // A warning is compared with those before, so it must not be an error.
    Config { name: "allmodconfig", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: "allmodconfig", options: "WERROR=n", sparse: true },
];

impl Config {
    /// Option and value, each option once.
    fn list_options(&self) -> BTreeMap<&str, &str> {
        let common = if self.base == SMALL { COMMON } else { "" };
        let words = common
            .split_whitespace()
            .chain(self.options.split_whitespace());
        words.filter_map(|word| word.split_once('=')).collect()
    }

    /// KCONFIG_ALLCONFIG's text.
    fn write_fragment(&self) -> String {
        let options = self.list_options().into_iter();
        options
            .map(|(name, value)| format!("CONFIG_{name}={value}\n"))
            .collect()
    }

    /// What is asked for and `.config` does not say. What is not there is off.
    fn find_unmet(&self, config: &str) -> Vec<String> {
        let options = self.list_options().into_iter();
        let unmet = options.filter(|(name, value)| {
            let start = format!("CONFIG_{name}=");
            let got = config.lines().find_map(|l| l.strip_prefix(start.as_str()));
            got.unwrap_or("n") != *value
        });
        unmet
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

/// Builds after each patch of a tree; `repo` has the series on the tree's source.
pub fn check_tree(
    set: &Set,
    repo: &Path,
    which: Which,
    cache: &Cache,
    progress: &Progress,
) -> Result<Built> {
    if which == Which::None {
        return Ok(Built::skip("builds"));
    }
    if set.tree.build == Build::Module {
        return check_modules(set, repo, cache, progress);
    }
    let source = Source::find(&set.tree, cache, progress)?;
    let pristine = source.whole()?;
    let place = Place {
        name: &source.version,
        repo,
        pristine: Some(&pristine),
        cache,
        progress,
    };
    check_configs(set, which, &place)
}

/// Against the headers of Debian's own kernel.
fn check_modules(set: &Set, repo: &Path, cache: &Cache, progress: &Progress) -> Result<Built> {
    let mut built = Built::default();
    let mut before = String::new();
    let diff = cache
        .folder("patches")?
        .join(format!("{}.diff", set.tree.name));
    let commits = git::list_commits(repo, git::BASE, git::SERIES)?;
    for (mail, commit) in set.mails.iter().zip(&commits) {
        // One diff without a message: a reworded patch is the same module.
        let range = ["diff", "--no-renames", git::BASE, commit, "--"];
        let text = process::run(git::command(repo).args(range).args(COMPILED))?;
        if text == before || text.is_empty() {
            continue;
        }
        before.clone_from(&text);
        write_file(&diff, &text)?;
        let series = Series {
            dir: set.dir.clone(),
            patches: vec![Patch {
                name: mail.file.clone(),
                path: diff.clone(),
                text,
            }],
        };
        built.count += 1;
        let found = match module::build_with(&set.tree, &series, &["W=1", "C=1"], cache, progress) {
            Ok(module) => read_warnings(&read_file(&module.file.with_file_name("build.log"))?),
            Err(error @ Error::Failed { .. }) => vec![find_error(&error.to_string())],
            Err(error) => return Err(error),
        };
        let found = found
            .iter()
            .map(|what| describe(set, &mail.file, "module", what));
        built.findings.extend(found);
    }
    Ok(built)
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
    pub cache: &'a Cache,
    pub progress: &'a Progress,
}

/// The warnings of a build, or the first error of one that failed.
type Verdict = std::result::Result<Vec<String>, String>;

pub fn check_configs(set: &Set, which: Which, place: &Place<'_>) -> Result<Built> {
    let mut built = Built::default();
    let commits = git::list_commits(place.repo, git::BASE, git::SERIES)?;
    let files = set.mails.iter().map(|m| m.file.as_str());
    let states: Vec<_> = files.zip(&commits).collect();
    let area = Area::prepare(place)?;
    for config in CONFIGS.iter().filter(|c| c.quick || which == Which::All) {
        let compiler = match area.find_compiler(config.compiler)? {
            Ok(compiler) => compiler,
            // Not built is not passed.
            Err(package) => {
                let install = format!("apt-get install --no-install-recommends {package}");
                let what = "not built, for want of a compiler";
                built
                    .findings
                    .push(describe(set, "series", config.name, what).repair(install));
                continue;
            }
        };
        // CI builds each patch in the first configuration, and the whole series in the others.
        let last = which == Which::Some && config.name != CONFIGS[0].name;
        let chosen = &states[if last { states.len() - 1 } else { 0 }..];
        let mut verdicts = Vec::new();
        for (file, commit) in chosen {
            verdicts.push((*file, area.build(config, &compiler, commit)?));
        }
        built.count += chosen.len();
        if verdicts
            .iter()
            .all(|(_, v)| v.as_ref().is_ok_and(Vec::is_empty))
        {
            continue;
        }
        // Something is said: was it said before the series, too?
        built.count += 1;
        let before = area.build(config, &compiler, git::BASE)?.map_err(|first| {
            let name = config.name;
            Error::other(format!(
                "the source as it is does not build with {name}: {first}"
            ))
        })?;
        let new = find_new(before, verdicts);
        built.findings.extend(
            new.iter()
                .map(|(file, what)| describe(set, file, config.name, what)),
        );
    }
    Ok(built)
}

/// Each warning or error at the first patch that has it.
fn find_new(before: Vec<String>, verdicts: Vec<(&str, Verdict)>) -> Vec<(&str, String)> {
    let mut known = before;
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

struct Found {
    /// As make wants it; empty for gcc.
    argument: String,
    version: String,
}

fn ask_version(program: &str) -> Option<String> {
    let out = process::output(Command::new(program).arg("--version")).ok()?;
    out.ok
        .then(|| out.stdout.lines().next().unwrap_or_default().to_owned())
}

fn read_major(version: &str) -> u32 {
    let major = version.trim().split('.').next().unwrap_or_default();
    major.parse().unwrap_or(0)
}

/// A source that git brings each state of the series into, and a folder of objects a
/// configuration.
struct Area<'a> {
    place: &'a Place<'a>,
    root: PathBuf,
    src: PathBuf,
    _lock: kit::cache::Lock,
}

impl<'a> Area<'a> {
    fn prepare(place: &'a Place<'a>) -> Result<Self> {
        // With other parts of the source in the repository it is another folder: git would take
        // files away that it no longer knows.
        let base = git::run(place.repo, &["rev-parse", "base^{tree}"])?;
        let name = format!("matrix-{}-{}", place.name, &base[..12]);
        let lock = place.cache.lock(&name)?;
        let root = place.cache.folder("build")?.join(&name);
        let area = Self {
            place,
            src: root.join("src"),
            root,
            _lock: lock,
        };
        if !area.root.join("index").exists() {
            remove(&area.root)?;
            fs::create_dir_all(&area.root).map_err(Error::io("create", &area.root))?;
            match place.pristine {
                // Hard links: git replaces a file, it never writes into one.
                Some(from) => process::run(Command::new("cp").arg("-al").args([from, &area.src]))?,
                None => process::run(Command::new("mkdir").arg(&area.src))?,
            };
            area.bring(git::BASE)?;
        }
        Ok(area)
    }

    /// Puts a state of the series in place; only files that differ are written.
    fn bring(&self, commit: &str) -> Result<()> {
        let git_dir = self.place.repo.join(".git");
        process::run(
            git::command(&self.src)
                .env("GIT_INDEX_FILE", self.root.join("index"))
                .env("GIT_DIR", git_dir)
                .env("GIT_WORK_TREE", &self.src)
                .args(["-c", "core.sparseCheckout=false"])
                .args(["read-tree", "--reset", "-u", commit]),
        )?;
        Ok(())
    }

    /// The compiler, or the package that this machine lacks.
    fn find_compiler(
        &self,
        compiler: Compiler,
    ) -> Result<std::result::Result<Found, &'static str>> {
        let found = |argument: String, version| Found { argument, version };
        Ok(match compiler {
            Compiler::Gcc => ask_version("gcc")
                .map(|v| found(String::new(), v))
                .ok_or("gcc"),
            Compiler::Cross => {
                let prefix = "s390x-linux-gnu-";
                let version = ask_version(&format!("{prefix}gcc"));
                let argument = format!("CROSS_COMPILE={prefix}");
                version
                    .map(|v| found(argument, v))
                    .ok_or("gcc-s390x-linux-gnu")
            }
            Compiler::Clang => {
                let script = self.src.join("scripts/min-tool-version.sh");
                let least = read_major(&process::run(Command::new("sh").arg(script).arg("llvm"))?);
                let names = (least..least + 20).rev().map(|n| format!("clang-{n}"));
                let new_enough = |name: String| {
                    let version = ask_version(&name)?;
                    let major = read_major(version.rsplit_once("version ")?.1);
                    (major >= least).then(|| found(format!("CC={name}"), version))
                };
                names
                    .chain(["clang".to_owned()])
                    .find_map(new_enough)
                    .ok_or("clang-19")
            }
        })
    }

    /// Builds one state, or finds what an earlier build of it said.
    fn build(&self, config: &Config, compiler: &Found, commit: &str) -> Result<Verdict> {
        let Place { cache, repo, .. } = self.place;
        let mut key = Key::new()
            .add("recipe", RECIPE)
            .add("source", self.place.name)
            .add("config", format!("{config:?}{COMMON}"))
            .add("compiler", &compiler.version);
        for path in COMPILED {
            key = key.add(
                path,
                git::run(repo, &["rev-parse", &format!("{commit}:{path}")])?,
            );
        }
        let key = format!("{}-{}", config.name, key.finish());
        let mut failed = None;
        let kept = cache.file("patch-build", &key, |path| {
            let subject = git::run(repo, &["log", "-1", "--format=%s", commit])?;
            let step = format!("build {}: {}", config.name, subject.trim());
            self.place.progress.step(&step);
            self.bring(commit)?;
            let log = self.make(config, compiler)?;
            self.place.progress.tell(Event::Done);
            // A failure is not kept: it may have been the machine's.
            let log = log.map_err(|first| {
                failed = Some(first);
                Error::other("failed")
            })?;
            write_file(path, &read_warnings(&log).join("\n"))
        });
        match failed {
            Some(first) => Ok(Err(first)),
            None => Ok(Ok(read_file(&kept?)?.lines().map(str::to_owned).collect())),
        }
    }

    /// The log, or the first error in it.
    fn make(
        &self,
        config: &Config,
        compiler: &Found,
    ) -> Result<std::result::Result<String, String>> {
        let obj = self.root.join(config.name);
        let command = || {
            let mut command = Command::new("nice");
            command
                .args(["make", "-C"])
                .arg(&self.src)
                .arg(format!("O={}", obj.display()))
                .arg(format!("-j{}", process::jobs()))
                .arg(format!("ARCH={}", config.arch))
                .args(Some(&compiler.argument).filter(|a| !a.is_empty()))
                .env("LC_ALL", "C")
                .env_remove("MAKEFLAGS")
                .env_remove("MFLAGS")
                .env_remove("CFLAGS");
            command
        };
        let setup = obj.join("configured");
        let wanted = format!("{}\n{}", compiler.version, config.write_fragment());
        if read_file(&setup).ok().as_ref() != Some(&wanted) {
            remove(&obj)?;
            let fragment = obj.join("fragment");
            write_file(&fragment, &config.write_fragment())?;
            let all = format!("KCONFIG_ALLCONFIG={}", fragment.display());
            process::logged(command().args([&all, config.base]), &obj.join("config.log"))?;
            let unmet = config
                .find_unmet(&read_file(&obj.join(".config"))?)
                .join(", ");
            if !unmet.is_empty() {
                let name = config.name;
                return Err(Error::other(format!(
                    "configuration {name} does not get {unmet}"
                )));
            }
            write_file(&setup, &wanted)?;
        }
        // An object that is not compiled again does not warn again.
        remove(&obj.join(DRIVER))?;
        let log = obj.join("build.log");
        let sparse = if config.sparse { "C=1" } else { "C=0" };
        let made = process::logged(command().args(["W=1", sparse, &format!("{DRIVER}/")]), &log);
        let text = fs::read(&log).map_err(Error::io("read", &log))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        match made {
            Ok(()) => Ok(Ok(text)),
            Err(Error::Failed { .. }) => Ok(Err(find_error(&text))),
            Err(error) => Err(error),
        }
    }
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
    let places = [DRIVER, "include/uapi"];
    let start = places.iter().filter_map(|place| line.find(place)).min();
    let line = &line[start.unwrap_or(0)..];
    let (place, text) = line.split_once(": ").unwrap_or((line, ""));
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {text}")
}

fn find_error(log: &str) -> String {
    let words = ["error:", "Error ", "*** "];
    let mut lines = log.lines().filter(|l| words.iter().any(|w| l.contains(w)));
    lines
        .next()
        .map_or_else(|| "make failed without a word".to_owned(), strip_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_did_not_come_true_is_named() {
        let config = CONFIGS.iter().find(|c| c.name == "ipv6-n").unwrap();
        let good = config.write_fragment();
        assert!(good.contains("CONFIG_IPV6=n\n"), "the later value counts");
        assert!(config.find_unmet(&good).is_empty());
        let absent = good.replace("CONFIG_IPV6=n\n", "# CONFIG_IPV6 is not set\n");
        assert!(config.find_unmet(&absent).is_empty(), "absent is off");
        let turned = good.replace("CONFIG_IPV6=n", "CONFIG_IPV6=y");
        assert_eq!(config.find_unmet(&turned), ["IPV6=n"]);
        let less = good.replace("CONFIG_NET_VRF=y", "");
        assert_eq!(config.find_unmet(&less), ["NET_VRF=y"]);
    }

    #[test]
    fn what_was_there_before_is_not_new() {
        let verdicts = vec![
            ("1", Ok(vec!["old".to_owned()])),
            ("2", Ok(vec!["old".to_owned(), "pot".to_owned()])),
            ("3", Ok(vec!["pot".to_owned()])),
            ("4", Err("broken".to_owned())),
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
