// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `test`: the README's second command. Everything that can be checked here, counted.
//!
//! Checks of the sources come first, then the cells (kernel, tool, scenario). The last line is
//! always `N passed, N failed, N skipped`; a cell that does not apply is listed with its reason.
//! `--full` is the whole matrix. A plain run takes Debian 12's kernels, the whole series on 7.3 and
//! a part on each backport, no scenario that takes minutes, and says what it left out.

use std::process::ExitCode;

use clap::Args;
use fs_err as fs;
use kit::progress::Screen;
use kit::setup::{self, For};
use kit::{Cache, Result};
use vm_tests::guest::tools::{self, Tool, Wg};
use vm_tests::kernel::table::{self, Kernel};
use vm_tests::matrix;
use vm_tests::matrix::guests::{Wanted, run_cells};
use vm_tests::matrix::plan::{self, OURS, Planned, TREES, USUAL};
use vm_tests::run::scenario;
use vm_tests::run::verdict::Kind;

use crate::host::{self, Count};

#[derive(Args)]
pub struct Options {
    /// Only what contains this: `host/…` or kernel/scenario
    filter: Option<String>,
    /// Name what would run and end
    #[arg(long)]
    list: bool,
    /// Scenarios on this kernel; may be given several times
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Scenarios with this tool of vm-tests/tools.toml; may be given several times
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// The whole matrix: all kernels, all tools
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    wanted: Wanted,
}

impl Options {
    fn is_plain(&self) -> bool {
        self.filter.is_none() && self.kernel.is_empty() && self.tool.is_empty()
    }
}

pub fn run_tests(options: &Options, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let wanted = |name: &str| options.filter.as_deref().is_none_or(|f| name.contains(f));
    let mut checks: Vec<_> = host::CHECKS.iter().filter(|c| wanted(c.name)).collect();
    checks.retain(|c| !options.wanted.only_seen && (options.full || c.name != host::LONG));
    let kernels = choose_kernels(options)?;
    let (tools, scenarios) = (choose_tools(options)?, scenario::read_scenarios()?);
    let mut cells = plan::list_cells(&kernels, &tools, &scenarios);
    let plain = options.is_plain();
    cells.retain(|p| wanted(&p.get_name()) && (options.full || !plain || p.is_usual()));
    if options.list {
        let checks = checks.iter().map(|c| vec![c.name.into(), c.title.into()]);
        let cells = cells.iter().map(|planned| {
            let text = match &planned.obstacle {
                None => planned.scenario.title.clone(),
                Some(reason) => format!("not applicable: {reason}"),
            };
            vec![planned.get_name(), text]
        });
        let rows: Vec<_> = checks.chain(cells).collect();
        println!("{}", kit::screen::align_columns(&rows).trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let (mut count, mut again) = (Count::default(), Vec::new());
    for check in &checks {
        let progress = screen.make_progress();
        if check.is_tests() {
            setup::ensure_programs(&[For::Posting], &progress)?;
            let _ = setup::ensure_programs(&[For::Reading], &progress);
        }
        let outcome = host::run_check(check, &progress, cache)?;
        if outcome.count.failed > 0 {
            eprintln!("{}", outcome.output);
        }
        println!("{}", format_count(check.name, outcome.count));
        let skips = outcome.skips.iter();
        skips.for_each(|text| println!("skipped         host/{text}"));
        again.extend(outcome.again);
        count.add_count(outcome.count);
    }
    let runs = cells.iter().filter(|p| p.is_run()).count();
    let (mut data, repeats) = run_cells(&cells, &options.wanted, cache, screen)?;
    again.extend(repeats);
    let of = |kind| data.count_kind(kind, |_| true);
    count.add_count(Count {
        passed: of(Kind::Passed),
        failed: of(Kind::Failed),
        skipped: of(Kind::Skipped),
    });
    let missing = data.count_missing(None);
    data.run.part = !options.full || !plain || options.wanted.wg.is_some() || missing > 0;
    if !data.cells.is_empty() {
        let file = matrix::save_data(&data)?;
        println!("written         {}", file.display());
    }
    if options.wanted.only_seen {
        println!("missing         {missing} cells");
    }
    for o in &data.not_applicable {
        let with = plan::prefix_tool(" with ", &o.tool);
        let (kernel, reason, scenarios) = (&o.kernel, &o.reason, o.scenarios.join(" "));
        println!("not applicable  {kernel}{with}: {reason}: {scenarios}");
    }
    if plain {
        let taken = |p: &Planned| cells.iter().any(|c| c.get_ids() == p.get_ids());
        for text in plan::list_left_out(&plan::list_everything()?, taken) {
            println!("left out        {text}");
        }
    }
    if checks.is_empty() && runs == 0 {
        // A filter with a slip of the pen must not look like success.
        eprintln!("nothing matches; cargo xtask test --list names everything");
        count.failed += 1;
    }
    if !again.is_empty() {
        println!("\nagain:\n  {}", again.join("\n  "));
    }
    println!("\n{count}");
    Ok(ExitCode::from(u8::from(count.failed > 0)))
}

fn choose_kernels(options: &Options) -> Result<Vec<Kernel>> {
    if !options.kernel.is_empty() {
        let names = options.kernel.iter();
        return names.map(|name| table::find_kernel(name)).collect();
    }
    let mut kernels = table::read_kernels()?;
    if options.full {
        return Ok(kernels);
    }
    // A filter that names a kernel chooses it.
    let filter = options.filter.as_deref().unwrap_or_default();
    let named = |k: &Kernel| filter.starts_with(&format!("{}/", k.name)) || filter == k.name;
    if kernels.iter().any(named) {
        kernels.retain(named);
        return Ok(kernels);
    }
    // Who asks for one scenario or tool does not wait for a kernel to be built.
    let trees = if options.is_plain() { TREES } else { &[] };
    let names = USUAL.iter().chain(trees.iter().map(|(name, _)| name));
    names.map(|name| table::find_kernel(name)).collect()
}

fn choose_tools(options: &Options) -> Result<Vec<Tool>> {
    if let Some(wg) = &options.wanted.wg {
        let debian = wg.strip_prefix("debian:").map(str::to_owned);
        let can = match &debian {
            Some(_) => Wg::Any,
            None => plan::find_abilities(&fs::read(wg)?),
        };
        return Ok(vec![Tool {
            name: "given".into(),
            title: wg.clone(),
            debian,
            can,
            ..Tool::default()
        }]);
    }
    match (options.tool.is_empty(), options.full) {
        (false, _) => options.tool.iter().map(|t| tools::find_tool(t)).collect(),
        (true, true) => tools::read_tools(),
        (true, false) => Ok(vec![tools::find_tool(OURS)?]),
    }
}

fn format_count(name: &str, count: Count) -> String {
    let word = if count.failed > 0 { "FAILED" } else { "passed" };
    match count.passed + count.failed + count.skipped {
        1 => format!("{word:14}  {name}"),
        _ => format!("{word:14}  {name}: {count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse_options(words: &[&str]) -> Options {
        Line::parse_from([&["test"], words].concat()).options
    }

    #[test]
    fn a_filter_that_names_a_kernel_chooses_it() {
        let names = |filter: &str| -> Vec<String> {
            let chosen = choose_kernels(&parse_options(&[filter])).unwrap();
            chosen.into_iter().map(|k| k.name).collect()
        };
        assert_eq!(names("patched-7.3/front"), ["patched-7.3"]);
        assert_eq!(names("front-door"), USUAL);
    }

    #[test]
    fn the_whole_matrix_is_every_kernel_and_tool() {
        let full = parse_options(&["--full"]);
        let kernels = choose_kernels(&full).unwrap().len();
        assert_eq!(kernels, table::read_kernels().unwrap().len());
        assert_eq!(choose_tools(&full).unwrap(), tools::read_tools().unwrap());
        assert_eq!(choose_tools(&parse_options(&[])).unwrap().len(), 1);
    }
}
