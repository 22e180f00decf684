// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of kernels (kernels.toml).

use serde::Deserialize;

use crate::table::{check_names, find_named, parse_table};
use kit::error::{Error, Result};

const TABLE: &str = include_str!("../../kernels.toml");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub name: String,
    /// Whether its wireguard knows `WGDEVICE_A_BIND_DEV`.
    pub attr: bool,
    pub from: Origin,
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// The factor by which it is slower than a plain kernel: multiplies every limit.
    #[serde(default = "default_slow")]
    pub slow: u32,
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// The scenarios made for it, when it cannot run the others.
    pub only: Option<Only>,
}

/// The place where a kernel comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Package(Package),
    Module(ModuleOrigin),
    Build(Build),
}

/// A kernel that lacks something on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    pub scenarios: Vec<String>,
    /// The thing that it lacks, for those who miss the other scenarios.
    pub why: String,
}

/// Debian's image, as it is. `name` is the metapackage that depends on the present image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub suites: Vec<String>,
    /// The tree of kernel-patches that has its source.
    pub tree: String,
}

/// The image of `base` with a `wireguard.ko` built from a tree of kernel-patches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleOrigin {
    pub base: String,
    pub tree: String,
    /// The metapackage of the headers of `base`, where the tree's is for another one.
    pub headers: Option<String>,
    /// A folder of the repository whose series takes the place of the tree's own.
    pub series: Option<String>,
}

/// An image built from a tree of kernel-patches, everything compiled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    pub tree: String,
    pub patched: bool,
    /// A fragment of kconfig/, by its name without `.config`, besides the usual one.
    pub config: Option<String>,
    /// As for `Module`.
    pub series: Option<String>,
}

fn default_memory() -> u32 {
    512
}

fn default_slow() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kernel: Vec<Kernel>,
}

pub fn read_kernels() -> Result<Vec<Kernel>> {
    parse_kernels(TABLE)
}

pub fn find_kernel(name: &str) -> Result<Kernel> {
    find_named("kernel", name, read_kernels()?, |k| &k.name)
}

fn parse_kernels(text: &str) -> Result<Vec<Kernel>> {
    const FILE: &str = "vm-tests/kernels.toml";
    let kernels = parse_table::<Table>(FILE, text)?.kernel;
    check_names(FILE, "kernel", kernels.iter().map(|k| k.name.as_str()))?;
    for (index, kernel) in kernels.iter().enumerate() {
        let Origin::Module(ModuleOrigin { base, .. }) = &kernel.from else {
            continue;
        };
        let mut above = kernels[..index].iter().filter(|k| k.name == *base);
        if !above.any(|k| matches!(k.from, Origin::Package(_))) {
            let name = &kernel.name;
            let text = format!("kernel `{name}': base `{base}' is no package kernel above it");
            return Err(Error::in_data(FILE, 1, text));
        }
    }
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        for kernel in read_kernels().unwrap() {
            let ours = kernel.name.starts_with("patched") || kernel.name.starts_with("debug");
            assert_eq!(kernel.attr, ours, "{}", kernel.name);
        }
        let error = find_kernel("linux-2.4").unwrap_err().to_string();
        assert!(error.contains("debian-6.1, patched-6.1"), "{error}");
    }

    #[test]
    fn errors_name_line_and_value() {
        let row = "[[kernel]]\nname='x'\nattr=true\n";
        let based = format!("{row}from.module={{base='y',tree='z'}}");
        let twice = format!("{row}from.build={{tree='7.3',patched=true}}\n").repeat(2);
        for (text, expected) in [
            ("\n\n[[kernel]]\nname = 1\nattr = true\n", "kernels.toml:4"),
            (row, "missing field `from`"),
            (&based, "base `y' is no"),
            (&twice, "`x' is there twice"),
        ] {
            let error = parse_kernels(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
