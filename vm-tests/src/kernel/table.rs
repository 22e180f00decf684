// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of kernels (kernels.toml) and what the runner boots.
//!
//! Debian's own images are fetched here. Modules and kernels that have to be compiled are made
//! by the caller, who hands the finished file to [`BootableKernel`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use kit::cache::Cache;
use kit::debian::{Closure, Debian};
use kit::error::{Error, Result};
use kit::progress::Progress;

const TABLE: &str = include_str!("../../kernels.toml");

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    /// Whether its wireguard knows `WGDEVICE_A_BIND_DEV`.
    pub attr: bool,
    pub source: Source,
    /// MiB of memory that a guest gets.
    pub memory: u32,
    /// How many times slower than a plain kernel: multiplies every limit.
    pub slow: u32,
    /// Words for the kernel's command line.
    pub cmdline: Vec<String>,
    /// The scenarios made for it, when it cannot run the others.
    pub only: Option<Only>,
}

/// A kernel that lacks something on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    pub scenarios: Vec<String>,
    /// What it lacks, for those who wonder where the others are.
    pub why: String,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Debian's image, as it is. `name` is the metapackage that depends on the present image.
    Package { name: String, suites: Vec<String> },
    /// The image of `base` with a `wireguard.ko` built from a tree of kernel-patches.
    Module {
        base: String,
        tree: String,
        /// A folder of the repository whose series takes the place of the tree's own.
        series: Option<String>,
    },
    /// An image built from a tree of kernel-patches, everything compiled in.
    Build {
        tree: String,
        patched: bool,
        /// A fragment of kconfig/, by its name without `.config`, besides the usual one.
        config: Option<String>,
        /// As for `Module`.
        series: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    attr: bool,
    package: Option<PackageRow>,
    module: Option<ModuleRow>,
    build: Option<BuildRow>,
    memory: Option<u32>,
    slow: Option<u32>,
    #[serde(default)]
    cmdline: Vec<String>,
    only: Option<Only>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageRow {
    name: String,
    suites: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleRow {
    base: String,
    tree: String,
    series: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildRow {
    tree: String,
    patched: bool,
    config: Option<String>,
    series: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kernel: Vec<Row>,
}

/// All kernels, in the order of kernels.toml.
pub fn all() -> Result<Vec<Kernel>> {
    read(TABLE)
}

/// The kernel of a name, or an error that lists the names.
pub fn find(name: &str) -> Result<Kernel> {
    let kernels = all()?;
    let names: Vec<_> = kernels.iter().map(|k| k.name.clone()).collect();
    kernels.into_iter().find(|k| k.name == name).ok_or_else(|| {
        Error::other(format!(
            "no kernel `{name}'; there are: {}",
            names.join(", ")
        ))
    })
}

fn read(text: &str) -> Result<Vec<Kernel>> {
    let wrong = |text: String| Error::Data {
        file: "vm-tests/kernels.toml".into(),
        line: 1,
        text,
    };
    let table: Table = toml::from_str(text).map_err(|e| Error::Data {
        file: "vm-tests/kernels.toml".into(),
        line: e
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1)),
        text: e.message().to_owned(),
    })?;
    let mut kernels: Vec<Kernel> = Vec::new();
    for row in table.kernel {
        let Row {
            name,
            attr,
            package,
            module,
            build,
            memory,
            slow,
            cmdline,
            only,
        } = row;
        let source = match (package, module, build) {
            (Some(PackageRow { name, suites }), None, None) => Source::Package { name, suites },
            (None, Some(ModuleRow { base, tree, series }), None) => {
                Source::Module { base, tree, series }
            }
            (
                None,
                None,
                Some(BuildRow {
                    tree,
                    patched,
                    config,
                    series,
                }),
            ) => Source::Build {
                tree,
                patched,
                config,
                series,
            },
            _ => {
                return Err(wrong(format!(
                    "kernel `{name}' needs one of package, module, build"
                )));
            }
        };
        if let Source::Module { base, .. } = &source {
            let is_package = |k: &Kernel| matches!(k.source, Source::Package { .. });
            if !kernels.iter().any(|k| &k.name == base && is_package(k)) {
                return Err(wrong(format!(
                    "kernel `{name}': base `{base}' is no package kernel above it"
                )));
            }
        }
        if kernels.iter().any(|k| k.name == name) {
            return Err(wrong(format!("kernel `{name}' is there twice")));
        }
        kernels.push(Kernel {
            name,
            attr,
            source,
            memory: memory.unwrap_or(512),
            slow: slow.unwrap_or(1).max(1),
            cmdline,
            only,
        });
    }
    Ok(kernels)
}

/// A kernel with the files that boot it.
#[derive(Clone, Debug)]
pub struct BootableKernel {
    pub kernel: Kernel,
    /// The bzImage.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`; none when everything is compiled in.
    pub modules: Option<PathBuf>,
    /// Modules that take the place of the kernel's own: (name, .ko file).
    pub replaced: Vec<(String, PathBuf)>,
    /// What a reader of results wants to know: a package's version, a patch set's hash.
    pub version: String,
    /// Files of its source, for scenarios that ask for some.
    pub source: Option<SourceFiles>,
}

/// Gets files of a kernel's source when a scenario asks for them. Who makes kernels has it.
#[derive(Clone)]
pub struct SourceFiles(Arc<GetFiles>);

type GetFiles = dyn Fn(&[String]) -> Result<SourceFolders> + Send + Sync;

/// Folders in which the wanted files are, under their paths in the kernel's source.
#[derive(Clone, Debug)]
pub struct SourceFolders {
    /// As they came.
    pub stock: PathBuf,
    /// With the series that the kernel has.
    pub patched: Option<PathBuf>,
}

impl SourceFiles {
    pub fn new(get: impl Fn(&[String]) -> Result<SourceFolders> + Send + Sync + 'static) -> Self {
        Self(Arc::new(get))
    }

    pub fn get(&self, paths: &[String]) -> Result<SourceFolders> {
        (self.0)(paths)
    }
}

impl fmt::Debug for SourceFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceFiles")
    }
}

impl BootableKernel {
    /// Debian's image of `kernel`, downloaded and unpacked unless the cache has it.
    pub fn from_package(cache: &Cache, kernel: &Kernel, progress: &Progress) -> Result<Self> {
        let Source::Package { name, suites } = &kernel.source else {
            return Err(Error::other(format!(
                "kernel `{}' is no Debian package",
                kernel.name
            )));
        };
        let suites: Vec<_> = suites.iter().map(String::as_str).collect();
        let debian = Debian::new(cache, &suites, progress)?;
        let image = debian
            .depends(name)?
            .into_iter()
            .find(|d| d.starts_with("linux-image-"))
            .ok_or_else(|| Error::other(format!("package `{name}' names no linux-image")))?;
        let version = debian.candidate(&image)?;
        let dir = debian.unpack(&[&image], Closure::Named)?;
        let release = image.trim_start_matches("linux-image-");
        let modules = [dir.join("lib/modules"), dir.join("usr/lib/modules")]
            .into_iter()
            .map(|d| d.join(release))
            .find(|d| d.is_dir());
        Ok(Self {
            kernel: kernel.clone(),
            image: existing(&dir.join("boot").join(format!("vmlinuz-{release}")))?,
            modules,
            replaced: Vec::new(),
            version,
            source: None,
        })
    }

    /// `kernel` is `base` with its module `module` replaced by `file`.
    pub fn with_module(base: &Self, kernel: &Kernel, module: &str, file: &Path) -> Result<Self> {
        let mut result = base.clone();
        result.kernel = kernel.clone();
        result.replaced.push((module.to_owned(), existing(file)?));
        Ok(result)
    }

    /// An image that has everything compiled in.
    pub fn built(kernel: &Kernel, image: &Path, version: &str) -> Result<Self> {
        Ok(Self {
            kernel: kernel.clone(),
            image: existing(image)?,
            modules: None,
            replaced: Vec::new(),
            version: version.to_owned(),
            source: None,
        })
    }

    /// `uname -r`, where the modules tell it.
    pub fn release(&self) -> Option<&str> {
        self.modules.as_deref()?.file_name()?.to_str()
    }
}

fn existing(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(Error::io("find", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let kernels = all().unwrap();
        let names: Vec<_> = kernels.iter().map(|k| k.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "debian-6.1",
                "patched-6.1",
                "debian-6.12",
                "patched-6.12",
                "vanilla-7.3",
                "patched-7.3",
                "debug-7.3",
                "vanilla-7.3-no-ipv6",
                "patched-7.3-no-ipv6",
                "foreign-6.1",
                "foreign-7.3"
            ]
        );
        for kernel in &kernels {
            assert_eq!(
                kernel.attr,
                kernel.name.starts_with("patched") || kernel.name.starts_with("debug"),
                "{}",
                kernel.name
            );
        }
    }

    #[test]
    fn errors_name_line_and_value() {
        let error = read("\n\n[[kernel]]\nname = 1\nattr = true\n").unwrap_err();
        assert!(error.to_string().contains("kernels.toml:4"), "{error}");
        let error = read("[[kernel]]\nname = \"x\"\nattr = true\n").unwrap_err();
        assert!(error.to_string().contains("`x' needs one of"), "{error}");
        let twice = "[[kernel]]\nname='x'\nattr=true\nbuild={tree='7.3',patched=true}\n";
        let error = read(&twice.repeat(2)).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        assert!(
            find("linux-2.4")
                .unwrap_err()
                .to_string()
                .contains("debian-6.1")
        );
    }
}
