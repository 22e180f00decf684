// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Scenarios: bash scripts of `scenarios/` whose first comment lines tell the runner what they
//! need. Reads headers and says where a scenario applies; does not run anything.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use fs_err as fs;
use regex_lite::Regex;
use strum::VariantNames;

use crate::guest::tools::Wg;
use crate::kernel::table::Kernel;
use crate::run::verdict::{Ending, Outcome};
use crate::table::{find_crate_folder, find_named};
use kit::error::{Error, Result};

/// The needs of a scenario: wireguard's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Needs {
    Attr,
    /// A kernel without it: the tool has to fall back.
    Fallback,
    #[default]
    Any,
}

/// The header of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    pub name: String,
    pub path: PathBuf,
    pub title: String,
    pub needs: Needs,
    pub tool: Wg,
    /// For the script itself; boot and shutdown have limits of their own.
    pub timeout: Duration,
    pub modules: Vec<String>,
    pub packages: Vec<String>,
    /// Files of the kernel's own source that the guest gets, under /lib/wgvrf/source/stock and,
    /// where the kernel has a series, .../patched.
    pub source: Vec<String>,
    /// Programs that no package of the guest's brings, see `programs`.
    pub programs: Vec<String>,
    pub cmdline: Vec<String>,
    /// Labels to choose by: `smoke`, `demo`, `selftest`.
    pub suites: Vec<String>,
    /// Processors of the guest. A second one costs a translated guest time, most of it where others
    /// want the host's, and only the kernel's code can tell: what tests tools has one.
    pub smp: u32,
    /// Measure: count instructions, with 2^N virtual nanoseconds for each, on one processor.
    pub icount: Option<u32>,
    /// MiB of the guest, when the kernel's own number is not enough.
    pub memory: Option<u32>,
    /// Only these kernels; empty means all.
    pub kernels: Vec<String>,
    /// The harness's own tests: the ending that this scenario must come to, and a text that must
    /// be among its reasons.
    pub expect: Option<(Ending, String)>,
    /// Limits of its own for boot and shutdown.
    pub boot: Option<Duration>,
    pub shutdown: Option<Duration>,
}

const KEYS: &str = "title, needs, tool, timeout, modules, packages, source, programs, cmdline, \
                    suite, smp, icount, memory, kernels, expect, boot, shutdown";

impl Scenario {
    /// The reason not to run this scenario on `kernel` with a `wg`; none if it is run.
    pub fn find_obstacle(&self, kernel: &Kernel, wg: Wg) -> Option<String> {
        if !self.kernels.is_empty() && !self.kernels.contains(&kernel.name) {
            return Some(format!("only for {}", self.kernels.join(", ")));
        }
        let mut only = kernel.only.iter();
        if let Some(only) = only.find(|o| !o.scenarios.contains(&self.name)) {
            let names = only.scenarios.join(", ");
            return Some(format!("{}; the kernel runs {names} only", only.why));
        }
        let reason = match (self.needs, kernel.attr, self.tool, wg) {
            (Needs::Attr, false, ..) => "the kernel has no WGDEVICE_A_BIND_DEV",
            (Needs::Fallback, true, ..) => "the kernel needs no fallback: it has the attribute",
            (.., Wg::Any, _) | (.., Wg::Ours) => return None,
            (_, true, Wg::BindDev, Wg::BindDev) => return None,
            (.., Wg::BindDev, Wg::BindDev) => {
                "the kernel has no WGDEVICE_A_BIND_DEV, and only our wg falls back"
            }
            (.., Wg::BindDev, Wg::Any) => "this wg has no bind-dev",
            (.., Wg::Ours, _) => "it is about what only our wg does and says",
        };
        Some(reason.into())
    }

    /// Turns the outcome that a scenario expects into a pass, and any other into a failure.
    pub fn compare_expected(&self, outcome: Outcome) -> Outcome {
        let Some((ending, text)) = &self.expect else {
            return outcome;
        };
        if outcome.ending == *ending && outcome.why.contains(text) {
            return Outcome::new(Ending::Passed, "");
        }
        let why = format!("expected `{ending}: {text}', came to `{outcome}'");
        Outcome::new(Ending::Failed, why)
    }

    /// Whether a label is in its header; `long` means minutes of a processor.
    pub fn in_suite(&self, suite: &str) -> bool {
        self.suites.iter().any(|s| s == suite)
    }

    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &fs::read_to_string(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |line, text| Error::in_data(path, line, text);
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut scenario = Self {
            name: name.into_owned(),
            path: path.to_path_buf(),
            timeout: Duration::from_secs(60),
            smp: 2,
            ..Self::default()
        };
        let mut seen: Vec<&str> = Vec::new();
        // The header ends where the script begins.
        let comments = text.lines().map_while(|line| line.strip_prefix('#'));
        for (index, comment) in comments.enumerate() {
            // Only `# word: value` is data; prose may stand between.
            let data = comment.strip_prefix(' ').and_then(|c| c.split_once(':'));
            let word =
                |key: &str| key.starts_with(|c: char| c.is_ascii_lowercase()) && !key.contains(' ');
            let Some((key, value)) = data.filter(|(key, _)| word(key)) else {
                continue;
            };
            let value = value.trim();
            let wrong = |text: String| wrong(index + 1, text);
            if value.is_empty() {
                return Err(wrong(format!("`{key}:' without a value")));
            }
            if seen.contains(&key) {
                return Err(wrong(format!("`{key}:' is there twice")));
            }
            seen.push(key);
            match scenario.set_key(key, value) {
                Ok(true) => {}
                Ok(false) => return Err(wrong(format!("`{key}:' is none of {KEYS}"))),
                Err(what) => return Err(wrong(format!("`{key}: {value}' is {what}"))),
            }
        }
        if scenario.title.is_empty() {
            return Err(wrong(1, "no `# title:' in the header".into()));
        }
        Ok(scenario)
    }

    /// Takes one line of the header; false if there is no such key. The error is what the value is
    /// not.
    fn set_key(&mut self, key: &str, value: &str) -> std::result::Result<bool, String> {
        let words = || {
            let parts = value.split(|c: char| c == ',' || c.is_whitespace());
            parts.filter(|w| !w.is_empty()).map(str::to_owned).collect()
        };
        let count = || match value.parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err("no number above 0".to_owned()),
        };
        let seconds = || count().map(|n| Duration::from_secs(n.into()));
        match key {
            "title" => self.title = value.to_owned(),
            "needs" => self.needs = parse_word(value)?,
            "tool" => self.tool = parse_word(value)?,
            "timeout" => self.timeout = seconds()?,
            "modules" => self.modules = words(),
            "packages" => self.packages = words(),
            "source" => self.source = words(),
            "programs" => self.programs = words(),
            // A comma is part of a word here: `console=ttyS0,115200`.
            "cmdline" => self.cmdline = value.split_whitespace().map(str::to_owned).collect(),
            "suite" => self.suites = words(),
            "smp" => self.smp = count()?,
            "icount" => {
                let shift = value.parse().ok().filter(|n| *n <= 10);
                self.icount = Some(shift.ok_or("no number up to 10")?);
            }
            "memory" => self.memory = Some(count()?),
            "kernels" => self.kernels = words(),
            "expect" => {
                let (word, text) = value.split_once(' ').unwrap_or((value, ""));
                self.expect = Some((parse_word(word)?, text.to_owned()));
            }
            "boot" => self.boot = Some(seconds()?),
            "shutdown" => self.shutdown = Some(seconds()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A word that stands for a value; the error lists the words there are.
fn parse_word<T: FromStr + VariantNames>(word: &str) -> std::result::Result<T, String> {
    T::from_str(word).map_err(|_| format!("none of {}", T::VARIANTS.join(", ")))
}

/// All scenarios, by name. One broken header is an error: a test that is not read is not run.
pub fn read_scenarios() -> Result<Vec<Scenario>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(find_crate_folder().join("scenarios"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            found.push(Scenario::read(&path)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

pub fn find_scenario(name: &str) -> Result<Scenario> {
    find_named("scenario", name, read_scenarios()?, |s| &s.name)
}

/// The files of `folder`, guest/, that a guest for `scenario` gets: the libraries that its script
/// names, those that these name in turn, and what is no library. Without a scenario: all of them.
/// So a change to one tool's library sends only that tool's scenarios round again.
pub(crate) fn find_libraries(folder: &Path, scenario: Option<&Scenario>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let library = path.extension().is_some_and(|e| e == "sh");
        if path.is_file() && !(library && scenario.is_some()) {
            found.push(path);
        }
    }
    let mut unread: Vec<PathBuf> = scenario.iter().map(|s| s.path.clone()).collect();
    while let Some(script) = unread.pop() {
        for name in list_libraries(&fs::read_to_string(&script)?) {
            let path = folder.join(name);
            if !path.is_file() {
                let (script, folder) = (script.display(), folder.display());
                bail!("{script}: /lib/wgvrf/{name} is not in {folder}");
            }
            if !found.contains(&path) {
                unread.push(path.clone());
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `NAME.sh` of each `/lib/wgvrf/NAME.sh` in a script.
fn list_libraries(text: &str) -> Vec<&str> {
    let library = Regex::new(r"/lib/wgvrf/([\w.-]*\.sh)").expect("the pattern is sound");
    let named = library.captures_iter(text);
    named.filter_map(|c| Some(c.get(1)?.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::table;

    fn parse_text(text: &str) -> Result<Scenario> {
        Scenario::parse(Path::new("scenarios/x.sh"), text)
    }

    #[test]
    fn a_header_is_read() {
        let scenario = parse_text(
            "#!/bin/bash\n# SPDX-License-Identifier: MIT\n# title: a: b\n# needs: attr\n\
             # timeout: 90\n# Prose with a colon: not data.\n# suite: demo, smoke\n\
             # modules: bridge dummy\n# cmdline: ipv6.disable=1 a=b,c\n# smp: 4\nset -e\n# title: late\n",
        );
        let expected = Scenario {
            name: "x".into(),
            path: "scenarios/x.sh".into(),
            title: "a: b".into(),
            needs: Needs::Attr,
            timeout: Duration::from_secs(90),
            suites: vec!["demo".into(), "smoke".into()],
            modules: vec!["bridge".into(), "dummy".into()],
            cmdline: vec!["ipv6.disable=1".into(), "a=b,c".into()],
            smp: 4,
            ..Scenario::default()
        };
        assert_eq!(scenario.unwrap(), expected);
    }

    #[test]
    fn errors_name_file_line_and_value() {
        for (text, expected) in [
            ("# titel: x\n", "scenarios/x.sh:1: `titel:' is none of"),
            (
                "# title: x\n# needs: root\n",
                "`needs: root' is none of attr",
            ),
            ("# title: x\n# tool: theirs\n", "x.sh:2: `tool: theirs'"),
            ("# title: x\n# timeout: soon\n", "x.sh:2: `timeout: soon'"),
            ("# title: x\n# icount: 11\n", "x.sh:2: `icount: 11'"),
            ("# title: x\n# smp: 0\n", "x.sh:2: `smp: 0'"),
            ("# title: x\n# title: y\n", ":2: `title:' is there twice"),
            ("# title:\n", "x.sh:1: `title:' without a value"),
            ("# title: x\n# expect: joy\n", "x.sh:2: `expect: joy'"),
            ("echo\n", "x.sh:1: no `# title:'"),
        ] {
            let error = parse_text(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_scenario_says_why_it_is_not_run() {
        let stock = table::find_kernel("debian-6.1").unwrap();
        let patched = table::find_kernel("patched-6.1").unwrap();
        let runs = |header: &str, kernel: &Kernel, wg| {
            let scenario = parse_text(&format!("# title: x\n# {header}\n")).unwrap();
            scenario.find_obstacle(kernel, wg).is_none()
        };
        for (header, kernel, any, bind_dev, ours) in [
            ("needs: attr", &stock, false, false, false),
            ("needs: attr", &patched, true, true, true),
            ("needs: fallback", &stock, true, true, true),
            ("needs: fallback", &patched, false, false, false),
            ("kernels: debian-6.1", &stock, true, true, true),
            ("kernels: debian-6.1", &patched, false, false, false),
            ("tool: any", &stock, true, true, true),
            ("tool: bind-dev", &stock, false, false, true),
            ("tool: bind-dev", &patched, false, true, true),
            ("tool: ours", &patched, false, false, true),
        ] {
            let all = [Wg::Any, Wg::BindDev, Wg::Ours].map(|wg| runs(header, kernel, wg));
            assert_eq!(all, [any, bind_dev, ours], "{header} on {}", kernel.name);
        }
    }

    #[test]
    fn a_kernel_that_lacks_something_runs_what_is_made_for_it() {
        let scenarios = read_scenarios().unwrap();
        for kernel in table::read_kernels().unwrap() {
            let Some(only) = &kernel.only else { continue };
            let mut run = scenarios.clone();
            run.retain(|s| s.find_obstacle(&kernel, Wg::Ours).is_none());
            let run: Vec<_> = run.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(run, only.scenarios, "{}", kernel.name);
            let large = find_scenario("large").unwrap();
            let reason = large.find_obstacle(&kernel, Wg::Ours).unwrap();
            assert!(reason.starts_with(&only.why), "{reason}");
        }
    }

    #[test]
    fn an_expected_outcome_passes() {
        let scenario = parse_text("# title: x\n# expect: failed 1 is not 2\n").unwrap();
        let compare = |ending, why: &str| scenario.compare_expected(Outcome::new(ending, why));
        assert!(compare(Ending::Failed, "so 1 is not 2").ending == Ending::Passed);
        assert_eq!(compare(Ending::Failed, "other").ending, Ending::Failed);
        assert_eq!(compare(Ending::Passed, "").ending, Ending::Failed);
    }

    #[test]
    fn a_guest_gets_the_libraries_that_are_named() {
        let names = list_libraries(
            ". /lib/wgvrf/lib.sh\n. \"/lib/wgvrf/ifupdown-ng.sh\"\nls /lib/wgvrf/source/x.sh\n\
             bash /lib/wgvrf/scenarios/$X.sh <\"/lib/wgvrf/lacks/$1\"",
        );
        assert_eq!(names, ["lib.sh", "ifupdown-ng.sh"]);

        let guest = find_crate_folder().join("guest");
        let of = |scenario: Option<&Scenario>| {
            let paths = find_libraries(&guest, scenario).unwrap().into_iter();
            let names = paths.map(|path| path.file_name().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        let mut smoke = find_scenario("smoke").unwrap();
        assert_eq!(of(Some(&smoke)), ["init", "lib.sh", "splats"]);
        // life.sh itself names has.sh.
        let deep = of(Some(&find_scenario("u-ifupdown2-bind").unwrap()));
        assert!(deep.contains(&"has.sh".into()) && !deep.contains(&"netns.sh".into()));
        assert!(of(None).contains(&"netns.sh".into()));

        let folder = tempfile::tempdir().unwrap();
        smoke.path = folder.path().join("lost.sh");
        fs::write(&smoke.path, ". /lib/wgvrf/lost.sh\n").unwrap();
        let error = find_libraries(&guest, Some(&smoke)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/lib/wgvrf/lost.sh is not in"), "{error}");
    }

    /// guest/init and guest/has.sh say what is wrong with the two.
    #[test]
    fn no_script_sleeps_by_reading_or_leaves_a_pipe_unread() {
        let sleeps = Regex::new(r#"(^|[\s($`"])read(\s+-\w+)*\s+-\w*t"#).unwrap();
        let early = Regex::new(r"[^|]\|\s*grep(\s+-\w+)*\s+-\w*q").unwrap();
        for (line, bad) in [
            ("x <(read -r -t 1)", &sleeps),
            ("ip rule | grep -iq x", &early),
        ] {
            assert!(bad.is_match(line), "{line}");
        }
        let folders =
            ["guest", "scenarios"].map(|f| fs::read_dir(find_crate_folder().join(f)).unwrap());
        for file in folders.into_iter().flatten() {
            let path = file.unwrap().path();
            let (place, text) = (path.display(), fs::read_to_string(&path).unwrap());
            for line in text.lines().filter(|l| !l.trim().starts_with('#')) {
                assert!(!sleeps.is_match(line), "{place}: `{line}': sleep instead");
                // init, and what `sh -c` runs, has no pipefail.
                let safe = path.ends_with("init") || line.contains("sh -c '");
                let early = early.is_match(line) && !safe;
                assert!(!early, "{place}: `{line}': `| has' reads all");
            }
        }
    }

    #[test]
    fn our_own_are_well_formed() {
        for scenario in read_scenarios().unwrap() {
            // The default would have a wg blamed for what it never claimed to have.
            let text = fs::read_to_string(&scenario.path).unwrap();
            let says = scenario.in_suite("selftest") || text.contains("\n# tool: ");
            assert!(says, "{} does not say which wg it needs", scenario.name);
        }
    }
}
