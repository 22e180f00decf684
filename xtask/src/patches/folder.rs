// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A folder of kernel-patches as the rules see it, and how a git branch is written back into it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::{Result, process, repo};
use vm_tests::kernel::series::{Patch, Series, Touched, read_touched};
use vm_tests::kernel::trees::{Recipient, Tree, Trees};

use super::git::{self, read_name, write_file};

/// The placeholder of an author until a person takes the series over.
pub const AUTHOR: &str = "wg-vrf <noreply@example.org>";

/// One patch, taken apart as `git am` takes it apart.
#[derive(Clone, Debug)]
pub struct Mail {
    pub file: String,
    pub text: String,
    /// Unfolded, decoded, without the `[…]`.
    pub subject: String,
    /// The commit message, trailers included.
    pub message: String,
    pub touched: Vec<Touched>,
}

impl Mail {
    pub fn read(patch: &Patch) -> Result<Self> {
        // The message comes on stderr, the headers on stdout.
        let mailinfo = r#"git mailinfo /dev/stderr /dev/null <"$0""#;
        let mut command = Command::new("sh");
        command.args(["-c", mailinfo]).arg(&patch.path);
        let out = process::capture_output(command.env("GIT_CONFIG_GLOBAL", "/dev/null"))?;
        if !out.ok {
            bail!("{}: {}", patch.name, out.stderr.trim());
        }
        let mut headers = out.stdout.lines();
        let subject = headers.find_map(|l| l.strip_prefix("Subject: "));
        Ok(Self {
            file: patch.name.clone(),
            text: patch.text.clone(),
            subject: subject.unwrap_or_default().to_owned(),
            message: out.stderr,
            touched: read_touched(&patch.text),
        })
    }

    /// `Key: value` of the last paragraph.
    pub fn list_trailers(&self) -> impl Iterator<Item = (&str, &str)> {
        let message = self.message.trim_end();
        let last = message.rsplit("\n\n").next().unwrap_or_default();
        last.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.starts_with(char::is_uppercase) && !key.contains(' '))
            .map(|(key, value)| (key, value.trim()))
    }

    pub fn is_fix(&self) -> bool {
        self.list_trailers().any(|(key, _)| key == "Fixes")
    }

    /// Whether the patch touches a file at or under `path`.
    pub fn touches_path(&self, path: &str) -> bool {
        let under = |file: &Touched| Path::new(&file.path).starts_with(path);
        self.touched.iter().any(under)
    }

    /// The lines of the hunks with their file and their number in the mail.
    pub fn list_diff(&self) -> Vec<(&str, usize, &str)> {
        let mut path = "";
        let mut lines = Vec::new();
        let numbered = self.text.lines().enumerate();
        for (at, line) in numbered.skip_while(|(_, l)| !l.starts_with("diff --git ")) {
            match line.strip_prefix("+++ b/") {
                Some(name) => path = name,
                None if line.starts_with("--- ") => {}
                None => lines.push((path, at + 1, line)),
            }
        }
        lines
    }
}

/// A series and what else the rules look at.
#[derive(Clone, Debug)]
pub struct Set {
    pub tree: Tree,
    pub dir: PathBuf,
    /// The patches that `series` names, and those that are in the folder.
    pub mails: Vec<Mail>,
    pub present: Vec<String>,
    /// People and lists beyond those of get_maintainer.pl.
    pub recipients: Vec<Recipient>,
}

impl Set {
    pub fn read_tree(tree: &Tree, trees: &Trees) -> Result<Self> {
        Self::read(&repo::find_patches().join(&tree.name), tree, trees)
    }

    pub fn read(dir: &Path, tree: &Tree, trees: &Trees) -> Result<Self> {
        let series = Series::read(dir)?;
        let mails = series.patches.iter().map(Mail::read);
        Ok(Self {
            tree: tree.clone(),
            dir: series.dir,
            mails: mails.collect::<Result<_>>()?,
            present: list_patches(dir)?,
            recipients: trees.recipients.clone(),
        })
    }

    /// Names a file of the series as findings do: `7.3/0001-….patch`.
    pub fn name_file(&self, file: &str) -> String {
        format!("{}/{file}", self.tree.name)
    }

    pub fn list_paths(&self) -> Vec<PathBuf> {
        self.mails.iter().map(|m| self.dir.join(&m.file)).collect()
    }

    /// Counts the fixes at the beginning: they are posted first, as a series of their
    /// own. What follows is the feature.
    pub fn count_fixes(&self) -> usize {
        self.mails.iter().take_while(|m| m.is_fix()).count()
    }

    /// Some of its patches.
    pub fn take_part(&self, part: Range<usize>) -> Self {
        let mails = self.mails[part].to_vec();
        Self {
            mails,
            ..self.clone()
        }
    }

    /// The command that rewrites numbers, tags and the series file.
    pub fn suggest_refresh(&self) -> String {
        format!("cargo xtask patches refresh {} --write", self.tree.name)
    }

    /// The command that opens the series for editing.
    pub fn suggest_reword(&self) -> String {
        let name = &self.tree.name;
        format!("cargo xtask patches refresh {name}, reword there, refresh {name} --write")
    }
}

/// The patches in a folder, whether `series` names them or not.
fn list_patches(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "patch") {
            names.push(read_name(&path));
        }
    }
    names.sort();
    Ok(names)
}

/// The text of a person about the series; git adds the list of patches at export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverLetter {
    pub subject: String,
    pub body: String,
}

pub const COVER: &str = "cover-letter.txt";
/// Two fixes need none; where this is there, it goes before them.
pub const COVER_OF_FIXES: &str = "cover-letter-fixes.txt";

impl CoverLetter {
    /// Reads the cover letter in this file of kernel-patches; none if there is no such file.
    pub fn load(file: &str) -> Result<Option<Self>> {
        let path = repo::find_patches().join(file);
        if !path.exists() {
            return Ok(None);
        }
        match Self::parse(&fs::read_to_string(&path)?) {
            Some(letter) => Ok(Some(letter)),
            None => bail!("{}: want a subject, an empty line, a text", path.display()),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (subject, body) = text.split_once("\n\n")?;
        let (subject, body) = (subject.trim(), body.trim_end());
        let whole = !subject.is_empty() && !subject.contains('\n') && !body.is_empty();
        let (subject, body) = (subject.to_owned(), body.to_owned());
        whole.then_some(Self { subject, body })
    }
}

/// Writes what `repo` has on `base` into the folder: the patches and `series`.
pub fn write_series(dir: &Path, repo: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(dir)?;
    for name in list_patches(dir)? {
        fs::remove_file(dir.join(name))?;
    }
    // An invented hash in `index' would change with every refresh.
    let stable = ["--zero-commit", "--abbrev=9", "--no-signature", "--no-base"];
    let form = ["--numbered", "--no-thread", "--no-attach", "--no-renames"];
    let mut command = git::prepare_scratch(repo);
    command.arg("format-patch").args(stable).args(form);
    command.args(["--subject-prefix=PATCH wireguard", "-o"]);
    process::run(command.arg(dir).arg(git::BASE))?;
    let names = list_patches(dir)?;
    if names.is_empty() {
        bail!("{}: no commit above `base'", repo.display());
    }
    write_file(&dir.join("series"), &(names.join("\n") + "\n"))?;
    Ok(names)
}

/// Makes the `source:` line of `base` current; its comments are a person's.
pub fn write_base(dir: &Path, source: &str) -> Result<()> {
    let file = dir.join("base");
    let comment = "# What the patches listed in `series` apply to without fuzz.\nsource: ?\n";
    let old = fs::read_to_string(&file).unwrap_or_else(|_| comment.to_owned());
    let lines = old.lines().map(|line| match line.starts_with("source:") {
        true => format!("source: {source}\n"),
        false => format!("{line}\n"),
    });
    write_file(&file, &lines.collect::<String>())
}

/// Writes a folder of kernel-patches as it was in a commit of this repository.
pub fn extract_commit(commit: &str, tree: &str, to: &Path) -> Result<()> {
    let archive = to.with_extension("tar");
    let folder = format!("{commit}:kernel-patches/{tree}");
    let mut git = git::prepare_git(repo::find_root());
    git.args(["archive", "--format=tar", "-o"]).arg(&archive);
    process::run(git.arg(folder))?;
    fs::create_dir_all(to)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(archive).arg("-C").arg(to);
    process::run(&mut unpack)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::rules::tests::{GOOD, read_mail};
    use vm_tests::kernel::series::read_base;

    #[test]
    fn a_mail_comes_apart() {
        let text = GOOD.replace("lost.", "lost.\nNote: This is prose.");
        let mail = read_mail(&text);
        let want = "wireguard: socket: count the teapots of a device";
        assert_eq!(mail.subject, want);
        let trailers: Vec<_> = mail.list_trailers().collect();
        assert_eq!(trailers, [("Assisted-by", "LLM")]);
        assert!(mail.touches_path("drivers/net/wireguard"));
        assert!(!mail.touches_path("drivers/net/wire"));
        let lines = mail.list_diff();
        assert_eq!(lines.iter().filter(|l| l.2.starts_with('+')).count(), 2);
    }

    #[test]
    fn the_base_keeps_its_comments() {
        let temp = tempfile::tempdir().unwrap();
        assert!(read_base(temp.path()).is_err());
        let file = temp.path().join("base");
        write_file(&file, "# one\nsource: x\n# two\n").unwrap();
        let error = read_base(temp.path()).unwrap_err().to_string();
        assert!(error.contains("no line"), "{error}");
        write_base(temp.path(), "linux-source-6.1 6.1.2-1").unwrap();
        let want = "# one\nsource: linux-source-6.1 6.1.2-1\n# two\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), want);
        assert_eq!(read_base(temp.path()).unwrap(), "linux-source-6.1 6.1.2-1");
    }

    #[test]
    fn a_cover_letter_has_a_subject_and_a_text() {
        let cover = CoverLetter::parse("pots\n\nThey are many.\n\nAll.\n").unwrap();
        assert_eq!(cover.body, "They are many.\n\nAll.");
        for bad in ["pots\n", "\n\ntext", "pots\nand\n\ntext", "pots\n\n\n"] {
            assert_eq!(CoverLetter::parse(bad), None, "{bad:?}");
        }
        assert!(CoverLetter::load(COVER).unwrap().is_some());
    }
}
