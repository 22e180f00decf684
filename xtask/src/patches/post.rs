// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Posting an export: through the person's `git send-email`, or into a folder to be looked at.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::remove_path;
use kit::{Result, process};

use super::export::Export;
use super::git::{self, write_file};
use super::tools::read_address;

/// The command that posts the files; `extra` goes before them.
fn send_email(onto: &Path, export: &Export, extra: &[&str]) -> Command {
    let mut command = git::prepare_git(onto);
    command.arg("send-email");
    command.args(["--thread", "--no-chain-reply-to", "--no-xmailer"]);
    // What reviewers can quote.
    command.args(["--8bit-encoding=UTF-8", "--transfer-encoding=8bit"]);
    command.arg(format!("--from={}", export.sender));
    // The recipients are those in the files and no others.
    for others in ["self", "sob", "misc-by", "bodycc", "cccmd", "author"] {
        command.arg(format!("--suppress-cc={others}"));
    }
    command.args(extra).args(&export.files);
    command
}

/// Stands in for a mail server: keeps a mail in one file and its recipients in another.
const KEEP: &str = include_str!("keep-mail.sh");

/// Posts into a folder, through `git send-email` and with the person's configuration.
pub fn post_to_folder(onto: &Path, export: &Export, folder: &Path) -> Result<()> {
    remove_path(folder)?;
    let keep = folder.join("keep");
    write_file(&keep, KEEP)?;
    let keep = process::quote_word(&keep.to_string_lossy());
    let sendmail = format!("--sendmail-cmd=sh {keep}");
    let extra = [&sendmail, "--confirm=never", "--quiet"];
    process::run(&mut send_email(onto, export, &extra))?;
    Ok(())
}

/// Everything in which what was posted is not what was exported; empty is good.
pub fn compare_mails(export: &Export, folder: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mails = (0..).map(|n| folder.join(format!("{n:04}.mail")));
    let mails: Vec<PathBuf> = mails.take_while(|path| path.exists()).collect();
    if mails.len() != export.files.len() {
        let (posted, made) = (mails.len(), export.files.len());
        return Ok(vec![format!("{posted} mails were posted of {made}")]);
    }
    let wanted = export.list_addresses();
    for mail in &mails {
        let list = fs::read_to_string(mail.with_extension("to"))?;
        let mut to: BTreeSet<String> = list.lines().map(read_address).collect();
        // The sender's own copy is no surprise.
        to.remove(&read_address(&export.sender));
        let mail = mail.file_name().unwrap_or_default().to_string_lossy();
        let missing = wanted.difference(&to);
        wrong.extend(missing.map(|who| format!("{mail} did not go to {who}")));
        let extra = to.difference(&wanted);
        wrong.extend(extra.map(|who| format!("{mail} went to {who}, who is not in the list")));
    }
    let first = export.files.len() - export.count;
    wrong.extend(check_applied(export, &mails[first..])?);
    Ok(wrong)
}

/// `git am` of the mails as a maintainer would do it: same trees, same messages, same authors.
fn check_applied(export: &Export, mails: &[PathBuf]) -> Result<Option<String>> {
    let repo = &export.repo;
    let first = git::find_commit(repo, &export.name_start())?;
    let read_history = |tip: &str| {
        let range = format!("{first}..{tip}");
        git::run_git(repo, &["log", "--format=%T %an <%ae>%n%B", &range])
    };
    git::run_git(repo, &["checkout", "-q", "--detach", &first])?;
    let mut am = git::prepare_scratch(repo);
    let out = process::capture_output(am.args(["am", "-q", "--no-3way"]).args(mails))?;
    let wrong = if !out.ok {
        git::run_git(repo, &["am", "--abort"])?;
        let said = out.join_streams();
        Some(format!("git am of the mails: {}", said.trim()))
    } else if read_history("HEAD")? != read_history(git::SERIES)? {
        Some("git am of the mails does not make the series that was exported".to_owned())
    } else {
        None
    };
    git::run_git(repo, &["checkout", "-q", git::SERIES])?;
    Ok(wrong)
}

/// Hands over to `git send-email`, which asks the person before each mail.
pub fn send_mails(onto: &Path, export: &Export) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("--send asks a person, and there is no terminal");
    }
    let mut send = send_email(onto, export, &["--confirm=always"]);
    Ok(process::run_to_end(&mut send)?.success())
}

#[cfg(test)]
mod tests {
    use kit::Cache;

    use super::*;
    use clap::{Args, FromArgMatches};
    use tempfile::TempDir;

    use crate::patches::Context;
    use crate::patches::export::{self, Request};
    use crate::patches::finding::{count_errors, join_findings};
    use crate::patches::folder::{CoverLetter, Set};
    use crate::patches::refresh::tests::{make_series, replace_words};
    use crate::patches::rules::tests::test_tree;
    use crate::patches::status::Part;
    use crate::patches::status::Status;

    /// A clone of an invented kernel, and a series of one fix and three patches for it.
    struct World {
        temp: TempDir,
        onto: PathBuf,
        cover: CoverLetter,
        status: Status,
    }

    const MAINTAINERS: &str = "print 'J. D <j@pots.test> (maintainer:POTS)', \"\\n\";\n\
        print \"$_ (open list)\\n\" for qw(wireguard@lists.zx2c4.com netdev@vger.kernel.org \
        linux-kernel@vger.kernel.org);\n";
    const MESSAGES: [&str; 4] = [
        "count the lid\n\nIt was lost.\n\nFixes: 0123456789ab (\"wireguard: x\")",
        "count the first pot\n\nA pot that nobody counts is lost.\n",
        "count the sécond pot\n\nMüller's.\n\nSuggested-by: René Müller <rene@pots.test>",
        "count a third pot\n\nAnd From here on:\n\n    From the shelf\n\nthe rest.\n",
    ];

    const RECIPIENT: &str = "tree = []\n[[recipient]]\nreason = 'knows pots'\n\
        address = 'Daniel Gröber <daniel@pots.test>'\n";

    impl World {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let write = |file, text| write_file(&temp.path().join(file), text).unwrap();
            write("repo/MAINTAINERS", "x\n");
            // Stand-ins: one finds nothing, the other names those it always names.
            write("repo/scripts/checkpatch.pl", "exit 0;\n");
            write("repo/scripts/get_maintainer.pl", MAINTAINERS);
            make_series(temp.path(), &MESSAGES);
            let clone = "clone -q -b base repo onto".split(' ');
            git::run_git(temp.path(), &clone.collect::<Vec<_>>()).unwrap();
            let world = Self {
                onto: temp.path().join("onto"),
                cover: CoverLetter::parse("count pots\n\nThey are many.\n\nAll.").unwrap(),
                status: Status::default(),
                temp,
            };
            world.run_git(&["config", "user.name", "Ada Pött"]);
            world.run_git(&["config", "user.email", "ada@pots.test"]);
            world
        }

        /// git as the person has it.
        fn run_git(&self, args: &[&str]) -> String {
            process::run(git::prepare_git(&self.onto).args(args)).unwrap()
        }

        /// Replaces a word in the clone's first pot.
        fn commit_change(&self, from: &str, to: &str) {
            replace_words(&self.onto, "pot1.c", from, to);
            self.run_git(&["commit", "-q", "-a", "-m", "mine"]);
        }

        fn export_part(&self, part: &str, version: &str) -> Result<Export> {
            let (onto, out) = (self.onto.display(), self.temp.path().join("out"));
            let out = out.display();
            let args = format!("x --onto {onto} --out {out} --part {part} --version {version}");
            let args = args.split(' ').chain(["--builds", "none"]);
            let parsed = Request::augment_args(clap::Command::new("x")).get_matches_from(args);
            let request = Request::from_arg_matches(&parsed).unwrap();
            let cache = Cache::open_at(self.temp.path().join("cache"))?;
            let trees = toml::from_str(RECIPIENT).unwrap();
            let context = Context { trees, cache };
            let set = Set::read(&self.temp.path().join("9.9"), &test_tree(), &context.trees)?;
            let cover = Some(&self.cover).filter(|_| request.part == Part::Feature);
            export::export_series(&set, cover, &request, &self.status, &context)
        }

        /// Changes a file of a posting and lists the differences.
        fn post_changed(&self, export: &Export, file: &str, from: &str, to: &str) -> String {
            let folder = self.temp.path().join("posted");
            post_to_folder(&self.onto, export, &folder).unwrap();
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{file} does not say `{from}': {text}");
            write_file(&folder.join(file), &text.replacen(from, to, 1)).unwrap();
            compare_mails(export, &folder).unwrap().join("\n")
        }
    }

    #[test]
    fn an_export_is_signed_addressed_and_based() {
        let world = World::new();
        let export = world.export_part("feature", "1").unwrap();
        assert_eq!(export.findings, []);
        let texts = export.files.iter().map(|f| fs::read_to_string(f).unwrap());
        let texts: Vec<_> = texts.collect();
        for (at, says) in [
            (0, "Subject: [PATCH wireguard 0/3] count pots\n"),
            (0, "They are many.\n\nAll.\n"),
            (0, "\nbase-commit: "),
            // The fix is posted before, and named.
            (0, "\nprerequisite-patch-id: "),
            (1, "count the first pot\n"),
            (2, "Assisted-by: LLM\nSigned-off-by: Ada Pött <ada"),
        ] {
            assert!(texts[at].contains(says), "{says}: {}", texts[at]);
        }
        let want = "daniel@pots.test j@pots.test linux-kernel@vger.kernel.org \
                    netdev@vger.kernel.org rene@pots.test wireguard@lists.zx2c4.com";
        assert!(export.list_addresses().iter().eq(want.split(' ')));
        // The clone gets a branch and is otherwise as it was.
        assert!(export::hand_over(&world.onto, &export).unwrap());
        let subject = world.run_git(&["log", "--format=%s", "-1", "bind-dev-v1"]);
        assert_eq!(subject, "wireguard: socket: count a third pot\n");
        assert_eq!(world.run_git(&["status", "--porcelain"]), "");

        let export = world.export_part("fixes", "1").unwrap();
        let text = fs::read_to_string(&export.files[0]).unwrap();
        assert_eq!((export.files.len(), &export.findings[..]), (1, &[][..]));
        assert!(text.contains("[PATCH wireguard 1/1] wireguard: socket: count the lid"));
        assert_eq!(world.post_changed(&export, "0000.mail", "", ""), "");
    }

    #[test]
    fn what_is_posted_is_what_was_exported() {
        let world = World::new();
        // What a person's configuration says about the real account is not asked.
        world.run_git(&["config", "sendemail.smtpServer", "mail.pots.test"]);
        world.run_git(&["config", "sendemail.transferEncoding", "base64"]);
        let export = world.export_part("feature", "1").unwrap();
        // Each thing that is compared is seen to fail.
        for (file, from, to, wrong) in [
            ("0001.to", "", "", ""),
            ("0001.to", "daniel@", "anna@", "not go to daniel@"),
            ("0001.to", "daniel@", "anna@", "1.mail went to anna@"),
            ("0003.mail", "+five", "+six", "does not make the series"),
            ("0003.mail", " line 4", " line 9", "git am of the mails: "),
        ] {
            let found = world.post_changed(&export, file, from, to);
            assert!(found.contains(wrong), "{found}");
            assert_eq!(found.is_empty(), wrong.is_empty(), "{found}");
        }
        fs::remove_file(world.temp.path().join("posted/0003.mail")).unwrap();
        let found = compare_mails(&export, &world.temp.path().join("posted")).unwrap();
        assert_eq!(found, ["3 mails were posted of 4"]);
        // A recipient of the person's configuration is seen, too.
        world.run_git(&["config", "sendemail.cc", "boss@pots.test"]);
        let found = world.post_changed(&export, "0000.mail", "", "");
        assert!(found.contains("went to boss@pots.test"), "{found}");
    }

    #[test]
    fn a_second_version_links_the_first() {
        let mut world = World::new();
        let export = world.export_part("feature", "2").unwrap();
        let found = join_findings(&export.findings);
        assert_eq!(found.matches(": changelog: ").count(), 2, "{found}");
        // The person says what changed; the link comes from status.toml.
        world.cover.body += "\n\nChanges in v2:\n - more pots";
        world.status = Status::parse(crate::patches::status::tests::POSTED).unwrap();
        let export = world.export_part("feature", "2").unwrap();
        assert_eq!(export.findings, []);
        let text = fs::read_to_string(&export.files[0]).unwrap();
        let link = "\nv1: https://lore.kernel.org/r/x\n";
        assert!(text.contains(link), "{text}");
        assert!(text.contains("Subject: [PATCH wireguard v2 0/3]"), "{text}");
        assert!(export.files[1].to_string_lossy().contains("/v2-0001-"));
        assert_eq!(world.post_changed(&export, "0000.mail", "", ""), "");
    }

    #[test]
    fn what_cannot_be_exported_says_why() {
        let world = World::new();
        world.commit_change("line 5", "other");
        let error = world.export_part("feature", "1").unwrap_err().to_string();
        assert!(error.contains("0001-"), "{error}");
        assert!(error.contains("pot1.c:2"), "{error}");
        // A base that only this repository has is worth a note.
        world.commit_change("other", "line 5");
        let export = world.export_part("feature", "1").unwrap();
        assert!(join_findings(&export.findings).contains("on no remote branch"));
        assert_eq!(count_errors(&export.findings), 0);
        fs::remove_dir_all(world.temp.path().join("out")).unwrap();
        world.run_git(&["config", "user.email", "noreply@example.org"]);
        let error = world.export_part("feature", "1").unwrap_err().to_string();
        assert!(error.contains("nobody's address"), "{error}");
        assert!(!world.temp.path().join("out").exists());
    }
}
