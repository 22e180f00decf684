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
use kit::cache::{Key, remove};
use kit::{Cache, Error, Progress, Result, process, repo};

use super::source::Source;
use crate::kernel::series::{Part, Series};
use crate::kernel::trees::Tree;

/// Changes of this file that change what is built: part of the cache key.
const RECIPE: &str = "2";

/// The kernel's own selftest keeps its configuration here.
const SELFTEST: &str = "tools/testing/selftests/wireguard/qemu";

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Image {
    /// bzImage
    pub image: PathBuf,
    /// Debian's version of the source.
    pub version: String,
}

/// Builds, or finds, the kernel of `tree`; without a series it is the vanilla one.
pub fn build(
    tree: &Tree,
    series: Option<&Series>,
    config: Option<&str>,
    cache: &Cache,
    progress: &Progress,
) -> Result<Image> {
    let source = Source::find(tree, cache, progress)?;
    let compiler = process::run(Command::new("gcc").arg("--version"))?;
    let fragments = fragments(config)?;
    let base = fragments
        .iter()
        .fold(Key::new(), |key, f| key.add(&f.name, &f.text))
        .add("recipe", RECIPE)
        .add("source", &source.version)
        .add("compiler", compiler.lines().next().unwrap_or_default());
    let area = format!(
        "{}{}-{}",
        source.version,
        config.map(|c| format!("-{c}")).unwrap_or_default(),
        &base.clone().finish()[..12]
    );
    let key = series.map_or(base.clone(), |s| s.add_to_key(base)).finish();
    let kind = match (config, series.is_some()) {
        // There is no other debug kernel than the patched one.
        (Some("debug"), true) => "debug".to_owned(),
        (Some(config), true) => format!("patched-{config}"),
        (Some(config), false) => format!("vanilla-{config}"),
        (None, true) => "patched".to_owned(),
        (None, false) => "vanilla".to_owned(),
    };
    let key = format!("{}-{kind}-{key}", source.version);
    let dir = cache.dir("kernel", &key, |dir| {
        let _lock = cache.lock(&format!("build-{area}"))?;
        let pristine = source.whole()?;
        let area = Area {
            pristine,
            root: cache.folder("build")?.join(&area),
        };
        area.prepare(&fragments, progress)?;
        area.patch(series)?;
        progress.step(&format!("build linux {} ({kind})", source.version));
        area.make(&["bzImage"], &dir.join("build.log"))?;
        for (from, to) in [
            ("arch/x86/boot/bzImage", "bzImage"),
            (".config", "config"),
            ("System.map", "System.map"),
            ("include/config/kernel.release", "release"),
        ] {
            let from = area.obj().join(from);
            fs::copy(&from, dir.join(to))?;
        }
        progress.done();
        Ok(())
    })?;
    Ok(Image {
        image: dir.join("bzImage"),
        version: source.version,
    })
}

/// A build folder: a copy of the source that the series goes in and out of, and the objects.
struct Area {
    pristine: PathBuf,
    root: PathBuf,
}

impl Area {
    fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    fn obj(&self) -> PathBuf {
        self.root.join("obj")
    }

    /// Source and configuration, once.
    fn prepare(&self, fragments: &[Fragment], progress: &Progress) -> Result<()> {
        let ready = self.root.join("ready");
        if ready.exists() {
            return Ok(());
        }
        progress.step("configure the kernel");
        remove(&self.root)?;
        let obj = self.obj();
        fs::create_dir_all(&obj)?;
        // Hard links: files that the series changes are replaced, never written into.
        process::run(
            Command::new("cp")
                .arg("-al")
                .arg(&self.pristine)
                .arg(self.src()),
        )?;
        self.make(&["tinyconfig"], &self.root.join("config.log"))?;
        let mut parts = vec![
            self.pristine.join(SELFTEST).join("kernel.config"),
            self.pristine.join(SELFTEST).join("arch/x86_64.config"),
        ];
        parts.extend(fragments.iter().map(|f| f.path.clone()));
        for part in &parts {
            if !part.exists() {
                return Err(Error::other(format!("no `{}'", part.display())));
            }
        }
        process::run(
            Command::new("./scripts/kconfig/merge_config.sh")
                .current_dir(self.src())
                .env("KCONFIG_CONFIG", obj.join(".config"))
                .arg("-m")
                .arg("-O")
                .arg(&obj)
                .arg(obj.join(".config"))
                .args(&parts),
        )?;
        self.make(&["olddefconfig"], &self.root.join("config.log"))?;
        let config = obj.join(".config");
        let config = fs::read_to_string(&config)?;
        let lost = unmet(fragments, &config);
        if !lost.is_empty() {
            return Err(Error::other(format!(
                "the kernel's configuration refuses what vm-tests/kconfig asks for: {}",
                lost.join(", ")
            )));
        }
        fs::write(&ready, "")?;
        progress.done();
        Ok(())
    }

    /// Brings the source to "pristine + series", changing only the files that differ.
    fn patch(&self, series: Option<&Series>) -> Result<()> {
        let scratch = self.root.join("scratch");
        remove(&scratch)?;
        fs::create_dir_all(&scratch)?;
        let mut wanted: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        if let Some(series) = series {
            let touched = series.touched();
            for file in touched.iter().filter(|f| !f.new) {
                let target = scratch.join(&file.path);
                let folder = target.parent().expect("a file is in a folder");
                fs::create_dir_all(folder)?;
                let from = self.pristine.join(&file.path);
                fs::copy(&from, &target)?;
            }
            series.apply(&scratch, Part::Whole)?;
            for file in touched {
                wanted.insert(file.path.clone(), read_if(&scratch.join(&file.path))?);
            }
        }
        // What an earlier series touched and this one does not goes back to what it was.
        let list = self.root.join("touched");
        let before = fs::read_to_string(&list).unwrap_or_default();
        for path in before.lines() {
            if !wanted.contains_key(path) {
                wanted.insert(path.to_owned(), read_if(&self.pristine.join(path))?);
            }
        }
        // Both lists before the first change: an interrupted run must not forget a file.
        let names: Vec<_> = wanted.keys().map(String::as_str).collect();
        fs::write(&list, names.join("\n"))?;
        for (path, text) in &wanted {
            let target = self.src().join(path);
            if read_if(&target)? == *text {
                continue;
            }
            let mode = fs::metadata(self.pristine.join(path)).map(|m| m.permissions());
            remove(&target)?;
            if let Some(text) = text {
                if let Some(folder) = target.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&target, text)?;
                if let Ok(mode) = mode {
                    fs::set_permissions(&target, mode)?;
                }
            }
        }
        remove(&scratch)
    }

    fn make(&self, targets: &[&str], log: &Path) -> Result<()> {
        process::logged(
            Command::new("nice")
                .args(["make", "-s", "-C"])
                .arg(self.src())
                .arg(format!("O={}", self.obj().display()))
                .arg(format!("-j{}", process::jobs()))
                // The image must not say who built it, where and when: the same sources are the
                // same image on another machine, and what was seen with it was seen.
                .args(["KBUILD_BUILD_USER=wg-vrf", "KBUILD_BUILD_HOST=wg-vrf"])
                .args([
                    "KBUILD_BUILD_TIMESTAMP=1970-01-01",
                    "KBUILD_BUILD_VERSION=1",
                ])
                .args(targets)
                .env("LC_ALL", "C")
                // Nothing of cargo's or of an outer make's may reach kbuild.
                .env_remove("MAKEFLAGS")
                .env_remove("MFLAGS")
                .env_remove("CFLAGS"),
            log,
        )
    }
}

fn read_if(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file of vm-tests/kconfig.
struct Fragment {
    name: String,
    path: PathBuf,
    text: String,
}

fn fragments(config: Option<&str>) -> Result<Vec<Fragment>> {
    ["guest"]
        .into_iter()
        .chain(config)
        .map(|name| {
            let name = format!("{name}.config");
            let path = repo::kconfig().join(&name);
            let text = fs::read_to_string(&path)?;
            Ok(Fragment { name, path, text })
        })
        .collect()
}

/// What the fragments ask for and `config` does not say. A later line overrides an earlier one.
fn unmet(fragments: &[Fragment], config: &str) -> Vec<String> {
    let mut wanted = BTreeMap::new();
    for line in fragments.iter().flat_map(|f| f.text.lines()) {
        if let Some((name, value)) = line.split_once('=') {
            if name.starts_with("CONFIG_") {
                wanted.insert(name, value);
            }
        }
    }
    let have: BTreeMap<_, _> = config
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    wanted
        .iter()
        .filter(|(name, value)| match have.get(*name) {
            Some(got) => got != *value,
            None => **value != "n",
        })
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(text: &str) -> Fragment {
        Fragment {
            name: String::new(),
            path: PathBuf::new(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_wish_that_did_not_come_true_is_named() {
        let first = fragment("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\n# CONFIG_D=y\n");
        let last = fragment("CONFIG_B=n\nCONFIG_E=7\n");
        let both = [first, last];
        assert_eq!(
            unmet(&both, "CONFIG_A=y\nCONFIG_E=7\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            unmet(&both, "CONFIG_B=y\nCONFIG_C=y\n# CONFIG_A is not set\n"),
            ["CONFIG_A=y", "CONFIG_B=n", "CONFIG_C=n", "CONFIG_E=7"]
        );
    }
}
