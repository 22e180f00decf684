// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Scenarios: bash scripts of `scenarios/` whose first comment lines tell the runner what they
//! need. Reads headers and says where a scenario applies; does not run anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kernel::table::Kernel;
use crate::run::verdict::Outcome;
use kit::error::{Error, Result};

/// What a scenario needs of wireguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A kernel with `WGDEVICE_A_BIND_DEV`.
    Attr,
    /// A kernel without it: the tool has to fall back.
    Fallback,
    /// Any kernel.
    Any,
}

/// What a `wg` can, each one more than the one before; and what a scenario needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wg {
    /// What every `wg` can.
    Any,
    /// The keyword `bind-dev`, as kernel-patches/wireguard-tools.md has it for the C tool. On a
    /// kernel without the attribute that means the fallback, which only ours has.
    BindDev,
    /// Ours: its fallback, its own messages.
    Ours,
}

/// The header of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The file's name without `.sh`.
    pub name: String,
    pub path: PathBuf,
    /// One line for people.
    pub title: String,
    pub needs: Needs,
    /// What it needs of the `wg` under test.
    pub tool: Wg,
    /// For the script itself; boot and shutdown have limits of their own.
    pub timeout: Duration,
    /// Kernel modules to load besides the usual ones.
    pub modules: Vec<String>,
    /// Debian packages of the guest besides the usual ones.
    pub packages: Vec<String>,
    /// Files of the kernel's own source that the guest gets, under /lib/wgvrf/source/stock and,
    /// where the kernel has a series, .../patched.
    pub source: Vec<String>,
    /// Programs that no package of the guest's brings, see `programs`.
    pub programs: Vec<String>,
    /// Words for the kernel's command line.
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
    /// The harness's own tests: the outcome (its word) that this scenario must come to, and a
    /// text that must be among its details.
    pub expect: Option<(String, String)>,
    /// Limits of its own for boot and shutdown.
    pub boot: Option<Duration>,
    pub shutdown: Option<Duration>,
}

/// Whether a scenario is run on a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Run,
    NotApplicable(String),
}

impl Scenario {
    /// Whether and why (not) this scenario is run on `kernel`.
    pub fn on(&self, kernel: &Kernel) -> Cell {
        if !self.kernels.is_empty() && !self.kernels.contains(&kernel.name) {
            return Cell::NotApplicable(format!("only for {}", self.kernels.join(", ")));
        }
        if let Some(only) = &kernel.only
            && !only.scenarios.contains(&self.name)
        {
            return Cell::NotApplicable(format!(
                "{}; the kernel runs {} only",
                only.why,
                only.scenarios.join(", ")
            ));
        }
        match (self.needs, kernel.attr) {
            (Needs::Attr, false) => {
                Cell::NotApplicable("the kernel has no WGDEVICE_A_BIND_DEV".into())
            }
            (Needs::Fallback, true) => {
                Cell::NotApplicable("the kernel needs no fallback: it has the attribute".into())
            }
            _ => Cell::Run,
        }
    }

    /// Whether and why (not) this scenario is run on `kernel` with this `wg`.
    pub fn with(&self, kernel: &Kernel, wg: Wg) -> Cell {
        let cell = self.on(kernel);
        if cell != Cell::Run {
            return cell;
        }
        let reason = match (self.tool, wg) {
            (Wg::Any, _) | (_, Wg::Ours) => return Cell::Run,
            (Wg::BindDev, Wg::BindDev) if kernel.attr => return Cell::Run,
            (Wg::BindDev, Wg::BindDev) => {
                "the kernel has no WGDEVICE_A_BIND_DEV, and only our wg falls back"
            }
            (Wg::BindDev, Wg::Any) => "this wg has no bind-dev",
            (Wg::Ours, _) => "it is about what only our wg does and says",
        };
        Cell::NotApplicable(reason.into())
    }

    /// What an outcome means for this scenario: where one is expected, coming to it is passing.
    pub fn expected(&self, outcome: Outcome) -> Outcome {
        match &self.expect {
            None => outcome,
            Some((word, text))
                if outcome.word() == word && outcome.details().join("\n").contains(text) =>
            {
                Outcome::Passed
            }
            Some((word, text)) => {
                Outcome::Failed(format!("expected `{word}: {text}', came to `{outcome}'"))
            }
        }
    }

    /// Minutes of a processor: not part of a plain run.
    pub fn is_long(&self) -> bool {
        self.in_suite("long")
    }

    pub fn in_suite(&self, suite: &str) -> bool {
        self.suites.iter().any(|s| s == suite)
    }

    /// Reads one script's header.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |line: usize, text: String| Error::Data {
            file: path.to_path_buf(),
            line,
            text,
        };
        let mut scenario = Self {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path: path.to_path_buf(),
            title: String::new(),
            needs: Needs::Any,
            tool: Wg::Any,
            timeout: Duration::from_secs(60),
            modules: Vec::new(),
            packages: Vec::new(),
            source: Vec::new(),
            programs: Vec::new(),
            cmdline: Vec::new(),
            suites: Vec::new(),
            smp: 2,
            icount: None,
            memory: None,
            kernels: Vec::new(),
            expect: None,
            boot: None,
            shutdown: None,
        };
        let mut seen: Vec<&str> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            // The header ends where the script begins.
            let Some(comment) = line.strip_prefix('#') else {
                break;
            };
            // Only `# word: value` is data; prose may stand between.
            let Some((key, value)) = comment.strip_prefix(' ').and_then(|c| c.split_once(':'))
            else {
                continue;
            };
            if key.contains(' ') || !key.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            let value = value.trim();
            if value.is_empty() {
                return Err(wrong(number, format!("`{key}:' without a value")));
            }
            if seen.contains(&key) {
                return Err(wrong(number, format!("`{key}:' is there twice")));
            }
            seen.push(key);
            let words = || {
                value
                    .split(|c: char| c == ',' || c.is_whitespace())
                    .filter(|w| !w.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let count = |what: &str| {
                value.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(|| {
                    wrong(number, format!("`{key}: {value}' is no number of {what}"))
                })
            };
            match key {
                "title" => scenario.title = value.to_owned(),
                "needs" => {
                    scenario.needs = match value {
                        "attr" => Needs::Attr,
                        "fallback" => Needs::Fallback,
                        "any" => Needs::Any,
                        _ => {
                            return Err(wrong(
                                number,
                                format!("`needs: {value}' is none of attr, fallback, any"),
                            ));
                        }
                    }
                }
                "tool" => {
                    scenario.tool = match value {
                        "any" => Wg::Any,
                        "bind-dev" => Wg::BindDev,
                        "ours" => Wg::Ours,
                        _ => {
                            return Err(wrong(
                                number,
                                format!("`tool: {value}' is none of any, bind-dev, ours"),
                            ));
                        }
                    }
                }
                "timeout" => scenario.timeout = Duration::from_secs(count("seconds")?.into()),
                "modules" => scenario.modules = words(),
                "packages" => scenario.packages = words(),
                "source" => scenario.source = words(),
                "programs" => scenario.programs = words(),
                // A comma is part of a word here: `console=ttyS0,115200`.
                "cmdline" => {
                    scenario.cmdline = value.split_whitespace().map(str::to_owned).collect();
                }
                "suite" => scenario.suites = words(),
                "smp" => scenario.smp = count("processors")?,
                "icount" => {
                    let shift = value.parse().ok().filter(|n| *n <= 10);
                    scenario.icount = Some(shift.ok_or_else(|| {
                        wrong(number, format!("`icount: {value}' is no number up to 10"))
                    })?);
                }
                "memory" => scenario.memory = Some(count("MiB")?),
                "kernels" => scenario.kernels = words(),
                "expect" => {
                    let (word, text) = value.split_once(' ').unwrap_or((value, ""));
                    if !Outcome::WORDS.contains(&word) {
                        return Err(wrong(
                            number,
                            format!("`expect: {word}' is none of {}", Outcome::WORDS.join(", ")),
                        ));
                    }
                    scenario.expect = Some((word.to_owned(), text.to_owned()));
                }
                "boot" => scenario.boot = Some(Duration::from_secs(count("seconds")?.into())),
                "shutdown" => {
                    scenario.shutdown = Some(Duration::from_secs(count("seconds")?.into()));
                }
                _ => {
                    return Err(wrong(
                        number,
                        format!(
                            "`{key}:' is none of title, needs, tool, timeout, modules, packages, \
                             source, programs, cmdline, suite, smp, icount, memory, kernels, expect, boot, shutdown"
                        ),
                    ));
                }
            }
        }
        if scenario.title.is_empty() {
            return Err(wrong(1, "no `# title:' in the header".into()));
        }
        Ok(scenario)
    }
}

/// The folder of this crate, where scenarios and guest files are.
pub fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All scenarios, by name. One broken header is an error: a test that is not read is not run.
pub fn all() -> Result<Vec<Scenario>> {
    in_folder(&crate_folder().join("scenarios"))
}

/// The scenarios of a folder, by name.
pub fn in_folder(folder: &Path) -> Result<Vec<Scenario>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            found.push(Scenario::read(&path)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The files of `folder`, guest/, that a guest for `scenario` gets: the libraries that its script
/// names, those that these name in turn, and what is no library. Without a scenario: all of them.
///
/// What a scenario does not source is not in its guest, so that a change to one tool's library
/// sends only that tool's scenarios round again.
pub(crate) fn libraries(folder: &Path, scenario: Option<&Scenario>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let library = path.extension().is_some_and(|e| e == "sh");
        if path.is_file() && !(library && scenario.is_some()) {
            found.push(path);
        }
    }
    let mut unread: Vec<PathBuf> = scenario.iter().map(|s| s.path.clone()).collect();
    while let Some(script) = unread.pop() {
        let text = fs::read_to_string(&script).map_err(Error::io("read", &script))?;
        for name in named_libraries(&text) {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(Error::other(format!(
                    "{}: /lib/wgvrf/{name} is not in {}",
                    script.display(),
                    folder.display()
                )));
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
fn named_libraries(text: &str) -> impl Iterator<Item = &str> {
    text.split("/lib/wgvrf/").skip(1).filter_map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
            .unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| name.ends_with(".sh"))
    })
}

/// The scenario of a name, or an error that lists the names.
pub fn find(name: &str) -> Result<Scenario> {
    let scenarios = all()?;
    let names: Vec<_> = scenarios.iter().map(|s| s.name.clone()).collect();
    scenarios
        .into_iter()
        .find(|s| s.name == name)
        .ok_or_else(|| {
            Error::other(format!(
                "no scenario `{name}'; there are: {}",
                names.join(", ")
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::table;

    fn parse(text: &str) -> Result<Scenario> {
        Scenario::parse(Path::new("scenarios/x.sh"), text)
    }

    #[test]
    fn a_header_is_read() {
        let scenario = parse(
            "#!/bin/bash\n# SPDX-License-Identifier: MIT\n# title: a: b\n# needs: attr\n\
             # timeout: 90\n# Prose with a colon: not data.\n# suite: demo, smoke\n\
             # modules: bridge dummy\n# cmdline: ipv6.disable=1 a=b,c\n# smp: 4\nset -e\n# title: late\n",
        )
        .unwrap();
        assert_eq!(scenario.name, "x");
        assert_eq!(scenario.title, "a: b");
        assert_eq!(scenario.needs, Needs::Attr);
        assert_eq!(scenario.timeout, Duration::from_secs(90));
        assert_eq!(scenario.suites, ["demo", "smoke"]);
        assert_eq!(scenario.modules, ["bridge", "dummy"]);
        assert_eq!(scenario.cmdline, ["ipv6.disable=1", "a=b,c"]);
        assert_eq!(scenario.smp, 4);
    }

    #[test]
    fn errors_name_file_line_and_value() {
        for (text, expected) in [
            ("# titel: x\n", "scenarios/x.sh:1: `titel:' is none of"),
            ("# title: x\n# needs: root\n", "x.sh:2: `needs: root'"),
            ("# title: x\n# tool: theirs\n", "x.sh:2: `tool: theirs'"),
            ("# title: x\n# timeout: soon\n", "x.sh:2: `timeout: soon'"),
            ("# title: x\n# icount: 11\n", "x.sh:2: `icount: 11'"),
            ("# title: x\n# smp: 0\n", "x.sh:2: `smp: 0'"),
            (
                "# title: x\n# title: y\n",
                "x.sh:2: `title:' is there twice",
            ),
            ("# title:\n", "x.sh:1: `title:' without a value"),
            ("# title: x\n# expect: joy\n", "x.sh:2: `expect: joy'"),
            ("echo\n", "x.sh:1: no `# title:'"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn cells_say_why_not() {
        let attr = parse("# title: x\n# needs: attr\n").unwrap();
        let fallback = parse("# title: x\n# needs: fallback\n").unwrap();
        let stock = table::find("debian-6.1").unwrap();
        let patched = table::find("patched-6.1").unwrap();
        assert_eq!(attr.on(&patched), Cell::Run);
        assert!(matches!(attr.on(&stock), Cell::NotApplicable(_)));
        assert_eq!(fallback.on(&stock), Cell::Run);
        assert!(matches!(fallback.on(&patched), Cell::NotApplicable(_)));
        let one = parse("# title: x\n# kernels: debian-6.1\n").unwrap();
        assert_eq!(one.on(&stock), Cell::Run);
        assert!(matches!(one.on(&patched), Cell::NotApplicable(_)));
    }

    #[test]
    fn a_kernel_that_lacks_something_runs_what_is_made_for_it() {
        let scenarios = all().unwrap();
        for kernel in table::all().unwrap() {
            let Some(only) = &kernel.only else { continue };
            let run: Vec<_> = scenarios
                .iter()
                .filter(|s| s.on(&kernel) == Cell::Run)
                .map(|s| s.name.clone())
                .collect();
            assert_eq!(run, only.scenarios, "{}", kernel.name);
            let Cell::NotApplicable(reason) = find("smoke").unwrap().on(&kernel) else {
                panic!("smoke runs on {}", kernel.name);
            };
            assert!(reason.starts_with(&only.why), "{reason}");
        }
    }

    #[test]
    fn cells_say_which_wg_is_too_old() {
        let stock = table::find("debian-6.1").unwrap();
        let patched = table::find("patched-6.1").unwrap();
        let runs = |tool: &str, kernel: &Kernel, wg| {
            let scenario = parse(&format!("# title: x\n# tool: {tool}\n")).unwrap();
            scenario.with(kernel, wg) == Cell::Run
        };
        for (tool, kernel, any, bind_dev, ours) in [
            ("any", &stock, true, true, true),
            ("bind-dev", &stock, false, false, true),
            ("bind-dev", &patched, false, true, true),
            ("ours", &patched, false, false, true),
        ] {
            assert_eq!(runs(tool, kernel, Wg::Any), any, "{tool}");
            assert_eq!(runs(tool, kernel, Wg::BindDev), bind_dev, "{tool}");
            assert_eq!(runs(tool, kernel, Wg::Ours), ours, "{tool}");
        }
        // What the kernel rules out stays ruled out, whatever the tool.
        let attr = parse("# title: x\n# needs: attr\n# tool: any\n").unwrap();
        assert_eq!(attr.with(&stock, Wg::Ours), attr.on(&stock));
    }

    #[test]
    fn an_expected_outcome_passes() {
        let scenario = parse("# title: x\n# expect: failed 1 is not 2\n").unwrap();
        let failed = |text: &str| Outcome::Failed(text.into());
        assert_eq!(scenario.expected(failed("so 1 is not 2")), Outcome::Passed);
        assert_eq!(scenario.expected(failed("other")).word(), "failed");
        assert_eq!(scenario.expected(Outcome::Passed).word(), "failed");
    }

    #[test]
    fn a_guest_gets_the_libraries_that_are_named() {
        let names: Vec<_> = named_libraries(
            ". /lib/wgvrf/lib.sh\n. \"/lib/wgvrf/ifupdown-ng.sh\"\nls /lib/wgvrf/source/x.sh\n\
             bash /lib/wgvrf/scenarios/$X.sh <\"/lib/wgvrf/lacks/$1\"",
        )
        .collect();
        assert_eq!(names, ["lib.sh", "ifupdown-ng.sh"]);

        let guest = crate_folder().join("guest");
        let of = |scenario: Option<&str>| -> Vec<String> {
            let scenario = scenario.map(|name| find(name).unwrap());
            libraries(&guest, scenario.as_ref())
                .unwrap()
                .iter()
                .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(of(Some("smoke")), ["init", "lib.sh", "splats"]);
        // life.sh itself names has.sh.
        assert_eq!(
            of(Some("u-ifupdown2-bind")),
            [
                "has.sh",
                "ifupdown2.sh",
                "init",
                "lib.sh",
                "life.sh",
                "router.sh",
                "splats"
            ]
        );
        assert!(of(None).contains(&"netns.sh".to_owned()));

        let mut lost = find("smoke").unwrap();
        lost.path = std::env::temp_dir().join(format!("wg-vrf-lost-{}.sh", std::process::id()));
        fs::write(&lost.path, ". /lib/wgvrf/lost.sh\n").unwrap();
        let error = libraries(&guest, Some(&lost)).unwrap_err().to_string();
        fs::remove_file(&lost.path).unwrap();
        assert!(error.contains("/lib/wgvrf/lost.sh is not in"), "{error}");
    }

    /// What guests run: path and text.
    fn guest_scripts() -> Vec<(PathBuf, String)> {
        let folders = ["guest", "scenarios"].map(|folder| crate_folder().join(folder));
        let files = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap());
        files
            .map(|file| file.unwrap().path())
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect()
    }

    /// Options of a command's words, such as `-r -t`.
    fn has_option<'a>(words: impl Iterator<Item = &'a str>, option: char) -> bool {
        words
            .take_while(|word| word.starts_with('-'))
            .any(|word| word.contains(option))
    }

    /// guest/init says what is wrong with it.
    #[test]
    fn no_script_of_ours_sleeps_by_reading() {
        for (path, text) in guest_scripts() {
            for line in text.lines().filter(|line| !line.trim().starts_with('#')) {
                let mut words = line.split_whitespace();
                while let Some(word) = words.next() {
                    let reads = word.trim_start_matches(['(', '$', '`', '"']) == "read";
                    assert!(
                        !reads || !has_option(words.clone(), 't'),
                        "{}: `{line}': sleep instead",
                        path.display()
                    );
                }
            }
        }
    }

    /// See guest/has.sh.
    #[test]
    fn no_pipeline_of_ours_ends_before_it_has_read_all() {
        for (path, text) in guest_scripts() {
            // init, and what `sh -c` runs, has no pipefail.
            if path.ends_with("init") {
                continue;
            }
            for line in text.lines().filter(|line| !line.contains("sh -c '")) {
                let early = line.split('|').skip(1).map(str::trim_start).any(|reader| {
                    reader
                        .strip_prefix("grep ")
                        .is_some_and(|arguments| has_option(arguments.split_whitespace(), 'q'))
                });
                assert!(!early, "{}: `{line}': `| has' reads all", path.display());
            }
        }
    }

    #[test]
    fn our_own_are_well_formed() {
        let scenarios = all().unwrap();
        assert!(!scenarios.is_empty());
        for scenario in scenarios {
            // The default would have a wg blamed for what it never claimed to have.
            let text = fs::read_to_string(&scenario.path).unwrap();
            assert!(
                scenario.in_suite("selftest") || text.contains("\n# tool: "),
                "{} does not say which wg it needs",
                scenario.name
            );
        }
    }
}
