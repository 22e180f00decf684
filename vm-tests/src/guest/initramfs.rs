// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The initramfs of a guest: archives one after the other, none compressed (copying is cheaper
//! than unpacking, above all without KVM). A later archive replaces files of an earlier one.
//!
//! 1. the userland: named Debian packages with the libraries they need; cached
//! 2. the packages that a scenario asks for; cached
//! 3. the kernel's modules for networking, with an index for modprobe; cached per kernel
//! 4. the run: init, library, scenario, the `wg` under test, replaced modules; written each time

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use cpio::NewcBuilder;
use fs_err::{self as fs, File};
use serde::Deserialize;

use crate::guest::programs::{self, Program};
use crate::kernel::BootableKernel;
use kit::cache::Key;
use kit::debian::{BOOKWORM, Closure};
use kit::{Cache, Debian, Error, Result, process};

/// Changes when archives are written in another way: old cache entries are not used then.
const FORMAT: &str = "5";

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../userland.toml")).expect("userland.toml is sound")
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    packages: Vec<String>,
    without: Vec<String>,
    without_in_extra: Vec<String>,
    dropped: Vec<String>,
    module_folders: Vec<String>,
    module_names: Vec<String>,
    module_folders_left_out: Vec<String>,
    folders: Vec<String>,
    links: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Table {
    /// The choice of modules, as a part of a key.
    fn describe_modules(&self) -> String {
        let (folders, left_out) = (&self.module_folders, &self.module_folders_left_out);
        format!("{folders:?}{left_out:?}{:?}", self.module_names)
    }

    /// Whether a module goes in for its own sake.
    fn takes_module(&self, module: &str) -> bool {
        let under = |folders: &[String]| folders.iter().any(|f| module.starts_with(f));
        self.module_names.contains(&read_module_name(module))
            || (under(&self.module_folders) && !under(&self.module_folders_left_out))
    }
}

/// The entries of an archive, each by its path without a leading slash. Every entry belongs to root
/// and has no time, so that equal contents give equal bytes.
#[derive(Clone, Debug, Default)]
pub struct Archive(BTreeMap<String, (u32, Data)>);

/// The contents of an entry, beside its mode.
#[derive(Clone, Debug)]
enum Data {
    Bytes(Vec<u8>),
    Copy(PathBuf),
    Device(u32, u32),
}

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const CHARACTER: u32 = 0o020_600;

fn choose_mode(executable: bool) -> u32 {
    if executable { 0o100_755 } else { 0o100_644 }
}

impl Archive {
    pub fn add_file(&mut self, path: &str, executable: bool, contents: impl Into<Vec<u8>>) {
        self.add_entry(path, choose_mode(executable), Data::Bytes(contents.into()));
    }

    pub fn add_copy(&mut self, path: &str, executable: bool, from: &Path) {
        self.add_entry(path, choose_mode(executable), Data::Copy(from.into()));
    }

    pub fn add_tree(&mut self, place: &str, from: &Path) -> Result<()> {
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let place = format!("{place}/{name}");
            if path.is_dir() {
                self.add_tree(&place, &path)?;
            } else {
                self.add_copy(&place, false, &path);
            }
        }
        Ok(())
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.write_entries(Vec::new())?)
    }

    fn add_folder(&mut self, path: &str) {
        self.add_entry(path, FOLDER, Data::Bytes(Vec::new()));
    }

    fn add_link(&mut self, path: &str, target: &str) {
        self.add_entry(path, LINK, Data::Bytes(target.into()));
    }

    fn add_entry(&mut self, path: &str, mode: u32, data: Data) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            if !self.0.contains_key(parent) {
                self.add_folder(parent);
            }
        }
        self.0.insert(path.to_owned(), (mode, data));
    }

    /// A folder sorts before what is in it, as the kernel wants them.
    fn write_entries<W: Write>(&self, out: W) -> io::Result<W> {
        let entries = self.0.iter().map(|(path, (mode, data))| -> io::Result<_> {
            let new = NewcBuilder::new(path).mode(*mode);
            Ok(match data {
                Data::Bytes(bytes) => (new, bytes.clone()),
                Data::Copy(from) => (new, fs::read(from)?),
                Data::Device(major, minor) => {
                    (new.rdev_major(*major).rdev_minor(*minor), Vec::new())
                }
            })
        });
        let mut failure = Ok(());
        let entries = entries.map_while(|entry| {
            let (builder, contents) = entry.map_err(|error| failure = Err(error)).ok()?;
            Some((builder, Cursor::new(contents)))
        });
        let out = cpio::write_cpio(entries, out)?;
        failure.map(|()| out)
    }

    pub fn write_file(&self, place: &Path, before: &[PathBuf]) -> Result<()> {
        let mut out = BufWriter::new(File::create(place)?);
        for archive in before {
            io::copy(&mut File::open(archive)?, &mut out)?;
        }
        Ok(self.write_entries(out)?.flush()?)
    }
}

/// Fetches, builds and joins the archives.
pub struct Initramfs {
    cache: Cache,
    loader: Loader,
    userland: PathBuf,
}

impl Initramfs {
    pub fn new(cache: &Cache) -> Result<Self> {
        let root = unpack_root(&TABLE.packages, &TABLE.without, cache)?;
        let mut skeleton = Archive::default();
        for folder in &TABLE.folders {
            skeleton.add_folder(folder);
        }
        for (path, target) in &TABLE.links {
            skeleton.add_link(path, target);
        }
        // The kernel opens it for init before anything is mounted.
        skeleton.add_entry("dev/console", CHARACTER, Data::Device(5, 1));
        skeleton.add_entry("dev/null", CHARACTER, Data::Device(1, 3));
        for (path, text) in &TABLE.files {
            skeleton.add_file(path, false, text.as_str());
        }
        Ok(Self {
            userland: cache_root(cache, "userland", &root, skeleton)?,
            cache: cache.clone(),
            loader: Loader::find(&root)?,
        })
    }

    /// The archives for `kernel` and the extra `packages`, in the order to join them.
    pub fn find_archives(
        &self,
        kernel: &BootableKernel,
        packages: &[String],
    ) -> Result<Vec<PathBuf>> {
        let mut archives = vec![self.userland.clone()];
        if !packages.is_empty() {
            let (cache, empty) = (&self.cache, Archive::default());
            let root = unpack_root(packages, &TABLE.without_in_extra, cache)?;
            archives.push(cache_root(cache, "extra", &root, empty)?);
        }
        if let Some(modules) = &kernel.modules {
            archives.push(self.cache_modules(modules)?);
        }
        Ok(archives)
    }

    /// Puts the replaced wireguard.ko of `kernel` where its index expects it.
    pub fn replace_module(&self, kernel: &BootableKernel, archive: &mut Archive) -> Result<()> {
        let (Some(modules), Some(file)) = (&kernel.modules, &kernel.replaced) else {
            return Ok(());
        };
        let release = kernel.read_release().unwrap_or_default();
        let known = read_dependencies(&self.index_modules(modules, release)?)?;
        let is_own = |path: &&String| read_module_name(path) == "wireguard";
        let Some(own) = known.keys().find(is_own) else {
            bail!("kernel {release} has no module `wireguard' to replace");
        };
        // The name may end in .xz although this file is not: libkmod goes by the contents.
        archive.add_copy(&format!("usr/lib/modules/{release}/{own}"), false, file);
        Ok(())
    }

    /// Puts a program into the guest as `/usr/bin/NAME`. Guests have Debian 12's C library; a
    /// program for which that is too old, or another one, takes its own libraries along.
    pub fn add_program(&self, name: &str, program: &Program, archive: &mut Archive) -> Result<()> {
        let place = format!("usr/bin/{name}");
        let (program, libraries) = match program {
            Program::Lacking(why) => {
                archive.add_file(&format!("usr/lib/wgvrf/lacks/{name}"), false, why.as_str());
                return Ok(());
            }
            Program::Local(program) => {
                let program = programs::strip_program(program, &self.cache)?;
                if self.loader.find_lack(&program)?.is_none() {
                    archive.add_copy(&place, true, &program);
                    return Ok(());
                }
                let listing = process::run(Command::new("ldd").arg(&program))?;
                (program, read_libraries(&listing))
            }
            Program::Rooted(root, program) => {
                let (program, loader) = (root.join(program), Loader::find(root)?);
                let listing = process::run(&mut loader.prepare_listing(&program))?;
                let mut libraries = read_libraries(&listing);
                libraries.push(loader.path);
                (program, libraries)
            }
        };
        let folder = format!("opt/{name}");
        archive.add_copy(&format!("{folder}/{name}"), true, &program);
        let mut loader = None;
        for library in libraries {
            let file = library.file_name().unwrap_or_default().to_string_lossy();
            archive.add_copy(&format!("{folder}/lib/{file}"), true, &library);
            if file.starts_with("ld-linux") {
                loader = Some(file.into_owned());
            }
        }
        let loader = loader
            .ok_or_else(|| Error::other(format!("`{}' names no loader", program.display())))?;
        let script = format!(
            "#!/bin/bash\nexec /{folder}/lib/{loader} --argv0 {name} \
             --library-path /{folder}/lib /{folder}/{name} \"$@\"\n"
        );
        archive.add_file(&place, true, script);
        Ok(())
    }

    fn cache_modules(&self, modules: &Path) -> Result<PathBuf> {
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let key = make_key(modules).add_value("chosen", TABLE.describe_modules());
        let name = format!("modules-{}.cpio", key.finish());
        self.cache.keep_file("initramfs", &name, |place| {
            self.cache
                .begin_step(&format!("archive of the modules of {release}"));
            let index = self.index_modules(modules, &release)?;
            let wanted = find_closure(&read_dependencies(&index)?, |path| TABLE.takes_module(path));
            let mut archive = Archive::default();
            let base = format!("usr/lib/modules/{release}");
            for path in &wanted {
                archive.add_copy(&format!("{base}/{path}"), false, &modules.join(path));
            }
            for entry in fs::read_dir(&index)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("modules.") {
                    archive.add_copy(&format!("{base}/{name}"), false, &path);
                }
            }
            archive.write_file(place, &[])?;
            self.cache.end_step();
            Ok(())
        })
    }

    /// Packages carry no index: it is made when they are installed. The guest's own depmod does
    /// it here, on a tree of links.
    fn index_modules(&self, modules: &Path, release: &str) -> Result<PathBuf> {
        let key = make_key(modules).finish();
        let dir = self.cache.keep_folder("depmod", &key, |dir| {
            let tree = dir.join("lib/modules").join(release);
            fs::create_dir_all(&tree)?;
            for entry in fs::read_dir(modules)? {
                let path = entry?.path();
                let link = tree.join(path.file_name().unwrap_or_default());
                if path.is_dir() {
                    fs::os::unix::fs::symlink(&path, &link)?;
                } else {
                    fs::copy(&path, &link)?;
                }
            }
            // The program is one for all of kmod's names.
            let mut depmod = self.loader.prepare_call();
            let kmod = self.loader.root.join("bin/kmod");
            depmod.args(["--argv0", "depmod"]).arg(kmod);
            process::run(depmod.arg("-b").arg(dir).arg(release))?;
            Ok(())
        })?;
        Ok(dir.join("lib/modules").join(release))
    }
}

fn make_key(modules: &Path) -> Key {
    let key = Key::new().add_value("format", FORMAT);
    key.add_value("modules", modules.to_string_lossy().as_bytes())
}

/// The root that Debian's packages and what they depend on make.
fn unpack_root(packages: &[String], without: &[String], cache: &Cache) -> Result<PathBuf> {
    let [packages, without] = [packages, without].map(|l| l.iter().map(String::as_str).collect());
    let (packages, without): (Vec<_>, Vec<_>) = (packages, without);
    let closure = Closure::Dependencies { without: &without };
    Debian::new(cache, BOOKWORM)?.unpack_packages(&packages, closure)
}

/// The cached archive of an unpacked root, over what is in `archive`.
fn cache_root(cache: &Cache, name: &str, root: &Path, mut archive: Archive) -> Result<PathBuf> {
    let key = Key::new()
        .add_value("format", FORMAT)
        .add_value("root", root.to_string_lossy().as_bytes())
        .add_value("dropped", format!("{:?}", TABLE.dropped))
        .add_value("skeleton", archive.to_bytes()?)
        .finish();
    cache.keep_file("initramfs", &format!("{name}-{key}.cpio"), |place| {
        cache.begin_step(&format!("archive of the guest's {name}"));
        // The packages of a scenario count on those of the userland.
        let loader = (name == "userland").then(|| Loader::find(root));
        let loader = loader.transpose()?;
        add_root(&mut archive, root, Path::new(""), loader.as_ref())?;
        archive.write_file(place, &[])?;
        cache.end_step();
        Ok(())
    })
}

/// Adds a folder of an unpacked root, with /bin and its like moved under /usr. With a loader,
/// every program must find its libraries among what is unpacked.
fn add_root(archive: &mut Archive, root: &Path, at: &Path, check: Option<&Loader>) -> Result<()> {
    let names = fs::read_dir(root.join(at))?.map(|entry| entry.map(|e| e.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let from = at.join(name);
        let text = from.to_string_lossy();
        if TABLE.dropped.iter().any(|d| *d == text) {
            continue;
        }
        let place = match merge_usr(&text) {
            // The place of the `wg` under test; Debian's own stays at hand beside it.
            place if place == "usr/bin/wg" => "usr/bin/wg.debian".to_owned(),
            place => place,
        };
        let path = root.join(&from);
        let meta = fs::symlink_metadata(&path)?;
        // The first one stands: /bin/x and /usr/bin/x are one file in a merged root.
        let free = !archive.0.contains_key(&place);
        if meta.is_dir() {
            if free {
                archive.add_folder(&place);
            }
            add_root(archive, root, &from, check)?;
        } else if free && meta.is_symlink() {
            archive.add_link(&place, &make_absolute(&from, &fs::read_link(&path)?));
        } else if free && meta.is_file() {
            let program = place.starts_with("usr/bin/") || place.starts_with("usr/sbin/");
            let check = check.filter(|_| program);
            if let Some(lack) = check.map_or(Ok(None), |loader| loader.find_lack(&path))? {
                let what = "would not start in a guest, a package is left out that it needs";
                bail!("`{}' {what}: {lack}", path.display());
            }
            archive.add_copy(&place, meta.permissions().mode() & 0o111 != 0, &path);
        }
    }
    Ok(())
}

fn merge_usr(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// A relative link may count its `..` from an unmerged folder: make it absolute and merged.
fn make_absolute(link: &Path, target: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    // A target that is absolute takes the place of the folder.
    let whole = link.parent().unwrap_or(Path::new("")).join(target);
    for part in whole.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", merge_usr(&parts.join("/")))
}

/// The dynamic loader of an unpacked root. It runs on this machine as well as in a guest.
struct Loader {
    root: PathBuf,
    path: PathBuf,
}

impl Loader {
    fn find(root: &Path) -> Result<Self> {
        let name = "ld-linux-x86-64.so.2";
        let folders = ["lib/x86_64-linux-gnu", "lib64"];
        let folders = folders.map(|folder| [folder.to_owned(), format!("usr/{folder}")]);
        let folders = folders.iter().flatten();
        let mut places = folders.map(|folder| root.join(folder).join(name));
        let path = places.find(|path| path.is_file());
        Ok(Self {
            root: root.to_path_buf(),
            path: path.ok_or_else(|| Error::other(format!("no {name} in `{}'", root.display())))?,
        })
    }

    /// A call with the root's libraries; a program of the root follows.
    fn prepare_call(&self) -> Command {
        let folders = "lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu usr/lib lib".split(' ');
        let folders = folders.map(|f| self.root.join(f).display().to_string());
        let folders = folders.collect::<Vec<_>>().join(":");
        let mut command = Command::new(&self.path);
        command.args(["--inhibit-cache", "--library-path", &folders]);
        command
    }

    fn prepare_listing(&self, program: &Path) -> Command {
        let mut command = self.prepare_call();
        command.arg("--list").arg(program);
        command
    }

    /// Finds a library that a program lacks in this root; none for one that needs no library.
    fn find_lack(&self, program: &Path) -> Result<Option<String>> {
        let kind = process::capture_output(Command::new(&self.path).arg("--verify").arg(program))?;
        // As ldd does it: a script, or a program that is whole by itself.
        if kind.status.ends_with(": 1") {
            return Ok(None);
        }
        let listing = process::capture_output(&mut self.prepare_listing(program))?;
        let libraries = read_libraries(&listing.stdout);
        let outside = libraries.iter().find(|l| !l.starts_with(&self.root));
        if let Some(outside) = outside {
            return Ok(Some(format!("{} is of this machine", outside.display())));
        }
        let whole = listing.ok && !listing.stdout.contains("not found");
        Ok((!whole).then(|| listing.join_streams()))
    }
}

/// The paths in what a loader's `--list`, or ldd, prints.
fn read_libraries(listing: &str) -> Vec<PathBuf> {
    let paths = listing.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once("=> ").map_or(line, |(_, right)| right);
        let path = path.split(" (").next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    paths.collect()
}

/// The name by which modprobe knows a module's file.
fn read_module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// modules.dep of an index: each file with the files that have to be loaded before it.
fn read_dependencies(index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let text = fs::read_to_string(index.join("modules.dep"))?;
    Ok(parse_dependencies(&text))
}

fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let pairs = lines.map(|(module, needed)| (module.to_owned(), words(needed)));
    pairs.collect()
}

/// The wanted modules and all that they need, directly or not.
fn find_closure(
    dependencies: &BTreeMap<String, Vec<String>>,
    wanted: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = dependencies.keys().filter(|path| wanted(path)).collect();
    while let Some(path) = open.pop() {
        if found.insert(path.clone()) {
            open.extend(dependencies.get(path).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_bring_what_they_need() {
        let dependencies = parse_dependencies(
            "kernel/drivers/net/wireguard/wireguard.ko: kernel/n/tunnel.ko kernel/l/chacha.ko\n\
             kernel/l/chacha.ko: kernel/l/deep.ko\n\
             kernel/l/deep.ko:\n\
             kernel/n/tunnel.ko:\n\
             kernel/net/sctp/sctp.ko: kernel/x/other.ko\n\
             kernel/x/other.ko:\n",
        );
        let found = find_closure(&dependencies, |path| TABLE.takes_module(path));
        let names: Vec<_> = found.iter().map(|path| read_module_name(path)).collect();
        assert_eq!(names, ["wireguard", "chacha", "deep", "tunnel"]);
        assert_eq!(read_module_name("kernel/a/nf-x.ko.xz"), "nf_x");
    }

    #[test]
    fn links_survive_the_merge() {
        let target = |link: &str, to: &str| make_absolute(Path::new(link), Path::new(to));
        assert_eq!(target("sbin/ip", "/bin/ip"), "/usr/bin/ip");
        assert_eq!(target("sbin/depmod", "../bin/kmod"), "/usr/bin/kmod");
        assert_eq!(target("lib/x/libz.so", "libz.so.1"), "/usr/lib/x/libz.so.1");
        assert_eq!(target("usr/lib/a", "../../lib/b"), "/usr/lib/b");
        assert_eq!(target("etc/x", "y"), "/etc/y");
    }

    #[test]
    fn loaders_listings_are_understood() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibc.so.6 => /r/lib/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 => /r/lib/ld-linux-x86-64.so.2 (0x7)\n\
                       \tlibx.so => not found\n";
        let found = ["/r/lib/libc.so.6", "/r/lib/ld-linux-x86-64.so.2"];
        assert_eq!(read_libraries(listing), found.map(PathBuf::from));
    }

    #[test]
    fn an_archive_has_folders_before_files_and_equal_bytes() {
        let mut archive = Archive::default();
        archive.add_link("sbin", "usr/sbin");
        archive.add_file("etc/run", true, "#!/bin/true\n");
        archive.add_file("etc/a", false, "12345");
        let bytes = archive.to_bytes().unwrap();
        assert_eq!(bytes, archive.to_bytes().unwrap());
        let mut reader = cpio::NewcReader::new(&bytes[..]).unwrap();
        let mut seen = Vec::new();
        while !reader.entry().is_trailer() {
            let entry = reader.entry();
            let (name, mode, size) = (entry.name(), entry.mode(), entry.file_size());
            seen.push(format!("{name} {mode:o} {size}"));
            reader = cpio::NewcReader::new(reader.finish().unwrap()).unwrap();
        }
        let files = ["etc/a 100644 5", "etc/run 100755 12", "sbin 120777 8"];
        assert_eq!(seen, [&["etc 40755 0"][..], &files].concat());
        archive.add_copy("etc/b", false, Path::new("/nonexistent/file"));
        let error = archive.to_bytes().unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
