// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches export`: the series as mails of the person who sends it, made on that person's clone.
//!
//! The clone itself gets one new branch and is otherwise left alone: the work is done in a clone
//! of it that shares its objects. Nothing leaves the machine here; that is `post`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::remove;
use kit::{Cache, Error, Progress, Result};

use super::builds::{self, Place, Which};
use super::finding::{Finding, doc};
use super::folder::{self, CoverWords};
use super::git;
use super::mail::{Mail, address};
use super::rules::{self, Purpose, Set};
use super::status::{Status, today};
use super::tools::{self, Person, Tools};
use kit::process;
use kit::repo;
use vm_tests::kernel::series::COVER;
use vm_tests::kernel::trees::{Tree, Trees};

/// What to make, of what, for whom.
#[derive(Clone, Debug)]
pub struct Request {
    /// The person's clone of net-next or wireguard-linux.
    pub onto: PathBuf,
    /// A commit of it.
    pub base: String,
    pub version: u32,
    pub prefix: String,
    pub out: PathBuf,
    pub builds: Which,
    /// Rules whose findings the person has judged and accepts.
    pub accept: Vec<String>,
}

/// The mails, ready to be posted.
#[derive(Debug)]
pub struct Export {
    /// Cover letter first.
    pub files: Vec<PathBuf>,
    pub sender: String,
    pub to: Vec<Person>,
    pub cc: Vec<Person>,
    pub findings: Vec<Finding>,
    pub skipped: Vec<String>,
    /// The scratch clone, with the series on its branch.
    pub repo: PathBuf,
    /// The branch's name, in the scratch clone and in the person's.
    pub branch: String,
}

impl Export {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| !f.note).count()
    }

    /// Everybody who gets a copy, by address.
    pub fn recipients(&self) -> BTreeSet<String> {
        self.to
            .iter()
            .chain(&self.cc)
            .map(|p| address(&p.who).to_lowercase())
            .collect()
    }
}

/// The name and address that sign off: those that git uses in the person's clone.
pub fn sender(onto: &Path) -> Result<String> {
    let ask = |key: &str| -> Result<String> {
        // An unset value is exit status 1 and no text.
        Ok(
            process::output(git::plain(onto).args(["config", "--get", key]))?
                .stdout
                .trim()
                .to_owned(),
        )
    };
    if !process::output(git::plain(onto).args(["rev-parse", "--git-dir"]))?.ok {
        return Err(Error::other(format!(
            "`{}' is no git repository; --onto wants a clone of net-next or wireguard-linux",
            onto.display()
        )));
    }
    identity(&ask("user.name")?, &ask("user.email")?).map_err(|why| {
        Error::other(format!(
            "{why}: a series is sent with the Signed-off-by of a person who has read the Developer's \
             Certificate of Origin ({})\nset it: git -C {} config user.name 'Your Name'; git -C {1} config user.email you@your.domain",
            doc::SUBMITTING,
            process::quote(&onto.display().to_string())
        ))
    })
}

/// A known identity, or why it is none.
fn identity(name: &str, email: &str) -> std::result::Result<String, String> {
    const NOBODY: &[&str] = &[
        "example.org",
        "example.com",
        "example.net",
        "localhost",
        "invalid",
    ];
    if name.is_empty() {
        return Err("git has no user.name".to_owned());
    }
    if email.is_empty() {
        return Err("git has no user.email".to_owned());
    }
    let (user, host) = email.split_once('@').unwrap_or((email, ""));
    let nobody = user.starts_with("noreply")
        || user == "root"
        || !host.contains('.')
        || host.starts_with("users.noreply.")
        || NOBODY
            .iter()
            .any(|n| host == *n || host.ends_with(&format!(".{n}")));
    if nobody {
        return Err(format!("`{email}' is nobody's address"));
    }
    if name == "root" || format!("{name} <{email}>") == folder::AUTHOR || name.contains(['<', '>'])
    {
        return Err(format!("`{name}' is nobody's name"));
    }
    Ok(format!("{name} <{email}>"))
}

pub fn run(
    request: &Request,
    tree: &Tree,
    trees: &Trees,
    status: &Status,
    cache: &Cache,
    progress: &Progress,
) -> Result<Export> {
    let dir = repo::kernel_patches().join(&tree.name);
    run_in(&dir, request, tree, trees, status, cache, progress)
}

/// The same for the series of a given folder.
pub fn run_in(
    dir: &Path,
    request: &Request,
    tree: &Tree,
    trees: &Trees,
    status: &Status,
    cache: &Cache,
    progress: &Progress,
) -> Result<Export> {
    let sender = sender(&request.onto)?;
    let set = folder::read(dir, tree, trees)?;
    if set.patches.is_empty() {
        return Err(Error::other(format!("{} has no patches", dir.display())));
    }
    let base = git::plain(&request.onto)
        .args(["rev-parse", "--verify", "-q"])
        .arg(format!("{}^{{commit}}", request.base))
        .output()
        .ok()
        .filter(|out| out.status.success())
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .ok_or_else(|| {
            Error::other(format!(
                "no commit `{}' in {}",
                request.base,
                request.onto.display()
            ))
        })?;
    let branch = format!("bind-dev-v{}", request.version);
    let repo = cache.folder("patches")?.join("export");
    let _lock = cache.lock("patches-export")?;
    progress.step(&format!("apply the series to {}", &base[..12]));
    clone(&request.onto, &repo, &base, &branch, &set, request.builds)?;
    apply(&set, dir, &repo, &sender, &base)?;
    progress.tell(kit::Event::Done);

    let tools = Tools::at(&repo)?;
    progress.step("run checkpatch.pl and get_maintainer.pl of the clone");
    let (to, cc) = recipients(
        &tools.maintainers(&rules_paths(&set, dir))?,
        &set,
        trees,
        &sender,
    );
    let files = format(
        request,
        &sender,
        &repo,
        &base,
        &branch,
        &cover_text(dir, request, status)?,
        (&to, &cc),
    )?;
    let posted = posted(request, tree, trees, &sender, &files)?;
    let mut findings = rules::check(&posted);
    for (mail, file) in posted.mails().zip(&files) {
        if !mail.is_cover() {
            let repair = "mend it in kernel-patches and export again";
            findings.extend(tools.checkpatch(file, &posted.path(&mail.file), &[], repair)?);
        }
    }
    let everybody: Vec<Person> = to.iter().chain(&cc).cloned().collect();
    findings.extend(tools::check_people(&everybody, "export"));
    findings.extend(official(&request.onto, &base)?);
    findings.extend(status.too_soon(&today()));
    progress.tell(kit::Event::Done);
    let mut skipped = Vec::new();
    if repo.join("tools/net/ynl/ynl-regen.sh").exists() && request.builds != Which::None {
        progress.step("regenerate netlink code");
        findings.extend(tools::regenerate(&repo, "export")?);
        progress.tell(kit::Event::Done);
    }
    match request.builds {
        Which::None => skipped.push("builds and regeneration (--builds none)".to_owned()),
        which => {
            let built = build(&set, &repo, &base, which, cache, progress)?;
            findings.extend(built.findings);
            skipped.extend(built.skipped);
        }
    }
    for finding in &mut findings {
        let accepted =
            |rule: &String| rule == finding.rule || finding.what.starts_with(&format!("{rule}:"));
        if request.accept.iter().any(accepted) {
            finding.note = true;
        }
    }
    Ok(Export {
        files,
        sender,
        to,
        cc,
        findings,
        skipped,
        repo,
        branch,
    })
}

fn rules_paths(set: &Set, dir: &Path) -> Vec<PathBuf> {
    set.patches.iter().map(|m| dir.join(&m.file)).collect()
}

/// A clone that shares the objects, with `base` checked out on a new branch.
fn clone(
    onto: &Path,
    repo: &Path,
    base: &str,
    branch: &str,
    set: &Set,
    builds: Which,
) -> Result<()> {
    remove(repo)?;
    let folder = repo.parent().unwrap_or(repo);
    let onto = fs::canonicalize(onto).map_err(Error::io("resolve", onto))?;
    process::run(
        git::command(folder)
            .args(["clone", "-q", "--shared", "--no-checkout", "--no-tags"])
            .arg(&onto)
            .arg(repo),
    )?;
    if builds == Which::None {
        // A kernel is 1.5 GB of files; the mails need these.
        let mut patterns: Vec<String> = ["/*", "!/*/", "/scripts/", "/init/", "/ipc/"]
            .map(str::to_owned)
            .to_vec();
        for top in [
            "Documentation",
            "arch",
            "drivers",
            "fs",
            "include",
            "kernel",
            "lib",
        ] {
            patterns.push(format!("/{top}/Kconfig"));
            patterns.push(format!("/{top}/Makefile"));
        }
        for file in set.patches.iter().flat_map(|m| &m.files) {
            patterns.push(format!("/{}", file.path));
        }
        process::run(
            git::command(repo)
                .args(["sparse-checkout", "set", "--no-cone"])
                .args(&patterns),
        )?;
    }
    process::run(git::command(repo).args(["checkout", "-q", "-f", "-b", branch, base]))?;
    process::run(git::command(repo).args(["tag", "-f", git::BASE, base]))?;
    // checkpatch.pl knows a kernel tree by its folders.
    for top in [
        "Documentation",
        "arch",
        "drivers",
        "fs",
        "include",
        "kernel",
        "lib",
        "init",
        "ipc",
    ] {
        let path = repo.join(top);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    }
    Ok(())
}

/// `git am --signoff`, with the sender in the place of the placeholder.
fn apply(set: &Set, dir: &Path, repo: &Path, sender: &str, base: &str) -> Result<()> {
    let work = repo.join(".git/wg-vrf");
    fs::create_dir_all(&work).map_err(Error::io("create", &work))?;
    for mail in &set.patches {
        let from = dir.join(&mail.file);
        let text = fs::read_to_string(&from).map_err(Error::io("read", &from))?;
        let signed = text.replacen(
            &format!("\nFrom: {}\n", folder::AUTHOR),
            &format!("\nFrom: {sender}\n"),
            1,
        );
        let path = work.join(&mail.file);
        fs::write(&path, signed).map_err(Error::io("write", &path))?;
        let out = process::output(
            git::command_as(repo, sender)
                .args(["am", "-q", "--no-3way", "--signoff"])
                .arg(&path),
        )?;
        if !out.ok {
            let refused = git::Refused::of(&path, out.all());
            return Err(Error::other(format!(
                "{} {} on {}\nrebase the series: cargo xtask patches refresh {}",
                mail.file,
                refused.what(),
                &base[..12],
                set.name
            )));
        }
    }
    Ok(())
}

/// To: those who maintain; Cc: lists, our own list, and whom the patches name.
fn recipients(
    named: &[Person],
    set: &Set,
    trees: &Trees,
    sender: &str,
) -> (Vec<Person>, Vec<Person>) {
    let (to, mut cc): (Vec<_>, Vec<_>) = named.iter().cloned().partition(Person::is_maintainer);
    for recipient in &trees.recipients {
        cc.push(Person {
            who: recipient.address.clone(),
            role: recipient.reason.clone(),
        });
    }
    for trailer in set.patches.iter().flat_map(|m| &m.trailers) {
        let person = trailer.key.ends_with("-by") || trailer.key == "Cc";
        if person && address(&trailer.value).contains('@') {
            cc.push(Person {
                who: trailer.value.clone(),
                role: trailer.key.clone(),
            });
        }
    }
    let mut seen = BTreeSet::from([address(sender).to_lowercase()]);
    let mut once = |people: Vec<Person>| -> Vec<Person> {
        people
            .into_iter()
            .filter(|p| seen.insert(address(&p.who).to_lowercase()))
            .collect()
    };
    let to = once(to);
    (to, once(cc))
}

/// The words of the cover letter, with a link to every version that was posted before.
fn cover_text(dir: &Path, request: &Request, status: &Status) -> Result<Option<CoverWords>> {
    let path = dir.join(COVER);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let mut words = CoverWords::of(&text);
    let mut links: Vec<String> = status
        .posted
        .iter()
        .filter(|p| p.version < request.version && !p.link.is_empty())
        .filter(|p| !words.body.contains(&p.link))
        .map(|p| format!("v{}: {}", p.version, p.link))
        .collect();
    if !links.is_empty() {
        links.sort();
        links.reverse();
        words.body = format!("{}\n\n{}", words.body, links.join("\n"));
    }
    Ok(Some(words))
}

/// `git format-patch`; the files in the order in which they are to arrive.
fn format(
    request: &Request,
    sender: &str,
    repo: &Path,
    base: &str,
    branch: &str,
    cover: &Option<CoverWords>,
    (to, cc): (&[Person], &[Person]),
) -> Result<Vec<PathBuf>> {
    remove(&request.out)?;
    fs::create_dir_all(&request.out).map_err(Error::io("create", &request.out))?;
    let out = fs::canonicalize(&request.out).map_err(Error::io("resolve", &request.out))?;
    // The cover letter is from the sender too.
    let mut command = git::command_as(repo, sender);
    command
        .args(["format-patch", "--numbered", "--no-thread", "--no-attach"])
        .arg(format!("--base={base}"))
        .arg(format!("--subject-prefix={}", request.prefix))
        .arg("-o")
        .arg(&out);
    if request.version > 1 {
        command.arg(format!("-v{}", request.version));
    }
    if let Some(words) = cover {
        let text = format!("{}\n\n{}", words.subject, words.body);
        process::run(git::command(repo).args([
            "config",
            &format!("branch.{branch}.description"),
            &text,
        ]))?;
        command.args(["--cover-letter", "--cover-from-description=subject"]);
    }
    for (option, people) in [("--to", to), ("--cc", cc)] {
        for person in people {
            command.arg(format!("{option}={}", encode(&person.who)));
        }
    }
    let made = process::run(command.arg(format!("{base}..{branch}")))?;
    let mut files: Vec<PathBuf> = made.lines().map(PathBuf::from).collect();
    files.sort();
    Ok(files)
}

/// A name that is not ASCII as an RFC 2047 word: git puts To and Cc into the file as they are.
pub fn encode(who: &str) -> String {
    if who.is_ascii() {
        return who.to_owned();
    }
    let (name, mail) = who.split_once(" <").unwrap_or(("", who));
    let word: String = name
        .trim_matches('"')
        .bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b' ' => "_".to_owned(),
            b => format!("={b:02X}"),
        })
        .collect();
    format!("=?UTF-8?q?{word}?= <{mail}")
}

/// The exported files as the rules see them.
fn posted(
    request: &Request,
    tree: &Tree,
    trees: &Trees,
    sender: &str,
    files: &[PathBuf],
) -> Result<Set> {
    let mut mails = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
        mails.push(Mail::parse(&name, &text));
    }
    let (cover, patches): (Vec<_>, Vec<_>) = mails.into_iter().partition(Mail::is_cover);
    Ok(Set {
        name: request
            .out
            .file_name()
            .map_or_else(|| "export".to_owned(), |n| n.to_string_lossy().into_owned()),
        tree: tree.name.clone(),
        purpose: Purpose::Posted {
            sender: sender.to_owned(),
        },
        reference: tree.reference,
        series: None,
        base: None,
        files: Vec::new(),
        cover: cover.into_iter().next(),
        patches,
        recipients: folder::recipients(trees),
    })
}

/// Whether others can have the base commit.
fn official(onto: &Path, base: &str) -> Result<Option<Finding>> {
    let branches = process::run(git::plain(onto).args(["branch", "-r", "--contains", base]))?;
    Ok(branches.trim().is_empty().then(|| {
        Finding::new(
            "export",
            0,
            format!(
                "base-commit {} is on no remote branch: others cannot find it",
                &base[..12]
            ),
        )
        .by("base", doc::SUBMITTING)
        .repair("--base with a commit of the tree that you post to")
        .note()
    }))
}

fn build(
    set: &Set,
    repo: &Path,
    base: &str,
    which: Which,
    cache: &Cache,
    progress: &Progress,
) -> Result<builds::Built> {
    let pristine = repo.with_extension("base");
    remove(&pristine)?;
    process::run(
        git::command(repo)
            .args(["worktree", "add", "-q", "-f", "--detach"])
            .arg(&pristine)
            .arg(base),
    )?;
    let place = Place {
        name: base,
        pristine: &pristine,
        cache,
        progress,
    };
    let built = builds::matrix(set, repo, which, &place);
    remove(&pristine)?;
    built
}

/// Puts the branch into the person's clone; false if one of that name is there and differs.
pub fn hand_over(onto: &Path, export: &Export) -> Result<bool> {
    let out = process::output(
        git::plain(onto)
            .args(["fetch", "-q", "--no-tags"])
            .arg(&export.repo)
            .arg(format!("{0}:refs/heads/{0}", export.branch)),
    )?;
    Ok(out.ok)
}

/// What the kernel's process documents ask of a sender, and no program can do.
pub fn reminders(request: &Request, status: &Status) -> Vec<String> {
    let mut list = vec![
        format!("You sign off: you have read every line, can defend it, and answer the reviews ({}).", doc::ASSISTANTS),
        format!("Assisted-by stays. The cover letter says which tools made which parts and how they were tested ({}).", doc::GENERATED),
        "Say in the cover letter what was not tested.".to_owned(),
        format!("Tags of others only with their permission for this code ({}).", doc::SUBMITTING),
        "Post the wireguard-tools patch the same day as its own thread, each naming the other (kernel-patches/wireguard-tools.md).".to_owned(),
        format!("Two review services comment within a day; answer them on the list ({}).", doc::NETDEV),
        format!("At least 24 hours between two versions, no reminder mails, a new thread for each version ({}).", doc::NETDEV),
        "After sending: add it to kernel-patches/status.toml.".to_owned(),
    ];
    if request.prefix.contains("net-next") {
        list.insert(0, format!("net-next is closed during the merge window, then only RFCs: look at https://netdev.bots.linux.dev/net-next.html first ({}).", doc::NETDEV));
    } else {
        list.insert(0, "wireguard's tree takes features at any time, but they reach net-next only when it is open: https://netdev.bots.linux.dev/net-next.html".to_owned());
    }
    if let Some(last) = status.posted.iter().max_by_key(|p| p.version) {
        list.push(format!(
            "The last posted version is v{} of {}.",
            last.version, last.date
        ));
    }
    list
}

/// The command that posts the files; `extra` goes before them.
pub fn send_email(onto: &Path, export: &Export, extra: &[String]) -> Command {
    let mut command = git::plain(onto);
    command
        .arg("send-email")
        .args([
            "--thread",
            "--no-chain-reply-to",
            "--8bit-encoding=UTF-8",
            "--no-xmailer",
        ])
        .arg(format!("--from={}", export.sender))
        // The recipients are those in the files and no others.
        .args([
            "--suppress-cc=self",
            "--suppress-cc=sob",
            "--suppress-cc=misc-by",
        ])
        .args([
            "--suppress-cc=bodycc",
            "--suppress-cc=cccmd",
            "--suppress-cc=author",
        ])
        .args(extra)
        .args(&export.files);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let error = identity(name, email).unwrap_err();
            assert!(error.contains(says), "{name} {email}: {error}");
        }
        assert_eq!(
            identity("Ada Pot", "ada@pots.test").unwrap(),
            "Ada Pot <ada@pots.test>"
        );
    }

    #[test]
    fn names_are_encoded_and_read_back() {
        let word = encode("Daniel Gröber <a@b.test>");
        assert_eq!(word, "=?UTF-8?q?Daniel_Gr=C3=B6ber?= <a@b.test>");
        assert_eq!(
            super::super::mail::decode(&word),
            "Daniel Gröber <a@b.test>"
        );
        assert_eq!(encode("A <a@b>"), "A <a@b>");
    }
}
