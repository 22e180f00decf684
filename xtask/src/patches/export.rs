// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches export`: the series as mails of the person who sends it, made on that person's clone.
//!
//! The clone itself gets one new branch: the work is done in another one that shares its objects.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use kit::cache::remove_path;
use kit::{Error, Result, process};
use regex_lite::Regex;
use vm_tests::kernel::trees::Trees;

use super::builds::{self, Place, Which};
use super::finding::{Finding, doc};
use super::folder::{self, CoverLetter, Mail, Set};
use super::git::{self, Refused, read_name, write_file};
use super::status::{self, Part, Posted, Status};
use super::tools::{self, Person, read_address};
use super::{Context, rules};

/// The options of an export.
#[derive(Clone, Debug, clap::Args)]
pub struct Request {
    /// Your clone; git's user.name and user.email there sign off
    #[arg(long, value_name = "DIR")]
    pub onto: PathBuf,
    /// The version of the posting
    #[arg(long)]
    pub version: u32,
    /// Which of the two series
    #[arg(long, value_enum, default_value = "feature")]
    pub part: Part,
    #[arg(long, default_value = "PATCH wireguard")]
    pub subject_prefix: String,
    /// The commit of the clone that the series is for
    #[arg(long, default_value = "HEAD")]
    pub base: String,
    /// The folder for the mails
    #[arg(long, value_name = "DIR", default_value = "outgoing")]
    pub out: PathBuf,
    /// In how many configurations each patch is compiled on the clone
    #[arg(long, value_enum, default_value = "some")]
    pub builds: Which,
    /// A rule, or a type of checkpatch.pl, whose findings you accept
    #[arg(long, value_name = "RULE")]
    pub accept: Vec<String>,
}

/// The mails, ready to be posted.
#[derive(Debug)]
pub struct Export {
    /// The cover letter first, where there is one.
    pub files: Vec<PathBuf>,
    pub sender: String,
    pub people: Vec<Person>,
    pub findings: Vec<Finding>,
    /// The scratch clone, with the series on its branch.
    pub repo: PathBuf,
    /// The branch's name in the person's clone.
    pub branch: String,
    /// The number of its commits that are mailed.
    pub count: usize,
}

impl Export {
    /// All who get a copy, by address.
    pub fn list_addresses(&self) -> BTreeSet<String> {
        self.people.iter().map(Person::get_address).collect()
    }

    /// The commit before the first one that is mailed.
    pub fn name_start(&self) -> String {
        format!("{}~{}", git::SERIES, self.count)
    }

    /// The mails of the patches, without the cover letter.
    pub fn list_mails(&self) -> &[PathBuf] {
        &self.files[self.files.len() - self.count..]
    }
}

/// The name and address that sign off: those that git uses in the person's clone.
pub fn find_sender(onto: &Path) -> Result<String> {
    if !process::capture_output(git::prepare_git(onto).args(["rev-parse", "--git-dir"]))?.ok {
        let onto = onto.display();
        bail!("`{onto}' is no git repository; --onto wants a clone of net-next or wireguard-linux");
    }
    // An unset value is exit status 1 and no text.
    let ask =
        |key: &str| process::capture_output(git::prepare_git(onto).args(["config", "--get", key]));
    let (name, email) = (ask("user.name")?.stdout, ask("user.email")?.stdout);
    check_identity(name.trim(), email.trim()).map_err(|why| {
        let (onto, dco) = (process::quote_word(&onto.display().to_string()), doc::SUBMITTING);
        Error::other(format!(
            "{why}: a series is sent with the Signed-off-by of a person who has read the Developer's \
             Certificate of Origin ({dco})\n\
             set it: git -C {onto} config user.name 'Your Name'; git -C {onto} config user.email you@your.domain"
        ))
    })
}

/// A known identity, or why it is none.
fn check_identity(name: &str, email: &str) -> std::result::Result<String, String> {
    let host = r"@([^.]*$|users\.noreply\.|(.*\.)?(example\.(org|com|net)|localhost|invalid)$)";
    let nobody = Regex::new(&format!("^(noreply|root@|[^@]*$)|{host}")).expect("a constant");
    Err(if name.is_empty() {
        "git has no user.name".to_owned()
    } else if email.is_empty() {
        "git has no user.email".to_owned()
    } else if nobody.is_match(email) {
        format!("`{email}' is nobody's address")
    } else if name == "root" || name.contains(['<', '>']) {
        format!("`{name}' is nobody's name")
    } else {
        return Ok(format!("{name} <{email}>"));
    })
}

/// Makes the mails of a part of `set`.
pub fn export_series(
    set: &Set,
    cover: Option<&CoverLetter>,
    request: &Request,
    status: &Status,
    context: &Context,
) -> Result<Export> {
    let Request { onto, version, .. } = request;
    let progress = &context.cache.progress;
    let sender = find_sender(onto)?;
    let base = git::find_commit(onto, &request.base)?;
    let fixes = set.count_fixes();
    let (part, branch) = match request.part {
        Part::Fixes => (0..fixes, format!("bind-dev-fixes-v{version}")),
        Part::Feature => (fixes..set.mails.len(), format!("bind-dev-v{version}")),
    };
    let applied = set.take_part(0..part.end);
    let chosen = set.take_part(part);
    let count = chosen.mails.len();
    if count == 0 {
        let (dir, part) = (set.dir.display(), request.part);
        bail!("{dir} has no patch for --part {part:?}");
    }
    let repo = context.cache.open_folder("patches")?.join("export");
    let _lock = context.cache.hold_lock("patches-export")?;
    progress.begin_step(&format!("apply the series to {}", &base[..12]));
    make_clone(onto, &repo, &base, set)?;
    apply_signed(&applied, &repo, &sender)?;
    progress.end_step();

    progress.begin_step("run checkpatch.pl and get_maintainer.pl of the clone");
    let people = tools::list_maintainers(&repo, &chosen.list_paths())?;
    let letter = cover.map(|letter| add_links(letter, *version, status));
    let mut export = Export {
        files: Vec::new(),
        people: choose_recipients(people, &chosen, &context.trees, &sender),
        sender,
        findings: Vec::new(),
        repo,
        branch,
        count,
    };
    export.files = write_mails(request, &export, &base, letter.as_ref())?;
    let mut findings = rules::check_rules(set);
    findings.extend(check_history(letter.as_ref(), count, *version));
    for file in export.list_mails() {
        let repair = "mend it in kernel-patches and export again";
        let (root, name) = (&export.repo, read_name(file));
        findings.extend(tools::run_checkpatch(root, file, &name, &[], repair)?);
    }
    findings.extend(tools::check_people(&export.people, "export"));
    findings.extend(check_public(onto, &base)?);
    findings.extend(status.check_pause(status::read_date()));
    progress.end_step();
    if request.builds != Which::None {
        findings.extend(tools::regenerate_netlink(&export.repo, "export", progress)?);
        let place = Place {
            name: &base,
            repo: &export.repo,
            pristine: None,
        };
        findings.extend(builds::check_configs(&applied, request.builds, &place, context)?.0);
    }
    for finding in &mut findings {
        let what = &finding.what;
        let is = |rule: &String| rule == finding.rule || what.starts_with(&format!("{rule}:"));
        finding.note |= request.accept.iter().any(is);
    }
    Ok(Export { findings, ..export })
}

/// A clone that shares the objects, with `base` checked out as far as the tools need it.
fn make_clone(onto: &Path, repo: &Path, base: &str, set: &Set) -> Result<()> {
    remove_path(repo)?;
    let folder = repo.parent().unwrap_or(repo);
    let mut clone = git::prepare_scratch(folder);
    clone.args(["clone", "-q", "--shared", "--no-checkout", "--no-tags"]);
    process::run(clone.arg(fs::canonicalize(onto)?).arg(repo))?;
    // A kernel is 1.5 GB of files; these are 20 MB.
    let touched = set.mails.iter().flat_map(|m| &m.touched);
    let wanted = tools::FILES.iter().chain(tools::NETLINK).copied();
    let wanted = wanted.chain(touched.map(|f| f.path.as_str()));
    let patterns = wanted.map(|path| format!("/{path}"));
    let sparse = ["sparse-checkout", "set", "--no-cone", "/*", "!/*/"];
    process::run(git::prepare_scratch(repo).args(sparse).args(patterns))?;
    git::run_git(repo, &["checkout", "-q", "-f", "-B", git::SERIES, base])?;
    git::run_git(repo, &["tag", "-f", git::BASE, base])?;
    tools::make_folders(repo)
}

/// `git am --signoff`, with the sender in the place of the placeholder.
fn apply_signed(set: &Set, repo: &Path, sender: &str) -> Result<()> {
    let (name, email) = sender.split_once(" <").unwrap_or((sender, ""));
    git::run_git(repo, &["config", "user.name", name])?;
    git::run_git(repo, &["config", "user.email", email.trim_end_matches('>')])?;
    let author = |who: &str| format!("\nFrom: {who}\n");
    for mail in &set.mails {
        let path = repo.join(".git/wg-vrf").join(&mail.file);
        let (from, to) = (author(folder::AUTHOR), author(sender));
        write_file(&path, &mail.text.replacen(&from, &to, 1))?;
        let am = ["am", "-q", "--no-3way", "--signoff"];
        let out = process::capture_output(git::prepare_configured(repo).args(am).arg(&path))?;
        if !out.ok {
            let refused = Refused::read(&path, &out.join_streams());
            let refresh = format!("cargo xtask patches refresh {}", set.tree.name);
            bail!("{refused}\nrebase the series: {refresh}");
        }
    }
    Ok(())
}

/// Lists the people of get_maintainer.pl, of trees.toml and of the patches, each once.
fn choose_recipients(
    mut people: Vec<Person>,
    set: &Set,
    trees: &Trees,
    sender: &str,
) -> Vec<Person> {
    let ours = trees.recipients.iter().map(|r| (&*r.address, &*r.reason));
    let trailers = set.mails.iter().flat_map(Mail::list_trailers);
    let named = trailers.filter(|(key, _)| key.ends_with("-by") || *key == "Cc");
    let others = ours.chain(named.map(|(key, who)| (who, key)));
    let others = others.filter(|(who, _)| who.contains('@'));
    people.extend(others.map(|(who, role)| Person::new(who, role)));
    let mut seen = BTreeSet::from([read_address(sender)]);
    people.retain(|p| seen.insert(p.get_address()));
    people
}

/// The cover letter with a link to every version that was posted before.
fn add_links(letter: &CoverLetter, version: u32, status: &Status) -> CoverLetter {
    let mut letter = letter.clone();
    let earlier = status.posted.iter().rev().filter(|p| p.version < version);
    let missing = earlier.filter(|p| !letter.body.contains(&p.link));
    let links: Vec<_> = missing.collect();
    for Posted { version, link, .. } in links {
        letter.body += &format!("\n\nv{version}: {link}");
    }
    letter
}

/// A cover letter from three patches on; from the second version on one that says what changed,
/// with a link to every earlier version.
fn check_history(letter: Option<&CoverLetter>, patches: usize, version: u32) -> Vec<Finding> {
    let find = |rule, what: String| Finding::new(folder::COVER, what).set_rule(rule, doc::NETDEV);
    let Some(letter) = letter else {
        let what = format!("v{version} of {patches} patches without a cover letter");
        let needed = patches >= 3 || version > 1;
        return Vec::from_iter(needed.then(|| find("cover-letter", what)));
    };
    let says = |pattern: String, link: bool| {
        let pattern = Regex::new(&pattern).expect("a constant and a number");
        let mut lines = letter.body.lines();
        lines.any(|line| line.contains("https://") == link && pattern.is_match(line))
    };
    let mut found = Vec::new();
    let last = version.saturating_sub(1);
    let changes = format!(r"(?i)^\s*(changes.*\b)?v({version}|{last})\b");
    if version > 1 && !says(changes, false) {
        let what = format!("v{version} without a changelog");
        found.push(find("changelog", what).set_repair(format!("add `Changes in v{version}:'")));
    }
    for earlier in 1..version {
        if !says(format!(r"(?i)\bv{earlier}\b"), true) {
            let repair = "add it to kernel-patches/status.toml, with its link";
            found.push(find("changelog", format!("no link to v{earlier}")).set_repair(repair));
        }
    }
    found
}

/// `git format-patch`; the files in the order in which they are to arrive.
fn write_mails(
    request: &Request,
    export: &Export,
    base: &str,
    letter: Option<&CoverLetter>,
) -> Result<Vec<PathBuf>> {
    let Request { out, version, .. } = request;
    remove_path(out)?;
    fs::create_dir_all(out)?;
    // The cover letter is from the sender too.
    let mut command = git::prepare_configured(&export.repo);
    command.args(["format-patch", "--numbered", "--no-thread", "--no-attach"]);
    command.arg(format!("--base={base}"));
    command.arg(format!("--subject-prefix={}", request.subject_prefix));
    command.arg("-o").arg(fs::canonicalize(out)?);
    if *version > 1 {
        command.arg(format!("-v{version}"));
    }
    if let Some(CoverLetter { subject, body }) = letter {
        let key = format!("branch.{}.description", git::SERIES);
        let letter = format!("{subject}\n\n{body}");
        git::run_git(&export.repo, &["config", &key, &letter])?;
        command.args(["--cover-letter", "--cover-from-description=subject"]);
    }
    for person in &export.people {
        let option = person.choose_header().to_lowercase();
        command.arg(format!("--{option}={}", person.who));
    }
    let range = format!("{}..{}", export.name_start(), git::SERIES);
    let made = process::run(command.arg(range))?;
    let mut files: Vec<PathBuf> = made.lines().map(PathBuf::from).collect();
    files.sort();
    Ok(files)
}

/// Whether others can have the base commit.
fn check_public(onto: &Path, base: &str) -> Result<Option<Finding>> {
    let branches = process::run(git::prepare_git(onto).args(["branch", "-r", "--contains", base]))?;
    let base = &base[..12];
    let what = format!("base-commit {base} is on no remote branch: others cannot find it");
    let mut finding = Finding::new("export", what).set_rule("base", doc::SUBMITTING);
    finding.note = true;
    let repair = "--base with a commit of the tree that you post to";
    let is_private = branches.trim().is_empty();
    Ok(is_private.then(|| finding.set_repair(repair)))
}

/// Puts the branch into the person's clone; false if one of that name is there and differs.
pub fn hand_over(onto: &Path, export: &Export) -> Result<bool> {
    let refs = format!("{}:refs/heads/{}", git::SERIES, export.branch);
    let mut fetch = git::prepare_git(onto);
    fetch.args(["fetch", "-q", "--no-tags"]).arg(&export.repo);
    Ok(process::capture_output(fetch.arg(refs))?.ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::finding::join_findings;

    #[test]
    fn nobody_cannot_sign_off() {
        for (name, email, says) in [
            ("", "a@b.test", "no user.name"),
            ("Ada", "", "no user.email"),
            ("Ada", "ada@example.org", "nobody's address"),
            ("Ada", "noreply@b.test", "nobody's address"),
            ("Ada", "1+ada@users.noreply.b.test", "nobody's address"),
            ("Ada", "ada@machine", "nobody's address"),
            ("root", "ada@b.test", "nobody's name"),
        ] {
            let error = check_identity(name, email).unwrap_err();
            assert!(error.contains(says), "{name} {email}: {error}");
        }
        let known = check_identity("Ada Pot", "ada@pots.test").unwrap();
        assert_eq!(known, "Ada Pot <ada@pots.test>");
    }

    #[test]
    fn a_later_version_says_what_changed_and_links_the_earlier_ones() {
        let check = |version, body: &str| {
            let letter = CoverLetter::parse(&format!("pots\n\n{body}")).unwrap();
            join_findings(&check_history(Some(&letter), 3, version))
        };
        assert_eq!(check(1, "x"), "");
        let link = "v1: https://lore.kernel.org/r/x";
        assert_eq!(check(2, &format!("Changes in v2:\n - more\n{link}")), "");
        assert_eq!(check(2, &format!("v1 -> v2: more\n{link}")), "");
        assert!(check(2, link).contains("v2 without a changelog"));
        assert!(check(2, "Changes in v2:\n - more").contains("no link to v1"));
        assert!(check(3, &format!("Changes in v3:\n{link}")).contains("no link to v2"));
        assert_eq!(check_history(None, 2, 1), []);
        assert_eq!(check_history(None, 3, 1)[0].rule, "cover-letter");
        assert_eq!(check_history(None, 2, 2)[0].rule, "cover-letter");
    }
}
