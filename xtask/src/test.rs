// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `test`: the README's second command. Everything that can be checked here, counted.
//!
//! Checks of the sources come first, then the cells (kernel, tool, scenario). The last line is
//! always `N passed, N failed, N skipped`; a cell that does not apply is listed with its reason
//! and is neither. `--full` is the whole matrix. A plain run takes Debian 12's kernels, the series of
//! the other trees, and no scenario that takes minutes, and says what it left out.

use std::fs;
use std::process::ExitCode;

use clap::Args;
use kit::{Cache, Error, Result};
use vm_tests::guest::tools;
use vm_tests::guest::tools::Candidate;
use vm_tests::kernel::table;
use vm_tests::kernel::table::Kernel;
use vm_tests::run::scenario;
use vm_tests::run::scenario::Cell;
use vm_tests::run::scenario::Wg;

use crate::host;
use kit::screen::Screen;
use kit::setup::{self, For};
use vm_tests::matrix::data::{Data, Kind};
use vm_tests::matrix::junit::{self, Check};
use vm_tests::matrix::plan::{self, OURS, Planned, TREES, USUAL};
use vm_tests::{guest, matrix};

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
    /// Take what an earlier run saw with the same kernel, tool, scenario and guest
    #[arg(long)]
    resume: bool,
    /// Start no guest and make no kernel: only what earlier runs saw; the rest is missing
    #[arg(long)]
    seen: bool,
    /// Another wg than ours in the guests: a path, or debian:SUITE
    #[arg(long, value_name = "WG", conflicts_with = "tool")]
    wg: Option<String>,
    /// Guests at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// MiB for all guests together [default: what is available]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub fn run(options: &Options, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let wanted = |name: &str| options.filter.as_deref().is_none_or(|f| name.contains(f));
    let host: Vec<_> = host::HOST
        .iter()
        .filter(|c| wanted(c.name) && !options.seen)
        .collect();
    let mut cells = plan::cells(
        &chosen_kernels(options)?,
        &chosen_tools(options)?,
        &scenario::all()?,
    );
    let plain = options.filter.is_none() && options.kernel.is_empty() && options.tool.is_empty();
    cells.retain(|p| wanted(&p.name()) && (options.full || !plain || p.is_usual()));
    if options.list {
        list(&host, &cells);
        return Ok(ExitCode::SUCCESS);
    }
    let mut count = Count::default();
    let (mut again, mut checks) = (Vec::new(), Vec::new());
    if host.iter().any(|check| check.tests) {
        setup::ensure(&[For::Posting], &progress)?;
        setup::offer(&[For::Reading], &progress);
    }
    for check in &host {
        let (one, output) = host::source(check, &progress)?;
        if one.failed > 0 {
            eprintln!("{output}");
            again.extend(host::repeat(check, &output));
        }
        let line = line(check.name, one);
        println!("{line}");
        for text in host::skips(&output) {
            println!("skipped         host/{text}");
        }
        checks.push(Check {
            name: check.name.to_owned(),
            failed: (one.failed > 0).then_some(line),
        });
        count.add(one);
    }
    let runs = cells.iter().filter(|p| p.cell == Cell::Run).count();
    let settings = matrix::guests::Wanted {
        jobs: options.jobs,
        memory: options.memory,
        resume: options.resume,
        only_seen: options.seen,
        wg: options.wg.clone(),
    };
    let (data, repeats) = matrix::guests::run(&cells, &settings, cache, screen, &progress)?;
    again.extend(repeats);
    count.add(counted(&data));
    write(&data, &checks, options)?;
    if options.seen {
        println!("missing         {} cells", data.missing());
    }
    for text in plan::not_applicable(&cells) {
        println!("not applicable  {text}");
    }
    if data.kernels.len() > 1 && runs > 1 {
        print!("\n{}", matrix::table::text(&data));
    }
    if plain {
        let taken = |p: &Planned| cells.iter().any(|c| c.ids() == p.ids());
        for text in plan::left_out(&plan::everything()?, taken) {
            println!("left out        {text}");
        }
    }
    if host.is_empty() && runs == 0 {
        // A filter with a slip of the pen must not look like success.
        eprintln!("nothing matches; cargo xtask test --list names everything");
        count.failed += 1;
    }
    if !again.is_empty() {
        println!("\nagain:");
        for command in &again {
            println!("  {command}");
        }
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        count.passed, count.failed, count.skipped
    );
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen_kernels(options: &Options) -> Result<Vec<Kernel>> {
    if !options.kernel.is_empty() {
        return options.kernel.iter().map(|k| table::find(k)).collect();
    }
    if options.full {
        return table::all();
    }
    // A filter that names a kernel chooses it.
    let named: Vec<_> = table::all()?
        .into_iter()
        .filter(|k| {
            options
                .filter
                .as_deref()
                .is_some_and(|f| f.starts_with(&format!("{}/", k.name)) || f == k.name)
        })
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    // Who asks for one scenario or tool does not wait for a kernel to be built.
    let plain = options.filter.is_none() && options.tool.is_empty();
    let names = USUAL.iter().chain(if plain { TREES } else { &[] });
    names.map(|name| table::find(name)).collect()
}

fn chosen_tools(options: &Options) -> Result<Vec<Candidate>> {
    if let Some(wg) = &options.wg {
        let debian = wg.strip_prefix("debian:").map(str::to_owned);
        let can = match &debian {
            Some(_) => Wg::Any,
            None => plan::abilities(&fs::read(wg).map_err(Error::io("read", wg))?),
        };
        return Ok(vec![Candidate {
            name: "given".into(),
            title: wg.clone(),
            debian,
            can,
            without: Vec::new(),
        }]);
    }
    if !options.tool.is_empty() {
        return options.tool.iter().map(|t| tools::find(t)).collect();
    }
    if options.full {
        return tools::all();
    }
    Ok(vec![tools::find(OURS)?])
}

fn list(host: &[&host::Host], cells: &[Planned]) {
    let mut rows: Vec<Vec<String>> = host
        .iter()
        .map(|check| vec![check.name.to_owned(), check.title.to_owned()])
        .collect();
    for planned in cells {
        let text = match &planned.cell {
            Cell::Run => planned.scenario.title.clone(),
            Cell::NotApplicable(reason) => format!("not applicable: {reason}"),
        };
        rows.push(vec![planned.name(), text]);
    }
    print!("{}", kit::screen::align(&rows));
}

fn line(name: &str, count: Count) -> String {
    let word = if count.failed > 0 { "FAILED" } else { "passed" };
    let Count {
        passed,
        failed,
        skipped,
    } = count;
    match passed + failed + skipped {
        1 => format!("{word:14}  {name}"),
        _ => format!("{word:14}  {name}: {passed} passed, {failed} failed, {skipped} skipped"),
    }
}

fn counted(data: &Data) -> Count {
    let of = |kind| data.cells.iter().filter(|c| c.kind() == kind).count();
    Count {
        passed: of(Kind::Passed),
        failed: of(Kind::Failed),
        skipped: of(Kind::Skipped),
    }
}

/// For machines: JUnit always, and what `results` makes its page from.
fn write(data: &Data, checks: &[Check], options: &Options) -> Result<()> {
    let folder = guest::results();
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut files = vec![("junit.xml", junit::text(data, checks))];
    // A part of the matrix must not take the place of the whole.
    let whole = options.full && options.filter.is_none() && data.missing() == 0;
    if whole && options.kernel.is_empty() && options.tool.is_empty() && options.wg.is_none() {
        files.push((matrix::FULL, data.text()));
    } else if !data.cells.is_empty() {
        let mut part = data.clone();
        part.run.insert("part".into(), "yes".into());
        files.push((matrix::PART, part.text()));
    }
    for (name, text) in files {
        let file = folder.join(name);
        fs::write(&file, text).map_err(Error::io("write", &file))?;
        println!("written         {}", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(filter: Option<&str>) -> Options {
        Options {
            filter: filter.map(str::to_owned),
            list: false,
            kernel: Vec::new(),
            tool: Vec::new(),
            full: false,
            resume: false,
            seen: false,
            wg: None,
            jobs: 1,
            memory: None,
        }
    }

    #[test]
    fn a_filter_that_names_a_kernel_chooses_it() {
        let names = |filter: &str| -> Vec<String> {
            let chosen = chosen_kernels(&options(Some(filter))).unwrap();
            chosen.into_iter().map(|k| k.name).collect()
        };
        assert_eq!(names("patched-7.3/front"), ["patched-7.3"]);
        assert_eq!(names("front-door"), USUAL);
    }

    #[test]
    fn the_whole_matrix_is_every_kernel_and_tool() {
        let full = Options {
            full: true,
            ..options(None)
        };
        let kernels = chosen_kernels(&full).unwrap().len();
        assert_eq!(kernels, table::all().unwrap().len());
        assert_eq!(chosen_tools(&full).unwrap(), tools::all().unwrap());
        assert_eq!(chosen_tools(&options(None)).unwrap().len(), 1);
    }
}
