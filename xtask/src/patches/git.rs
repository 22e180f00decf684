// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Scratch repositories: a kernel's source as the first commit, a series on top of it.
//! Commands make them and throw them away; the truth is in the patch files. The user's own git
//! configuration has no say in them: hooks, signing or `am.threeWay` would change verdicts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::{Result, process};
use regex_lite::Regex;

/// The commit that a series starts from.
pub const BASE: &str = "base";
/// The branch with the series.
pub const SERIES: &str = "series";

/// git in a repository of the user's, with the user's configuration.
pub fn prepare_git(repo: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repo).env("LC_ALL", "C");
    // When a hook runs us, these would point git at the repository of the hook.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
}

/// git in a scratch repository; who commits is what that repository says.
pub fn prepare_configured(repo: &Path) -> Command {
    let mut command = prepare_git(repo);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// git in a scratch repository.
pub fn prepare_scratch(repo: &Path) -> Command {
    let mut command = prepare_configured(repo);
    command.args(["-c", "user.name=wg-vrf"]);
    command.args(["-c", "user.email=noreply@example.org"]);
    command
}

/// Runs git in a scratch repository; what it printed.
pub fn run_git(repo: &Path, args: &[&str]) -> Result<String> {
    process::run(prepare_scratch(repo).args(args))
}

/// Makes `dir`, which holds files, a repository with all of them in one commit, tagged `base`.
pub fn init_repo(dir: &Path, message: &str) -> Result<()> {
    run_git(dir, &["init", "-q", "-b", SERIES])?;
    // As in the kernel's .gitattributes, which is not in every part: what hunks are headed by.
    write_file(&dir.join(".git/info/attributes"), "*.[ch] diff=cpp\n")?;
    // -f: Debian's source carries a .gitignore that ignores all of it.
    run_git(dir, &["add", "-f", "-A"])?;
    let mut commit = prepare_scratch(dir);
    commit.env("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z");
    commit.env("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z");
    commit.args(["commit", "-q", "--no-verify", "--allow-empty", "-m"]);
    process::run(commit.arg(message))?;
    run_git(dir, &["tag", "-f", BASE])?;
    Ok(())
}

/// A patch that did not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub patch: String,
    /// `does not apply at drivers/net/wireguard/socket.c:61`
    pub what: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.patch, self.what)
    }
}

impl Refused {
    /// Reads the places from what `git am` and `git apply` said.
    pub fn read(patch: &Path, said: &str) -> Self {
        let pattern = "patch failed: (.+)|(.+: does not exist in index)|(Merge conflict in .+)";
        let place = Regex::new(pattern).expect("a constant");
        let mut places = Vec::new();
        for (_, [place]) in place.captures_iter(said).map(|c| c.extract()) {
            let place = place.trim_start_matches("error: ");
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let patch = read_name(patch);
        let what = match places.is_empty() {
            true => format!("does not apply: {}", said.trim()),
            false => format!("does not apply at {}", places.join(", ")),
        };
        Self { patch, what }
    }
}

/// `git am` of each patch, without fuzz. Of a refused patch the hunks that fit are kept, so that the
/// next patches are judged by themselves.
pub fn apply_each(repo: &Path, patches: &[PathBuf]) -> Result<Vec<Refused>> {
    let mut refused = Vec::new();
    let am = ["am", "-q", "--no-3way", "--committer-date-is-author-date"];
    for patch in patches {
        let out = process::capture_output(prepare_scratch(repo).args(am).arg(patch))?;
        if out.ok {
            continue;
        }
        run_git(repo, &["am", "--abort"])?;
        let apply = ["apply", "--reject", "--whitespace=nowarn"];
        let rest = process::capture_output(prepare_scratch(repo).args(apply).arg(patch))?;
        let said = out.join_streams() + &rest.join_streams();
        refused.push(Refused::read(patch, &said));
        run_git(repo, &["add", "-A"])?;
        let message = "what applies";
        run_git(repo, &["commit", "-q", "--allow-empty", "-m", message])?;
    }
    Ok(refused)
}

/// The commits from `base` to `tip`, oldest first.
pub fn list_commits(repo: &Path, base: &str, tip: &str) -> Result<Vec<String>> {
    let list = run_git(repo, &["rev-list", "--reverse", &format!("{base}..{tip}")])?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// The hash of a commit, in a repository of the user's or a scratch one.
pub fn find_commit(repo: &Path, name: &str) -> Result<String> {
    let commit = format!("{name}^{{commit}}");
    let out =
        process::capture_output(prepare_git(repo).args(["rev-parse", "--verify", "-q", &commit]))?;
    if !out.ok {
        bail!("no commit `{name}' in {}", repo.display());
    }
    Ok(out.stdout.trim().to_owned())
}

/// The name of a file without its folder.
pub fn read_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Writes a file, in a folder that need not be there yet.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_patch_names_its_places() {
        let said = "error: patch failed: drivers/a.c:61\nerror: drivers/a.c: patch does not apply\n\
                    error: b.c: does not exist in index\n\
                    CONFLICT (content): Merge conflict in drivers/c.c\n";
        let want = "x: does not apply at drivers/a.c:61, b.c: does not exist in index, \
                    Merge conflict in drivers/c.c";
        assert_eq!(Refused::read(Path::new("/x"), said).to_string(), want);
    }

    #[test]
    fn fuzz_is_refused_and_other_line_numbers_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let repo = temp.path().join("repo");
        let text: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        let commit = |text: &str| {
            write_file(&repo.join("a.txt"), text).unwrap();
            run_git(&repo, &["commit", "-q", "-am", "x"]).unwrap();
        };
        write_file(&repo.join("a.txt"), &text).unwrap();
        init_repo(&repo, "first").unwrap();
        commit(&text.replace("line 5", "middle"));
        let patch = temp.path().join("p.patch");
        let mail = run_git(&repo, &["format-patch", "-1", "--stdout"]).unwrap();
        write_file(&patch, &mail).unwrap();
        // patch(1) would apply it to another line of context, with fuzz.
        run_git(&repo, &["reset", "-q", "--hard", BASE]).unwrap();
        commit(&text.replace("line 2", "second"));
        let refused = apply_each(&repo, std::slice::from_ref(&patch)).unwrap();
        assert_eq!(refused[0].what, "does not apply at a.txt:2");
        run_git(&repo, &["reset", "-q", "--hard", BASE]).unwrap();
        commit(&format!("top\n{text}"));
        assert_eq!(apply_each(&repo, &[patch]).unwrap(), []);
        assert_eq!(list_commits(&repo, BASE, "HEAD").unwrap().len(), 2);
    }
}
