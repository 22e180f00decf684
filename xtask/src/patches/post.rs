// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Posting an export: for real through the person's `git send-email`, or to a sink for comparison.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use kit::cache::remove;
use kit::{Error, Result};

use super::export::{self, Export};
use super::git;
use super::mail::{Mail, address};
use super::sink::{Arrived, Sink};
use kit::process;

/// Sends everything to a sink on the loopback, really through `git send-email`.
pub fn dry_run(onto: &Path, export: &Export) -> Result<Vec<Arrived>> {
    let sink = Sink::start()?;
    // The person's account must not be asked for anything here.
    let extra = [
        "--smtp-server=127.0.0.1".to_owned(),
        format!("--smtp-server-port={}", sink.port()),
        "--smtp-encryption=none".to_owned(),
        "--smtp-auth=none".to_owned(),
        // Else its name is looked up.
        "--smtp-domain=localhost.localdomain".to_owned(),
        "--confirm=never".to_owned(),
        "--quiet".to_owned(),
    ];
    process::run(&mut export::send_email(onto, export, &extra))?;
    Ok(sink.finish())
}

/// Hands over to `git send-email` after the person has agreed.
pub fn send(onto: &Path, export: &Export) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::other(
            "--send asks a person, and there is no terminal",
        ));
    }
    print!(
        "Send {} mails to {} addresses as {}? Type `send': ",
        export.files.len(),
        export.recipients().len(),
        export.sender
    );
    io::stdout()
        .flush()
        .map_err(|e| Error::other(format!("cannot write: {e}")))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Error::other(format!("cannot read: {e}")))?;
    if answer.trim() != "send" {
        println!("nothing was sent");
        return Ok(false);
    }
    process::passed(&mut export::send_email(onto, export, &[]))
}

/// Everything in which what arrived is not what was exported; empty is good.
pub fn compare(export: &Export, arrived: &[Arrived]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if arrived.len() != export.files.len() {
        wrong.push(format!(
            "{} mails arrived of {}",
            arrived.len(),
            export.files.len()
        ));
        return Ok(wrong);
    }
    let recipients = export.recipients();
    let mut first_id = String::new();
    let mut ids = BTreeSet::new();
    for (at, (file, mail)) in export.files.iter().zip(arrived).enumerate() {
        let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let sent = Mail::parse(&name, &text);
        let got = Mail::parse(&name, &mail.text);
        let mut say = |what: String| wrong.push(format!("mail {}: {what}", at + 1));
        // Order.
        if got.header("Subject") != sent.header("Subject") {
            say(format!(
                "subject is {:?}, want {:?}",
                got.header("Subject"),
                sent.header("Subject")
            ));
        }
        // Who.
        if address(got.header("From").unwrap_or_default()) != address(&export.sender)
            || mail.from != address(&export.sender)
        {
            say(format!("is from `{}'", mail.from));
        }
        let mut to: BTreeSet<String> = mail.to.iter().map(|a| a.to_lowercase()).collect();
        // send-email copies the sender when it is in the list only; that one is no surprise.
        to.remove(&address(&export.sender).to_lowercase());
        for missing in recipients.difference(&to) {
            say(format!("did not go to {missing}"));
        }
        for extra in to.difference(&recipients) {
            say(format!("went to {extra}, which is not in the list"));
        }
        for (header, people) in [("To", &export.to), ("Cc", &export.cc)] {
            let value = got.header(header).unwrap_or_default();
            for person in people {
                let who = person.who.replace('"', "");
                if !value.replace('"', "").contains(&who) {
                    say(format!("{header} does not name {who}"));
                }
            }
        }
        // Threading.
        let id = got.header("Message-ID").unwrap_or_default().to_owned();
        if id.is_empty() || !ids.insert(id.clone()) {
            say(format!("Message-ID `{id}' is not its own"));
        }
        let (reply, references) = (got.header("In-Reply-To"), got.header("References"));
        if at == 0 {
            first_id = id;
            if reply.is_some() || references.is_some() {
                say("begins no thread of its own".to_owned());
            }
        } else if reply != Some(&first_id) || references != Some(&first_id) {
            say(format!(
                "is In-Reply-To {reply:?}, References {references:?}, want {first_id}"
            ));
        }
        // Encoding and contents.
        if !mail.text.is_ascii() && !charset(&got).contains("utf-8") {
            say("is not ASCII and does not say its charset".to_owned());
        }
        let encoding = got.header("Content-Transfer-Encoding").unwrap_or("8bit");
        if !["7bit", "8bit"].contains(&encoding.to_ascii_lowercase().as_str()) {
            say(format!(
                "is encoded as {encoding}, which reviewers cannot quote"
            ));
        }
        if body(&mail.text) != body(&text) {
            let theirs = body(&mail.text).lines().map(Some).chain([None]);
            let differs = body(&text)
                .lines()
                .zip(theirs)
                .find(|(a, b)| Some(*a) != *b);
            let (want, got) = differs.unwrap_or(("", Some("more")));
            say(format!(
                "its text is not that of the file: {got:?}, want {want:?}"
            ));
        }
    }
    wrong.extend(applies(export, arrived)?);
    Ok(wrong)
}

fn charset(mail: &Mail) -> String {
    mail.header("Content-Type")
        .unwrap_or_default()
        .to_ascii_lowercase()
}

fn body(text: &str) -> &str {
    text.split_once("\n\n")
        .map_or("", |(_, body)| body)
        .trim_end()
}

/// `git am` of the mails as a maintainer would do it: same tree, same messages, same authors.
fn applies(export: &Export, arrived: &[Arrived]) -> Result<Vec<String>> {
    let work = export.repo.with_extension("am");
    remove(&work)?;
    process::run(
        git::command(&export.repo)
            .args(["worktree", "add", "-q", "-f", "--detach"])
            .arg(&work)
            .arg(git::BASE),
    )?;
    let mbox = export.repo.with_extension("mbox");
    let text: String = arrived
        .iter()
        .filter(|mail| !Mail::parse("", &mail.text).is_cover())
        .map(|mail| format!("From sink Mon Sep 17 00:00:00 2001\n{}\n", mail.text))
        .collect();
    fs::write(&mbox, text).map_err(Error::io("write", &mbox))?;
    let out = process::output(
        git::command(&work)
            .args(["am", "-q", "--no-3way"])
            .arg(&mbox),
    )?;
    let mut wrong = Vec::new();
    if out.ok {
        let history = |repo: &Path, tip: &str| {
            process::run(git::command(repo).args([
                "log",
                "--format=%T %an <%ae>%n%B",
                &format!("{}..{tip}", git::BASE),
            ]))
        };
        if history(&work, "HEAD")? != history(&export.repo, &export.branch)? {
            wrong.push("git am of the mails does not make the series that was exported".to_owned());
        }
    } else {
        wrong.push(format!("git am of the mails: {}", out.all().trim()));
    }
    process::run(
        git::command(&export.repo)
            .args(["worktree", "remove", "--force"])
            .arg(&work),
    )?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use kit::{Cache, Progress};

    use super::*;
    use crate::patches::builds::Which;
    use crate::patches::folder;
    use crate::patches::git::tests::Temp;
    use crate::patches::status::{Posted, Status};
    use vm_tests::kernel::trees::{Build, Recipient, Tree, Trees};

    /// A clone of an invented kernel, and a series of three patches for it.
    struct World {
        temp: Temp,
        onto: PathBuf,
        series: PathBuf,
        cache: Cache,
        trees: Trees,
    }

    const TEAPOT: &str = "drivers/net/wireguard/teapot.c";

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    impl World {
        fn new(name: &str) -> Self {
            let temp = Temp::new(name);
            let origin = temp.0.join("origin");
            for (file, text) in [
                ("COPYING", "x\n"),
                ("MAINTAINERS", "x\n"),
                ("README", "x\n"),
                // Stand-ins: one finds nothing, the other names those it always names.
                ("scripts/checkpatch.pl", "exit 0;\n"),
                (
                    "scripts/get_maintainer.pl",
                    "print '\"J. D\" <j@pots.test> (maintainer:POTS)', \"\\n\";\n\
                     print \"$_ (open list)\\n\" for qw(wireguard@lists.zx2c4.com netdev@vger.kernel.org linux-kernel@vger.kernel.org);\n",
                ),
                (TEAPOT, "static int teapot(void)\n{\n\treturn 0;\n}\n"),
                ("net/unrelated.c", "int x;\n"),
            ] {
                write(&origin.join(file), text);
            }
            git::init(&origin, "Linux 9.9").unwrap();

            let series = temp.0.join("9.9");
            let work = temp.0.join("work");
            process::run(git::command(&temp.0).args(["clone", "-q", "origin", "work"])).unwrap();
            for (n, message) in [
                "wireguard: socket: count the first pot\n\nA pot that nobody counts is lost.",
                "wireguard: socket: count the s\u{e9}cond pot\n\nM\u{fc}ller's pot too.\n\nSuggested-by: Ren\u{e9} M\u{fc}ller <rene@pots.test>",
                "wireguard: socket: count a third pot\n\nAnd From here on:\n\n    From the shelf\n\nthe rest.",
            ]
            .iter()
            .enumerate()
            {
                let file = work.join(TEAPOT);
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, text.replace("\treturn", &format!("\tpot({n});\n\treturn"))).unwrap();
                let message = match message.contains("-by: ") {
                    true => format!("{message}\nAssisted-by: LLM"),
                    false => format!("{message}\n\nAssisted-by: LLM"),
                };
                process::run(git::command(&work).args(["commit", "-q", "-a", "-m", &message])).unwrap();
            }
            let range = ("origin/series", "HEAD");
            let source = "linux-source-9.9 9.9.1-1";
            folder::write(&series, &work, range, source).unwrap();
            let cover = series.join(vm_tests::kernel::series::COVER);
            let text = fs::read_to_string(&cover).unwrap();
            let text = text
                .replace("*** SUBJECT HERE ***", "count pots")
                .replace("*** BLURB HERE ***", "They are many.\n\nIt is high time.");
            fs::write(&cover, text).unwrap();

            let onto = temp.0.join("onto");
            process::run(git::command(&temp.0).args(["clone", "-q", "origin", "onto"])).unwrap();
            let world = Self {
                onto,
                series,
                cache: Cache::at(temp.0.join("cache")).unwrap(),
                trees: Trees {
                    recipients: vec![Recipient {
                        address: "Daniel Gr\u{f6}ber <daniel@pots.test>".to_owned(),
                        reason: "knows pots".to_owned(),
                    }],
                    trees: Vec::new(),
                },
                temp,
            };
            world.config("user.name", "Ada P\u{f6}tt");
            world.config("user.email", "ada@pots.test");
            world
        }

        fn config(&self, key: &str, value: &str) {
            process::run(git::plain(&self.onto).args(["config", key, value])).unwrap();
        }

        fn export(&self, version: u32, status: &Status) -> Result<Export> {
            let tree = Tree {
                name: "9.9".to_owned(),
                suites: Vec::new(),
                source: "linux-source-9.9".to_owned(),
                version: "newest".to_owned(),
                build: Build::Module,
                headers: None,
                reference: true,
            };
            let request = export::Request {
                onto: self.onto.clone(),
                base: "HEAD".to_owned(),
                version,
                prefix: "PATCH wireguard".to_owned(),
                out: self.temp.0.join("out"),
                builds: Which::None,
                accept: Vec::new(),
            };
            export::run_in(
                &self.series,
                &request,
                &tree,
                &self.trees,
                status,
                &self.cache,
                &Progress::silent(),
            )
        }
    }

    fn texts(export: &Export) -> Vec<String> {
        export.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_export_is_signed_addressed_and_based() {
        let world = World::new("export");
        let export = world.export(1, &Status::default()).unwrap();
        assert_eq!(export.errors(), 0, "{:#?}", texts(&export));
        assert_eq!(export.files.len(), 4);
        assert_eq!(export.sender, "Ada P\u{f6}tt <ada@pots.test>");
        let cover = fs::read_to_string(&export.files[0]).unwrap();
        assert!(
            cover.contains("Subject: [PATCH wireguard 0/3] count pots\n"),
            "{cover}"
        );
        assert!(
            cover.contains("They are many.\n\nIt is high time.\n"),
            "{cover}"
        );
        assert!(cover.contains("\nbase-commit: "), "{cover}");
        let second = fs::read_to_string(&export.files[2]).unwrap();
        assert!(
            second.contains("Assisted-by: LLM\nSigned-off-by: Ada P\u{f6}tt <ada@pots.test>\n---"),
            "{second}"
        );
        let all: Vec<_> = export.recipients().into_iter().collect();
        assert_eq!(
            all,
            [
                "daniel@pots.test",
                "j@pots.test",
                "linux-kernel@vger.kernel.org",
                "netdev@vger.kernel.org",
                "rene@pots.test",
                "wireguard@lists.zx2c4.com"
            ]
        );
        // The clone gets a branch and is otherwise as it was.
        assert!(export::hand_over(&world.onto, &export).unwrap());
        let log =
            process::run(git::plain(&world.onto).args(["log", "--format=%s", "-1", "bind-dev-v1"]))
                .unwrap();
        assert_eq!(log.trim(), "wireguard: socket: count a third pot");
        let state = process::run(git::plain(&world.onto).args(["status", "--porcelain"])).unwrap();
        assert_eq!(state, "");
    }

    #[test]
    fn what_arrives_is_what_was_exported() {
        let world = World::new("arrives");
        // What a person's configuration says about the real account is not asked.
        world.config("sendemail.smtpEncryption", "tls");
        world.config("sendemail.smtpUser", "ada");
        let export = world.export(1, &Status::default()).unwrap();
        let arrived = dry_run(&world.onto, &export).unwrap();
        assert_eq!(arrived.len(), 4);
        assert_eq!(compare(&export, &arrived).unwrap(), Vec::<String>::new());

        // And each thing that is compared is seen to fail.
        let spoil = |with: &dyn Fn(&mut Vec<Arrived>)| -> String {
            let mut bad = arrived.clone();
            with(&mut bad);
            compare(&export, &bad).unwrap().join("\n")
        };
        assert!(spoil(&|m| drop(m.pop())).contains("3 mails arrived of 4"));
        assert!(spoil(&|m| m.swap(1, 2)).contains("subject is"));
        assert!(spoil(&|m| drop(m[1].to.pop())).contains("did not go to"));
        assert!(spoil(&|m| m[1].to.push("x@y.test".to_owned())).contains("not in the list"));
        assert!(
            spoil(&|m| m[2].text = m[2].text.replace("In-Reply-To: <", "In-Reply-To: <x"))
                .contains("is In-Reply-To")
        );
        assert!(
            spoil(&|m| m[0].text = format!("References: <x@y>\n{}", m[0].text))
                .contains("no thread of its own")
        );
        assert!(
            spoil(&|m| m[2].text = m[2].text.replace("charset=UTF-8", "charset=x"))
                .contains("charset")
        );
        assert!(
            spoil(&|m| m[2].text = m[2]
                .text
                .replace("Transfer-Encoding: 8bit", "Transfer-Encoding: base64"))
            .contains("cannot quote")
        );
        assert!(
            spoil(&|m| m[3].text = m[3].text.replace("+\tpot(2);", "+\tpot(3);"))
                .contains("text is not")
        );
        assert!(
            spoil(&|m| m[3].text = m[3].text.replace("+\tpot(2);", "+\tpot(3);"))
                .contains("does not make the series")
        );
        assert!(
            spoil(&|m| m[3].text = m[3].text.replace(" \tpot(1);", " \tpot(9);"))
                .contains("git am of the mails")
        );
        assert!(spoil(&|m| "b@pots.test".clone_into(&mut m[1].from)).contains("is from"));
    }

    #[test]
    fn a_recipient_of_the_persons_configuration_is_seen() {
        let world = World::new("extra");
        world.config("sendemail.cc", "boss@pots.test");
        let export = world.export(1, &Status::default()).unwrap();
        let arrived = dry_run(&world.onto, &export).unwrap();
        let wrong = compare(&export, &arrived).unwrap();
        assert!(wrong[0].contains("went to boss@pots.test"), "{wrong:?}");
    }

    #[test]
    fn nothing_is_exported_without_a_person() {
        let world = World::new("nobody");
        world.config("user.email", "noreply@example.org");
        let error = world.export(1, &Status::default()).unwrap_err().to_string();
        assert!(
            error.contains("nobody's address") && error.contains("git -C"),
            "{error}"
        );
        assert!(!world.temp.0.join("out").exists());
    }

    #[test]
    fn a_second_version_links_the_first() {
        let world = World::new("second");
        let mut status = Status::default();
        let export = world.export(2, &status).unwrap();
        let found = texts(&export).join("\n");
        assert!(found.contains("v2 without a changelog"), "{found}");
        assert!(found.contains("no link to v1"), "{found}");
        assert!(
            export.files[1]
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("v2-0001-")
        );
        // The person says what changed; the link comes from status.toml.
        let cover = world.series.join(vm_tests::kernel::series::COVER);
        let text = fs::read_to_string(&cover).unwrap();
        fs::write(
            &cover,
            text.replace("It is high time.", "Changes in v2:\n - more pots"),
        )
        .unwrap();
        status.posted.push(Posted {
            version: 1,
            date: "2027-01-31".to_owned(),
            tree: "wireguard".to_owned(),
            link: "https://lore.kernel.org/r/pots".to_owned(),
            by: "Ada".to_owned(),
            outcome: String::new(),
        });
        let export = world.export(2, &status).unwrap();
        assert_eq!(export.errors(), 0, "{:#?}", texts(&export));
        let text = fs::read_to_string(&export.files[0]).unwrap();
        assert!(
            text.contains("\nv1: https://lore.kernel.org/r/pots\n"),
            "{text}"
        );
        assert!(text.contains("Subject: [PATCH wireguard v2 0/3]"), "{text}");
        let arrived = dry_run(&world.onto, &export).unwrap();
        assert_eq!(compare(&export, &arrived).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_clone_that_moved_on_names_the_patch() {
        let world = World::new("moved");
        let file = world.onto.join(TEAPOT);
        fs::write(&file, "static int kettle(void)\n{\n\treturn 1;\n}\n").unwrap();
        process::run(git::plain(&world.onto).args(["commit", "-q", "-a", "-m", "other"])).unwrap();
        let error = world.export(1, &Status::default()).unwrap_err().to_string();
        assert!(
            error.contains("0001-") && error.contains("teapot.c:1"),
            "{error}"
        );
    }

    #[test]
    fn a_base_that_nobody_else_has_is_noted() {
        let world = World::new("private");
        write(&world.onto.join("net/unrelated.c"), "int y;\n");
        process::run(git::plain(&world.onto).args(["commit", "-q", "-a", "-m", "mine"])).unwrap();
        let export = world.export(1, &Status::default()).unwrap();
        assert!(texts(&export).join("\n").contains("on no remote branch"));
        assert_eq!(export.errors(), 0);
    }
}
