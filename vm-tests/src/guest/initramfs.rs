// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a guest boots from: three archives one after the other, none compressed (copying is
//! cheaper than unpacking, above all without KVM).
//!
//! 1. the userland: named Debian packages with the libraries they need; cached
//! 2. the kernel's modules for networking, with an index for modprobe; cached per kernel
//! 3. the run: init, library, scenario, the `wg` under test, replaced modules; written each time

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guest::cpio::Writer;
use crate::kernel::table::BootableKernel;
use kit::cache::{Cache, Key, STRIPPED};
use kit::debian::{BOOKWORM, Closure, Debian, run};
use kit::error::{Error, Result};
use kit::progress::{Event, Progress};

/// Changes when archives are written in another way: old cache entries are not used then.
const FORMAT: &str = "4";

/// The userland of every guest.
const PACKAGES: &[&str] = &[
    "bash",
    "bash-builtins",
    "coreutils",
    "diffutils",
    "grep",
    "iproute2",
    "iputils-ping",
    "kmod",
    "mawk",
    "mount",
    "procps",
    "sed",
    "socat",
    "tcpdump",
    "util-linux",
];

/// Dependencies that only maintainer scripts use (nothing is ever configured in a guest), and
/// the interpreter that they need. What is missing shows: every program is tried, see `check`.
const WITHOUT: &[&str] = &[
    "adduser",
    "base-files",
    "debconf",
    "debianutils",
    "dpkg",
    "gcc-12-base",
    "init-system-helpers",
    "libdb5.3",
    "libfile-find-rule-perl",
    "libgdbm",
    "libnumber-compare-perl",
    "libpam-modules",
    "libperl",
    "libsemanage",
    "libsepol2",
    "libtext-glob-perl",
    "passwd",
    "perl",
    "tar",
    "usrmerge",
    "util-linux-extra",
];

/// The same for packages that a scenario asks for by itself: it may want perl.
const WITHOUT_IN_EXTRA: &[&str] = &[
    "adduser",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "usrmerge",
];

/// What no scenario reads.
const DROPPED: &[&str] = &[
    // The one program that wants Berkeley DB.
    "usr/sbin/arpd",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/gdb",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/locale",
    "etc/init.d",
    "etc/cron.daily",
    "var/cache",
];

/// Kernel folders whose modules go in; what they depend on follows.
const MODULE_FOLDERS: &[&str] = &[
    "kernel/net/",
    "kernel/crypto/",
    "kernel/lib/crypto/",
    "kernel/drivers/net/bonding/",
    "kernel/drivers/net/ipvlan/",
    "kernel/drivers/net/macvlan/",
    "kernel/drivers/net/ppp/",
    "kernel/drivers/net/team/",
    "kernel/drivers/net/vxlan/",
    "kernel/drivers/net/wireguard/",
];

/// And these, by name.
const MODULE_NAMES: &[&str] = &[
    "dummy",
    "geneve",
    "ifb",
    "macsec",
    "macvtap",
    "nlmon",
    "tap",
    "tun",
    "veth",
    "vrf",
    "virtio_console",
    "virtio_pci",
];

/// Net folders that no scenario of ours goes near; they are a third of the whole.
const MODULE_FOLDERS_LEFT_OUT: &[&str] = &[
    "kernel/net/9p/",
    "kernel/net/bluetooth/",
    "kernel/net/ceph/",
    "kernel/net/dccp/",
    "kernel/net/rds/",
    "kernel/net/rxrpc/",
    "kernel/net/sctp/",
    "kernel/net/smc/",
    "kernel/net/sunrpc/",
    "kernel/net/tipc/",
    "kernel/net/wireless/",
    "kernel/net/mac80211/",
    "kernel/net/netfilter/ipset/",
    "kernel/net/netfilter/ipvs/",
    "kernel/net/openvswitch/",
];

/// Fetches, builds and joins the archives.
pub struct Initramfs {
    cache: Cache,
    progress: Progress,
    /// The unpacked userland, for its loader and its depmod.
    root: PathBuf,
    userland: PathBuf,
}

/// What a run adds to the archives that are cached.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Folders that must be there, before their files.
    dirs: BTreeSet<String>,
    files: BTreeMap<String, (bool, Vec<u8>)>,
    links: BTreeMap<String, String>,
}

impl Overlay {
    pub fn file(&mut self, path: &str, executable: bool, contents: impl Into<Vec<u8>>) {
        self.parents(path);
        self.files
            .insert(path.to_owned(), (executable, contents.into()));
    }

    pub fn copy(&mut self, path: &str, executable: bool, from: &Path) -> Result<()> {
        let contents = fs::read(from).map_err(Error::io("read", from))?;
        self.file(path, executable, contents);
        Ok(())
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.links.insert(path.to_owned(), target.to_owned());
    }

    /// Adds all that is in `other`, over what is here.
    pub fn extend(&mut self, other: &Self) {
        self.dirs.extend(other.dirs.iter().cloned());
        self.files
            .extend(other.files.iter().map(|(k, v)| (k.clone(), v.clone())));
        self.links
            .extend(other.links.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// The archive of it alone: what it is, in bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)
            .expect("writing to memory does not fail");
        bytes
    }

    fn parents(&mut self, path: &str) {
        let mut at = path;
        while let Some((parent, _)) = at.rsplit_once('/') {
            self.dirs.insert(parent.to_owned());
            at = parent;
        }
    }

    fn write(&self, out: impl Write) -> io::Result<()> {
        let mut cpio = Writer::new(out);
        for dir in &self.dirs {
            cpio.dir(dir)?;
        }
        for (path, (executable, contents)) in &self.files {
            cpio.file(path, *executable, contents)?;
        }
        for (path, target) in &self.links {
            cpio.symlink(path, target)?;
        }
        cpio.finish().map(drop)
    }
}

impl Initramfs {
    /// Makes sure that the userland is there.
    pub fn new(cache: &Cache, progress: &Progress) -> Result<Self> {
        let debian = Debian::new(cache, BOOKWORM, progress)?;
        let root = debian.unpack(PACKAGES, Closure::Dependencies { without: WITHOUT })?;
        let userland = archive(cache, progress, "userland", &root)?;
        Ok(Self {
            cache: cache.clone(),
            progress: progress.clone(),
            root,
            userland,
        })
    }

    /// The archives for `kernel` and the extra `packages`, in the order to join them.
    pub fn archives(&self, kernel: &BootableKernel, packages: &[String]) -> Result<Vec<PathBuf>> {
        let mut archives = vec![self.userland.clone()];
        if !packages.is_empty() {
            let debian = Debian::new(&self.cache, BOOKWORM, &self.progress)?;
            let names: Vec<_> = packages.iter().map(String::as_str).collect();
            let root = debian.unpack(
                &names,
                Closure::Dependencies {
                    without: WITHOUT_IN_EXTRA,
                },
            )?;
            archives.push(archive(&self.cache, &self.progress, "extra", &root)?);
        }
        if let Some(modules) = &kernel.modules {
            archives.push(self.modules(modules)?);
        }
        Ok(archives)
    }

    /// Joins the archives and the run's own into one file.
    pub fn join(&self, archives: &[PathBuf], overlay: &Overlay, place: &Path) -> Result<()> {
        let file = File::create(place).map_err(Error::io("create", place))?;
        let mut out = BufWriter::new(file);
        for archive in archives {
            let mut from = File::open(archive).map_err(Error::io("open", archive))?;
            io::copy(&mut from, &mut out).map_err(Error::io("write", place))?;
        }
        overlay
            .write(&mut out)
            .and_then(|()| out.flush())
            .map_err(Error::io("write", place))
    }

    /// Puts the replaced modules of `kernel` where its index expects them.
    pub fn replace_modules(&self, kernel: &BootableKernel, overlay: &mut Overlay) -> Result<()> {
        let Some(modules) = &kernel.modules else {
            return Ok(());
        };
        let release = kernel.release().unwrap_or_default();
        for (name, file) in &kernel.replaced {
            let own = module_files(modules)?
                .into_iter()
                .find(|path| module_name(path) == *name)
                .ok_or_else(|| {
                    Error::other(format!(
                        "kernel {release} has no module `{name}' to replace"
                    ))
                })?;
            // The name may end in .xz although this file is not: libkmod goes by the contents.
            overlay.copy(&format!("usr/lib/modules/{release}/{own}"), false, file)?;
        }
        Ok(())
    }

    /// Puts a program of this machine into the guest as `/usr/bin/NAME`. Guests have Debian 12's
    /// C library; where that is too old for the program, its own libraries go along.
    pub fn program(&self, name: &str, program: &Path, overlay: &mut Overlay) -> Result<()> {
        let program = &self.stripped(program)?;
        if self.guest_can_load(program)? {
            return overlay.copy(&format!("usr/bin/{name}"), true, program);
        }
        let listing = run(Command::new("ldd").arg(program))?;
        let libraries = listed_libraries(&listing);
        self.bundle(name, program, &libraries, overlay)
    }

    /// A debug build is ten times as large as its code, and every guest would unpack it. Its
    /// build id goes as well: a hash that has the folder it was built in.
    pub(crate) fn stripped(&self, program: &Path) -> Result<PathBuf> {
        let key = Key::new()
            .add("without", "build-id")
            .add_file("program", program)?
            .finish();
        self.cache.file(STRIPPED, &key, |place| {
            fs::copy(program, place).map_err(Error::io("copy", program))?;
            // Without binutils, or for a script, the program is as good as it is.
            let _ = run(Command::new("strip")
                .args(["--strip-debug", "--remove-section=.note.gnu.build-id"])
                .arg(place));
            Ok(())
        })
    }

    /// Puts a program of an unpacked foreign root into the guest, run by that root's own loader.
    pub fn foreign_program(
        &self,
        name: &str,
        root: &Path,
        program: &str,
        overlay: &mut Overlay,
    ) -> Result<()> {
        let path = root.join(program.trim_start_matches('/'));
        let folders = library_folders(root);
        let listing = run(Command::new(loader_of(root)?)
            .arg("--list")
            .arg("--library-path")
            .arg(&folders)
            .arg(&path))?;
        let mut libraries = listed_libraries(&listing);
        libraries.push(loader_of(root)?);
        self.bundle(name, &path, &libraries, overlay)
    }

    fn bundle(
        &self,
        name: &str,
        program: &Path,
        libraries: &[PathBuf],
        overlay: &mut Overlay,
    ) -> Result<()> {
        let folder = format!("opt/{name}");
        overlay.copy(&format!("{folder}/{name}"), true, program)?;
        let mut loader = None;
        for library in libraries {
            let file = library.file_name().unwrap_or_default().to_string_lossy();
            if file.starts_with("ld-linux") {
                loader = Some(file.clone().into_owned());
            }
            overlay.copy(&format!("{folder}/lib/{file}"), true, library)?;
        }
        let loader = loader
            .ok_or_else(|| Error::other(format!("`{}' names no loader", program.display())))?;
        overlay.file(
            &format!("usr/bin/{name}"),
            true,
            format!(
                "#!/bin/bash\nexec /{folder}/lib/{loader} --argv0 {name} \
                 --library-path /{folder}/lib /{folder}/{name} \"$@\"\n"
            ),
        );
        Ok(())
    }

    /// Asks the guest's own loader, which runs here as well as there.
    fn guest_can_load(&self, program: &Path) -> Result<bool> {
        if !is_dynamic(program)? {
            return Ok(true);
        }
        let listing = Command::new(loader_of(&self.root)?)
            .arg("--list")
            .arg("--inhibit-cache")
            .arg("--library-path")
            .arg(library_folders(&self.root))
            .arg(program)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("start the loader of", &self.root))?;
        let text = String::from_utf8_lossy(&listing.stdout);
        // A library found outside the guest's folders would be missing in the guest.
        let inside = listed_libraries(&text)
            .iter()
            .all(|library| library.starts_with(&self.root));
        Ok(listing.status.success() && inside && !text.contains("not found"))
    }

    /// The archive of a kernel's modules.
    fn modules(&self, modules: &Path) -> Result<PathBuf> {
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let key = Key::new()
            .add("format", FORMAT)
            .add("modules", modules.to_string_lossy().as_bytes())
            .add(
                "folders",
                format!("{MODULE_FOLDERS:?}{MODULE_FOLDERS_LEFT_OUT:?}"),
            )
            .add("names", format!("{MODULE_NAMES:?}"))
            .finish();
        self.cache
            .file("initramfs", &format!("modules-{key}.cpio"), |place| {
                self.progress
                    .step(&format!("archive of the modules of {release}"));
                let index = self.index(modules, &release)?;
                let dependencies = fs::read_to_string(index.join("modules.dep"))
                    .map_err(Error::io("read", index.join("modules.dep")))?;
                let wanted = closure(&parse_dependencies(&dependencies), |path| {
                    MODULE_NAMES.contains(&module_name(path).as_str())
                        || (MODULE_FOLDERS.iter().any(|f| path.starts_with(f))
                            && !MODULE_FOLDERS_LEFT_OUT.iter().any(|f| path.starts_with(f)))
                });
                let mut overlay = Overlay::default();
                let base = format!("usr/lib/modules/{release}");
                for path in &wanted {
                    overlay.copy(&format!("{base}/{path}"), false, &modules.join(path))?;
                }
                for entry in fs::read_dir(&index).map_err(Error::io("read", &index))? {
                    let path = entry.map_err(Error::io("read", &index))?.path();
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    if name.starts_with("modules.") {
                        overlay.copy(&format!("{base}/{name}"), false, &path)?;
                    }
                }
                write_archive(place, |out| overlay.write(out))?;
                self.progress.tell(Event::Done);
                Ok(())
            })
    }

    /// Packages carry no index: it is made when they are installed. The guest's own depmod does
    /// it here, on a tree of links.
    fn index(&self, modules: &Path, release: &str) -> Result<PathBuf> {
        let key = Key::new()
            .add("format", FORMAT)
            .add("modules", modules.to_string_lossy().as_bytes())
            .finish();
        let dir = self.cache.dir("depmod", &key, |dir| {
            let tree = dir.join("lib/modules").join(release);
            fs::create_dir_all(&tree).map_err(Error::io("create", &tree))?;
            for entry in fs::read_dir(modules).map_err(Error::io("read", modules))? {
                let path = entry.map_err(Error::io("read", modules))?.path();
                let link = tree.join(path.file_name().unwrap_or_default());
                if path.is_dir() {
                    std::os::unix::fs::symlink(&path, &link).map_err(Error::io("link", &link))?;
                } else {
                    fs::copy(&path, &link).map_err(Error::io("copy", &path))?;
                }
            }
            run(self
                .guest_program("sbin/depmod")?
                .arg("-b")
                .arg(dir)
                .arg(release))?;
            Ok(())
        })?;
        Ok(dir.join("lib/modules").join(release))
    }

    /// A program of the userland, to be run on this machine.
    fn guest_program(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(loader_of(&self.root)?);
        command
            .arg("--argv0")
            .arg(program.rsplit('/').next().unwrap_or(program))
            .arg("--library-path")
            .arg(library_folders(&self.root))
            .arg(resolve(&self.root, program)?);
        Ok(command)
    }
}

/// The cached archive of an unpacked root.
fn archive(cache: &Cache, progress: &Progress, name: &str, root: &Path) -> Result<PathBuf> {
    let key = Key::new()
        .add("format", FORMAT)
        .add("root", root.to_string_lossy().as_bytes())
        .add("dropped", format!("{DROPPED:?}"))
        .finish();
    cache.file("initramfs", &format!("{name}-{key}.cpio"), |place| {
        progress.step(&format!("archive of the guest's {name}"));
        if name == "userland" {
            check(root)?;
        }
        write_archive(place, |out| {
            let mut cpio = Writer::new(out);
            let mut seen = BTreeSet::new();
            if name == "userland" {
                skeleton(&mut cpio, &mut seen)?;
            }
            tree(&mut cpio, root, Path::new(""), &mut seen)?;
            cpio.finish().map(drop)
        })?;
        progress.tell(Event::Done);
        Ok(())
    })
}

fn write_archive(
    place: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let file = File::create(place).map_err(Error::io("create", place))?;
    let mut out = BufWriter::new(file);
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(Error::io("write", place))
}

/// What no package brings: mount points, the merged /usr, names that maintainer scripts make.
fn skeleton(cpio: &mut Writer<impl Write>, seen: &mut BTreeSet<String>) -> io::Result<()> {
    for dir in [
        "dev",
        "etc",
        "etc/wireguard",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
        "var",
        "var/lib",
        "var/log",
        "var/tmp",
    ] {
        cpio.dir(dir)?;
        seen.insert(dir.to_owned());
    }
    for (path, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "/run"),
        ("usr/bin/sh", "bash"),
        ("usr/bin/awk", "mawk"),
    ] {
        cpio.symlink(path, target)?;
        seen.insert(path.to_owned());
    }
    // The kernel opens it for init before anything is mounted.
    cpio.character_device("dev/console", 5, 1)?;
    cpio.character_device("dev/null", 1, 3)?;
    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\n\
             tcpdump:x:100:100::/nonexistent:/usr/sbin/nologin\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
        ("etc/group", "root:x:0:\ntcpdump:x:100:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
        ("etc/services", "domain 53/udp\ndomain 53/tcp\n"),
        (
            "etc/protocols",
            "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
        ),
    ] {
        cpio.file(path, false, text.as_bytes())?;
        seen.insert(path.to_owned());
    }
    Ok(())
}

/// Adds a folder of an unpacked root, with /bin and its like moved under /usr.
fn tree(
    cpio: &mut Writer<impl Write>,
    root: &Path,
    at: &Path,
    seen: &mut BTreeSet<String>,
) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(at))?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let from = at.join(name);
        let text = from.to_string_lossy();
        if DROPPED.contains(&text.as_ref()) {
            continue;
        }
        let place = match merged(&text) {
            // The place of the `wg` under test; Debian's own stays at hand beside it.
            place if place == "usr/bin/wg" => "usr/bin/wg.debian".to_owned(),
            place => place,
        };
        let path = root.join(&from);
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            if seen.insert(place.clone()) {
                cpio.dir(&place)?;
            }
            tree(cpio, root, &from, seen)?;
        } else if !seen.insert(place.clone()) {
            // The first one stands: /bin/x and /usr/bin/x are one file in a merged root.
        } else if meta.is_symlink() {
            let target = fs::read_link(&path)?;
            cpio.symlink(&place, &absolute_target(&from, &target))?;
        } else if meta.is_file() {
            use std::os::unix::fs::PermissionsExt;
            let executable = meta.permissions().mode() & 0o111 != 0;
            cpio.file(&place, executable, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// `bin/ip` as `usr/bin/ip`.
fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// A relative link may count its `..` from an unmerged folder: make it absolute and merged.
fn absolute_target(link: &Path, target: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    let base = if target.is_absolute() {
        Path::new("")
    } else {
        link.parent().unwrap_or(Path::new(""))
    };
    for part in base.components().chain(target.components()) {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", merged(&parts.join("/")))
}

/// Every program must find its libraries among what is unpacked.
fn check(root: &Path) -> Result<()> {
    let loader = loader_of(root)?;
    let folders = library_folders(root);
    for folder in ["bin", "sbin", "usr/bin", "usr/sbin"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.map_err(Error::io("read", root.join(folder)))?.path();
            if path
                .strip_prefix(root)
                .is_ok_and(|inner| DROPPED.iter().any(|d| inner == Path::new(d)))
            {
                continue;
            }
            let is_file = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
            if !is_file || !is_dynamic(&path)? {
                continue;
            }
            let listing = Command::new(&loader)
                .args(["--list", "--inhibit-cache", "--library-path"])
                .arg(&folders)
                .arg(&path)
                .stdin(Stdio::null())
                .output()
                .map_err(Error::io("start", &loader))?;
            let text = String::from_utf8_lossy(&listing.stdout);
            for library in listed_libraries(&text) {
                if !library.starts_with(root) {
                    return Err(Error::other(format!(
                        "`{}' would lack `{}' in a guest: a package is left out that it needs",
                        path.display(),
                        library.display()
                    )));
                }
            }
            if !listing.status.success() || text.contains("not found") {
                return Err(Error::other(format!(
                    "`{}' would not start in a guest: {}{text}",
                    path.display(),
                    String::from_utf8_lossy(&listing.stderr)
                )));
            }
        }
    }
    Ok(())
}

fn library_folders(root: &Path) -> String {
    [
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib",
        "lib",
    ]
    .map(|f| root.join(f).display().to_string())
    .join(":")
}

/// The dynamic loader of an unpacked root.
fn loader_of(root: &Path) -> Result<PathBuf> {
    let name = "ld-linux-x86-64.so.2";
    [
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib64",
        "usr/lib64",
    ]
    .into_iter()
    .map(|folder| root.join(folder).join(name))
    .find(|path| path.is_file())
    .ok_or_else(|| Error::other(format!("no {name} in `{}'", root.display())))
}

/// Follows links inside an unpacked root, where `/` means the root.
fn resolve(root: &Path, path: &str) -> Result<PathBuf> {
    let mut at = PathBuf::from(path);
    for _ in 0..16 {
        match fs::read_link(root.join(&at)) {
            Ok(target) if target.is_absolute() => {
                at = target.strip_prefix("/").unwrap_or(&target).to_path_buf();
            }
            Ok(target) => {
                at = at.parent().unwrap_or(Path::new("")).join(target);
            }
            Err(_) => return Ok(root.join(at)),
        }
    }
    Err(Error::other(format!(
        "`{path}' is a link that never ends in `{}'",
        root.display()
    )))
}

/// The paths in what a loader's `--list`, or ldd, prints.
fn listed_libraries(listing: &str) -> Vec<PathBuf> {
    listing
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once("=> ").map_or(line, |(_, right)| right);
            let path = path.split(" (").next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

/// Whether a file is an ELF program that asks for a loader (has a PT_INTERP header).
fn is_dynamic(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|f| f.take(4096).read_to_end(&mut head))
        .map_err(Error::io("read", path))?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let number = |at: usize, len: usize| {
        head.get(at..at + len).map_or(0, |bytes| {
            bytes
                .iter()
                .rev()
                .fold(0usize, |value, byte| (value << 8) | usize::from(*byte))
        })
    };
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    Ok((0..count).any(|n| number(offset + n * size, 4) == 3))
}

/// The name by which modprobe knows a module's file.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn module_files(modules: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![modules.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if let Ok(inner) = path.strip_prefix(modules) {
                let inner = inner.to_string_lossy().into_owned();
                if inner.contains(".ko") {
                    found.push(inner);
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// modules.dep: each file with the files that have to be loaded before it.
fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter_map(|line| {
            let (module, needed) = line.split_once(':')?;
            let needed = needed.split_whitespace().map(str::to_owned).collect();
            Some((module.to_owned(), needed))
        })
        .collect()
}

/// The wanted modules and all that they need, directly or not.
fn closure(
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
            "kernel/w/wireguard.ko: kernel/n/udp_tunnel.ko kernel/l/chacha.ko\n\
             kernel/l/chacha.ko: kernel/l/deep.ko\n\
             kernel/l/deep.ko:\n\
             kernel/n/udp_tunnel.ko:\n\
             kernel/x/other.ko:\n",
        );
        let found = closure(&dependencies, |path| module_name(path) == "wireguard");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [
                "kernel/l/chacha.ko",
                "kernel/l/deep.ko",
                "kernel/n/udp_tunnel.ko",
                "kernel/w/wireguard.ko"
            ]
        );
        assert_eq!(module_name("kernel/a/nf-x.ko.xz"), "nf_x");
    }

    #[test]
    fn links_survive_the_merge() {
        let target = |link: &str, to: &str| absolute_target(Path::new(link), Path::new(to));
        assert_eq!(target("sbin/ip", "/bin/ip"), "/usr/bin/ip");
        assert_eq!(target("sbin/depmod", "../bin/kmod"), "/usr/bin/kmod");
        assert_eq!(
            target("lib/x/libz.so.1", "libz.so.1.2"),
            "/usr/lib/x/libz.so.1.2"
        );
        assert_eq!(target("usr/lib/a", "../../lib/b"), "/usr/lib/b");
        assert_eq!(target("etc/x", "y"), "/etc/x".replace('x', "y"));
    }

    #[test]
    fn loaders_listings_are_understood() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibc.so.6 => /r/lib/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 => /r/lib/ld-linux-x86-64.so.2 (0x7)\n\
                       \tlibx.so => not found\n";
        assert_eq!(
            listed_libraries(listing),
            [
                PathBuf::from("/r/lib/libc.so.6"),
                PathBuf::from("/r/lib/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn programs_that_want_a_loader_are_told_apart() {
        assert!(is_dynamic(Path::new("/proc/self/exe")).unwrap());
        assert!(!is_dynamic(&crate::run::scenario::crate_folder().join("Cargo.toml")).unwrap());
    }
}
