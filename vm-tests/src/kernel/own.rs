// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The kernel of somebody who builds one: a folder with its source, and the folder with the headers
//! that modules are built against. Nothing is written into either.

use std::path::{Path, PathBuf};

use fs_err as fs;
use kit::Result;
use regex_lite::Regex;

/// A folder with the source of a kernel, its headers, or both.
#[derive(Clone, Debug)]
pub struct OwnKernel {
    pub path: PathBuf,
    /// `6.18`
    pub version: String,
    /// `uname -r` of the kernel that was built in it: `6.18.3-amd64-vyos`. None in a fresh source.
    pub release: Option<String>,
    /// Whether the driver's source is in it.
    pub has_driver: bool,
}

impl OwnKernel {
    /// Looks at a folder; one that belongs to no kernel is an error.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        if path.is_file() {
            bail!("`{place}' is a file: unpack it (tar -xf), and give the folder");
        }
        if !path.is_dir() {
            bail!("no folder `{place}': give the folder of a kernel's source or headers");
        }
        let path = fs::canonicalize(path)?;
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        // Not include/config/kernel.release: Debian's says 6.1.192 where `uname -r` says
        // 6.1.0-56-amd64.
        let release = read("include/generated/utsrelease.h");
        let release = release.split('"').nth(1).map(str::to_owned);
        let by_release = || parse_release(release.as_deref()?);
        let version = parse_makefile(&read("Makefile")).or_else(by_release);
        let Some(version) = version else {
            bail!(
                "`{place}' is of no kernel: its Makefile has no VERSION and PATCHLEVEL, and there is no \
                 include/generated/utsrelease.h"
            );
        };
        Ok(Self {
            version,
            release,
            has_driver: path.join("drivers/net/wireguard/main.c").exists(),
            path,
        })
    }

    /// Refuses a folder that no module of `source` can be built against; the release of its kernel.
    pub fn check_headers(&self, source: &Self) -> Result<&str> {
        let place = self.path.display();
        let config = self.path.join("include/config/auto.conf");
        let (Some(release), Ok(config)) = (&self.release, fs::read_to_string(config)) else {
            bail!(
                "no kernel was configured in `{place}': give the headers of your kernel beside it, \
                 --headers /lib/modules/RELEASE/build, or run there: make olddefconfig modules_prepare"
            );
        };
        if self.version != source.version {
            let (of, path) = (&source.version, source.path.display());
            bail!(
                "`{place}' is of Linux {release}, the source `{path}' of {of}: give two of one kernel"
            );
        }
        if config.lines().any(|line| line == "CONFIG_WIREGUARD=y") {
            bail!(
                "Linux {release} of `{place}' has wireguard built in: a module cannot replace it"
            );
        }
        Ok(release)
    }
}

/// `6.18` of a Makefile with VERSION = 6 and PATCHLEVEL = 18.
fn parse_makefile(text: &str) -> Option<String> {
    let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let (major, minor) = (find("VERSION = ")?, find("PATCHLEVEL = ")?);
    Some(format!("{major}.{minor}"))
}

/// `6.8` of the release `6.8.0-45-generic`.
fn parse_release(release: &str) -> Option<String> {
    let version = Regex::new(r"^\d+\.\d+").expect("a constant");
    Some(version.find(release)?.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_which_kernel_it_is_of() {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = temp.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let read = || OwnKernel::read(temp.path());
        assert!(read().unwrap_err().to_string().contains("of no kernel"));
        write("Makefile", "# x\nVERSION = 6\nPATCHLEVEL = 18\n");
        write("drivers/net/wireguard/main.c", "");
        let source = read().unwrap();
        assert_eq!((&*source.version, source.has_driver), ("6.18", true));
        let refuse = |headers: &OwnKernel, of: &OwnKernel, says: &str| {
            let error = headers.check_headers(of).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        refuse(&source, &source, "no kernel was configured");
        // As in Debian's package, whose Makefile is that of another folder.
        write("Makefile", "include /usr/src/x/Makefile\n");
        let header = "#define UTS_RELEASE \"6.8.0-45-generic\"\n";
        write("include/generated/utsrelease.h", header);
        write("include/config/auto.conf", "CONFIG_WIREGUARD=m\n");
        let headers = read().unwrap();
        assert_eq!(headers.check_headers(&headers).unwrap(), "6.8.0-45-generic");
        let says = "is of Linux 6.8.0-45-generic, the source";
        refuse(&headers, &source, says);
        write("include/config/auto.conf", "CONFIG_WIREGUARD=y\n");
        refuse(&headers, &headers, "has wireguard built in");
    }

    #[test]
    fn a_release_begins_with_its_version() {
        let versions = ["6.1.0-56-cloud-amd64", "7.0-rc1", "x.y", ""].map(parse_release);
        let wanted = ["6.1", "7.0"].map(|version| Some(version.to_owned()));
        assert_eq!(versions, [&wanted[..], &[None, None]].concat()[..]);
    }
}
