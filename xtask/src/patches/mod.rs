// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask patches`: a series from a folder of kernel-patches to a mail on a list.
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
use fs_err as fs;
use kit::cache::remove_path;
use kit::setup::{self, For};
use kit::{Cache, Result, repo};
use vm_tests::kernel::module;
use vm_tests::kernel::own::OwnKernel;
use vm_tests::kernel::series::Series;
use vm_tests::kernel::trees::{Tree, Trees};

use self::builds::Which;
use self::export::Request;
use self::finding::count_errors;
use self::folder::{CoverLetter, Set};
use self::status::Part;
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
        /// Only which series fits the kernel's source in DIR (VyOS, Ubuntu, OpenWrt, any other),
        /// and which hunks need work there
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
    /// Which trees there are, what they apply to, what was posted where
    Status {
        /// Also ask the mirror for the newest source of each tree
        #[arg(long)]
        mirror: bool,
    },
}

/// The things that every command works with.
pub struct Context {
    pub trees: Trees,
    pub cache: Cache,
}

pub fn run_patches(command: Command, cache: Cache) -> Result<ExitCode> {
    let trees = Trees::load()?;
    let context = &Context { trees, cache };
    let trees = &context.trees;
    match command {
        Command::Check {
            tree,
            text,
            builds,
            source,
        } => {
            let chosen = choose_trees(tree, context)?;
            match source {
                Some(source) => {
                    let source = check::read_source(&source, trees)?;
                    let (_, text, fits) = check::find_fit(&source, &chosen, context)?;
                    println!("{text}");
                    Ok(choose_code(fits))
                }
                None => run_check(&chosen, (!text).then_some(builds), context),
            }
        }
        Command::Refresh { tree, write, fresh } => {
            setup::ensure_programs(&[For::Packages], &context.cache.progress)?;
            let tree = trees.find_tree(&tree)?;
            if write {
                println!("{}", refresh::write_branch(tree, context)?.trim_end());
                return Ok(ExitCode::SUCCESS);
            }
            let series = repo::find_patches().join(&tree.name);
            let branch = refresh::open_branch(&series, tree, fresh, context)?;
            branch.print_place(&tree.name);
            Ok(choose_code(branch.refused.is_empty()))
        }
        Command::NewTree { version, suites } => {
            setup::ensure_programs(&[For::Packages], &context.cache.progress)?;
            let branch = refresh::start_tree(&version, &suites, context)?;
            Ok(choose_code(branch.refused.is_empty()))
        }
        Command::RangeDiff { a, b } => {
            setup::ensure_programs(&[For::Packages], &context.cache.progress)?;
            println!("{}", refresh::compare_series(&a, &b, context)?.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Export {
            request,
            tree,
            dry_run,
            send,
        } => {
            let tree = match tree {
                Some(name) => trees.find_tree(&name)?,
                None => trees.find_reference()?,
            };
            run_export(&request, tree, (dry_run, send), context)
        }
        Command::Status { mirror } => {
            status::print_status(mirror, context)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Builds wireguard.ko for somebody's own kernel; says where it is. Its build.log is beside it. Where
/// no series is given it is the one that fits the source, which has to apply.
pub fn build_own_module(
    source: &Path,
    headers: &Path,
    (tree, series): (Option<String>, Option<PathBuf>),
    cache: &Cache,
) -> Result<PathBuf> {
    let (trees, cache) = (Trees::load()?, cache.clone());
    let context = &Context { trees, cache };
    let source = check::read_source(source, &context.trees)?;
    let headers = OwnKernel::read(headers)?;
    let release = headers.check_headers(&source)?;
    let series = match series {
        Some(folder) => Series::read(&folder)?,
        None => {
            let trees = choose_trees(tree, context)?;
            let (tree, text, fits) = check::find_fit(&source, &trees, context)?;
            if !fits {
                bail!("{text}\nmend them in a folder of your own, and give it: --series DIR");
            }
            Series::read_tree(&tree.name)?
        }
    };
    let _lock = context.cache.hold_lock("own-module")?;
    let dir = context.cache.open_folder("own-module")?.join(release);
    remove_path(&dir)?;
    fs::create_dir(&dir)?;
    let step = format!("build wireguard.ko for {release}");
    context.cache.begin_step(&step);
    module::compile_driver(&source.path, &headers.path, &series, &[], &dir)?;
    context.cache.end_step();
    Ok(dir.join("wireguard.ko"))
}

/// The tree of a name; all of trees.toml where none is given.
fn choose_trees(name: Option<String>, context: &Context) -> Result<Vec<&Tree>> {
    match name {
        Some(name) => Ok(vec![context.trees.find_tree(&name)?]),
        None => Ok(context.trees.trees.iter().collect()),
    }
}

/// Checks the text only where it is not said what to build.
fn run_check(chosen: &[&Tree], which: Option<Which>, context: &Context) -> Result<ExitCode> {
    if let Some(which) = which {
        setup::ensure_programs(&list_needs(which), &context.cache.progress)?;
    }
    let mut errors = 0;
    for tree in chosen {
        let set = Set::read_tree(tree, &context.trees)?;
        let (found, against) = match which {
            Some(which) => check::check_all(&set, which, context)?,
            None => (check::check_text(&set)?, "text only".to_owned()),
        };
        found.iter().for_each(|finding| println!("{finding}"));
        let (name, fixes, all) = (&tree.name, set.count_fixes(), set.mails.len());
        let parts = format!("{fixes} fixes, {} of the feature", all - fixes);
        let count = count_errors(&found);
        println!("{name}: {all} patches ({parts}), {count} findings, {against}");
        errors += count;
    }
    Ok(choose_code(errors == 0))
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

fn choose_code(good: bool) -> ExitCode {
    ExitCode::from(u8::from(!good))
}

fn run_export(
    request: &Request,
    tree: &Tree,
    (dry_run, send): (bool, bool),
    context: &Context,
) -> Result<ExitCode> {
    // Before anything is installed or made.
    export::find_sender(&request.onto)?;
    setup::ensure_programs(&list_needs(request.builds), &context.cache.progress)?;
    let mut status = Status::load()?;
    status.posted.retain(|p| p.part == request.part);
    let set = Set::read_tree(tree, &context.trees)?;
    let letter = CoverLetter::load(match request.part {
        Part::Fixes => folder::COVER_OF_FIXES,
        Part::Feature => folder::COVER,
    })?;
    let export = export::export_series(&set, letter.as_ref(), request, &status, context)?;
    export.findings.iter().for_each(|f| println!("{f}"));
    if request.builds == Which::None {
        println!("skipped: builds and regeneration (--builds none)");
    }
    for person in &export.people {
        let (header, who, role) = (person.choose_header(), &person.who, &person.role);
        println!("{header}: {who}  ({role})");
    }
    let files = export.files.iter();
    files.for_each(|file| println!("{}", file.display()));
    let errors = count_errors(&export.findings);
    if errors > 0 {
        let accept = "--accept RULE what you have judged";
        println!("{errors} findings: mend the series, or {accept}; nothing was sent");
        return Ok(ExitCode::FAILURE);
    }
    let (onto, branch) = (request.onto.display(), &export.branch);
    match export::hand_over(&request.onto, &export)? {
        true => println!("{onto}: branch {branch} has the series"),
        false => println!("{onto}: branch {branch} exists and was left as it is"),
    }
    println!("{}", include_str!("reminders.txt").trim_end());
    if let Some(last) = status.posted.iter().max_by_key(|p| p.version) {
        let (version, date) = (last.version, last.date);
        println!("remember: The last posted version is v{version} of {date}.");
    }
    if send {
        return Ok(choose_code(post::send_mails(&request.onto, &export)?));
    }
    if !dry_run {
        println!("next: the same with --dry-run, then with --send");
        return Ok(ExitCode::SUCCESS);
    }
    let folder = export.repo.with_extension("posted");
    post::post_to_folder(&request.onto, &export, &folder)?;
    let wrong = post::compare_mails(&export, &folder)?;
    wrong.iter().for_each(|line| println!("dry run: {line}"));
    let (mails, folder, count) = (export.files.len(), folder.display(), wrong.len());
    println!("dry run: {mails} mails are in {folder}, {count} differences; nothing was sent");
    Ok(choose_code(wrong.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_lite::Regex;

    /// The rules that need nothing but the files are checked with every change of them.
    #[test]
    fn the_repositorys_own_series_pass_the_rules_of_text() {
        let trees = Trees::load().unwrap();
        for tree in &trees.trees {
            let set = Set::read_tree(tree, &trees).unwrap();
            assert_eq!(check::check_text(&set).unwrap(), [], "{}", tree.name);
        }
    }

    /// Evidence that does not exist is worse than none.
    #[test]
    fn the_dossier_names_scenarios_that_exist() {
        let dossier = repo::find_patches().join("upstream.md");
        let text = fs_err::read_to_string(dossier).unwrap();
        let scenario = Regex::new("`((?:k|f|u|front)-[a-z0-9-]*[a-z0-9])`").unwrap();
        let named: Vec<_> = scenario.captures_iter(&text).collect();
        assert!(named.len() > 20, "{named:?}");
        for name in named.iter().map(|n| &n[1]) {
            let file = repo::find_root().join(format!("vm-tests/scenarios/{name}.sh"));
            assert!(file.exists(), "upstream.md names `{name}', no scenario");
        }
    }
}
