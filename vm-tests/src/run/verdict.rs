// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! From what a guest left behind to one outcome. Pure: text in, value out.
//!
//! The guest says its verdict last, on a port of its own, after it cleaned up and looked at the
//! kernel's log. Silence, a panic and each limit that passed are told apart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The words by which a complaint of the kernel is known, here and in the guest.
const SPLATS: &str = include_str!("../../guest/splats");

/// The ending of one scenario on one kernel. The words stand in `expect:` headers and result files.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Ending {
    Passed,
    /// An assertion did not hold.
    Failed,
    /// The scenario itself found that it cannot say anything here.
    Skipped,
    /// Init was not reached within the limit.
    BootTimeout,
    /// The machine ended without a verdict and without a panic.
    Silence,
    Panic,
    /// The scenario did not end within its limit.
    ScenarioTimeout,
    /// The scenario ended, cleaning up or powering off did not.
    ShutdownTimeout,
    Splat,
    /// Something could not be removed after the scenario.
    Leak,
    #[default]
    HarnessError,
}

/// An ending and why, in lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub ending: Ending,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The three things that a reader has to be told of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    pub fn new(ending: Ending, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { ending, why }
    }

    pub fn get_kind(&self) -> Kind {
        match self.ending {
            Ending::Passed => Kind::Passed,
            Ending::Skipped => Kind::Skipped,
            _ => Kind::Failed,
        }
    }

    pub fn get_reason(&self) -> &str {
        self.why.lines().next().unwrap_or("no reason given")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ending)?;
        match self.why.lines().next() {
            Some(first) => write!(f, ": {first}"),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited,
    /// We ended it: init was not reached in time.
    BootLimit,
    /// We ended it: the scenario did not end in time.
    ScenarioLimit,
    /// We ended it: it did not come to its end after the scenario.
    ShutdownLimit,
}

/// The progress of a guest, as its port tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub init: bool,
    pub started: bool,
    pub ended: Option<String>,
    pub reason: Option<String>,
    /// A hint for readers of the verdict: a check that could not be made.
    pub notes: Vec<String>,
    pub splats: Vec<String>,
    pub leaks: Vec<String>,
    /// Only when it is the last thing said.
    pub verdict: Option<String>,
}

impl Stages {
    pub fn read(port: &str) -> Self {
        let mut stages = Self::default();
        // A line without its end may be half a line.
        let whole = port.rfind('\n').map_or("", |end| &port[..end]);
        for line in whole.lines() {
            let line = line.trim_end_matches('\r');
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim().to_owned();
            // A line after a verdict takes it back: it was not the last word.
            stages.verdict = None;
            match word {
                "@init" => stages.init = true,
                "@start" => stages.started = true,
                "@end" => stages.ended = Some(rest),
                "@reason" => stages.reason = Some(rest),
                "@note" => stages.notes.push(rest),
                "@splat" => stages.splats.push(rest),
                "@leak" => stages.leaks.push(rest),
                "@verdict" => stages.verdict = Some(rest),
                _ => {}
            }
        }
        stages
    }
}

/// Judges what a guest said on its port, its console, and the kernel's log that it copied at its
/// end.
pub fn judge_run(port: &str, console: &str, dmesg: &str, end: End) -> Outcome {
    let stages = Stages::read(port);
    if let Some(lines) = find_panic(console) {
        return Outcome::new(Ending::Panic, lines);
    }
    let Some(verdict) = stages.verdict.as_deref() else {
        return judge_without_verdict(&stages, console, end);
    };
    if end != End::Exited {
        let why = format!("the machine did not end after its verdict `{verdict}'");
        return Outcome::new(Ending::ShutdownTimeout, why);
    }
    if dmesg.trim().is_empty() {
        return Outcome::new(Ending::HarnessError, "no kernel log came out of the guest");
    }
    let reason = |otherwise: &str| stages.reason.clone().unwrap_or(otherwise.to_owned());
    // The guest has looked already; a guest that cannot look must not pass.
    let mut splats = find_splats(dmesg);
    if splats.is_empty() {
        splats = stages.splats.join("\n");
    }
    if verdict != "broken" && !splats.is_empty() {
        return Outcome::new(Ending::Splat, splats);
    }
    let (ending, why) = match verdict {
        "passed" if stages.ended.as_deref() == Some("0") => (Ending::Passed, String::new()),
        "passed" => (Ending::HarnessError, "a verdict without a scenario".into()),
        "failed" => {
            let code = stages.ended.as_deref().unwrap_or("no code");
            let why = format!("the scenario ended with {code}");
            (Ending::Failed, reason(&why))
        }
        "skipped" => (Ending::Skipped, reason("no reason given")),
        "timeout" => (
            Ending::ScenarioTimeout,
            reason("still running at its limit"),
        ),
        "leak" => (Ending::Leak, stages.leaks.join("\n")),
        "broken" => (Ending::HarnessError, reason("no reason given")),
        other => (
            Ending::HarnessError,
            format!("the guest said `@verdict {other}'"),
        ),
    };
    Outcome::new(ending, why)
}

fn judge_without_verdict(stages: &Stages, console: &str, end: End) -> Outcome {
    let splats = find_splats(console);
    if !splats.is_empty() {
        return Outcome::new(Ending::Splat, splats);
    }
    match end {
        End::BootLimit => {
            let lines: Vec<_> = console.lines().map(str::trim_end).collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            Outcome::new(Ending::BootTimeout, last.join("\n"))
        }
        End::Exited => {
            let when = match (stages.init, stages.started, &stages.ended) {
                (false, ..) => "before init",
                (true, false, _) => "before the scenario began",
                (true, true, None) => "in the middle of the scenario",
                (true, true, Some(_)) => "while it was being cleaned up",
            };
            Outcome::new(Ending::Silence, format!("the machine ended {when}"))
        }
        End::ScenarioLimit => {
            let why = "the guest did not end it at its limit either";
            Outcome::new(Ending::ScenarioTimeout, why)
        }
        End::ShutdownLimit => {
            let why = "the scenario ended, the clean-up after it did not";
            Outcome::new(Ending::ShutdownTimeout, why)
        }
    }
}

fn is_splat(line: &str) -> bool {
    let mut splats = SPLATS.lines().filter(|splat| !splat.is_empty());
    splats.any(|splat| line.contains(splat))
}

/// The kernel's complaints in a log, at most 20 lines.
fn find_splats(log: &str) -> String {
    let lines = log.lines().filter(|line| is_splat(line)).take(20);
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// From the first complaint before a panic, or the panic itself, at most 16 lines.
fn find_panic(console: &str) -> Option<String> {
    let lines: Vec<_> = console.lines().map(str::trim_end).collect();
    let panic = lines.iter().position(|l| l.contains("Kernel panic"))?;
    let first = lines[..panic].iter().position(|line| is_splat(line));
    let first = first.unwrap_or(panic);
    Some(lines[first..lines.len().min(first + 16)].join("\n"))
}

/// The `@result KEY VALUE` lines of a scenario's output, in order.
pub fn read_results(stdout: &str) -> Vec<(String, String)> {
    let pairs = stdout.lines().filter_map(|line| {
        let (key, value) = line.strip_prefix("@result ")?.trim_end().split_once(' ')?;
        Some((key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[    0.000000] Linux version 6.1.0\n[    5.1] wgvrf: the scenario starts\n";

    /// `port` says the words after each `@`, one a line.
    fn judge_text(port: &str, console: &str, dmesg: &str, end: End) -> String {
        let port = &port.replace(" @", "\n@");
        judge_run(port, console, dmesg, end).to_string()
    }

    #[test]
    fn a_verdict_counts_when_it_is_said_last_and_nothing_is_missing() {
        use End::{Exited, ShutdownLimit};
        let passed = "@init 6.1 @start @end 0 @verdict passed\n";
        let failed = "@init 6.1 @start @end 1 @reason 3 packets seen @verdict failed\n";
        let skipped = "@init 6.1 @start @end 77 @reason no bird here @verdict skipped\n";
        let broken = "@init 6.1 @reason cannot load the module 'x' @verdict broken\n";
        let leak = "@init 6.1 @start @end 0 @leak rmmod wireguard hangs @verdict leak\n";
        for (port, dmesg, end, expected) in [
            (passed, LOG, Exited, "passed"),
            (failed, LOG, Exited, "failed: 3 packets seen"),
            (skipped, LOG, Exited, "skipped: no bird here"),
            (broken, LOG, Exited, "harness-error: cannot load"),
            (leak, LOG, Exited, "leak: rmmod wireguard hangs"),
            (passed, "", Exited, "harness-error: no kernel log"),
            (passed, LOG, ShutdownLimit, "shutdown-timeout: "),
            ("@init @verdict passed\n", LOG, Exited, "harness-error: a "),
            // Half a line, or one with something behind it, is none.
            (passed.trim_end(), LOG, Exited, "silence: "),
            (&format!("{passed}@end 0\n"), LOG, Exited, "silence: "),
        ] {
            let outcome = judge_text(port, "", dmesg, end);
            assert!(outcome.starts_with(expected), "{outcome}, not {expected}");
        }
    }

    #[test]
    fn silence_and_each_limit_say_how_far_it_came() {
        use End::{BootLimit, Exited, ScenarioLimit, ShutdownLimit};
        for (port, end, expected) in [
            ("", Exited, "silence: the machine ended before init"),
            ("@init 6.1\n", Exited, "before the scenario began"),
            ("@init 6.1 @start\n", Exited, "in the middle"),
            ("@init 6.1 @start @end 0\n", Exited, "cleaned up"),
            ("", BootLimit, "boot-timeout: SeaBIOS"),
            ("@init 6.1 @start\n", ScenarioLimit, "scenario-timeout"),
            ("@init @verdict timeout\n", Exited, "scenario-timeout"),
            ("@init @start @end 0\n", ShutdownLimit, "shutdown-timeout"),
        ] {
            let dmesg = if port.contains("verdict") { LOG } else { "" };
            let outcome = judge_text(port, "SeaBIOS\nLinux version\n", dmesg, end);
            assert!(outcome.contains(expected), "{outcome}");
        }
    }

    /// As a 6.1 kernel printed it on `echo c >/proc/sysrq-trigger`.
    #[test]
    fn a_panic_is_no_silence() {
        let console = include_str!("../../testdata/panic.log");
        let outcome = judge_text("@init @start\n", console, "", End::Exited);
        assert!(outcome.starts_with("panic: ") && outcome.contains("sysrq triggered crash"));
        assert!(find_panic(console).unwrap().lines().count() <= 16);
    }

    #[test]
    fn a_complaint_outweighs_a_pass() {
        let complaint = "unregister_netdevice: waiting for wg0 to become free. Usage count = 2\n";
        let dmesg = format!("{LOG}[    7.0] {complaint}");
        // Even if the guest overlooked it.
        let port = "@init 6.1 @start @end 0 @verdict passed\n";
        let outcome = judge_text(port, "", &dmesg, End::Exited);
        let named = outcome.starts_with("splat: ") && outcome.contains("wg0");
        assert!(named, "{outcome}");
    }

    #[test]
    fn results_are_gathered() {
        let stdout =
            "-- step\n@result ping4 ok\n+ @result no no\n@result bound vrf_e (fwmark 0x1)\n";
        let found = read_results(stdout);
        let found: Vec<_> = found.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(found, [("ping4", "ok"), ("bound", "vrf_e (fwmark 0x1)")]);
    }
}
