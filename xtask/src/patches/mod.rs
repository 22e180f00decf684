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
mod mail;
mod post;
mod refresh;
mod rules;
mod scratch;
mod sink;
mod status;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use kit::{Cache, Result};

use self::builds::Which;
use self::export::Request;
use self::status::Status;
use kit::screen::Screen;
use kit::setup::{self, For};
use vm_tests::kernel::trees::Trees;

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
    },
    /// A series as a git branch on the newest source, to edit; --write writes it back
    Refresh {
        tree: String,
        /// Write the branch back: patches, numbers, cover letter's list, base
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
        /// Your clone; git's user.name and user.email there sign off
        #[arg(long, value_name = "DIR")]
        onto: PathBuf,
        /// The version of the posting
        #[arg(long)]
        version: u32,
        #[arg(long, default_value = "PATCH wireguard")]
        subject_prefix: String,
        /// The series of another tree than the reference
        #[arg(long)]
        tree: Option<String>,
        /// The commit of the clone that the series is for
        #[arg(long, default_value = "HEAD")]
        base: String,
        /// Where the mails are put
        #[arg(long, value_name = "DIR", default_value = "outgoing")]
        out: PathBuf,
        /// In how many configurations each patch is compiled on the clone
        #[arg(long, value_enum, default_value = "some")]
        builds: Which,
        /// A rule, or a type of checkpatch.pl, whose findings you accept
        #[arg(long, value_name = "RULE")]
        accept: Vec<String>,
        /// Post to a server on the loopback and compare what arrives
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
    match command {
        Command::Check { tree, text, builds } => run_check(tree.as_deref(), text, builds, screen),
        Command::Refresh { tree, write, fresh } => run_refresh(&tree, write, fresh, screen),
        Command::NewTree { version, suites } => run_new_tree(&version, &suites, screen),
        Command::RangeDiff { a, b } => {
            let progress = screen.progress();
            setup::ensure(&[For::Packages], &progress)?;
            let text = refresh::range_diff(&a, &b, &Cache::open()?, &progress)?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Export {
            onto,
            version,
            subject_prefix,
            tree,
            base,
            out,
            builds,
            accept,
            dry_run,
            send,
        } => {
            let request = Request {
                onto,
                base,
                version,
                prefix: subject_prefix,
                out,
                builds,
                accept,
            };
            let then = match (dry_run, send) {
                (true, _) => Then::DryRun,
                (_, true) => Then::Send,
                _ => Then::Nothing,
            };
            run_export(&request, tree.as_deref(), then, screen)
        }
        Command::Status { mirror } => {
            let progress = screen.progress();
            let cache = Cache::open()?;
            let (trees, status) = (Trees::load()?, Status::load()?);
            for line in status::lines(&trees, &status, mirror, &cache, &progress)? {
                println!("{line}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_check(name: Option<&str>, text: bool, which: Which, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let trees = Trees::load()?;
    let chosen = match name {
        Some(name) => vec![trees.find(name)?],
        None => trees.trees.iter().collect(),
    };
    if !text {
        let mut needs = vec![For::Packages, For::Patches];
        if which != Which::None {
            needs.extend([For::Module, For::Kernel]);
        }
        if which == Which::All {
            needs.push(For::Matrix);
        }
        setup::ensure(&needs, &progress)?;
    }
    let mut errors = 0;
    for tree in chosen {
        let (set, mut report) = check::text(tree, &trees)?;
        if !text {
            let cache = Cache::open()?;
            report = check::all(tree, &trees, which, &cache, &progress)?;
            status::record(tree, &report, &cache)?;
        }
        for finding in &report.findings {
            println!("{finding}");
        }
        for skipped in &report.skipped {
            println!("skipped: {skipped}");
        }
        println!("{}", check::summary(&set.name, set.patches.len(), &report));
        errors += report.errors();
    }
    Ok(match errors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn run_refresh(name: &str, write: bool, fresh: bool, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    setup::ensure(&[For::Packages], &progress)?;
    let trees = Trees::load()?;
    let tree = trees.find(name)?;
    let cache = Cache::open()?;
    if write {
        print_written(name, &refresh::write(tree, &cache)?);
        return Ok(ExitCode::SUCCESS);
    }
    let branch = refresh::open(tree, &trees, fresh, &cache, &progress)?;
    Ok(print_branch(name, &branch))
}

fn run_new_tree(version: &str, suites: &[String], screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    setup::ensure(&[For::Packages], &progress)?;
    let (tree, neighbour, branch, written) =
        refresh::new_tree(version, suites, &Cache::open()?, &progress)?;
    println!(
        "{version}: started from {neighbour}; its lines are at the end of kernel-patches/trees.toml"
    );
    match written {
        Some(written) => {
            print_written(&tree.name, &written);
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(print_branch(&tree.name, &branch)),
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
    let place = branch.repo.display();
    let write = format!("cargo xtask patches refresh {name} --write");
    if branch.unwritten {
        println!(
            "{name}: {place} has work that was not written back\nwrite it: {write}\nor throw it away: cargo xtask patches refresh {name} --fresh"
        );
        return ExitCode::SUCCESS;
    }
    if branch.refused.is_empty() {
        println!(
            "{name}: the series on {} is in\n{place}\nedit it there (git rebase -i base), then: {write}",
            branch.source
        );
        return ExitCode::SUCCESS;
    }
    println!(
        "{name}: {} patches need work on {}:",
        branch.refused.len(),
        branch.source
    );
    for refused in &branch.refused {
        let file = refused.patch.file_name().unwrap_or_default();
        println!("  {}: {}", file.to_string_lossy(), refused.what());
    }
    println!(
        "git am waits at the first of them in\n{place}\nmend it there, git add, git am --continue, then: {write}\n(git apply --reject .git/rebase-apply/patch leaves in *.rej what has no place)"
    );
    ExitCode::FAILURE
}

enum Then {
    Nothing,
    DryRun,
    Send,
}

fn run_export(
    request: &Request,
    tree: Option<&str>,
    then: Then,
    screen: &Screen,
) -> Result<ExitCode> {
    let progress = screen.progress();
    // Before anything is installed or made.
    export::sender(&request.onto)?;
    setup::ensure(&[For::Patches], &progress)?;
    let (trees, status, cache) = (Trees::load()?, Status::load()?, Cache::open()?);
    let tree = match tree {
        Some(name) => trees.find(name)?,
        None => trees.reference()?,
    };
    let export = export::run(request, tree, &trees, &status, &cache, &progress)?;
    for finding in &export.findings {
        println!("{finding}");
    }
    for skipped in &export.skipped {
        println!("skipped: {skipped}");
    }
    for (header, people) in [("To", &export.to), ("Cc", &export.cc)] {
        for person in people {
            println!("{header}: {}  ({})", person.who, person.role);
        }
    }
    for file in &export.files {
        println!("{}", file.display());
    }
    if export.errors() > 0 {
        println!(
            "{} findings: mend the series, or --accept RULE what you have judged; nothing was sent",
            export.errors()
        );
        return Ok(ExitCode::FAILURE);
    }
    let onto = request.onto.display();
    match export::hand_over(&request.onto, &export)? {
        true => println!("{onto}: branch {} has the series", export.branch),
        false => println!(
            "{onto}: branch {} exists and was left as it is",
            export.branch
        ),
    }
    for reminder in export::reminders(request, &status) {
        println!("remember: {reminder}");
    }
    match then {
        Then::Nothing => {
            println!("next: the same with --dry-run, then with --send");
            Ok(ExitCode::SUCCESS)
        }
        Then::DryRun => {
            progress.step("post to a server on the loopback");
            let arrived = post::dry_run(&request.onto, &export)?;
            let wrong = post::compare(&export, &arrived)?;
            progress.tell(kit::Event::Done);
            for line in &wrong {
                println!("dry run: {line}");
            }
            println!(
                "dry run: {} mails arrived, {} differences; nothing left this machine",
                arrived.len(),
                wrong.len()
            );
            Ok(match wrong.len() {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            })
        }
        Then::Send => Ok(match post::send(&request.onto, &export)? {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use kit::repo;
    use vm_tests::kernel::trees::Trees;

    /// What needs nothing but the files is checked with every change of them.
    #[test]
    fn the_repositorys_own_series_pass_the_rules_of_text() {
        let trees = Trees::load().unwrap();
        for tree in &trees.trees {
            let (set, report) = check::text(tree, &trees).unwrap();
            let found: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
            assert_eq!(report.errors(), 0, "{}: {found:#?}", tree.name);
            assert!(!set.patches.is_empty());
        }
    }

    /// Evidence that does not exist is worse than none.
    #[test]
    fn the_dossier_names_scenarios_that_exist() {
        let dossier = repo::kernel_patches().join("upstream.md");
        let text = std::fs::read_to_string(dossier).unwrap();
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
