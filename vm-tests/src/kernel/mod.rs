// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Turns a tree of trees.toml and its series into something that boots: a module or a kernel.
//!
//! Owns sources, builds and their cache keys. Knows nothing of guests and scenarios.

pub mod image;
pub mod module;
pub mod patched;
pub mod series;
pub mod source;
pub mod table;
pub mod trees;

use std::path::{Path, PathBuf};
use std::process::Command;

use self::table::{BootableKernel, Kernel, SourceFiles, SourceFolders};
use kit::cache::Key;
use kit::{Cache, Error, Progress, Result};

use self::patched::Only;
use crate::kernel::series::Series;
use crate::kernel::trees::Trees;
use kit::process;
use kit::repo;
use kit::setup::For;

/// Everything that one of vm-tests' kernels needs to boot: fetched, built, or from the cache.
pub fn bootable(kernel: &Kernel, cache: &Cache, progress: &Progress) -> Result<BootableKernel> {
    bootable_with(kernel, None, cache, progress)
}

/// The same with another series than the tree's own: one with a line taken out, to see a
/// scenario fail.
pub fn bootable_with(
    kernel: &Kernel,
    series: Option<Series>,
    cache: &Cache,
    progress: &Progress,
) -> Result<BootableKernel> {
    let series = match series {
        Some(series) => Some(series),
        None => named(kernel)?,
    };
    let mut boot = made(kernel, series.clone(), cache, progress)?;
    boot.kernel.slow *= busy();
    boot.source = source(kernel, series, cache, progress)?;
    Ok(boot)
}

/// The series that kernels.toml names for a kernel, instead of its tree's.
fn named(kernel: &Kernel) -> Result<Option<Series>> {
    match &kernel.source {
        table::Source::Module { series, .. } | table::Source::Build { series, .. } => series
            .as_ref()
            .map(|folder| Series::read(&repo::root().join(folder)))
            .transpose(),
        table::Source::Package { .. } => Ok(None),
    }
}

/// How many times slower a guest is because of what else this machine does: limits are there to
/// end a guest that hangs, not one that waits for its turn.
fn busy() -> u32 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // Of the last minute and of the last five: a short lull is no promise.
    let load = load
        .split(' ')
        .take(2)
        .filter_map(|l| l.parse().ok())
        .fold(0.0, f64::max);
    ((load / process::jobs() as f64).ceil() as u32).clamp(1, 8)
}

fn made(
    kernel: &Kernel,
    series: Option<Series>,
    cache: &Cache,
    progress: &Progress,
) -> Result<BootableKernel> {
    let unpatched = match &kernel.source {
        table::Source::Package { .. } => true,
        table::Source::Module { .. } => false,
        table::Source::Build { patched, .. } => !patched,
    };
    if unpatched && series.is_some() {
        return Err(Error::other(format!(
            "kernel {} takes no series: it is as it came",
            kernel.name
        )));
    }
    let or_own = |tree: &str| series.map_or_else(|| Series::of_tree(tree), Ok);
    match &kernel.source {
        table::Source::Package { .. } => BootableKernel::from_package(cache, kernel, progress),
        table::Source::Module { base, tree, .. } => {
            let trees = Trees::load()?;
            let (tree, series) = (trees.find(tree)?, or_own(tree)?);
            let base = table::find(base)?;
            let base = BootableKernel::from_package(cache, &base, progress)?;
            let module = module::build(tree, &series, cache, progress)?;
            // A module for another kernel would fail to load, in every guest, one by one.
            if base.release() != Some(&module.release) {
                return Err(Error::other(format!(
                    "kernel {}: the image is {}, the headers are for {}: the mirror is being updated, try later",
                    kernel.name,
                    base.release().unwrap_or("without modules"),
                    module.release
                )));
            }
            let mut boot = BootableKernel::with_module(&base, kernel, "wireguard", &module.file)?;
            boot.version = format!("{}, {} patches", module.version, series.patches.len());
            Ok(boot)
        }
        table::Source::Build {
            tree,
            patched,
            config,
            ..
        } => {
            let trees = Trees::load()?;
            let series = match patched {
                true => Some(or_own(tree)?),
                false => None,
            };
            let tree = trees.find(tree)?;
            let built = image::build(tree, series.as_ref(), config.as_deref(), cache, progress)?;
            BootableKernel::built(kernel, &built.image, &built.version)
        }
    }
}

/// The source of a kernel, if it is that of one of our trees.
fn source(
    kernel: &Kernel,
    series: Option<Series>,
    cache: &Cache,
    progress: &Progress,
) -> Result<Option<SourceFiles>> {
    let (tree, patched) = match &kernel.source {
        table::Source::Module { tree, .. } => (tree.clone(), true),
        table::Source::Build { tree, patched, .. } => (tree.clone(), *patched),
        // Debian's own image is what some patched one is made from.
        table::Source::Package { .. } => {
            let made_of_it = table::all()?.into_iter().find_map(|k| match k.source {
                table::Source::Module { base, tree, .. } if base == kernel.name => Some(tree),
                _ => None,
            });
            match made_of_it {
                Some(tree) => (tree, false),
                None => return Ok(None),
            }
        }
    };
    let tree = Trees::load()?.find(&tree)?.clone();
    let (cache, progress) = (cache.clone(), progress.clone());
    Ok(Some(SourceFiles::new(move |paths| {
        let stock = source::Source::find(&tree, &cache, &progress)?.part(paths)?;
        let patched = match (patched, &series) {
            (false, _) => None,
            (true, Some(series)) => Some(patched_files(&stock, series, paths, &cache)?),
            (true, None) => {
                let series = Series::of_tree(&tree.name)?;
                Some(patched_files(&stock, &series, paths, &cache)?)
            }
        };
        Ok(SourceFolders { stock, patched })
    })))
}

fn patched_files(
    stock: &Path,
    series: &Series,
    paths: &[String],
    cache: &Cache,
) -> Result<PathBuf> {
    let key = Key::new().add("stock", stock.to_string_lossy().as_bytes());
    let key = patched::add_to_key(key, Some(series)).finish();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let dir = cache.dir("patched-source", &key, |dir| {
        process::run(Command::new("cp").arg("-a").arg(stock).arg(dir.join("src")))?;
        patched::apply(series, &dir.join("src"), Only::Under(&paths))
    })?;
    Ok(dir.join("src"))
}

/// The programs that making these kernels needs.
pub fn needs(kernels: &[Kernel]) -> Vec<For> {
    let mut needs = vec![For::Packages];
    for kernel in kernels {
        match kernel.source {
            table::Source::Package { .. } => {}
            table::Source::Module { .. } => needs.push(For::Module),
            table::Source::Build { .. } => needs.push(For::Kernel),
        }
    }
    needs
}
