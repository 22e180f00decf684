// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Debian packages for guests, fetched through a private apt root.
//!
//! The machine's own apt is asked two things, where its mirror is and how it reaches it, and is
//! otherwise left alone: lists, status and packages live in our cache, hooks of the machine do
//! not run, and no suite is ever added to the machine's configuration. Works without root.
//! Packages are unpacked, never installed: no maintainer script runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::cache::{ANSWERS, Cache, Key, remove_path};
use crate::error::{Error, Result};
use crate::process::run;

/// The suites a guest's userland and the 6.1 kernel come from.
pub const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];

/// Lists older than this are refreshed before they are believed.
const STALE: Duration = Duration::from_secs(6 * 3600);

/// Debian's own keys; the ending differs by release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring";

/// The variables for a machine whose apt configuration has no Debian mirror.
const MIRROR_VARIABLE: &str = "WGVRF_DEBIAN_MIRROR";
const SECURITY_VARIABLE: &str = "WGVRF_DEBIAN_SECURITY_MIRROR";

/// The extent of a fetch for a list of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure<'a> {
    /// The packages that are named, and no others.
    Named,
    /// The packages and all that they depend on (no recommendations), but not those whose name
    /// starts with one of these.
    Dependencies { without: &'a [&'a str] },
}

/// One package file that apt would fetch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    /// With its epoch, as `dpkg` prints it.
    pub version: String,
    pub arch: String,
    /// The file's name in an archive (`%3a` for the epoch's colon).
    file: String,
}

/// A private apt root for a list of suites.
pub struct Debian {
    cache: Cache,
    root: PathBuf,
    name: String,
}

impl Debian {
    /// Prepares (does not download) the root for `suites`, e.g. [`BOOKWORM`] or
    /// `&["bookworm", "bookworm-backports"]`.
    pub fn new(cache: &Cache, suites: &[&str]) -> Result<Self> {
        let sources = write_sources(suites, &Mirrors::find_on_machine()?)?;
        // How this machine's apt reaches a mirror: proxies, retries, a clock not to be trusted.
        let machine = run(Command::new("apt-config").env("LC_ALL", "C").arg("dump"))?;
        let key = Key::new()
            .add_value("sources", &sources)
            .add_value("settings", write_settings(&machine, Path::new("")))
            .finish();
        let name = suites.join("+");
        let entry = format!("{name}-{}", &key[..12]);
        let settings = write_settings(&machine, &cache.find_place("apt", &entry));
        let root = cache.keep_folder("apt", &entry, |dir| {
            for folder in ["etc", "state/lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(dir.join(folder))?;
            }
            fs::write(dir.join("etc/sources.list"), &sources)?;
            fs::write(dir.join("etc/apt.conf"), &settings)?;
            Ok(fs::write(dir.join("state/status"), "")?)
        })?;
        let cache = cache.clone();
        Ok(Self { cache, root, name })
    }

    /// The version that apt would choose for a package: `6.1.170-1`.
    pub fn find_candidate(&self, package: &str) -> Result<String> {
        let found = self.plan_fetch(&[package], Closure::Named)?;
        Ok(found[0].version.clone())
    }

    /// The packages that a package's candidate depends on, first alternatives, as named there.
    /// For metapackages: `linux-image-cloud-amd64` names the kernel of the day.
    pub fn list_dependencies(&self, package: &str) -> Result<Vec<String>> {
        self.find_candidate(package)?;
        let output = self.ask_apt("apt-cache", &["--no-all-versions", "show", package])?;
        let depends = output.lines().find_map(|l| l.strip_prefix("Depends: "));
        Ok(depends.map(list_first_alternatives).unwrap_or_default())
    }

    /// Lists the files that a fetch of `packages` takes, sorted by name. Refreshes the lists when
    /// they are old or when a package is not in them.
    pub fn plan_fetch(&self, packages: &[&str], closure: Closure<'_>) -> Result<Vec<Package>> {
        let fresh = self.refresh_lists(false)?;
        match self.list_uris(packages, closure) {
            Err(Error::Failed { .. }) if !fresh => {
                self.refresh_lists(true)?;
                self.list_uris(packages, closure)
            }
            other => other,
        }
    }

    /// The package files of `packages`, downloaded unless the cache has them.
    pub fn fetch_packages(&self, packages: &[&str], closure: Closure<'_>) -> Result<Vec<PathBuf>> {
        let plan = self.plan_fetch(packages, closure)?;
        self.download_files(&plan)
    }

    /// A folder with the contents of `packages`, keyed by their exact versions.
    pub fn unpack_packages(&self, packages: &[&str], closure: Closure<'_>) -> Result<PathBuf> {
        let plan = self.plan_fetch(packages, closure)?;
        let add = |key: Key, package: &Package| key.add_value("deb", &package.file);
        let key = plan.iter().fold(Key::new(), add).finish();
        if let Some(dir) = self.cache.get("unpacked", &key) {
            return Ok(dir);
        }
        let files = self.download_files(&plan)?;
        self.cache.keep_folder("unpacked", &key, |dir| {
            self.begin_step("unpack", &plan.iter().collect::<Vec<_>>());
            for file in &files {
                run(Command::new("dpkg-deb").arg("-x").arg(file).arg(dir))?;
            }
            self.cache.end_step();
            Ok(())
        })
    }

    fn begin_step(&self, doing: &str, packages: &[&Package]) {
        self.cache.begin_step(&match packages {
            [one] => format!("{doing} {} {}", one.name, one.version),
            more => format!("{doing} {} packages of {}", more.len(), self.name),
        });
    }

    fn download_files(&self, plan: &[Package]) -> Result<Vec<PathBuf>> {
        let debs = self.cache.open_folder("debs")?;
        let find_missing = || {
            let missing = plan.iter().filter(|p| !debs.join(&p.file).exists());
            missing.collect::<Vec<_>>()
        };
        let places = plan.iter().map(|p| debs.join(&p.file)).collect();
        if find_missing().is_empty() {
            return Ok(places);
        }
        let _lock = self.cache.hold_lock("debs")?;
        // Another process may have fetched them meanwhile.
        let wanted = find_missing();
        if wanted.is_empty() {
            return Ok(places);
        }
        self.begin_step("download", &wanted);
        // Apt writes a file under its final name while it still grows: into a draft folder.
        let draft = debs.join(".draft");
        remove_path(&draft)?;
        fs::create_dir(&draft)?;
        let mut command = self.prepare_apt("apt-get");
        command.args(["-qq", "download"]).current_dir(&draft);
        command.args(wanted.iter().map(|p| {
            let arch = p.arch.replace("all", "amd64");
            format!("{}:{arch}={}", p.name, p.version)
        }));
        run(&mut command)?;
        for package in &wanted {
            fs::rename(draft.join(&package.file), debs.join(&package.file))?;
        }
        remove_path(&draft)?;
        self.cache.end_step();
        Ok(places)
    }

    /// Downloads the package lists if they are old, absent, or `force`d. Says whether it did.
    fn refresh_lists(&self, force: bool) -> Result<bool> {
        let stamp = self.root.join("state/refreshed");
        let age = || {
            let time = fs::metadata(&stamp).and_then(|m| m.modified()).ok()?;
            SystemTime::now().duration_since(time).ok()
        };
        let wanted = || force || age().is_none_or(|age| age > STALE);
        if !wanted() {
            return Ok(false);
        }
        let _lock = self.cache.hold_lock(&format!("apt-{}", self.name))?;
        if !wanted() {
            return Ok(true);
        }
        self.cache
            .begin_step(&format!("package lists of {}", self.name));
        let arguments = ["-qq", "-o", "APT::Update::Error-Mode=any", "update"];
        match run(self.prepare_apt("apt-get").args(arguments)) {
            // Without a network, what was fetched before is good enough.
            Err(_) if !force && stamp.exists() => {}
            result => {
                result?;
                fs::write(&stamp, "")?;
            }
        }
        self.cache.end_step();
        Ok(true)
    }

    fn list_uris(&self, packages: &[&str], closure: Closure<'_>) -> Result<Vec<Package>> {
        let mut arguments = vec!["-qq", "--print-uris"];
        match closure {
            Closure::Named => arguments.push("download"),
            Closure::Dependencies { .. } => {
                arguments.extend(["-y", "--no-install-recommends", "install"]);
            }
        }
        arguments.extend(packages);
        let output = self.ask_apt("apt-get", &arguments)?;
        let mut found = Vec::new();
        for line in output.lines().filter(|line| line.starts_with('\'')) {
            found.push(parse_uri(line).ok_or_else(|| {
                Error::other(format!("apt-get printed a line not understood: `{line}'"))
            })?);
        }
        if let Closure::Dependencies { without } = closure {
            found.retain(|p: &Package| {
                packages.contains(&&*p.name) || !without.iter().any(|w| p.name.starts_with(w))
            });
        }
        found.sort();
        if found.is_empty() {
            let packages = packages.join(" ");
            bail!("no package `{packages}' in {}", self.name);
        }
        Ok(found)
    }

    /// Asks apt, which answers from the lists that are there. It takes half a second each time,
    /// so the answer is kept for as long as the lists stay the same.
    fn ask_apt(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let stamp = self.root.join("state/refreshed");
        let time = fs::metadata(&stamp).and_then(|m| m.modified())?;
        let key = Key::new()
            .add_value("root", self.root.to_string_lossy().as_bytes())
            .add_value("lists", format!("{time:?}"))
            .add_value("question", format!("{program} {arguments:?}"))
            .finish();
        let place = self.cache.keep_file(ANSWERS, &key, |place| {
            let answer = run(self.prepare_apt(program).args(arguments))?;
            Ok(fs::write(place, answer)?)
        })?;
        Ok(fs::read_to_string(&place)?)
    }

    fn prepare_apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // APT_CONFIG is read before everything else, so that it can keep apt from reading the
        // machine's own configuration, whose hooks touch the machine's own lists.
        command.env("APT_CONFIG", self.root.join("etc/apt.conf"));
        command.env("LC_ALL", "C");
        command
    }
}

/// The mirrors of Debian that this machine uses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

impl Mirrors {
    fn find_on_machine() -> Result<Self> {
        let variable = |name| env::var(name).ok().filter(|v| !v.is_empty());
        if let Some(main) = variable(MIRROR_VARIABLE) {
            let security = variable(SECURITY_VARIABLE);
            return Ok(Self { main, security });
        }
        // What apt would fetch, not what it has fetched (`indextargets`): a machine whose lists
        // are old or gone is still configured for its security updates.
        let mut list = Command::new("apt-get");
        let uris = run(list.env("LC_ALL", "C").args(["update", "--print-uris"]))?;
        Self::from_uris(&uris).ok_or_else(|| {
            Error::other(format!(
                "the apt configuration of this machine names no Debian mirror; set {MIRROR_VARIABLE}"
            ))
        })
    }

    /// From lines such as `'http://mirror/debian/dists/bookworm/InRelease' name 0`.
    fn from_uris(uris: &str) -> Option<Self> {
        const RELEASES: &str = "oldstable stable testing unstable \
                                bullseye bookworm trixie forky duke sid";
        let (mut main, mut security) = (None, None);
        for line in uris.lines() {
            let uri = line.split(['\'', ' ']).nth(1).unwrap_or_default();
            let release = uri.strip_suffix("/InRelease");
            let Some((site, release)) = release.and_then(|uri| uri.split_once("/dists/")) else {
                continue;
            };
            let (site, base) = (site.trim_end_matches('/'), release.split(['-', '/']).next());
            // Other vendors call their suites `bookworm` too; only Debian ends in /debian.
            if !RELEASES.split(' ').any(|name| Some(name) == base) {
                continue;
            } else if release.ends_with("-security") && site.ends_with("security") {
                security.get_or_insert_with(|| site.to_owned());
            } else if site.ends_with("/debian") {
                main.get_or_insert_with(|| site.to_owned());
            }
        }
        main.map(|main| Self { main, security })
    }
}

/// The sources.list of a private root. Who builds for another architecture sees its packages, too.
fn write_sources(suites: &[&str], mirrors: &Mirrors) -> Result<String> {
    let keyring = ["gpg", "pgp"].map(|end| format!("{KEYRING}.{end}"));
    let Some(keyring) = keyring.iter().find(|path| Path::new(path).exists()) else {
        bail!("no keyring of Debian's archive; install Debian's package `debian-archive-keyring'");
    };
    let host = env::var("DEB_HOST_ARCH").map_or(String::new(), |arch| format!(",{arch}"));
    let mut text = String::new();
    for suite in suites {
        let site = match &mirrors.security {
            Some(security) if suite.ends_with("-security") => security,
            // A machine without the security archive is served by point releases.
            None if suite.ends_with("-security") => continue,
            _ => &mirrors.main,
        };
        text += &format!("deb [arch=amd64{host} signed-by={keyring}] {site} {suite} main\n");
    }
    Ok(text)
}

/// The settings of a private root, whose folder is ROOT. Passwords for mirrors are those of the
/// machine; its hooks do not run.
const SETTINGS: &str = include_str!("apt.conf");

/// The configuration of a private root: ours, and the machine's way to its mirror.
fn write_settings(machine: &str, root: &Path) -> String {
    let mut text = SETTINGS.replace("ROOT", &root.to_string_lossy());
    for line in machine.lines() {
        let wanted = ["http", "https", "Retries", "ForceIPv", "Check-"];
        let option = line.strip_prefix("Acquire::").unwrap_or_default();
        if wanted.iter().any(|w| option.starts_with(w)) {
            text += &format!("{line}\n");
        }
    }
    text
}

/// `'URI' bash_5.2.15-2%2bb13_amd64.deb 1490652 MD5Sum:…`
fn parse_uri(line: &str) -> Option<Package> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let file = rest.split_whitespace().next()?;
    let mut parts = file.strip_suffix(".deb")?.split('_').map(str::to_owned);
    Some(Package {
        name: parts.next()?,
        version: parts.next()?.replace("%3a", ":"),
        arch: parts.next()?,
        file: file.to_owned(),
    })
}

/// `kmod, linux-base (>= 4.3~), a | b` as `[kmod, linux-base, a]`.
fn list_first_alternatives(depends: &str) -> Vec<String> {
    depends
        .split(',')
        .filter_map(|item| item.split('|').next()?.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_debians_own() {
        let uris = "'http://apt.example/vendor/dists/bookworm/InRelease' a 0 \n\
                    'http://mirror.example/debian/dists/bookworm/InRelease' b 0 \n\
                    'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' c 0 \n\
                    'http://mirror.example/debian/dists/bookworm-updates/InRelease' d 0 \n\
                    'http://sec.example/debian-security/dists/bookworm-security/InRelease' e 0 \n\
                    'http://other.example/linux/debian/dists/bookworm/InRelease' f 0 \n";
        assert_eq!(
            Mirrors::from_uris(uris),
            Some(Mirrors {
                main: "http://mirror.example/debian".into(),
                security: Some("http://sec.example/debian-security".into()),
            })
        );
        let ubuntu = Mirrors::from_uris("'http://x.example/ubuntu/dists/jammy/InRelease' x 0\n");
        assert_eq!(ubuntu, None);
    }

    #[test]
    fn uris_name_version_with_epoch() {
        let line = "'http://m.example/pool/p/iputils-ping_20221126-1_amd64.deb' \
                    iputils-ping_3%3a20221126-1+deb12u1_amd64.deb 47172 MD5Sum:5f1a";
        let package = parse_uri(line).unwrap();
        assert_eq!(package.name, "iputils-ping");
        assert_eq!(package.version, "3:20221126-1+deb12u1");
        assert_eq!(package.arch, "amd64");
        assert_eq!(parse_uri("'broken"), None);
    }

    #[test]
    fn settings_take_proxies_and_no_hooks() {
        let machine = "APT::Update::Post-Invoke:: \"rm -f x\";\n\
                       Acquire::http::Proxy \"http://proxy.example:3128\";\n\
                       Acquire::IndexTargets::deb \"\";\n";
        let text = write_settings(machine, Path::new("/cache"));
        assert!(text.contains("Acquire::http::Proxy \"http://proxy.example:3128\";"));
        assert!(!text.contains("Post-Invoke"));
        assert!(!text.contains("IndexTargets") && !text.contains("ROOT"));
    }

    #[test]
    fn dependencies_lose_versions_and_alternatives() {
        let first = list_first_alternatives("linux-image-6.1 (= 6.1.1-1), kmod:any, a | b");
        assert_eq!(first, ["linux-image-6.1", "kmod", "a"]);
    }
}
