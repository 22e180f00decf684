// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The kernel's own tools over a series: checkpatch.pl, get_maintainer.pl, the netlink generator.
//! They come from the reference tree, newest of all, or from the clone that is posted from. A
//! tool that cannot run is an error, never "nothing found".

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::{Progress, Result, process};
use regex_lite::{Captures, Regex};

use super::finding::{Finding, doc};
use super::git;

/// The findings of checkpatch.pl that a kept series is spared until export: a person signs off, the
/// author is a placeholder, and without a clone no commit of a `Fixes:` line is known.
pub const SPARED: &[&str] = &["--ignore=MISSING_SIGN_OFF,NO_AUTHOR_SIGN_OFF,UNKNOWN_COMMIT_ID"];

/// codespell's list of misspelled words, as Debian installs it.
const CODESPELL: &[&str] = &[
    "/usr/lib/python3/dist-packages/codespell_lib/data/dictionary.txt",
    "/usr/share/codespell/dictionary.txt",
];

/// The files of checkpatch.pl and get_maintainer.pl, and those by which they know a kernel tree.
#[rustfmt::skip]
pub const FILES: &[&str] = &[
    "COPYING", "CREDITS", "Kbuild", "MAINTAINERS", "Makefile", "README", "init", "ipc", "scripts",
];

/// Makes the folders of a kernel tree of which they only look whether they are there.
pub fn make_folders(root: &Path) -> Result<()> {
    for name in "Documentation arch drivers fs include kernel lib".split(' ') {
        fs::create_dir_all(root.join(name))?;
    }
    Ok(())
}

/// checkpatch.pl --strict over one patch; `name` is how findings call it.
pub fn run_checkpatch(
    root: &Path,
    patch: &Path,
    name: &str,
    ignore: &[&str],
    repair: &str,
) -> Result<Vec<Finding>> {
    let mut command = Command::new("perl");
    // Where it runs it asks git for the commits that a message names.
    command.current_dir(root).arg("scripts/checkpatch.pl");
    command.args(["--strict", "--no-summary", "--terse", "--show-types"]);
    command.args(["--color=never", "--root=."]).args(ignore);
    if let Some(words) = CODESPELL.iter().find(|f| Path::new(f).exists()) {
        command.args(["--codespell", &format!("--codespellfile={words}")]);
    }
    let out = process::capture_output(command.arg(patch))?;
    let found = read_checkpatch(&out.stdout, name, repair);
    if !out.ok && found.is_empty() {
        let (root, said) = (root.display(), out.join_streams());
        bail!("checkpatch.pl of {root} did not run; is that a kernel tree? {said}");
    }
    Ok(found)
}

/// `FILE:LINE: LEVEL:TYPE: text`
fn read_checkpatch(text: &str, name: &str, repair: &str) -> Vec<Finding> {
    let pattern = r"(?m)^.*?(?::(\d+))?: (?:ERROR|WARNING|CHECK):(.+)$";
    let read = |said: Captures| {
        let line = said.get(1).and_then(|n| n.as_str().parse().ok());
        let finding = Finding::new(name, said[2].trim()).set_line(line.unwrap_or(0));
        let finding = finding.set_rule("checkpatch", doc::CHECKLIST);
        finding.set_repair(repair)
    };
    let pattern = Regex::new(pattern).expect("a constant");
    pattern.captures_iter(text).map(read).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `Name <address>` or an address.
    pub who: String,
    /// `maintainer:…`, `open list`, or why the person gets a copy.
    pub role: String,
}

impl Person {
    pub fn new(who: &str, role: &str) -> Self {
        let (who, role) = (who.to_owned(), role.to_owned());
        Self { who, role }
    }

    /// The header of a mail with this person: maintainers are asked, the others may look.
    pub fn choose_header(&self) -> &'static str {
        let asked = ["maintainer:", "supporter:"];
        match asked.iter().any(|role| self.role.starts_with(role)) {
            true => "To",
            false => "Cc",
        }
    }

    pub fn get_address(&self) -> String {
        read_address(&self.who)
    }
}

/// `Name <User@Host>` → `user@host`
pub fn read_address(who: &str) -> String {
    let inner = who.rsplit('<').next().unwrap_or(who);
    inner.trim().trim_end_matches('>').to_lowercase()
}

/// All people whom get_maintainer.pl names for these patches.
pub fn list_maintainers(root: &Path, patches: &[PathBuf]) -> Result<Vec<Person>> {
    // The history of the files is not at hand, and would add drive-by authors.
    let options = ["--no-git", "--no-git-fallback", "--roles", "--no-rolestats"];
    let mut command = Command::new("perl");
    command.current_dir(root).arg("scripts/get_maintainer.pl");
    let text = process::run(command.args(options).args(patches))?;
    let people = read_people(&text);
    if people.is_empty() {
        bail!("get_maintainer.pl named nobody: {}", text.trim());
    }
    Ok(people)
}

/// `Name <address> (role)` or `address (role)`
fn read_people(text: &str) -> Vec<Person> {
    // Names of subsystems have brackets of their own.
    let pattern = r"(?m)^(.*<\S+@\S+>|\S+@\S+) \((.*)\)$";
    let pattern = Regex::new(pattern).expect("a constant");
    let read = |line: Captures| Person::new(&line[1], &line[2]);
    pattern.captures_iter(text).map(read).collect()
}

/// Checks that the lists that every WireGuard series goes to are among its recipients.
pub fn check_people(people: &[Person], name: &str) -> Vec<Finding> {
    let lists = "wireguard@lists.zx2c4.com netdev@vger.kernel.org linux-kernel@vger.kernel.org";
    let is_missing = |list: &&str| !people.iter().any(|p| p.get_address() == *list);
    let find = |list: &str| {
        let what = format!("get_maintainer.pl does not name {list}");
        Finding::new(name, what).set_rule("recipients", doc::MAINTAINERS)
    };
    lists.split(' ').filter(is_missing).map(find).collect()
}

/// The generator of netlink code, and what it reads; it looks for the top of the tree by
/// MAINTAINERS, and without end where there is none.
const GENERATOR: &str = "tools/net/ynl/ynl-regen.sh";
pub const NETLINK: &[&str] = &["Documentation/netlink", "tools/net/ynl", "MAINTAINERS"];

/// Regenerates netlink code in a checked-out tree; findings for every file that changes by it.
pub fn regenerate_netlink(repo: &Path, name: &str, progress: &Progress) -> Result<Vec<Finding>> {
    // Older trees have none.
    if !repo.join(GENERATOR).exists() {
        return Ok(Vec::new());
    }
    progress.begin_step(&format!("{name}: regenerate netlink code"));
    // The generator's modules are Debian's, so its python has to be Debian's too.
    let path = std::env::var("PATH").unwrap_or_default();
    // Seconds are enough; a generator that hangs must not hang us.
    let mut generate = Command::new("timeout");
    generate.args(["600", "bash", GENERATOR, "-f"]);
    generate
        .current_dir(repo)
        .env("PATH", format!("/usr/bin:{path}"));
    generate.env("PYTHONDONTWRITEBYTECODE", "1");
    let out = process::capture_output(generate.env("GIT_CONFIG_GLOBAL", "/dev/null"))?;
    let made = |line: &&str| line.contains("GEN") && line.contains("wireguard");
    let ours = out.stdout.lines().filter(made).count();
    // The script goes on after a failed generator, and ends well with nothing to do.
    if !out.ok || !out.stderr.trim().is_empty() || ours == 0 {
        let (status, said) = (&out.status, out.join_streams());
        bail!("{GENERATOR} -f did not run ({status}, {ours} files of wireguard): {said}");
    }
    let changed = git::run_git(repo, &["diff", "--name-only"])?;
    git::run_git(repo, &["checkout", "-q", "--", "."])?;
    progress.end_step();
    let find = |file: &str| {
        let what = format!("{file} is not what its specification generates");
        let finding = Finding::new(name, what).set_rule("ynl-regen", doc::YNL);
        finding.set_repair(format!("{GENERATOR} -f; git commit --amend -a"))
    };
    Ok(changed.lines().map(find).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::git::write_file;

    #[test]
    fn what_tools_say_is_read() {
        let text = "/tmp/x/0001-a.patch:8: WARNING:COMMIT_LOG_LONG_LINE: Prefer a maximum\n\
                    total: nonsense\n/tmp/0001-a.patch:27: CHECK:PARENTHESIS_ALIGNMENT: Alignment\n";
        let found = read_checkpatch(text, "9.9/0001-a.patch", "edit");
        assert_eq!((found.len(), found[0].line, found[1].line), (2, 8, 27));
        assert!(found[1].what.starts_with("PARENTHESIS_ALIGNMENT"));

        let text = "\"A. B\" <A@b.test> (maintainer:POTS (KETTLES))\n\
                    netdev@vger.kernel.org (open list:NET)\nnoise\n";
        let people = read_people(text);
        let headers = [0, 1].map(|at: usize| people[at].choose_header());
        assert_eq!(headers, ["To", "Cc"]);
        assert_eq!(people[0].role, "maintainer:POTS (KETTLES)");
        assert_eq!(people[0].get_address(), "a@b.test");
        assert_eq!(people[1].who, "netdev@vger.kernel.org");
        let found = check_people(&people, "9.9");
        assert_eq!(found.len(), 2);
        assert!(found[0].what.contains("wireguard@lists"));
    }

    #[test]
    fn tools_that_cannot_run_are_errors() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let patch = root.join("p.patch");
        write_file(&patch, "").unwrap();
        let check = || run_checkpatch(root, &patch, "p", SPARED, "").unwrap_err();
        assert!(check().to_string().contains("a kernel tree?"));
        write_file(&root.join("scripts/checkpatch.pl"), "die 'broken';\n").unwrap();
        assert!(check().to_string().contains("did not run"));
        write_file(&root.join("scripts/get_maintainer.pl"), "exit 0;\n").unwrap();
        let error = list_maintainers(root, &[patch]).unwrap_err().to_string();
        assert!(error.contains("named nobody"), "{error}");
    }

    #[test]
    fn a_generated_file_that_was_edited_by_hand_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let repo = temp.path();
        let script = |text: &str| write_file(&repo.join(GENERATOR), text).unwrap();
        script("exit 0\n");
        write_file(&repo.join("made.c"), "old\n").unwrap();
        git::init_repo(repo, "x").unwrap();
        let check = || regenerate_netlink(repo, "9.9", &Progress::default());
        let error = check().unwrap_err().to_string();
        assert!(error.contains("0 files"), "{error}");
        script("echo ' GEN wireguard'; echo new > made.c\n");
        git::run_git(repo, &["commit", "-qam", "y"]).unwrap();
        let found = check().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("made.c"));
    }
}
