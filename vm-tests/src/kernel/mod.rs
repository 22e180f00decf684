// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Turns a line of kernels.toml into something that boots: Debian's image, a module, a kernel.
//!
//! Owns sources, builds and their cache keys. Knows nothing of guests and scenarios.

pub mod image;
pub mod module;
pub mod own;
pub mod series;
pub mod source;
pub mod table;
pub mod trees;

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use self::series::Series;
use self::source::Source;
use self::table::{Kernel, Origin, Package};
use self::trees::{Tree, Trees};
use kit::cache::Key;
use kit::debian::Closure;
use kit::setup::For;
use kit::{Cache, Debian, Error, Result, process, repo};

#[derive(Clone, Debug)]
pub struct BootableKernel {
    pub kernel: Kernel,
    pub image: PathBuf,
    /// `lib/modules/RELEASE`; none when everything is compiled in.
    pub modules: Option<PathBuf>,
    /// The wireguard.ko that takes the place of the kernel's own.
    pub replaced: Option<PathBuf>,
    /// A line for readers of the results: a package's version, how many patches.
    pub version: String,
    /// The tree that has its source, for scenarios that ask for files of it.
    pub tree: Option<Tree>,
    pub series: Option<Series>,
}

impl BootableKernel {
    /// An image that has everything compiled in.
    pub fn from_image(kernel: &Kernel, image: &Path, version: &str) -> Result<Self> {
        Ok(Self {
            kernel: kernel.clone(),
            image: fs::canonicalize(image)?,
            modules: None,
            replaced: None,
            version: version.to_owned(),
            tree: None,
            series: None,
        })
    }

    /// `uname -r`, where the modules tell it.
    pub fn read_release(&self) -> Option<&str> {
        self.modules.as_deref()?.file_name()?.to_str()
    }

    /// A folder with these files of its source as they came, and one with its series in them.
    pub fn find_source(
        &self,
        paths: &[String],
        cache: &Cache,
    ) -> Result<(PathBuf, Option<PathBuf>)> {
        let Some(tree) = &self.tree else {
            bail!("no tree has the source of {}", self.kernel.name);
        };
        let stock = Source::find(tree, cache)?.get_part(paths)?;
        let Some(series) = &self.series else {
            return Ok((stock, None));
        };
        let key = Key::new().add_value("stock", stock.to_string_lossy().as_bytes());
        let key = series.add_to_key(key).finish();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let dir = cache.keep_folder("patched-source", &key, |dir| {
            let copy = dir.join("src");
            process::run(Command::new("cp").arg("-a").arg(&stock).arg(&copy))?;
            series.apply_to(&copy, &paths)
        })?;
        Ok((stock, Some(dir.join("src"))))
    }
}

/// Everything that a kernel needs to boot: fetched, built, or from the cache. A `series` takes the
/// place of the kernel's own: one with a line taken out, to see a scenario fail.
pub fn prepare_kernel(
    kernel: &Kernel,
    series: Option<Series>,
    cache: &Cache,
) -> Result<BootableKernel> {
    let (named, tree, patched) = match &kernel.from {
        Origin::Package(package) => (None, Some(&package.tree), false),
        Origin::Module(module) => (module.series.as_ref(), Some(&module.tree), true),
        Origin::Build(build) => (build.series.as_ref(), Some(&build.tree), build.patched),
    };
    let series = match (series, tree) {
        (Some(_), _) if !patched => {
            bail!("kernel {} takes no series: it is as it came", kernel.name)
        }
        (None, Some(tree)) if patched => Some(match named {
            Some(folder) => Series::read(&repo::find_root().join(folder))?,
            None => Series::read_tree(tree)?,
        }),
        (series, _) => series,
    };
    let trees = Trees::load()?;
    let mut boot = match &kernel.from {
        Origin::Package(package) => fetch_image(kernel, package, cache)?,
        Origin::Module(module) => {
            let base = prepare_kernel(&table::find_kernel(&module.base)?, None, cache)?;
            let series = series.as_ref().expect("a module has a series");
            let mut tree = trees.find_tree(&module.tree)?.clone();
            tree.headers = module.headers.clone().or(tree.headers);
            replace_module(kernel, base, &tree, series, cache)?
        }
        Origin::Build(build) => {
            let (tree, config) = (trees.find_tree(&build.tree)?, build.config.as_deref());
            let (image, version) = image::build_image(tree, series.as_ref(), config, cache)?;
            BootableKernel::from_image(kernel, &image, &version)?
        }
    };
    let tree = tree.map(|name| trees.find_tree(name).cloned());
    boot.tree = tree.transpose()?;
    boot.series = series;
    boot.kernel.slow = kernel.slow * measure_load();
    Ok(boot)
}

/// Debian's image, downloaded and unpacked unless the cache has it.
fn fetch_image(kernel: &Kernel, package: &Package, cache: &Cache) -> Result<BootableKernel> {
    let suites: Vec<_> = package.suites.iter().map(String::as_str).collect();
    let debian = Debian::new(cache, &suites)?;
    let name = &package.name;
    let depends = debian.list_dependencies(name)?;
    let image = depends.iter().find(|d| d.starts_with("linux-image-"));
    let image = image.ok_or_else(|| Error::other(format!("package `{name}' names no image")))?;
    let version = debian.find_candidate(image)?;
    let release = image.trim_start_matches("linux-image-");
    // Newer ones come in parts.
    let mut parts = debian.list_dependencies(image)?;
    parts.retain(|part| part.starts_with("linux-") && part.ends_with(release));
    let parts: Vec<&str> = parts.iter().chain([image]).map(String::as_str).collect();
    let dir = debian.unpack_packages(&parts, Closure::Named)?;
    let find = |paths: [&str; 2]| paths.map(|p| dir.join(p)).into_iter().find(|p| p.exists());
    let own = format!("usr/lib/modules/{release}/vmlinuz");
    let file = find([&own, &format!("boot/vmlinuz-{release}")]);
    let file = file.ok_or_else(|| Error::other(format!("`{image}' has no image")))?;
    let mut boot = BootableKernel::from_image(kernel, &file, &version)?;
    boot.modules = find(["lib/modules", "usr/lib/modules"]).map(|d| d.join(release));
    Ok(boot)
}

/// `kernel` is `base` with its wireguard.ko replaced by one that is built from a tree.
fn replace_module(
    kernel: &Kernel,
    base: BootableKernel,
    tree: &Tree,
    series: &Series,
    cache: &Cache,
) -> Result<BootableKernel> {
    let module = module::build_module(tree, series, &[], cache)?;
    // A module for another kernel would fail to load, in every guest, one by one.
    let image = base.read_release().unwrap_or("without modules");
    if image != module.release {
        let (name, headers) = (&kernel.name, &module.release);
        let why = "the mirror is being updated, try later";
        bail!("kernel {name}: the image is {image}, the headers are for {headers}: {why}");
    }
    Ok(BootableKernel {
        kernel: kernel.clone(),
        replaced: Some(fs::canonicalize(module.file)?),
        version: format!("{}, {} patches", module.version, series.patches.len()),
        ..base
    })
}

/// Measures how many times slower a guest is on this busy machine: limits are there to
/// end a guest that hangs, not one that waits for its turn.
fn measure_load() -> u32 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // Of the last minute and of the last five: a short lull is no promise.
    let load = load.split(' ').take(2).filter_map(|l| l.parse().ok());
    let load: f64 = load.fold(0.0, f64::max);
    ((load / process::count_jobs() as f64).ceil() as u32).clamp(1, 8)
}

/// make for kernels: nothing of cargo's or of an outer make's may reach kbuild.
fn prepare_make() -> Command {
    let mut make = Command::new("make");
    make.arg(format!("-j{}", process::count_jobs()))
        .env("LC_ALL", "C")
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("CFLAGS");
    make
}

pub fn read_version(program: &str) -> Result<String> {
    let text = process::run(Command::new(program).arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The programs of this machine that make and boot these kernels.
pub fn find_needs(kernels: &[Kernel]) -> Vec<For> {
    let mut needs = vec![For::Packages, For::Vm];
    for kernel in kernels {
        match kernel.from {
            Origin::Package(_) => {}
            Origin::Module(_) => needs.push(For::Module),
            Origin::Build(_) => needs.push(For::Kernel),
        }
    }
    needs
}
