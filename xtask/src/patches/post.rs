// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Posting an export: through the person's `git send-email`, or into a folder to be looked at.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::remove;
use kit::{Error, Result, process};

use super::export::Export;
use super::folder::{read_file, write_file};
use super::git;
use super::tools::read_address;

/// The command that posts the files; `extra` goes before them.
fn send_email(onto: &Path, export: &Export, extra: &[String]) -> Command {
    let mut command = git::plain(onto);
    command
        .arg("send-email")
        .args(["--thread", "--no-chain-reply-to", "--no-xmailer"])
        // What reviewers can quote.
        .args(["--8bit-encoding=UTF-8", "--transfer-encoding=8bit"])
        .arg(format!("--from={}", export.sender));
    // The recipients are those in the files and no others.
    for others in ["self", "sob", "misc-by", "bodycc", "cccmd", "author"] {
        command.arg(format!("--suppress-cc={others}"));
    }
    command.args(extra).args(&export.files);
    command
}

/// What git gives a mail to instead of a mail server: a file with it, and one with recipients.
const KEEP: &str = r#"cd "${0%/*}"
n=$(printf %04d "$(ls | grep -c 'mail$')")
for word; do case $word in *@*) echo "$word" ;; esac; done >"$n.to"
cat >"$n.mail"
"#;

/// Posts into a folder, through `git send-email` and with the person's configuration.
pub fn post_to_folder(onto: &Path, export: &Export, folder: &Path) -> Result<()> {
    remove(folder)?;
    let keep = folder.join("keep");
    write_file(&keep, KEEP)?;
    let extra = [
        format!(
            "--sendmail-cmd=sh {}",
            process::quote(&keep.to_string_lossy())
        ),
        "--confirm=never".to_owned(),
        "--quiet".to_owned(),
    ];
    process::run(&mut send_email(onto, export, &extra))?;
    Ok(())
}

/// Everything in which what was posted is not what was exported; empty is good.
pub fn compare(export: &Export, folder: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mails: Vec<PathBuf> = (0..)
        .map(|n| folder.join(format!("{n:04}.mail")))
        .take_while(|path| path.exists())
        .collect();
    if mails.len() != export.files.len() {
        let (posted, made) = (mails.len(), export.files.len());
        return Ok(vec![format!("{posted} mails were posted of {made}")]);
    }
    let wanted = export.list_addresses();
    for mail in &mails {
        let list = read_file(&mail.with_extension("to"))?;
        let mut to: BTreeSet<String> = list.lines().map(read_address).collect();
        // The sender's own copy is no surprise.
        to.remove(&read_address(&export.sender));
        let mail = mail.file_name().unwrap_or_default().to_string_lossy();
        let missing = wanted.difference(&to);
        wrong.extend(missing.map(|who| format!("{mail} did not go to {who}")));
        let extra = to.difference(&wanted);
        wrong.extend(extra.map(|who| format!("{mail} went to {who}, who is not in the list")));
    }
    wrong.extend(check_applied(export, &mails[usize::from(export.cover)..])?);
    Ok(wrong)
}

/// `git am` of the mails as a maintainer would do it: same trees, same messages, same authors.
fn check_applied(export: &Export, mails: &[PathBuf]) -> Result<Option<String>> {
    let repo = &export.repo;
    let (from, to) = &export.range;
    let first = git::find_commit(repo, from)?;
    let wanted = git::find_commit(repo, to)?;
    let read_history = |tip: &str| {
        let range = format!("{first}..{tip}");
        git::run(repo, &["log", "--format=%T %an <%ae>%n%B", &range])
    };
    git::run(repo, &["checkout", "-q", "--detach", &first])?;
    let out = process::output(
        git::command(repo)
            .args(["am", "-q", "--no-3way"])
            .args(mails),
    )?;
    let wrong = if !out.ok {
        git::run(repo, &["am", "--abort"])?;
        Some(format!("git am of the mails: {}", out.all().trim()))
    } else if read_history("HEAD")? != read_history(&wanted)? {
        Some("git am of the mails does not make the series that was exported".to_owned())
    } else {
        None
    };
    git::run(repo, &["checkout", "-q", git::SERIES])?;
    Ok(wrong)
}

/// Hands over to `git send-email` after the person has agreed.
pub fn send(onto: &Path, export: &Export) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::other(
            "--send asks a person, and there is no terminal",
        ));
    }
    let (mails, people) = (export.files.len(), export.list_addresses().len());
    print!(
        "Send {mails} mails to {people} addresses as {}? Type `send': ",
        export.sender
    );
    io::stdout()
        .flush()
        .map_err(Error::io("write to", "the terminal"))?;
    let mut answer = String::new();
    let mut stdin = io::stdin().lock();
    stdin
        .read_line(&mut answer)
        .map_err(Error::io("read from", "the terminal"))?;
    if answer.trim() != "send" {
        println!("nothing was sent");
        return Ok(false);
    }
    process::passed(&mut send_email(onto, export, &[]))
}

#[cfg(test)]
mod tests {
    use kit::{Cache, Progress};
    use vm_tests::kernel::trees::{Recipient, Trees};

    use super::*;
    use crate::patches::builds::Which;
    use crate::patches::export::{self, Part, Request};
    use crate::patches::folder::{self, CoverLetter, Set};
    use crate::patches::git::tests::Temp;
    use crate::patches::rules::tests::test_tree;
    use crate::patches::status::{Posted, Status};

    /// A clone of an invented kernel, and a series of one fix and three patches for it.
    struct World {
        temp: Temp,
        onto: PathBuf,
        cover: CoverLetter,
        status: Status,
    }

    const TEAPOT: &str = "drivers/net/wireguard/teapot.c";
    const MAINTAINERS: &str = "print '\"J. D\" <j@pots.test> (maintainer:POTS)', \"\\n\";\n\
        print \"$_ (open list)\\n\" for qw(wireguard@lists.zx2c4.com netdev@vger.kernel.org linux-kernel@vger.kernel.org);\n";

    impl World {
        fn new(name: &str) -> Self {
            let temp = Temp::new(name);
            let origin = temp.0.join("origin");
            for (file, text) in [
                ("MAINTAINERS", "x\n"),
                // Stand-ins: one finds nothing, the other names those it always names.
                ("scripts/checkpatch.pl", "exit 0;\n"),
                ("scripts/get_maintainer.pl", MAINTAINERS),
                (TEAPOT, "static int teapot(void)\n{\n\treturn 0;\n}\n"),
            ] {
                write_file(&origin.join(file), text).unwrap();
            }
            git::init(&origin, "Linux 9.9").unwrap();
            git::run(&temp.0, &["clone", "-q", "origin", "onto"]).unwrap();
            git::run(&temp.0, &["clone", "-q", "origin", "work"]).unwrap();
            let work = temp.0.join("work");
            for (n, message) in [
                "count the lid\n\nIt was lost.\n\nFixes: 0123456789ab (\"wireguard: x\")",
                "count the first pot\n\nA pot that nobody counts is lost.\n",
                "count the s\u{e9}cond pot\n\nM\u{fc}ller's.\n\nSuggested-by: Ren\u{e9} M\u{fc}ller <rene@pots.test>",
                "count a third pot\n\nAnd From here on:\n\n    From the shelf\n\nthe rest.\n",
            ]
            .iter()
            .enumerate()
            {
                let text = read_file(&work.join(TEAPOT)).unwrap();
                let text = text.replace("\treturn", &format!("\tpot({n});\n\treturn"));
                write_file(&work.join(TEAPOT), &text).unwrap();
                let message = format!("wireguard: socket: {message}\nAssisted-by: LLM");
                git::run(&work, &["commit", "-q", "-a", "-m", &message]).unwrap();
            }
            git::run(&work, &["fetch", "-q", "--tags", "origin"]).unwrap();
            folder::write_series(&temp.0.join("9.9"), &work, "HEAD").unwrap();
            let world = Self {
                onto: temp.0.join("onto"),
                cover: CoverLetter::parse("count pots\n\nThey are many.\n\nIt is time.").unwrap(),
                status: Status::default(),
                temp,
            };
            world.config("user.name", "Ada P\u{f6}tt");
            world.config("user.email", "ada@pots.test");
            world
        }

        fn config(&self, key: &str, value: &str) {
            process::run(git::plain(&self.onto).args(["config", key, value])).unwrap();
        }

        fn export(&self, part: Part, version: u32) -> Result<Export> {
            let trees = Trees {
                recipients: vec![Recipient {
                    address: "Daniel Gr\u{f6}ber <daniel@pots.test>".to_owned(),
                    reason: "knows pots".to_owned(),
                }],
                trees: Vec::new(),
            };
            let request = Request {
                onto: self.onto.clone(),
                base: "HEAD".to_owned(),
                version,
                part,
                subject_prefix: "PATCH wireguard".to_owned(),
                out: self.temp.0.join("out"),
                builds: Which::None,
                accept: Vec::new(),
            };
            let set = Set::read(&self.temp.0.join("9.9"), &test_tree(), &trees)?;
            let cover = Some(&self.cover).filter(|_| part == Part::Feature);
            let cache = Cache::at(self.temp.0.join("cache"))?;
            let progress = Progress::silent();
            export::export(
                &set,
                cover,
                &request,
                &trees,
                &self.status,
                &cache,
                &progress,
            )
        }

        /// What is wrong with a posting, after `spoil` was at the folder.
        fn post(&self, export: &Export, spoil: impl Fn(&Path)) -> String {
            let folder = self.temp.0.join("posted");
            post_to_folder(&self.onto, export, &folder).unwrap();
            spoil(&folder);
            compare(export, &folder).unwrap().join("\n")
        }
    }

    fn list_findings(export: &Export) -> String {
        let found: Vec<_> = export.findings.iter().map(ToString::to_string).collect();
        found.join("\n")
    }

    #[test]
    fn an_export_is_signed_addressed_and_based() {
        let world = World::new("export");
        let export = world.export(Part::Feature, 1).unwrap();
        assert_eq!(list_findings(&export), "");
        assert_eq!(export.sender, "Ada P\u{f6}tt <ada@pots.test>");
        let texts: Vec<_> = export.files.iter().map(|f| read_file(f).unwrap()).collect();
        for (at, says) in [
            (0, "Subject: [PATCH wireguard 0/3] count pots\n"),
            (0, "They are many.\n\nIt is time.\n"),
            (0, "\nbase-commit: "),
            // The fix is posted before, and named.
            (0, "\nprerequisite-patch-id: "),
            (1, "count the first pot\n"),
            (
                2,
                "Assisted-by: LLM\nSigned-off-by: Ada P\u{f6}tt <ada@pots.test>\n---",
            ),
        ] {
            assert!(texts[at].contains(says), "{says}: {}", texts[at]);
        }
        let lists = "linux-kernel@vger.kernel.org netdev@vger.kernel.org rene@pots.test wireguard@lists.zx2c4.com";
        let all: Vec<_> = export.list_addresses().into_iter().collect();
        assert_eq!(
            all.join(" "),
            format!("daniel@pots.test j@pots.test {lists}")
        );
        // The clone gets a branch and is otherwise as it was.
        assert!(export::hand_over(&world.onto, &export).unwrap());
        let ask = |args: &[&str]| process::run(git::plain(&world.onto).args(args)).unwrap();
        let last = ask(&["log", "--format=%s", "-1", "bind-dev-v1"]);
        assert_eq!(last.trim(), "wireguard: socket: count a third pot");
        assert_eq!(ask(&["status", "--porcelain"]), "");
    }

    #[test]
    fn what_is_posted_is_what_was_exported() {
        let world = World::new("posted");
        // What a person's configuration says about the real account is not asked.
        world.config("sendemail.smtpServer", "mail.pots.test");
        world.config("sendemail.smtpUser", "ada");
        world.config("sendemail.transferEncoding", "base64");
        let export = world.export(Part::Feature, 1).unwrap();
        let edit = |name: &'static str, from: &'static str, to: &'static str| {
            move |folder: &Path| {
                let text = read_file(&folder.join(name)).unwrap();
                assert!(text.contains(from), "{name} does not say `{from}': {text}");
                write_file(&folder.join(name), &text.replacen(from, to, 1)).unwrap();
            }
        };
        assert_eq!(world.post(&export, |_| ()), "");
        // And each thing that is compared is seen to fail.
        let remove = |folder: &Path| std::fs::remove_file(folder.join("0003.mail")).unwrap();
        assert_eq!(world.post(&export, remove), "3 mails were posted of 4");
        let wrong = world.post(&export, edit("0001.to", "daniel@", "anna@"));
        assert!(
            wrong.contains("0001.mail did not go to daniel@pots.test"),
            "{wrong}"
        );
        assert!(
            wrong.contains("0001.mail went to anna@pots.test"),
            "{wrong}"
        );
        let wrong = world.post(&export, edit("0003.mail", "+\tpot(3);", "+\tpot(4);"));
        assert!(wrong.contains("does not make the series"), "{wrong}");
        let wrong = world.post(&export, edit("0003.mail", " \tpot(2);", " \tpot(9);"));
        assert!(wrong.contains("git am of the mails"), "{wrong}");
        // A recipient of the person's configuration is seen, too.
        world.config("sendemail.cc", "boss@pots.test");
        let wrong = world.post(&export, |_| ());
        assert!(wrong.contains("went to boss@pots.test"), "{wrong}");
    }

    #[test]
    fn the_fixes_are_a_series_of_their_own() {
        let world = World::new("fixes");
        let export = world.export(Part::Fixes, 1).unwrap();
        assert_eq!(list_findings(&export), "");
        let text = read_file(&export.files[0]).unwrap();
        assert_eq!(export.files.len(), 1);
        assert!(
            text.contains("[PATCH wireguard 1/1] wireguard: socket: count the lid"),
            "{text}"
        );
        assert_eq!(world.post(&export, |_| ()), "");
    }

    #[test]
    fn a_second_version_links_the_first() {
        let mut world = World::new("second");
        let export = world.export(Part::Feature, 2).unwrap();
        assert_eq!(export.count_errors(), 2, "{}", list_findings(&export));
        assert!(list_findings(&export).contains("v2 without a changelog"));
        // The person says what changed; the link comes from status.toml.
        world.cover.body += "\n\nChanges in v2:\n - more pots";
        world.status.posted.push(Posted {
            version: 1,
            date: "2027-01-31".to_owned(),
            tree: "wireguard".to_owned(),
            link: "https://lore.kernel.org/r/pots".to_owned(),
            by: "Ada".to_owned(),
            outcome: String::new(),
        });
        let export = world.export(Part::Feature, 2).unwrap();
        assert_eq!(list_findings(&export), "");
        assert!(export.files[1].to_string_lossy().contains("/v2-0001-"));
        let text = read_file(&export.files[0]).unwrap();
        assert!(
            text.contains("\nv1: https://lore.kernel.org/r/pots\n"),
            "{text}"
        );
        assert!(text.contains("Subject: [PATCH wireguard v2 0/3]"), "{text}");
        assert_eq!(world.post(&export, |_| ()), "");
    }

    #[test]
    fn what_cannot_be_exported_says_why() {
        let world = World::new("refused");
        let file = world.onto.join(TEAPOT);
        write_file(
            &file,
            &read_file(&file).unwrap().replace("teapot", "kettle"),
        )
        .unwrap();
        process::run(git::plain(&world.onto).args(["commit", "-q", "-a", "-m", "mine"])).unwrap();
        let error = world.export(Part::Feature, 1).unwrap_err().to_string();
        assert!(
            error.contains("0001-") && error.contains("teapot.c:1"),
            "{error}"
        );
        // A base that nobody else has is worth a note.
        write_file(
            &file,
            &read_file(&file).unwrap().replace("kettle", "teapot"),
        )
        .unwrap();
        process::run(git::plain(&world.onto).args(["commit", "-q", "-a", "-m", "mine"])).unwrap();
        let export = world.export(Part::Feature, 1).unwrap();
        assert!(list_findings(&export).contains("on no remote branch"));
        assert_eq!(export.count_errors(), 0);
        std::fs::remove_dir_all(world.temp.0.join("out")).unwrap();
        world.config("user.email", "noreply@example.org");
        let error = world.export(Part::Feature, 1).unwrap_err().to_string();
        assert!(
            error.contains("nobody's address") && error.contains("git -C"),
            "{error}"
        );
        assert!(!world.temp.0.join("out").exists());
    }
}
