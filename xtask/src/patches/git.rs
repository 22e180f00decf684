// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Scratch repositories: a kernel's source as the first commit, a series on top of it.
//!
//! They are made by commands and thrown away; the truth is in the patch files. The user's own git
//! configuration has no say in them: hooks, signing or `am.threeWay` would change verdicts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{Error, Result};

use kit::process;

/// The commit that a series starts from.
pub const BASE: &str = "base";
/// The branch with the series.
pub const SERIES: &str = "series";

/// git in a scratch repository.
pub fn command(repo: &Path) -> Command {
    let mut command = plain(repo);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args([
            "-c",
            "user.name=wg-vrf",
            "-c",
            "user.email=noreply@example.org",
        ])
        .args(["-c", "core.autocrlf=false", "-c", "gc.auto=0"])
        .args([
            "-c",
            "advice.detachedHead=false",
            "-c",
            "advice.mergeConflict=false",
        ]);
    command
}

/// git in a scratch repository, in the name of a person: `Name <address>`.
pub fn command_as(repo: &Path, who: &str) -> Command {
    let name = who.split(" <").next().unwrap_or(who);
    let mut command = command(repo);
    command
        .args(["-c", &format!("user.name={name}")])
        .args(["-c", &format!("user.email={}", super::mail::address(who))]);
    command
}

/// git in a repository of the user's, with the user's configuration.
pub fn plain(repo: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repo).env("LC_ALL", "C");
    // When a hook runs us, these would point git at the repository of the hook.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
}

/// Makes `dir`, which holds files, a repository with all of them in one commit, tagged `base`.
pub fn init(dir: &Path, message: &str) -> Result<()> {
    process::run(command(dir).args(["init", "-q", "-b", SERIES]))?;
    // As the kernel's .gitattributes, which is not in every part: what hunks are headed by.
    let attributes = dir.join(".git/info/attributes");
    let folder = dir.join(".git/info");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    fs::write(&attributes, "*.[ch] diff=cpp\n").map_err(Error::io("write", &attributes))?;
    // -f: Debian's source carries a .gitignore that ignores all of it.
    process::run(command(dir).args(["add", "-f", "-A"]))?;
    process::run(
        command(dir)
            .env("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z")
            .args([
                "commit",
                "-q",
                "--no-verify",
                "--allow-empty",
                "-m",
                message,
            ]),
    )?;
    process::run(command(dir).args(["tag", "-f", BASE]))?;
    Ok(())
}

/// A patch that did not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub patch: PathBuf,
    /// `drivers/net/wireguard/socket.c:61` and the like.
    pub places: Vec<String>,
    pub said: String,
}

impl Refused {
    pub fn of(patch: &Path, said: String) -> Self {
        Self {
            patch: patch.to_path_buf(),
            places: places(&said),
            said,
        }
    }

    /// What a finding says about it.
    pub fn what(&self) -> String {
        match self.places.is_empty() {
            true => format!(
                "does not apply: {}",
                self.said.lines().next().unwrap_or("git am gave no reason")
            ),
            false => format!("does not apply at {}", self.places.join(", ")),
        }
    }
}

/// `git am` of one patch: no fuzz ever; with `three_way` old blobs may help.
pub fn am(repo: &Path, patch: &Path, three_way: bool) -> Result<Option<Refused>> {
    let out = process::output(
        command(repo)
            .args(["am", "-q", "--committer-date-is-author-date"])
            .arg(if three_way { "--3way" } else { "--no-3way" })
            .arg(patch),
    )?;
    if out.ok {
        return Ok(None);
    }
    Ok(Some(Refused::of(patch, out.all())))
}

/// `error: patch failed: FILE:LINE`, `error: FILE: does not exist in index`, conflicts.
fn places(said: &str) -> Vec<String> {
    let mut places = Vec::new();
    for line in said.lines() {
        let place = line
            .strip_prefix("error: patch failed: ")
            .map(str::to_owned)
            .or_else(|| {
                line.strip_prefix("error: ")?
                    .strip_suffix(": does not exist in index")
                    .map(|file| format!("{file} (not in the tree)"))
            })
            .or_else(|| {
                line.strip_prefix("CONFLICT ")?
                    .split_once("Merge conflict in ")
                    .map(|(_, file)| format!("{file} (conflict)"))
            });
        if let Some(place) = place
            && !places.contains(&place)
        {
            places.push(place);
        }
    }
    places
}

/// The commits from `base` to HEAD, oldest first.
pub fn commits(repo: &Path, base: &str, tip: &str) -> Result<Vec<String>> {
    let list =
        process::run(command(repo).args(["rev-list", "--reverse", &format!("{base}..{tip}")]))?;
    Ok(list.lines().map(str::to_owned).collect())
}

pub fn head(repo: &Path) -> Result<String> {
    rev(repo, "HEAD")
}

pub fn rev(repo: &Path, name: &str) -> Result<String> {
    let hash = process::run(command(repo).args([
        "rev-parse",
        "--verify",
        "-q",
        &format!("{name}^{{commit}}"),
    ]))
    .map_err(|_| Error::other(format!("no commit `{name}' in {}", repo.display())))?;
    Ok(hash.trim().to_owned())
}

/// Copies the contents of a folder.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    process::run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to))?;
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A folder that is gone when the test is over.
    pub struct Temp(pub PathBuf);

    impl Temp {
        pub fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("wg-vrf-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_refused_patch_names_its_places() {
        let said = "error: patch failed: drivers/a.c:61\nerror: drivers/a.c: patch does not apply\n\
                    error: b.c: does not exist in index\n\
                    CONFLICT (content): Merge conflict in drivers/c.c\n";
        assert_eq!(
            places(said),
            [
                "drivers/a.c:61",
                "b.c (not in the tree)",
                "drivers/c.c (conflict)"
            ]
        );
    }

    #[test]
    fn fuzz_is_refused() {
        let temp = Temp::new("fuzz");
        let repo = temp.0.join("repo");
        fs::create_dir(&repo).unwrap();
        let text: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        fs::write(repo.join("a.txt"), &text).unwrap();
        init(&repo, "first").unwrap();
        fs::write(repo.join("a.txt"), text.replace("line 5", "middle")).unwrap();
        process::run(command(&repo).args(["commit", "-q", "-am", "second"])).unwrap();
        let patch = temp.0.join("p.patch");
        let mail = process::run(command(&repo).args(["format-patch", "-1", "--stdout"])).unwrap();
        fs::write(&patch, mail).unwrap();
        // The same file, with a line of the context changed: patch(1) would apply it with fuzz.
        process::run(command(&repo).args(["reset", "-q", "--hard", BASE])).unwrap();
        fs::write(repo.join("a.txt"), text.replace("line 2", "second")).unwrap();
        process::run(command(&repo).args(["commit", "-q", "-am", "other"])).unwrap();
        let refused = am(&repo, &patch, false).unwrap().unwrap();
        assert_eq!(refused.places, ["a.txt:2"]);
        assert!(refused.what().contains("a.txt:2"));
        process::run(command(&repo).args(["am", "--abort"])).unwrap();
        // And the same with nothing but other line numbers is taken.
        fs::write(repo.join("a.txt"), format!("top\n{text}")).unwrap();
        process::run(command(&repo).args(["commit", "-q", "-am", "moved"])).unwrap();
        assert_eq!(am(&repo, &patch, false).unwrap(), None);
        assert_eq!(commits(&repo, BASE, "HEAD").unwrap().len(), 3);
    }
}
