// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The patched wireguard.ko for one of Debian's own kernels, built against Debian's headers.
//! The kernel under it stays exactly Debian's: that is what makes a difference between
//! `debian-6.1` and `patched-6.1` a difference made by our series.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::Key;
use kit::debian::Closure;
use kit::{Cache, Error, Result, process};

use super::source::Source;
use super::{prepare_make, read_version};
use crate::kernel::series::Series;
use crate::kernel::trees::Tree;

/// Changes of this file that change what is built: part of the cache key.
const RECIPE: &str = "2";

const DRIVER: &str = "drivers/net/wireguard";
const HEADER: &str = "include/uapi/linux/wireguard.h";

#[derive(Clone, Debug)]
pub struct Module {
    pub file: PathBuf,
    /// The kernel it is for: `6.1.0-56-cloud-amd64`.
    pub release: String,
    pub version: String,
}

/// Builds, or finds, the module of `tree`, with more `arguments` for make: `W=1`. `build.log` is
/// kept beside the module.
pub fn build_module(
    tree: &Tree,
    series: &Series,
    arguments: &[&str],
    cache: &Cache,
) -> Result<Module> {
    let Some(headers_meta) = tree.headers.as_deref() else {
        let what = "builds a whole kernel, no module: cargo xtask kernel build --tree";
        bail!("tree {0} {what} {0}", tree.name);
    };
    let source = Source::find(tree, cache)?;
    source.check_age(&series.dir)?;
    let headers = Headers::find(&source, headers_meta)?;
    let key = Key::new()
        .add_value("recipe", RECIPE)
        .add_value("source", &source.version)
        .add_value("headers", headers.packages.join(" "))
        .add_value("compiler", read_version(&headers.compiler)?);
    let add = |key: Key, argument: &&str| key.add_value("argument", argument);
    let key = arguments.iter().fold(key, add);
    let key = series.add_to_key(key).finish();
    let dir = cache.keep_folder("module", &format!("{}-{key}", headers.release), |dir| {
        // The long download and the short one side by side.
        let (slice, unpacked) = std::thread::scope(|scope| {
            let unpacked = scope.spawn(|| headers.unpack_headers(&source, cache));
            let slice = source.get_part(&[DRIVER, HEADER]);
            (slice, unpacked.join().expect("unpacking does not panic"))
        });
        let (slice, unpacked) = (slice?, unpacked?);
        cache.begin_step(&format!("build wireguard.ko for {}", headers.release));
        let headers = unpacked.join("usr/src").join(&headers.package);
        compile_driver(&slice, &headers, series, arguments, dir)?;
        cache.end_step();
        Ok(())
    })?;
    Ok(Module {
        file: dir.join("wireguard.ko"),
        release: headers.release,
        version: source.version,
    })
}

/// Patches a copy of the driver of `source` and compiles it against `headers`. Leaves wireguard.ko
/// and build.log in `dir`.
pub fn compile_driver(
    source: &Path,
    headers: &Path,
    series: &Series,
    arguments: &[&str],
    dir: &Path,
) -> Result<()> {
    let work = dir.join("work");
    fs::create_dir(&work)?;
    let mut copy = Command::new("cp");
    copy.current_dir(source).args(["-a", "--parents", "-t"]);
    process::run(copy.arg(&work).args([DRIVER, HEADER]))?;
    series.apply_to(&work, &[DRIVER, HEADER])?;
    run_make(&work, headers, arguments, dir)?;
    let built = work.join(DRIVER).join("wireguard.ko");
    // As distributions have it: debug data is ten times as much. kbuild knows the prefix, too.
    let strip = env::var("CROSS_COMPILE").unwrap_or_default() + "strip";
    process::run(Command::new(strip).arg("--strip-debug").arg(&built))?;
    fs::rename(&built, dir.join("wireguard.ko"))?;
    Ok(fs::remove_dir_all(&work)?)
}

fn run_make(work: &Path, headers: &Path, arguments: &[&str], dir: &Path) -> Result<()> {
    // Kbuild prefers this file to the driver's own Makefile, which it goes on to read. The
    // headers package has a wireguard.h of its own, without our attribute: ours comes first.
    let kbuild = work.join(DRIVER).join("Kbuild");
    let root = work.display();
    let text = format!("NOSTDINC_FLAGS += -I{root}/include\ninclude {root}/{DRIVER}/Makefile\n");
    fs::write(&kbuild, text)?;
    let mut command = prepare_make();
    command
        .arg("-C")
        .arg(headers)
        .arg(format!("M={}", work.join(DRIVER).display()))
        // Type information would need pahole and the kernel's own.
        .args(["CONFIG_WIREGUARD=m", "CONFIG_DEBUG_INFO_BTF_MODULES="])
        .arg("modules")
        // The folder is one of this run: a module of the same sources is the same file.
        .arg(format!("KCFLAGS=-ffile-prefix-map={}=.", work.display()))
        .args(arguments);
    process::run_into_log(&mut command, &dir.join("build.log"))
}

/// The packages with the headers of Debian's kernel of the day.
struct Headers {
    package: String,
    release: String,
    packages: Vec<String>,
    compiler: String,
}

impl Headers {
    fn find(source: &Source<'_>, meta: &str) -> Result<Self> {
        let debian = &source.debian;
        let named = |package: &str, prefixes: &[&str]| -> Result<Vec<String>> {
            let mut names = debian.list_dependencies(package)?;
            names.retain(|name| prefixes.iter().any(|p| name.starts_with(p)));
            Ok(names)
        };
        let package = named(meta, &["linux-headers-"])?
            .pop()
            .ok_or_else(|| Error::other(format!("{meta} depends on no linux-headers package")))?;
        let version = debian.find_candidate(&package)?;
        if version != source.version {
            let own = &source.version;
            bail!("the mirror is being updated (source {own}, headers {version}): try later");
        }
        let release = package.trim_start_matches("linux-headers-").to_owned();
        let mut packages = named(&package, &["linux-headers-", "linux-kbuild-"])?;
        // `gcc-14`, `gcc-14-for-host`, or `linux-compiler-gcc-12-x86`; kbuild knows the prefix, too.
        let compiler = named(&package, &["gcc-", "linux-compiler-gcc-"])?.concat();
        let compiler = ["linux-compiler-", "-x86", "-for-host"]
            .iter()
            .fold(compiler, |name, part| name.replace(part, ""));
        packages.push(package.clone());
        packages.sort();
        Ok(Self {
            package,
            release,
            packages,
            compiler: env::var("CROSS_COMPILE").unwrap_or_default() + &compiler,
        })
    }

    /// The headers, ready to build against wherever they were unpacked.
    fn unpack_headers(&self, source: &Source<'_>, cache: &Cache) -> Result<PathBuf> {
        let names: Vec<_> = self.packages.iter().map(String::as_str).collect();
        let unpacked = source.debian.unpack_packages(&names, Closure::Named)?;
        let folder = unpacked.join("usr/src").join(&self.package);
        let makefile = folder.join("Makefile");
        let _lock = cache.hold_lock(&format!("headers-{}", self.release))?;
        let text = fs::read_to_string(&makefile)?;
        let moved = relocate_makefile(&text);
        if moved != text {
            fs::write(&makefile, moved)?;
        }
        Ok(unpacked)
    }
}

/// `KBUILD_OUTPUT=/usr/src/X`, `include /usr/src/Y/Makefile` as paths that are right anywhere.
fn relocate_makefile(makefile: &str) -> String {
    let folder = "$(dir $(realpath $(lastword $(MAKEFILE_LIST))))../";
    let moved = makefile.replace("include /usr/src/", &format!("include {folder}"));
    moved.replace("OUTPUT=/usr/src/", &format!("OUTPUT:={folder}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_makefile_is_relocated_once() {
        let once = relocate_makefile("KBUILD_OUTPUT=/usr/src/X\ninclude /usr/src/Y/Makefile\n");
        let folder = "$(dir $(realpath $(lastword $(MAKEFILE_LIST))))..";
        let moved = format!("KBUILD_OUTPUT:={folder}/X\ninclude {folder}/Y/Makefile\n");
        assert_eq!(once, moved);
        assert_eq!(relocate_makefile(&once), once);
    }
}
