// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask patches`: a series from a folder of kernel-patches to a mail on a list.
//!
//! The patch files are the truth. Repositories with branches are scratch, made from them and
//! written back into them; what leaves is made from a person's clone and signed by that person.

mod builds;
mod check;
mod export;
mod finding;
mod folder;
mod git;
mod post;
mod refresh;
mod rules;
mod scratch;
mod status;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use kit::screen::Screen;
use kit::setup::{self, For};
use kit::{Cache, Event, Result, repo};
use vm_tests::kernel::trees::{Tree, Trees};

use self::builds::Which;
use self::export::{Part, Request};
use self::folder::{CoverLetter, Set};
use self::git::Refused;
use self::status::Status;

#[derive(Subcommand)]
pub enum Command {
    /// Check a series, or all of them, against every rule of the list and of this project
    Check {
        /// 7.3, 6.12, 6.1; all of trees.toml where none is given
        tree: Option<String>,
        /// Only the rules that need nothing but the patch files
        #[arg(long)]
        text: bool,
        /// In how many configurations each patch is compiled
        #[arg(long, value_enum, default_value = "some", conflicts_with = "text")]
        builds: Which,
        /// Only which series fits the kernel's source in DIR, and what has to be mended for it
        #[arg(long, value_name = "DIR", conflicts_with_all = ["text", "builds"])]
        source: Option<PathBuf>,
    },
    /// A series as a git branch on the newest source, to edit; --write writes it back
    Refresh {
        tree: String,
        /// Write the branch back: patches, numbers, base
        #[arg(long, conflicts_with = "fresh")]
        write: bool,
        /// Throw away what was not written back
        #[arg(long)]
        fresh: bool,
    },
    /// Start the series of another kernel version from the nearest one
    NewTree {
        /// Like 7.4
        version: String,
        /// Where its source package is, if not where the nearest tree's is
        #[arg(long = "suite", value_name = "SUITE")]
        suites: Vec<String>,
    },
    /// Compare two series: trees, folders, or COMMIT:TREE of this repository
    RangeDiff { a: String, b: String },
    /// Make the mails on your clone of net-next or wireguard-linux, signed off by you
    Export {
        #[command(flatten)]
        request: Request,
        /// The series of another tree than the reference
        #[arg(long)]
        tree: Option<String>,
        /// Post into a folder, through git send-email, and compare what is there
        #[arg(long, conflicts_with = "send")]
        dry_run: bool,
        /// Post with git send-email, after a question
        #[arg(long)]
        send: bool,
    },
    /// Which trees there are, what they apply to, what was checked and posted
    Status {
        /// Also ask the mirror for the newest source of each tree
        #[arg(long)]
        mirror: bool,
    },
}

pub fn run(command: Command, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let trees = Trees::load()?;
    let cache = Cache::open()?;
    match command {
        Command::Check {
            tree,
            text,
            builds,
            source,
        } => {
            let chosen: Vec<&Tree> = match tree {
                Some(name) => vec![trees.find(&name)?],
                None => trees.trees.iter().collect(),
            };
            match source {
                Some(source) => report_fit(&source, &chosen, &trees, &cache),
                None if text => run_check(&chosen, &trees, None, &cache, screen),
                None => run_check(&chosen, &trees, Some(builds), &cache, screen),
            }
        }
        Command::Refresh { tree, write, fresh } => {
            setup::ensure(&[For::Packages], &progress)?;
            let tree = trees.find(&tree)?;
            if write {
                print_written(&tree.name, &refresh::write(tree, &cache)?);
                return Ok(ExitCode::SUCCESS);
            }
            let series = repo::kernel_patches().join(&tree.name);
            let branch = refresh::open(&series, tree, &trees, fresh, &cache, &progress)?;
            Ok(print_branch(&tree.name, &branch))
        }
        Command::NewTree { version, suites } => {
            setup::ensure(&[For::Packages], &progress)?;
            let (neighbour, branch, written) =
                refresh::start_tree(&version, &suites, &cache, &progress)?;
            println!(
                "{version}: started from {neighbour}; its lines are at the end of kernel-patches/trees.toml"
            );
            match written {
                Some(written) => print_written(&version, &written),
                None => return Ok(print_branch(&version, &branch)),
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::RangeDiff { a, b } => {
            setup::ensure(&[For::Packages], &progress)?;
            print!("{}", refresh::compare_series(&a, &b, &cache, &progress)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Export {
            request,
            tree,
            dry_run,
            send,
        } => {
            let tree = match tree {
                Some(name) => trees.find(&name)?,
                None => trees.reference()?,
            };
            run_export(&request, tree, &trees, (dry_run, send), screen)
        }
        Command::Status { mirror } => {
            status::print(&trees, mirror, &cache, &progress)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_check(
    chosen: &[&Tree],
    trees: &Trees,
    which: Option<Which>,
    cache: &Cache,
    screen: &Screen,
) -> Result<ExitCode> {
    let progress = screen.progress();
    if let Some(which) = which {
        setup::ensure(&list_needs(which), &progress)?;
    }
    let mut errors = 0;
    for tree in chosen {
        let (set, mut report) = check::check_text(tree, trees)?;
        if let Some(which) = which {
            check::check_all(&set, &mut report, trees, which, cache, &progress)?;
            status::record_check(tree, &report.sum_up(), cache)?;
        }
        for finding in &report.findings {
            println!("{finding}");
        }
        for skipped in &report.skipped {
            println!("skipped: {skipped}");
        }
        let (fixes, all) = (set.count_fixes(), set.mails.len());
        let (name, feature, sum) = (&tree.name, all - fixes, report.sum_up());
        println!("{name}: {all} patches ({fixes} fixes, {feature} of the feature), {sum}");
        errors += report.count_errors();
    }
    Ok(exit_code(errors == 0))
}

/// The groups of programs that a check with these builds needs.
fn list_needs(which: Which) -> Vec<For> {
    let mut needs = vec![For::Packages, For::Patches];
    if which != Which::None {
        needs.extend([For::Module, For::Kernel]);
    }
    if which == Which::All {
        needs.push(For::Matrix);
    }
    needs
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report_fit(source: &Path, chosen: &[&Tree], trees: &Trees, cache: &Cache) -> Result<ExitCode> {
    let fit = check::find_fit(source, chosen, trees, cache)?;
    let (place, version) = (source.display(), &fit.version);
    let series = format!("kernel-patches/{}", fit.tree);
    match fit.refused.len() {
        0 => println!("{place}: Linux {version}: {series} applies without fuzz"),
        n => println!("{place}: Linux {version}: {series} is nearest; {n} patches need work:"),
    }
    print_refused(&fit.refused);
    Ok(exit_code(fit.refused.is_empty()))
}

fn print_refused(refused: &[Refused]) {
    for Refused { patch, what } in refused {
        println!("  {patch}: {what}");
    }
}

fn print_written(name: &str, written: &refresh::Written) {
    match &written.range_diff {
        Some(text) => print!("{text}"),
        None => println!("no range-diff: this is the first version written from here"),
    }
    println!(
        "{name}: {} patches written to kernel-patches/{name}; next: cargo xtask patches check {name}",
        written.names.len()
    );
}

/// Where the branch is and what to do there.
fn print_branch(name: &str, branch: &refresh::Branch) -> ExitCode {
    let (place, source) = (branch.repo.display(), &branch.source);
    let write = format!("cargo xtask patches refresh {name} --write");
    if branch.unwritten {
        println!(
            "{name}: {place} has work that was not written back\nwrite it: {write}\nor throw it away: cargo xtask patches refresh {name} --fresh"
        );
    } else if branch.refused.is_empty() {
        println!(
            "{name}: the series on {source} is in\n{place}\nedit it there (git rebase -i base), then: {write}"
        );
    } else {
        println!(
            "{name}: {} patches need work on {source}:",
            branch.refused.len()
        );
        print_refused(&branch.refused);
        println!(
            "git am waits at the first of them in\n{place}\nmend it there, git add, git am --continue, then: {write}\n(git apply --reject .git/rebase-apply/patch leaves in *.rej what has no place)"
        );
    }
    exit_code(branch.refused.is_empty())
}

fn run_export(
    request: &Request,
    tree: &Tree,
    trees: &Trees,
    (dry_run, send): (bool, bool),
    screen: &Screen,
) -> Result<ExitCode> {
    let progress = screen.progress();
    // Before anything is installed or made.
    export::find_sender(&request.onto)?;
    setup::ensure(&list_needs(request.builds), &progress)?;
    let (status, cache) = (Status::load()?, Cache::open()?);
    let set = Set::read(&repo::kernel_patches().join(&tree.name), tree, trees)?;
    let letter = CoverLetter::load(match request.part {
        Part::Fixes => folder::COVER_OF_FIXES,
        Part::Feature => folder::COVER,
    })?;
    let export = export::export(
        &set,
        letter.as_ref(),
        request,
        trees,
        &status,
        &cache,
        &progress,
    )?;
    for finding in &export.findings {
        println!("{finding}");
    }
    if request.builds == Which::None {
        println!("skipped: builds and regeneration (--builds none)");
    }
    for (header, people) in [("To", &export.to), ("Cc", &export.cc)] {
        for person in people {
            println!("{header}: {}  ({})", person.who, person.role);
        }
    }
    for file in &export.files {
        println!("{}", file.display());
    }
    if export.count_errors() > 0 {
        println!(
            "{} findings: mend the series, or --accept RULE what you have judged; nothing was sent",
            export.count_errors()
        );
        return Ok(ExitCode::FAILURE);
    }
    let (onto, branch) = (request.onto.display(), &export.branch);
    match export::hand_over(&request.onto, &export)? {
        true => println!("{onto}: branch {branch} has the series"),
        false => println!("{onto}: branch {branch} exists and was left as it is"),
    }
    print!("{}", include_str!("reminders.txt"));
    if let Some(last) = status.posted.iter().max_by_key(|p| p.version) {
        println!(
            "remember: The last posted version is v{} of {}.",
            last.version, last.date
        );
    }
    if send {
        return Ok(exit_code(post::send(&request.onto, &export)?));
    }
    if !dry_run {
        println!("next: the same with --dry-run, then with --send");
        return Ok(ExitCode::SUCCESS);
    }
    progress.step("post into a folder");
    let folder = export.repo.with_extension("posted");
    post::post_to_folder(&request.onto, &export, &folder)?;
    let wrong = post::compare(&export, &folder)?;
    progress.tell(Event::Done);
    for line in &wrong {
        println!("dry run: {line}");
    }
    println!(
        "dry run: {} mails are in {}, {} differences; nothing left this machine",
        export.files.len(),
        folder.display(),
        wrong.len()
    );
    Ok(exit_code(wrong.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What needs nothing but the files is checked with every change of them.
    #[test]
    fn the_repositorys_own_series_pass_the_rules_of_text() {
        let trees = Trees::load().unwrap();
        for tree in &trees.trees {
            let (set, report) = check::check_text(tree, &trees).unwrap();
            assert_eq!(report.findings, [], "{}", tree.name);
            assert!(!set.mails.is_empty());
        }
    }

    /// Evidence that does not exist is worse than none.
    #[test]
    fn the_dossier_names_scenarios_that_exist() {
        let dossier = repo::kernel_patches().join("upstream.md");
        let text = folder::read_file(&dossier).unwrap();
        let named: Vec<&str> = text
            .split('`')
            .filter(|w| {
                ["k-", "f-", "u-", "front-"]
                    .iter()
                    .any(|p| w.starts_with(p))
            })
            .filter(|w| w.len() > 2 && w.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
            .filter(|w| !w.ends_with('-'))
            .collect();
        assert!(named.len() > 20, "{named:?}");
        for name in named {
            let file = repo::root().join(format!("vm-tests/scenarios/{name}.sh"));
            assert!(
                file.exists(),
                "upstream.md names `{name}', which is no scenario"
            );
        }
    }
}
