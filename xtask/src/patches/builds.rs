// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each patch builds with no warning that was not there before it.
//! Only drivers/net/wireguard is compiled. A tree that is built as a module is built against
//! Debian's headers; a whole tree is configured in several ways, by `build-driver.sh`. Verdicts
//! are cached by what was compiled, so that a reworded message costs nothing.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use kit::cache::{Key, remove_path};
use kit::{Error, Result, process};
use regex_lite::Regex;
use serde::Deserialize;
use vm_tests::kernel::module;
use vm_tests::kernel::series::Series;
use vm_tests::kernel::source::Source;

use super::finding::{Finding, doc};
use super::folder::Set;
use super::git::write_file;
use super::{Context, git};

const SCRIPT: &str = include_str!("build-driver.sh");
const CONFIGS: &str = include_str!("builds.toml");
/// The part of a series that is compiled.
const COMPILED: &[&str] = &["drivers/net/wireguard", "include"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    None,
    /// The builds of CI: each patch by default, all of them without IPv6 and without L3 master
    /// devices
    Some,
    /// Each patch also as modules, with clang, 32 bits, big-endian, lockdep, allmodconfig
    All,
}

#[derive(Deserialize)]
struct Configs {
    common: String,
    config: Vec<Config>,
}

/// See builds.toml.
#[derive(Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    some: bool,
    make: String,
    #[serde(default)]
    options: String,
}

/// Findings, and how many builds there were.
type Built = (Vec<Finding>, usize);

/// Builds after each patch of a tree; `repo` has the series on the tree's source.
pub fn check_tree(set: &Set, repo: &Path, which: Which, context: &Context) -> Result<Built> {
    if set.tree.headers.is_some() {
        return check_modules(set, context);
    }
    let source = Source::find(&set.tree, &context.cache)?;
    let whole = source.get_whole()?;
    let place = Place {
        name: &source.version,
        repo,
        pristine: Some(&whole),
    };
    check_configs(set, which, &place, context)
}

/// After each patch against the headers of Debian's own kernel.
fn check_modules(set: &Set, context: &Context) -> Result<Built> {
    let (mut findings, mut count) = (Vec::new(), 0);
    let mut series = Series::read(&set.dir)?;
    let patches = std::mem::take(&mut series.patches);
    for (mail, patch) in set.mails.iter().zip(patches) {
        series.patches.push(patch);
        if !COMPILED.iter().any(|path| mail.touches_path(path)) {
            continue;
        }
        let made = module::build_module(&set.tree, &series, &["W=1", "C=1"], &context.cache);
        let log = made.map(|module| module.file.with_file_name("build.log"));
        let found = take_failure(log.and_then(|log| Ok(read_warnings(&read_log(&log)?))))?;
        count += 1;
        let describe = |w: &String| describe_warning(set, &mail.file, "module", w);
        findings.extend(found.iter().map(describe));
    }
    Ok((findings, count))
}

fn describe_warning(set: &Set, file: &str, config: &str, what: &str) -> Finding {
    let finding = Finding::new(set.name_file(file), format!("{config}: {what}"));
    let finding = finding.set_rule("builds", doc::NETDEV);
    finding.set_repair(set.suggest_reword())
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
    let base = git::run_git(place.repo, &["rev-parse", "base^{tree}"])?;
    let name = format!("matrix-{}-{}", place.name, &base[..12]);
    let _lock = context.cache.hold_lock(&name)?;
    let area = context.cache.open_folder("build")?.join(name);
    let (mut findings, mut count) = (Vec::from_iter(check_sparse(set, place)?), 0);
    let Configs { common, config } = toml::from_str(CONFIGS).expect("builds.toml is a constant");
    let wanted = config.iter().filter(|c| c.some || which == Which::All);
    for (at, config) in wanted.enumerate() {
        let build = |commit: &str| build_state(&area, (config, &common), commit, place, context);
        // CI builds each patch in the first configuration, and the whole series in the others.
        let last = which == Which::Some && at > 0;
        let mut verdicts = Vec::new();
        for (file, commit) in &states[if last { states.len() - 1 } else { 0 }..] {
            count += 1;
            verdicts.push((*file, take_failure(build(commit))?));
        }
        if verdicts.iter().any(|(_, said)| !said.is_empty()) {
            // Something is said: was it said before the series, too?
            count += 1;
            let new = find_new(build(git::BASE)?, verdicts);
            let name = &config.name;
            let describe = |(f, what): &(&str, String)| describe_warning(set, f, name, what);
            findings.extend(new.iter().map(describe));
        }
    }
    Ok((findings, count))
}

/// The warnings of a build; of one that failed also that it did.
fn take_failure(built: Result<Vec<String>>) -> Result<Vec<String>> {
    match built {
        Err(Error::Failed { output, .. }) => {
            let mut said = read_warnings(&output);
            let last = output.lines().last().unwrap_or_default();
            said.push(format!("does not build: {last}"));
            Ok(said)
        }
        other => other,
    }
}

/// Each warning or error at the first patch that has it.
fn find_new(mut known: Vec<String>, verdicts: Vec<(&str, Vec<String>)>) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for (file, said) in verdicts {
        for what in said {
            if !known.contains(&what) {
                known.push(what.clone());
                found.push((file, what));
            }
        }
    }
    found
}

/// Asks a program for its version. Without a compiler nothing is built, and that is not the same
/// as passed.
fn ask_version(program: &str) -> Result<String> {
    let said = process::run(Command::new(program).arg("--version"))?;
    Ok(said.trim().to_owned())
}

/// make goes on without a sparse that its source takes for too old, so that is said here.
fn check_sparse(set: &Set, place: &Place<'_>) -> Result<Option<Finding>> {
    let script = "scripts/checker-valid.sh";
    let source = place.pristine.unwrap_or(place.repo);
    let mut valid = Command::new("sh");
    valid.arg(source.join(script)).arg("sparse");
    // Older sources do not ask.
    if !source.join(script).exists() || process::run(&mut valid)?.trim() == "1" {
        return Ok(None);
    }
    let version = ask_version("sparse")?;
    let what = format!("skipped: sparse: {script} refuses version {version}");
    let mut finding = Finding::new(&set.tree.name, what).set_rule("builds", doc::CHECKLIST);
    finding.note = true;
    Ok(Some(finding.set_repair("install a newer sparse")))
}

/// Builds one state, or finds what an earlier build of it said.
fn build_state(
    area: &Path,
    (config, common): (&Config, &str),
    commit: &str,
    place: &Place<'_>,
    context: &Context,
) -> Result<Vec<String>> {
    let Config { name, make, .. } = config;
    let (base, common) = match name.as_str() {
        "allmodconfig" => ("allmodconfig", ""),
        _ => ("allnoconfig", common),
    };
    let options = format!("{common} {}", config.options);
    let compiler = Regex::new(r"\bCC=(\S+)|\bCROSS_COMPILE=(\S+)").expect("a constant");
    let compiler = match compiler.captures(make) {
        Some(word) if word.get(1).is_some() => word[1].to_owned(),
        Some(word) => format!("{}gcc", &word[2]),
        None => "gcc".to_owned(),
    };
    let mut key = Key::new()
        .add_value("recipe", SCRIPT)
        .add_value("source", place.name)
        .add_value("config", format!("{name} {make} {options}"))
        .add_value("compiler", ask_version(&compiler)?)
        .add_value("sparse", ask_version("sparse")?);
    for path in COMPILED {
        let tree = format!("{commit}:{path}");
        key = key.add_value(path, git::run_git(place.repo, &["rev-parse", &tree])?);
    }
    let log = area.join(format!("{name}.log"));
    let run = |commit: &str, base: &str| {
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "build-driver.sh"]);
        script.arg(area).arg(place.repo);
        script.args([commit, name, base, &options]);
        process::run_into_log(script.args(make.split(' ')), &log)
    };
    let key = format!("{name}-{}", key.finish());
    let kept = context.cache.keep_file("patch-build", &key, |path| {
        let subject = git::run_git(place.repo, &["log", "-1", "--format=%s", commit])?;
        let step = format!("build {name}: {}", subject.trim());
        context.cache.begin_step(&step);
        if !area.join("index").exists() {
            prepare_source(area, place.pristine)?;
            run(git::BASE, "")?;
        }
        run(commit, base)?;
        context.cache.end_step();
        write_file(path, &read_warnings(&read_log(&log)?).join("\n"))
    });
    // A failure is not kept: it may have been the machine.
    let said = fs::read_to_string(kept?)?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn prepare_source(area: &Path, pristine: Option<&Path>) -> Result<()> {
    let src = area.join("src");
    remove_path(area)?;
    fs::create_dir_all(area)?;
    match pristine {
        // Hard links: what git brings replaces a file, and is never written into one.
        Some(from) => process::run(Command::new("cp").arg("-al").args([from, &src]))?,
        None => process::run(Command::new("mkdir").arg(&src))?,
    };
    Ok(())
}

fn read_log(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// The warnings of the compiler and of sparse about the driver and its header, without line
/// numbers: `drivers/net/wireguard/socket.c: warning: x`.
fn read_warnings(log: &str) -> Vec<String> {
    let file = r"(drivers/net/wireguard/[^:]*|include/uapi/[^:]*wireguard[^:]*)";
    let pattern = format!(r"(?m){file}:[0-9:]* ((?:warning|error): .*)$");
    let line = Regex::new(&pattern).expect("a constant");
    let lines = line.captures_iter(log);
    let mut found: Vec<_> = lines.map(|l| format!("{}: {}", &l[1], &l[2])).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_new() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect();
        let verdicts = vec![
            ("2", lines("old pot")),
            ("3", lines("pot")),
            ("4", lines("broken")),
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
        let output = "x\n/s/drivers/net/wireguard/a.c:3:4: error: no pot\nmake: Error 2".to_owned();
        let (command, status) = ("make".to_owned(), "2".to_owned());
        let failed = Error::Failed {
            command,
            status,
            output,
        };
        let want = [
            "drivers/net/wireguard/a.c: error: no pot",
            "does not build: make: Error 2",
        ];
        assert_eq!(take_failure(Err(failed)).unwrap(), want);
    }
}
