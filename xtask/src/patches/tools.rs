// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The kernel's own tools over a series: checkpatch.pl, get_maintainer.pl, the netlink generator.
//!
//! They come from the reference tree, newest of all, or from the clone that is posted from. A
//! tool that cannot run is an error, never "nothing found".

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{Error, Result};

use super::finding::{Finding, doc};
use super::git;
use super::mail::address;
use kit::process;

/// What checkpatch may not say about a series that nobody has signed off, and why.
pub const UNSIGNED: &[(&str, &str)] = &[
    (
        "MISSING_SIGN_OFF",
        "the person who sends signs off, at export",
    ),
    (
        "NO_AUTHOR_SIGN_OFF",
        "the author is a placeholder until then",
    ),
];

/// codespell's list of misspelled words, as Debian installs it.
const CODESPELL: &[&str] = &[
    "/usr/lib/python3/dist-packages/codespell_lib/data/dictionary.txt",
    "/usr/share/codespell/dictionary.txt",
];

/// A kernel tree, or the part of one that has the tools.
#[derive(Clone, Debug)]
pub struct Tools {
    pub root: PathBuf,
}

impl Tools {
    pub fn at(root: &Path) -> Result<Self> {
        for file in [
            "scripts/checkpatch.pl",
            "scripts/get_maintainer.pl",
            "MAINTAINERS",
        ] {
            let path = root.join(file);
            if !path.is_file() {
                return Err(Error::other(format!(
                    "no `{}': is {} a kernel tree?",
                    path.display(),
                    root.display()
                )));
            }
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// checkpatch --strict over one patch; `name` is how findings call it.
    pub fn checkpatch(
        &self,
        patch: &Path,
        name: &str,
        ignore: &[(&str, &str)],
        repair: &str,
    ) -> Result<Vec<Finding>> {
        let mut command = Command::new("perl");
        command
            .arg(self.root.join("scripts/checkpatch.pl"))
            .args([
                "--strict",
                "--no-summary",
                "--terse",
                "--show-types",
                "--color=never",
            ])
            .arg(format!("--root={}", self.root.display()));
        if !ignore.is_empty() {
            let types: Vec<_> = ignore.iter().map(|(name, _)| *name).collect();
            command.arg(format!("--ignore={}", types.join(",")));
        }
        if let Some(words) = CODESPELL.iter().find(|f| Path::new(f).exists()) {
            command.args(["--codespell", &format!("--codespellfile={words}")]);
        }
        let out = process::output(command.arg(patch))?;
        let found = checkpatch_lines(&out.stdout, name, repair);
        if !out.ok && found.is_empty() {
            return Err(Error::other(format!(
                "checkpatch.pl did not run ({}): {}",
                out.status,
                out.all().trim()
            )));
        }
        Ok(found)
    }

    /// Everybody whom get_maintainer.pl names for these patches.
    pub fn maintainers(&self, patches: &[PathBuf]) -> Result<Vec<Person>> {
        let text = process::run(
            Command::new("perl")
                .current_dir(&self.root)
                .arg("scripts/get_maintainer.pl")
                // The history of the files is not at hand, and would add drive-by authors.
                .args(["--no-git", "--no-git-fallback", "--roles", "--no-rolestats"])
                .args(patches),
        )?;
        let people = people(&text);
        if people.is_empty() {
            return Err(Error::other(format!(
                "get_maintainer.pl named nobody: {}",
                text.trim()
            )));
        }
        Ok(people)
    }
}

/// `FILE:LINE: LEVEL:TYPE: text`
fn checkpatch_lines(text: &str, name: &str, repair: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((place, rest)) = ["ERROR:", "WARNING:", "CHECK:"]
            .iter()
            .find_map(|level| line.split_once(&format!(": {level}")))
        else {
            continue;
        };
        let number = place
            .rsplit_once(':')
            .and_then(|(_, n)| n.parse().ok())
            .unwrap_or(0);
        found.push(
            Finding::new(name, number, rest.trim())
                .by("checkpatch", doc::CHECKLIST)
                .repair(repair),
        );
    }
    found
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `Name <address>` or an address.
    pub who: String,
    /// `maintainer:…`, `open list`, …
    pub role: String,
}

impl Person {
    pub fn is_maintainer(&self) -> bool {
        self.role.starts_with("maintainer") || self.role.starts_with("supporter")
    }
}

fn people(text: &str) -> Vec<Person> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            // Names of subsystems have brackets of their own.
            let end = line.find('>').unwrap_or(0);
            let (_, role) = line[end..].split_once(" (")?;
            let who = &line[..line.len() - role.len() - 2];
            address(who).contains('@').then(|| Person {
                who: who.to_owned(),
                role: role.strip_suffix(')').unwrap_or(role).to_owned(),
            })
        })
        .collect()
}

/// Who must be on the list of recipients of a WireGuard series, whatever else changes.
pub fn check_people(people: &[Person], name: &str) -> Vec<Finding> {
    [
        "wireguard@lists.zx2c4.com",
        "netdev@vger.kernel.org",
        "linux-kernel@vger.kernel.org",
    ]
    .iter()
    .filter(|list| {
        !people
            .iter()
            .any(|p| address(&p.who).eq_ignore_ascii_case(list))
    })
    .map(|list| {
        Finding::new(name, 0, format!("get_maintainer.pl does not name {list}"))
            .by("recipients", doc::MAINTAINERS)
    })
    .collect()
}

/// Regenerates netlink code in a checked-out tree; findings for every file that changes by it.
pub fn regenerate(repo: &Path, name: &str) -> Result<Vec<Finding>> {
    let out = process::output(
        Command::new("timeout")
            .current_dir(repo)
            // Seconds are enough; a generator that hangs must not hang us.
            .args(["600", "bash", "tools/net/ynl/ynl-regen.sh", "-f"])
            // The generator's modules are Debian's, so its python has to be Debian's too.
            .env(
                "PATH",
                format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null"),
    )?;
    let ours = out
        .stdout
        .lines()
        .filter(|l| l.contains("GEN") && l.contains("wireguard"))
        .count();
    // The script goes on after a failed generator, and ends well with nothing to do.
    if !out.ok || !out.stderr.trim().is_empty() || ours == 0 {
        return Err(Error::other(format!(
            "tools/net/ynl/ynl-regen.sh -f did not run ({}, {ours} files of wireguard): {}",
            out.status,
            out.all().trim()
        )));
    }
    let changed = process::run(git::command(repo).args(["diff", "--name-only"]))?;
    let found = changed
        .lines()
        .map(|file| {
            Finding::new(
                name,
                0,
                format!("{file} is not what its specification generates"),
            )
            .by("ynl-regen", doc::YNL)
            .repair("tools/net/ynl/ynl-regen.sh -f; git commit --amend -a")
        })
        .collect();
    process::run(git::command(repo).args(["checkout", "-q", "--", "."]))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::git::tests::Temp;
    use std::fs;

    #[test]
    fn checkpatchs_terse_lines_become_findings() {
        let text = "/tmp/x/0001-a.patch:8: WARNING:COMMIT_LOG_LONG_LINE: Prefer a maximum\n\
                    total: nonsense\n/tmp/0001-a.patch:27: CHECK:PARENTHESIS_ALIGNMENT: Alignment\n";
        let found = checkpatch_lines(text, "9.9/0001-a.patch", "edit");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[1].line), (8, 27));
        assert!(found[1].what.starts_with("PARENTHESIS_ALIGNMENT"));
    }

    #[test]
    fn people_have_roles() {
        let text = "\"A. B\" <a@b.test> (maintainer:POTS (KETTLES))\nnetdev@vger.kernel.org (open list:NET)\nnoise\n";
        let people = people(text);
        assert_eq!(people.len(), 2);
        assert!(people[0].is_maintainer() && !people[1].is_maintainer());
        assert_eq!(people[0].role, "maintainer:POTS (KETTLES)");
        assert_eq!(people[1].who, "netdev@vger.kernel.org");
        let found = check_people(&people, "9.9");
        assert_eq!(found.len(), 2);
        assert!(found[0].what.contains("wireguard@lists"));
    }

    #[test]
    fn tools_that_cannot_run_are_errors() {
        let temp = Temp::new("tools");
        assert!(Tools::at(&temp.0).is_err());
        fs::create_dir_all(temp.0.join("scripts")).unwrap();
        fs::write(temp.0.join("MAINTAINERS"), "").unwrap();
        fs::write(temp.0.join("scripts/checkpatch.pl"), "die 'broken';\n").unwrap();
        fs::write(temp.0.join("scripts/get_maintainer.pl"), "exit 0;\n").unwrap();
        let tools = Tools::at(&temp.0).unwrap();
        let patch = temp.0.join("p.patch");
        fs::write(&patch, "").unwrap();
        let error = tools
            .checkpatch(&patch, "p", &[], "")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not run"), "{error}");
        let error = tools.maintainers(&[patch]).unwrap_err().to_string();
        assert!(error.contains("named nobody"), "{error}");
    }

    #[test]
    fn a_generator_that_generates_nothing_is_an_error() {
        let temp = Temp::new("ynl");
        let script = temp.0.join("tools/net/ynl/ynl-regen.sh");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::write(&script, "exit 0\n").unwrap();
        fs::write(temp.0.join("made.c"), "old\n").unwrap();
        git::init(&temp.0, "x").unwrap();
        let error = regenerate(&temp.0, "9.9").unwrap_err().to_string();
        assert!(error.contains("0 files"), "{error}");
        fs::write(&script, "echo ' GEN wireguard'; echo new > made.c\n").unwrap();
        process::run(git::command(&temp.0).args(["commit", "-qam", "y"])).unwrap();
        let found = regenerate(&temp.0, "9.9").unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("made.c"));
    }
}
