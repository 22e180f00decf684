// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! From what a guest left behind to one outcome. Pure: text in, value out.
//!
//! The guest says its verdict last, on a port of its own, after it cleaned up and looked at the
//! kernel's log. Whatever else happens (nothing said, a panic, a limit passed) is told apart.

use std::fmt;

/// What counts as the kernel complaining; the guest looks for the same.
const SPLATS: &str = include_str!("../../guest/splats");

/// What became of one scenario on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// An assertion did not hold.
    Failed(String),
    /// The scenario itself found that it cannot say anything here.
    Skipped(String),
    /// Init was not reached within the limit; the console's last lines.
    BootTimeout(Vec<String>),
    /// The machine ended without a verdict and without a panic.
    Silence(String),
    /// The kernel panicked; its first lines.
    Panic(Vec<String>),
    /// The scenario did not end within its limit.
    ScenarioTimeout(String),
    /// The scenario ended, cleaning up or powering off did not.
    ShutdownTimeout(String),
    /// The kernel complained; its lines.
    Splat(Vec<String>),
    /// Something could not be removed after the scenario.
    Leak(Vec<String>),
    /// The harness itself did not work.
    HarnessError(String),
}

impl Outcome {
    /// One word, as the header `expect:` and result files have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
            Self::BootTimeout(_) => "boot-timeout",
            Self::Silence(_) => "silence",
            Self::Panic(_) => "panic",
            Self::ScenarioTimeout(_) => "scenario-timeout",
            Self::ShutdownTimeout(_) => "shutdown-timeout",
            Self::Splat(_) => "splat",
            Self::Leak(_) => "leak",
            Self::HarnessError(_) => "harness-error",
        }
    }

    /// All words of [`Outcome::word`].
    pub const WORDS: &[&str] = &[
        "passed",
        "failed",
        "skipped",
        "boot-timeout",
        "silence",
        "panic",
        "scenario-timeout",
        "shutdown-timeout",
        "splat",
        "leak",
        "harness-error",
    ];

    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed)
    }

    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }

    /// Neither passed nor skipped.
    pub fn is_bad(&self) -> bool {
        !self.is_passed() && !self.is_skipped()
    }

    /// Why, in lines.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Passed => Vec::new(),
            Self::Failed(text)
            | Self::Skipped(text)
            | Self::Silence(text)
            | Self::ScenarioTimeout(text)
            | Self::ShutdownTimeout(text)
            | Self::HarnessError(text) => vec![text.clone()],
            Self::BootTimeout(lines)
            | Self::Panic(lines)
            | Self::Splat(lines)
            | Self::Leak(lines) => lines.clone(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.details().first() {
            Some(first) => write!(f, ": {first}"),
            None => Ok(()),
        }
    }
}

/// How the machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself.
    Exited,
    /// We ended it: init was not reached in time.
    BootLimit,
    /// We ended it: the scenario did not end in time.
    ScenarioLimit,
    /// We ended it: it did not come to its end after the scenario.
    ShutdownLimit,
}

/// What a guest left behind.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The verdict's port.
    pub port: &'a str,
    pub console: &'a str,
    /// The kernel's log, copied by the guest at its end.
    pub dmesg: &'a str,
    pub end: End,
}

/// How far a guest came, as its port tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub init: bool,
    pub started: bool,
    pub ended: Option<String>,
    pub reason: Option<String>,
    /// What a reader of the verdict should know: a check that could not be made.
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
            // Whatever follows a verdict takes it back: it was not the last word.
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

/// The outcome of one run.
pub fn judge(evidence: Evidence<'_>) -> Outcome {
    let Evidence {
        port,
        console,
        dmesg,
        end,
    } = evidence;
    let stages = Stages::read(port);
    if let Some(lines) = panic_lines(console) {
        return Outcome::Panic(lines);
    }
    let Some(verdict) = stages.verdict.as_deref() else {
        return without_verdict(&stages, console, end);
    };
    if end != End::Exited {
        return Outcome::ShutdownTimeout(format!(
            "the machine did not end after its verdict `{verdict}'"
        ));
    }
    if dmesg.trim().is_empty() {
        return Outcome::HarnessError("no kernel log came out of the guest".into());
    }
    let reason = |otherwise: &str| stages.reason.clone().unwrap_or(otherwise.to_owned());
    // The guest has looked already; a guest that cannot look must not pass.
    let mut splats = splats(dmesg);
    if splats.is_empty() {
        splats.clone_from(&stages.splats);
    }
    if verdict != "broken" && !splats.is_empty() {
        return Outcome::Splat(splats);
    }
    match verdict {
        "passed" if stages.ended.as_deref() == Some("0") => Outcome::Passed,
        "passed" => Outcome::HarnessError("a verdict without a scenario".into()),
        "failed" => {
            let code = stages.ended.as_deref().unwrap_or("no code");
            Outcome::Failed(reason(&format!("the scenario ended with {code}")))
        }
        "skipped" => Outcome::Skipped(reason("no reason given")),
        "timeout" => Outcome::ScenarioTimeout(reason("still running at its limit")),
        "leak" => Outcome::Leak(stages.leaks.clone()),
        "broken" => Outcome::HarnessError(reason("no reason given")),
        _ => Outcome::HarnessError(format!("the guest said `@verdict {verdict}'")),
    }
}

fn without_verdict(stages: &Stages, console: &str, end: End) -> Outcome {
    let found = splats(console);
    if !found.is_empty() {
        return Outcome::Splat(found);
    }
    match end {
        End::BootLimit => Outcome::BootTimeout(tail(console, 12)),
        End::Exited => Outcome::Silence(
            match (stages.init, stages.started, &stages.ended) {
                (false, ..) => "the machine ended before init",
                (true, false, _) => "the machine ended before the scenario began",
                (true, true, None) => "the machine ended in the middle of the scenario",
                (true, true, Some(_)) => "the machine ended while it was being cleaned up",
            }
            .into(),
        ),
        End::ScenarioLimit => {
            Outcome::ScenarioTimeout("the guest did not end it at its limit either".into())
        }
        End::ShutdownLimit => {
            Outcome::ShutdownTimeout("the scenario ended, the clean-up after it did not".into())
        }
    }
}

/// The kernel's complaints in a log, at most 20.
pub fn splats(log: &str) -> Vec<String> {
    log.lines()
        .filter(|line| {
            SPLATS
                .lines()
                .any(|splat| !splat.is_empty() && line.contains(splat))
        })
        .take(20)
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// From the first complaint before a panic, or the panic itself, at most 16 lines.
fn panic_lines(console: &str) -> Option<Vec<String>> {
    let lines: Vec<_> = console.lines().map(str::trim_end).collect();
    let panic = lines.iter().position(|l| l.contains("Kernel panic"))?;
    let first = lines[..panic]
        .iter()
        .position(|line| !splats(line).is_empty())
        .unwrap_or(panic);
    Some(
        lines[first..]
            .iter()
            .take(16)
            .map(|l| (*l).to_owned())
            .collect(),
    )
}

fn tail(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The `@result KEY VALUE` lines of a scenario's output, in order.
pub fn results(stdout: &str) -> Vec<(String, String)> {
    stdout
        .lines()
        .filter_map(|line| {
            let (key, value) = line.strip_prefix("@result ")?.trim_end().split_once(' ')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[    0.000000] Linux version 6.1.0\n[    5.1] wgvrf: the scenario starts\n";

    fn judged(port: &str, console: &str, dmesg: &str, end: End) -> Outcome {
        judge(Evidence {
            port,
            console,
            dmesg,
            end,
        })
    }

    #[test]
    fn a_verdict_that_is_said_last() {
        let port = "@init 6.1\n@start\n@end 0\n@verdict passed\n";
        assert_eq!(judged(port, "", LOG, End::Exited), Outcome::Passed);
        let port = "@init 6.1\n@start\n@end 1\n@reason 3 packets seen\n@verdict failed\n";
        assert_eq!(
            judged(port, "", LOG, End::Exited),
            Outcome::Failed("3 packets seen".into())
        );
        let port = "@init 6.1\n@start\n@end 77\n@reason no bird here\n@verdict skipped\n";
        assert_eq!(
            judged(port, "", LOG, End::Exited),
            Outcome::Skipped("no bird here".into())
        );
        let port = "@init 6.1\n@reason cannot load the module 'x'\n@verdict broken\n";
        assert_eq!(judged(port, "", LOG, End::Exited).word(), "harness-error");
    }

    #[test]
    fn passing_takes_every_input() {
        let port = "@init 6.1\n@start\n@end 0\n@verdict passed\n";
        assert_eq!(judged(port, "", "", End::Exited).word(), "harness-error");
        assert_eq!(
            judged("@init 6.1\n@verdict passed\n", "", LOG, End::Exited).word(),
            "harness-error"
        );
        assert_eq!(
            judged(port, "", LOG, End::ShutdownLimit).word(),
            "shutdown-timeout"
        );
        // Half a line, or one with something behind it, is none.
        assert_eq!(
            judged(
                "@init\n@start\n@end 0\n@verdict passed",
                "",
                LOG,
                End::Exited
            )
            .word(),
            "silence"
        );
        assert_eq!(
            judged(
                "@init\n@start\n@verdict passed\n@end 0\n",
                "",
                LOG,
                End::Exited
            )
            .word(),
            "silence"
        );
    }

    #[test]
    fn silence_says_how_far_it_came() {
        for (port, expected) in [
            ("", "before init"),
            ("@init 6.1\n", "before the scenario began"),
            ("@init 6.1\n@start\n", "in the middle"),
            ("@init 6.1\n@start\n@end 0\n", "cleaned up"),
        ] {
            let outcome = judged(port, "", "", End::Exited);
            assert_eq!(outcome.word(), "silence");
            assert!(outcome.to_string().contains(expected), "{outcome}");
        }
    }

    #[test]
    fn each_limit_is_its_own() {
        let console = "SeaBIOS\nLinux version\n";
        assert_eq!(
            judged("", console, "", End::BootLimit),
            Outcome::BootTimeout(vec!["SeaBIOS".into(), "Linux version".into()])
        );
        let port = "@init 6.1\n@start\n";
        assert_eq!(
            judged(port, "", "", End::ScenarioLimit).word(),
            "scenario-timeout"
        );
        let port = "@init 6.1\n@start\n@end 143\n@verdict timeout\n";
        assert_eq!(
            judged(port, "", LOG, End::Exited).word(),
            "scenario-timeout"
        );
        let port = "@init 6.1\n@start\n@end 0\n";
        assert_eq!(
            judged(port, "", "", End::ShutdownLimit).word(),
            "shutdown-timeout"
        );
    }

    /// As a 6.1 kernel printed it on `echo c >/proc/sysrq-trigger`.
    #[test]
    fn a_panic_is_no_silence() {
        let console = include_str!("../../testdata/panic.log");
        let Outcome::Panic(lines) = judged("@init\n@start\n", console, "", End::Exited) else {
            panic!("no panic");
        };
        assert!(lines[0].contains("sysrq triggered crash"), "{lines:?}");
        assert!(lines.len() <= 16);
    }

    #[test]
    fn a_complaint_outweighs_a_pass() {
        let dmesg = format!(
            "{LOG}[    7.0] unregister_netdevice: waiting for wg0 to become free. Usage count = 2\n"
        );
        // Even if the guest overlooked it.
        let port = "@init 6.1\n@start\n@end 0\n@verdict passed\n";
        let Outcome::Splat(lines) = judged(port, "", &dmesg, End::Exited) else {
            panic!("no splat");
        };
        assert!(lines[0].contains("wg0"));
        let port = "@init 6.1\n@start\n@end 0\n@leak rmmod wireguard hangs\n@verdict leak\n";
        assert_eq!(
            judged(port, "", LOG, End::Exited),
            Outcome::Leak(vec!["rmmod wireguard hangs".into()])
        );
    }

    #[test]
    fn results_are_gathered() {
        let stdout =
            "-- step\n@result ping4 ok\n+ @result no no\n@result bound vrf_e (fwmark 0x1)\n";
        assert_eq!(
            results(stdout),
            [
                ("ping4".to_owned(), "ok".to_owned()),
                ("bound".to_owned(), "vrf_e (fwmark 0x1)".to_owned())
            ]
        );
    }
}
