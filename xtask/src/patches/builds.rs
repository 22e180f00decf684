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
use kit::{Cache, Error, Event, Progress, Result};

use super::finding::{Finding, doc};
use super::git;
use super::rules::Set;
use kit::process;
use vm_tests::kernel::module;
use vm_tests::kernel::series::{Patch, Series};
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::{Build, Tree};

/// Changes of this file that change a verdict: part of the cache key.
const RECIPE: &str = "1";

/// A 64-bit big-endian machine, for sparse's and the compiler's view of byte orders.
const CROSS: &str = "s390x-linux-gnu-";
const CROSS_PACKAGE: &str = "gcc-s390x-linux-gnu";

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

/// One way to configure and compile.
#[derive(Clone, Debug)]
struct Config {
    name: &'static str,
    /// Part of `Which::Some`.
    quick: bool,
    arch: &'static str,
    compiler: Compiler,
    base: Base,
    /// Options that differ from `COMMON`.
    options: &'static [(&'static str, &'static str)],
    sparse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    Gcc,
    Clang,
    Cross(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// allnoconfig with `COMMON`.
    Small,
    AllMod,
}

const COMMON: &[(&str, &str)] = &[
    ("64BIT", "y"),
    ("SMP", "y"),
    ("MODULES", "y"),
    ("MULTIUSER", "y"),
    ("NET", "y"),
    ("INET", "y"),
    ("IPV6", "y"),
    ("IP_ADVANCED_ROUTER", "y"),
    ("IP_MULTIPLE_TABLES", "y"),
    ("IPV6_MULTIPLE_TABLES", "y"),
    ("NETDEVICES", "y"),
    ("NET_CORE", "y"),
    ("NET_L3_MASTER_DEV", "y"),
    ("NET_VRF", "y"),
    ("WIREGUARD", "y"),
    ("WIREGUARD_DEBUG", "y"),
];

const NO_IPV6: &[(&str, &str)] = &[("IPV6", "n"), ("IPV6_MULTIPLE_TABLES", "n")];

/// A warning is compared with those before, not an error.
const TALKATIVE: &[(&str, &str)] = &[("WERROR", "n")];

#[rustfmt::skip]
const CONFIGS: &[Config] = &[
    Config { name: "default", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[], sparse: true },
    Config { name: "ipv6-n", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: NO_IPV6, sparse: false },
    Config { name: "l3mdev-n", quick: true, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[("NET_L3_MASTER_DEV", "n"), ("NET_VRF", "n")], sparse: false },
    Config { name: "modules", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[("NET_VRF", "m"), ("WIREGUARD", "m")], sparse: false },
    Config { name: "vrf-n", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[("NET_VRF", "n"), ("WIREGUARD_DEBUG", "n")], sparse: false },
    Config { name: "up", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[("SMP", "n")], sparse: false },
    Config { name: "lockdep", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: Base::Small, options: &[("DEBUG_KERNEL", "y"), ("PROVE_LOCKING", "y"), ("DEBUG_ATOMIC_SLEEP", "y")], sparse: true },
    Config { name: "clang", quick: false, arch: "x86_64", compiler: Compiler::Clang, base: Base::Small, options: &[], sparse: false },
    Config { name: "32-bit", quick: false, arch: "i386", compiler: Compiler::Gcc, base: Base::Small, options: &[("64BIT", "n")], sparse: true },
    Config { name: "big-endian", quick: false, arch: "s390", compiler: Compiler::Cross(CROSS), base: Base::Small, options: &[], sparse: true },
    Config { name: "allmodconfig", quick: false, arch: "x86_64", compiler: Compiler::Gcc, base: Base::AllMod, options: TALKATIVE, sparse: true },
];

impl Config {
    /// KCONFIG_ALLCONFIG's text.
    fn fragment(&self) -> String {
        let mut options: BTreeMap<_, _> = match self.base {
            Base::Small => COMMON.iter().copied().collect(),
            Base::AllMod => BTreeMap::new(),
        };
        options.extend(self.options.iter().copied());
        options
            .iter()
            .map(|(name, value)| match *value {
                "n" => format!("# CONFIG_{name} is not set\n"),
                value => format!("CONFIG_{name}={value}\n"),
            })
            .collect()
    }

    /// What the fragment asks for and `config` does not say.
    fn unmet(&self, config: &str) -> Vec<String> {
        let lines: Vec<_> = config.lines().collect();
        self.fragment()
            .lines()
            .filter(|wish| match wish.strip_prefix("# ") {
                // Not asked for because it depends on something that is off: off it is.
                Some(off) => {
                    let name = off.trim_end_matches(" is not set");
                    lines.iter().any(|l| l.starts_with(&format!("{name}=")))
                }
                None => !lines.contains(wish),
            })
            .map(str::to_owned)
            .collect()
    }
}

/// Builds after each patch, and before the first for comparison.
pub fn check(
    tree: &Tree,
    set: &Set,
    dir: &Path,
    repo: &Path,
    which: Which,
    cache: &Cache,
    progress: &Progress,
) -> Result<Built> {
    if which == Which::None {
        return Ok(Built {
            skipped: vec!["builds (--builds none)".to_owned()],
            ..Built::default()
        });
    }
    match tree.build {
        Build::Module => modules(tree, set, dir, repo, cache, progress),
        Build::Kernel => {
            let source = Source::find(tree, cache, progress)?;
            let pristine = source.whole()?;
            let place = Place {
                name: &source.version,
                pristine: &pristine,
                cache,
                progress,
            };
            matrix(set, repo, which, &place)
        }
    }
}

/// Against the headers of Debian's own kernel.
fn modules(
    tree: &Tree,
    set: &Set,
    dir: &Path,
    repo: &Path,
    cache: &Cache,
    progress: &Progress,
) -> Result<Built> {
    let mut built = Built::default();
    let folder = cache.folder("patches")?;
    let commits = git::commits(repo, git::BASE, git::SERIES)?;
    let mut before = String::new();
    for (mail, commit) in set.patches.iter().zip(&commits) {
        // One diff without a message: a reworded patch is the same module.
        let mut command = git::command(repo);
        command.args(["diff", "--no-renames", git::BASE, commit, "--"]);
        let text = process::run(command.args(COMPILED))?;
        if text == before || text.is_empty() {
            continue;
        }
        before.clone_from(&text);
        let path = folder.join(format!(
            "{}-{}.diff",
            tree.name,
            Key::new().add("", &text).finish()
        ));
        fs::write(&path, &text).map_err(Error::io("write", &path))?;
        let series = Series {
            dir: dir.to_path_buf(),
            patches: vec![Patch {
                name: mail.file.clone(),
                path: path.clone(),
                text,
            }],
            cover: None,
        };
        let made = module::build_with(tree, &series, &["W=1", "C=1"], cache, progress);
        remove(&path)?;
        built.count += 1;
        match made {
            Ok(module) => {
                let log = module.file.with_file_name("build.log");
                let log = fs::read_to_string(&log).map_err(Error::io("read", &log))?;
                for warning in warnings(&log) {
                    built
                        .findings
                        .push(finding(set, &mail.file, "module", &warning));
                }
            }
            Err(error @ Error::Failed { .. }) => {
                let said = error.to_string();
                let first = said.lines().find(|l| l.contains("error:")).unwrap_or(&said);
                built
                    .findings
                    .push(finding(set, &mail.file, "module", first));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(built)
}

fn finding(set: &Set, file: &str, config: &str, what: &str) -> Finding {
    Finding::new(set.path(file), 0, format!("{config}: {what}"))
        .by("builds", doc::NETDEV)
        .repair(set.reword())
}

/// A source that is configured and built in many ways.
pub struct Place<'a> {
    /// Part of cache keys: the version, or the commit of a clone.
    pub name: &'a str,
    /// Never written to.
    pub pristine: &'a Path,
    pub cache: &'a Cache,
    pub progress: &'a Progress,
}

/// `repo` has the series on top of the same source as `place.pristine`.
pub fn matrix(set: &Set, repo: &Path, which: Which, place: &Place<'_>) -> Result<Built> {
    let mut built = Built::default();
    let touched = compiled_files(set);
    let base = contents(repo, &git::rev(repo, git::BASE)?, &touched)?;
    let commits = git::commits(repo, git::BASE, "HEAD")?;
    let mut states = Vec::new();
    for (mail, commit) in set.patches.iter().zip(&commits) {
        states.push((mail.file.as_str(), contents(repo, commit, &touched)?));
    }
    let area = Area::new(place)?;
    // The whole series in every way first: it finds most, and soon. What is built is kept.
    if which == Which::All
        && let Some((file, files)) = states.last()
    {
        for config in CONFIGS {
            if let Ok(compiler) = version(config.compiler, place.pristine)? {
                // What it says is told below, at the patch that brought it.
                let _ = area.verdict(config, &compiler, short(file), files)?;
            }
        }
    }
    for config in CONFIGS {
        if which == Which::Some && !config.quick {
            continue;
        }
        let compiler = match version(config.compiler, place.pristine)? {
            Ok(compiler) => compiler,
            // Not built is not passed.
            Err(missing) => {
                built.findings.push(
                    Finding::new(
                        set.path("series"),
                        0,
                        format!("{}: not built: {}", config.name, missing.what),
                    )
                    .by("builds", doc::NETDEV)
                    .repair(format!(
                        "apt-get install --no-install-recommends {}",
                        missing.package
                    )),
                );
                continue;
            }
        };
        // CI builds each patch in the first configuration, and the whole series in the others.
        let chosen = match which == Which::Some && config.name != CONFIGS[0].name {
            true => &states[states.len().saturating_sub(1)..],
            false => &states[..],
        };
        let mut verdicts = Vec::new();
        for (file, files) in chosen {
            built.count += 1;
            verdicts.push((*file, area.verdict(config, &compiler, short(file), files)?));
        }
        let clean = |verdict: &Verdict| matches!(verdict, Ok(warnings) if warnings.is_empty());
        if verdicts.iter().all(|(_, verdict)| clean(verdict)) {
            continue;
        }
        // Something is said: was it said before the series, too?
        built.count += 1;
        let before = area
            .verdict(config, &compiler, "the source as it is", &base)?
            .map_err(|first| {
                Error::other(format!(
                    "the source as it is does not build with {}: {first}",
                    config.name
                ))
            })?;
        for (file, what) in new(before, verdicts) {
            built.findings.push(finding(set, file, config.name, &what));
        }
    }
    Ok(built)
}

/// The warnings of a build, or the first error of one that failed.
type Verdict = std::result::Result<Vec<String>, String>;

/// Each warning or error at the first patch that has it.
fn new(before: Vec<String>, verdicts: Vec<(&str, Verdict)>) -> Vec<(&str, String)> {
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

fn short(file: &str) -> &str {
    file.get(..4).unwrap_or(file)
}

fn compiled_files(set: &Set) -> Vec<String> {
    let mut paths: Vec<String> = set
        .patches
        .iter()
        .flat_map(|m| &m.files)
        .filter(|f| {
            COMPILED
                .iter()
                .any(|c| f.path.starts_with(&format!("{c}/")))
        })
        .map(|f| f.path.clone())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

type Contents = Vec<(String, Option<String>)>;

fn contents(repo: &Path, commit: &str, paths: &[String]) -> Result<Contents> {
    paths
        .iter()
        .map(|path| {
            let out =
                process::output(git::command(repo).args(["show", &format!("{commit}:{path}")]))?;
            // Not there yet, or not any more.
            Ok((path.clone(), out.ok.then_some(out.stdout)))
        })
        .collect()
}

struct Found {
    /// As make's CC wants it; empty for gcc's default.
    arguments: Vec<String>,
    version: String,
}

/// A compiler that this machine does not have, and the Debian package that does.
struct Missing {
    what: String,
    package: &'static str,
}

/// The compiler, or why this machine cannot build with it.
fn version(compiler: Compiler, source: &Path) -> Result<std::result::Result<Found, Missing>> {
    let ask = |program: &str| -> Option<String> {
        let out = process::output(Command::new(program).arg("--version")).ok()?;
        out.ok
            .then(|| out.stdout.lines().next().unwrap_or_default().to_owned())
    };
    Ok(match compiler {
        Compiler::Gcc => match ask("gcc") {
            Some(version) => Ok(Found {
                arguments: Vec::new(),
                version,
            }),
            None => Err(Missing {
                what: "no gcc".to_owned(),
                package: "gcc",
            }),
        },
        Compiler::Cross(prefix) => match ask(&format!("{prefix}gcc")) {
            Some(version) => Ok(Found {
                arguments: vec![format!("CROSS_COMPILE={prefix}")],
                version,
            }),
            None => Err(Missing {
                what: format!("no {prefix}gcc"),
                package: CROSS_PACKAGE,
            }),
        },
        Compiler::Clang => {
            let least = process::run(
                Command::new("sh")
                    .arg(source.join("scripts/min-tool-version.sh"))
                    .arg("llvm"),
            )?;
            let least: u32 = major(&least).ok_or_else(|| {
                Error::other(format!("min-tool-version.sh says `{}'", least.trim()))
            })?;
            let newest = (least..=least + 20)
                .rev()
                .map(|n| format!("clang-{n}"))
                .chain(["clang".to_owned()])
                .filter_map(|name| ask(&name).map(|version| (name, version)))
                .find(|(_, version)| {
                    version
                        .rsplit_once("version ")
                        .and_then(|(_, v)| major(v))
                        .is_some_and(|v| v >= least)
                });
            match newest {
                Some((name, version)) => Ok(Found {
                    arguments: vec![format!("CC={name}")],
                    version,
                }),
                None => Err(Missing {
                    what: format!("no clang from {least} on"),
                    package: "clang-19",
                }),
            }
        }
    })
}

fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// A copy of the source that the series goes in and out of, and one folder of objects a config.
struct Area<'a> {
    place: &'a Place<'a>,
    root: PathBuf,
    _lock: kit::cache::Lock,
}

impl<'a> Area<'a> {
    fn new(place: &'a Place<'a>) -> Result<Self> {
        let name = format!("matrix-{}", place.name);
        let lock = place.cache.lock(&name)?;
        let root = place.cache.folder("build")?.join(&name);
        let area = Self {
            place,
            root,
            _lock: lock,
        };
        if !area.root.join("ready").exists() {
            remove(&area.root)?;
            fs::create_dir_all(&area.root).map_err(Error::io("create", &area.root))?;
            // Hard links: files of the series are replaced, never written into.
            process::run(
                Command::new("cp")
                    .arg("-al")
                    .arg(place.pristine)
                    .arg(area.src()),
            )?;
            let ready = area.root.join("ready");
            fs::write(&ready, "").map_err(Error::io("write", &ready))?;
        }
        Ok(area)
    }

    fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    /// Builds one state, or finds what an earlier build of the very same said.
    fn verdict(
        &self,
        config: &Config,
        compiler: &Found,
        what: &str,
        files: &Contents,
    ) -> Result<Verdict> {
        let mut key = Key::new()
            .add("recipe", RECIPE)
            .add("source", self.place.name)
            .add("config", format!("{config:?}{}", config.fragment()))
            .add("compiler", &compiler.version);
        for (path, text) in files {
            key = key.add(path, text.as_deref().unwrap_or_default());
        }
        let key = format!("{}-{}", config.name, key.finish());
        let mut failed = None;
        let kept = self.place.cache.file("patch-build", &key, |path| {
            self.place
                .progress
                .step(&format!("build {}: {what}", config.name));
            self.bring(files)?;
            match self.build(config, compiler)? {
                Ok(log) => {
                    self.place.progress.tell(Event::Done);
                    fs::write(path, warnings(&log).join("\n")).map_err(Error::io("write", path))
                }
                // Not kept: what failed may have been the machine.
                Err(first) => {
                    failed = Some(first);
                    Err(Error::other("failed"))
                }
            }
        });
        match (kept, failed) {
            (_, Some(first)) => Ok(Err(first)),
            (Err(error), None) => Err(error),
            (Ok(path), None) => {
                let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
                Ok(Ok(text.lines().map(str::to_owned).collect()))
            }
        }
    }

    /// Puts these contents in place, and those of an earlier series back.
    fn bring(&self, files: &Contents) -> Result<()> {
        let list = self.root.join("touched");
        let before = fs::read_to_string(&list).unwrap_or_default();
        let mut wanted: BTreeMap<String, Option<Vec<u8>>> = files
            .iter()
            .map(|(path, text)| (path.clone(), text.clone().map(String::into_bytes)))
            .collect();
        for path in before.lines() {
            if !wanted.contains_key(path) {
                let original = fs::read(self.place.pristine.join(path)).ok();
                wanted.insert(path.to_owned(), original);
            }
        }
        let names: Vec<_> = wanted.keys().map(String::as_str).collect();
        fs::write(&list, names.join("\n")).map_err(Error::io("write", &list))?;
        for (path, text) in &wanted {
            let target = self.src().join(path);
            if fs::read(&target).ok() == *text {
                continue;
            }
            remove(&target)?;
            if let Some(text) = text {
                if let Some(folder) = target.parent() {
                    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
                }
                fs::write(&target, text).map_err(Error::io("write", &target))?;
            }
        }
        Ok(())
    }

    /// The log, or the first error in it.
    fn build(
        &self,
        config: &Config,
        compiler: &Found,
    ) -> Result<std::result::Result<String, String>> {
        let obj = self.root.join(config.name);
        let setup = obj.join("configured");
        let wanted = format!("{}{}", compiler.version, config.fragment());
        if fs::read_to_string(&setup).ok().as_deref() != Some(&wanted) {
            remove(&obj)?;
            fs::create_dir_all(&obj).map_err(Error::io("create", &obj))?;
            let fragment = obj.join("fragment");
            fs::write(&fragment, config.fragment()).map_err(Error::io("write", &fragment))?;
            let target = match config.base {
                Base::Small => "allnoconfig",
                Base::AllMod => "allmodconfig",
            };
            let all = format!("KCONFIG_ALLCONFIG={}", fragment.display());
            process::logged(
                self.make(config, compiler).args([all.as_str(), target]),
                &obj.join("config.log"),
            )?;
            let file = obj.join(".config");
            let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
            let unmet = config.unmet(&text);
            if !unmet.is_empty() {
                return Err(Error::other(format!(
                    "configuration {} does not get {}",
                    config.name,
                    unmet.join(", ")
                )));
            }
            fs::write(&setup, wanted).map_err(Error::io("write", &setup))?;
        }
        // An object that is not compiled again does not warn again.
        remove(&obj.join(DRIVER))?;
        let log = obj.join("build.log");
        let mut make = self.make(config, compiler);
        make.arg("W=1");
        if config.sparse {
            make.arg("C=1");
        }
        let made = process::logged(make.arg(format!("{DRIVER}/")), &log);
        let text = fs::read(&log).map_err(Error::io("read", &log))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        match made {
            Ok(()) => Ok(Ok(text)),
            Err(Error::Failed { .. }) => Ok(Err(first_error(&text))),
            Err(error) => Err(error),
        }
    }

    fn make(&self, config: &Config, compiler: &Found) -> Command {
        let mut command = Command::new("nice");
        command
            .args(["make", "-C"])
            .arg(self.src())
            .arg(format!("O={}", self.root.join(config.name).display()))
            .arg(format!("-j{}", process::jobs()))
            .arg(format!("ARCH={}", config.arch))
            .args(&compiler.arguments)
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("CFLAGS");
        command
    }
}

/// The compiler's and sparse's warnings about the driver and its header, without line numbers.
fn warnings(log: &str) -> Vec<String> {
    let mut found: Vec<String> = log
        .lines()
        .filter(|l| l.contains(": warning:") || l.contains(": error:"))
        .filter(|l| l.contains("wireguard"))
        .map(normal)
        .collect();
    found.dedup();
    found
}

/// `…/drivers/net/wireguard/socket.c:61:7: warning: x` → `drivers/net/wireguard/socket.c: warning: x`
fn normal(line: &str) -> String {
    let start = [DRIVER, "include/uapi"]
        .iter()
        .filter_map(|place| line.find(place))
        .min()
        .unwrap_or(0);
    let line = &line[start..];
    let Some((place, text)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {text}")
}

fn first_error(log: &str) -> String {
    log.lines()
        .find(|l| l.contains("error:") || l.contains("Error ") || l.contains("*** "))
        .map_or_else(|| "make failed without a word".to_owned(), normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_names_of_their_own_and_ci_runs_some() {
        let mut names: Vec<_> = CONFIGS.iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CONFIGS.len());
        assert!(CONFIGS.iter().any(|c| c.quick) && CONFIGS.iter().any(|c| !c.quick));
    }

    #[test]
    fn a_compiler_that_is_not_there_names_its_package() {
        let none = version(Compiler::Cross("no-such-machine-"), Path::new("/"));
        let Ok(Err(missing)) = none else {
            panic!("found a compiler for no such machine");
        };
        assert_eq!(missing.what, "no no-such-machine-gcc");
        assert_eq!(missing.package, CROSS_PACKAGE);
    }

    #[test]
    fn a_wish_that_did_not_come_true_is_named() {
        let config = CONFIGS.iter().find(|c| c.name == "ipv6-n").unwrap();
        let good = config.fragment();
        assert!(good.contains("# CONFIG_IPV6 is not set"));
        assert!(config.unmet(&good).is_empty());
        let without = good.replace("# CONFIG_IPV6 is not set\n", "");
        assert!(config.unmet(&without).is_empty(), "absent is off");
        let turned = good.replace("# CONFIG_IPV6 is not set", "CONFIG_IPV6=y");
        assert_eq!(config.unmet(&turned), ["# CONFIG_IPV6 is not set"]);
        let less = good.replace("CONFIG_NET_VRF=y", "");
        assert_eq!(config.unmet(&less), ["CONFIG_NET_VRF=y"]);
    }

    #[test]
    fn what_was_there_before_is_not_new() {
        let verdicts = vec![
            ("1", Ok(vec!["old".to_owned()])),
            ("2", Ok(vec!["old".to_owned(), "pot".to_owned()])),
            ("3", Ok(vec!["pot".to_owned()])),
            ("4", Err("broken".to_owned())),
        ];
        let found = new(vec!["old".to_owned()], verdicts);
        assert_eq!(found, [("2", "pot".to_owned()), ("4", "broken".to_owned())]);
    }

    #[test]
    fn warnings_lose_their_place_and_others_are_not_ours() {
        let log = "  CC x\n\
            /tmp/src/drivers/net/wireguard/socket.c:61:7: warning: unused variable 'pot' [-W]\n\
            ../drivers/net/wireguard/socket.c:70:7: warning: unused variable 'pot' [-W]\n\
            /tmp/src/kernel/fork.c:1:2: warning: other\n";
        assert_eq!(
            warnings(log),
            ["drivers/net/wireguard/socket.c: warning: unused variable 'pot' [-W]"]
        );
        assert_eq!(
            first_error("x\n/s/drivers/net/wireguard/a.c:3:4: error: no pot\n"),
            "drivers/net/wireguard/a.c: error: no pot"
        );
    }
}
