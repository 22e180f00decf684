// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A whole kernel for guests: small, everything built in, with or without the series.
//!
//! The configuration is tinyconfig, what the kernel's own WireGuard selftest asks for, and our
//! fragments in vm-tests/kconfig: guest.config, and one more for a kernel that is special. What a
//! fragment asks for and does not get is an error. The vanilla and the patched kernel of one source
//! share a build folder, so that the second one compiles only what the series touches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::{Key, remove_path};
use kit::{Cache, Progress, Result, process};

use super::source::Source;
use super::{prepare_make, read_version};
use crate::kernel::series::Series;
use crate::kernel::trees::Tree;
use crate::table::find_crate_folder;

/// Changes of this file that change what is built: part of the cache key.
const RECIPE: &str = "2";

/// The kernel's own selftest keeps its configuration here.
const SELFTEST: &str = "tools/testing/selftests/wireguard/qemu";

/// Builds, or finds, the kernel of `tree`; without a series it is the vanilla one. Returns its
/// bzImage, and Debian's version of the source.
pub fn build_image(
    tree: &Tree,
    series: Option<&Series>,
    config: Option<&str>,
    cache: &Cache,
) -> Result<(PathBuf, String)> {
    let source = Source::find(tree, cache)?;
    if let Some(series) = series {
        source.check_age(&series.dir)?;
    }
    let fragments = read_fragments(config)?;
    let add = |key: Key, (path, text): &(PathBuf, String)| {
        let name = path.file_name().unwrap_or_default();
        key.add_value(&name.to_string_lossy(), text)
    };
    let base = fragments.iter().fold(Key::new(), add);
    let base = base
        .add_value("recipe", RECIPE)
        .add_value("source", &source.version)
        .add_value("compiler", read_version("gcc")?);
    let suffix = config.map(|c| format!("-{c}")).unwrap_or_default();
    let digest = base.clone().finish();
    let area = format!("{}{suffix}-{}", source.version, &digest[..12]);
    let key = series.map_or(base.clone(), |s| s.add_to_key(base)).finish();
    // There is no other debug kernel than the patched one.
    let kind = match (config, series.is_some()) {
        (Some("debug"), true) => "debug".to_owned(),
        (_, true) => format!("patched{suffix}"),
        (_, false) => format!("vanilla{suffix}"),
    };
    let key = format!("{}-{kind}-{key}", source.version);
    let dir = cache.keep_folder("kernel", &key, |dir| {
        let _lock = cache.hold_lock(&format!("build-{area}"))?;
        let (pristine, root) = (source.get_whole()?, cache.open_folder("build")?.join(&area));
        let area = Area { pristine, root };
        area.prepare_area(&fragments, &cache.progress)?;
        area.patch_source(series)?;
        cache.begin_step(&format!("build linux {} ({kind})", source.version));
        area.run_make(&["bzImage"], &dir.join("build.log"))?;
        for (from, to) in [
            ("arch/x86/boot/bzImage", "bzImage"),
            (".config", "config"),
            ("System.map", "System.map"),
            ("include/config/kernel.release", "release"),
        ] {
            fs::copy(area.get_obj().join(from), dir.join(to))?;
        }
        cache.end_step();
        Ok(())
    })?;
    Ok((dir.join("bzImage"), source.version))
}

/// A build folder: a copy of the source that the series goes in and out of, and the objects.
struct Area {
    pristine: PathBuf,
    root: PathBuf,
}

impl Area {
    fn get_src(&self) -> PathBuf {
        self.root.join("src")
    }

    fn get_obj(&self) -> PathBuf {
        self.root.join("obj")
    }

    fn prepare_area(&self, fragments: &[(PathBuf, String)], progress: &Progress) -> Result<()> {
        let ready = self.root.join("ready");
        if ready.exists() {
            return Ok(());
        }
        progress.begin_step("configure the kernel");
        remove_path(&self.root)?;
        let obj = self.get_obj();
        fs::create_dir_all(&obj)?;
        // Hard links: files that the series changes are replaced, never written into.
        let mut copy = Command::new("cp");
        process::run(copy.arg("-al").arg(&self.pristine).arg(self.get_src()))?;
        self.run_make(&["tinyconfig"], &self.root.join("config.log"))?;
        let selftest = self.pristine.join(SELFTEST);
        let theirs = ["kernel.config", "arch/x86_64.config"].map(|name| selftest.join(name));
        let ours = fragments.iter().map(|(path, _)| path.clone());
        let parts: Vec<_> = theirs.into_iter().chain(ours).collect();
        // merge_config.sh goes on without a file that it does not find.
        if let Some(part) = parts.iter().find(|part| !part.exists()) {
            bail!("no `{}'", part.display());
        }
        let config = obj.join(".config");
        process::run(
            Command::new("./scripts/kconfig/merge_config.sh")
                .current_dir(self.get_src())
                .env("KCONFIG_CONFIG", &config)
                .args(["-m", "-O"])
                .args([&obj, &config])
                .args(&parts),
        )?;
        self.run_make(&["olddefconfig"], &self.root.join("config.log"))?;
        let lost = list_unmet(fragments, &fs::read_to_string(&config)?);
        if !lost.is_empty() {
            let what = "the kernel's configuration refuses what vm-tests/kconfig asks for";
            bail!("{what}: {}", lost.join(", "));
        }
        fs::write(&ready, "")?;
        progress.end_step();
        Ok(())
    }

    /// Brings the source to "pristine + series". The files that a series touches, and no others,
    /// become new ones: what is made from them is made again.
    fn patch_source(&self, series: Option<&Series>) -> Result<()> {
        let list = self.root.join("touched");
        let src = self.get_src();
        for path in fs::read_to_string(&list).unwrap_or_default().lines() {
            let (pristine, target) = (self.pristine.join(path), src.join(path));
            remove_path(&target)?;
            if pristine.exists() {
                fs::create_dir_all(target.parent().unwrap_or(&src))?;
                fs::copy(pristine, target)?;
            }
        }
        let touched = series.map(Series::list_touched).unwrap_or_default();
        let names: Vec<_> = touched.into_iter().map(|file| file.path).collect();
        // Before the first change: an interrupted run must not forget a file.
        fs::write(&list, names.join("\n"))?;
        series.map_or(Ok(()), |series| series.apply_to(&src, &[]))
    }

    fn run_make(&self, targets: &[&str], log: &Path) -> Result<()> {
        let mut command = prepare_make();
        command
            .args(["-s", "-C"])
            .arg(self.get_src())
            .arg(format!("O={}", self.get_obj().display()))
            // The image must not say who built it, where and when: the same sources are the same
            // image on another machine, and what was seen with it was seen.
            .args(["KBUILD_BUILD_USER=wg-vrf", "KBUILD_BUILD_HOST=wg-vrf"])
            .arg("KBUILD_BUILD_TIMESTAMP=1970-01-01")
            .arg("KBUILD_BUILD_VERSION=1")
            .args(targets);
        process::run_into_log(&mut command, log)
    }
}

/// The fragments of vm-tests/kconfig that a kernel is made of, and what they say.
fn read_fragments(config: Option<&str>) -> Result<Vec<(PathBuf, String)>> {
    let read = |name| {
        let path = find_crate_folder().join(format!("kconfig/{name}.config"));
        let text = fs::read_to_string(&path)?;
        Ok((path, text))
    };
    ["guest"].into_iter().chain(config).map(read).collect()
}

/// Lists the options that the fragments ask for and `config` lacks. A later line overrides an
/// earlier one.
fn list_unmet(fragments: &[(PathBuf, String)], config: &str) -> Vec<String> {
    let lines = fragments.iter().flat_map(|(_, text)| text.lines());
    let lines = lines.filter(|line| line.starts_with("CONFIG_"));
    let mut wanted: BTreeMap<_, _> = lines.filter_map(|line| line.split_once('=')).collect();
    let have: BTreeMap<_, _> = config.lines().filter_map(|l| l.split_once('=')).collect();
    wanted.retain(|name, value| have.get(name).unwrap_or(&"n") != value);
    let lost = wanted.iter().map(|(name, value)| format!("{name}={value}"));
    lost.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_did_not_come_true_is_named() {
        let first = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\n# CONFIG_D=y\n";
        let last = "CONFIG_B=n\nCONFIG_E=7\n";
        let both = [first, last].map(|text| (PathBuf::new(), text.to_owned()));
        assert!(list_unmet(&both, "CONFIG_A=y\nCONFIG_E=7\n").is_empty());
        let unmet = list_unmet(&both, "CONFIG_B=y\nCONFIG_C=y\n# CONFIG_A is not set\n");
        let wanted = ["CONFIG_A=y", "CONFIG_B=n", "CONFIG_C=n", "CONFIG_E=7"];
        assert_eq!(unmet, wanted);
    }

    /// The vanilla kernel must not be made of patched files, nor of objects newer than its files.
    #[test]
    fn a_series_goes_in_and_out_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let (pristine, root) = (folder.path().join("pristine"), folder.path().join("area"));
        let area = Area { pristine, root };
        fs::create_dir_all(&area.pristine).unwrap();
        fs::create_dir_all(area.get_src()).unwrap();
        fs::write(area.pristine.join("x.c"), "old\n").unwrap();
        fs::hard_link(area.pristine.join("x.c"), area.get_src().join("x.c")).unwrap();
        fs::write(folder.path().join("series"), "a.patch\n").unwrap();
        let patch = "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-old\n+new\n\
                     diff --git a/d/n.c b/d/n.c\nnew file mode 100644\n--- /dev/null\n\
                     +++ b/d/n.c\n@@ -0,0 +1 @@\n+made\n";
        fs::write(folder.path().join("a.patch"), patch).unwrap();
        let series = Series::read(folder.path()).unwrap();
        let text = |file: &Path| fs::read_to_string(file).unwrap_or_default();
        for round in [Some(&series), Some(&series), None, Some(&series), None] {
            area.patch_source(round).unwrap();
            let seen = ["x.c", "d/n.c"].map(|name| text(&area.get_src().join(name)));
            let expected = round.map_or(["old\n", ""], |_| ["new\n", "made\n"]);
            assert_eq!(seen, expected);
            assert_eq!(text(&area.pristine.join("x.c")), "old\n");
        }
        let read = |folder: &Path| fs::metadata(folder.join("x.c")).unwrap();
        let changed = |folder: &Path| read(folder).modified().unwrap();
        assert!(changed(&area.get_src()) > changed(&area.pristine));
    }
}
