// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A cache of things that are expensive to make, named by what they were made from.
//!
//! An entry is either whole or absent: it is made beside its place and renamed into it, and two
//! processes that want the same entry wait for each other. Nothing here knows what an entry is.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use fs_err::{self as fs, File};
use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use sha2::{Digest, Sha256};

use crate::Progress;
use crate::error::{Error, Result};

/// The kind of entries that hold what apt answered.
pub const ANSWERS: &str = "answers";
/// Programs as guests get them; made in no time as well.
pub const STRIPPED: &str = "stripped";

/// The folder that holds everything: `$XDG_CACHE_HOME/wg-vrf`, else `~/.cache/wg-vrf`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    /// Hears of each entry while it is made.
    pub progress: Progress,
    /// See [`Cache::forbid_making`].
    makes: bool,
}

impl Cache {
    /// The user's cache, created when it is not there yet.
    pub fn open(progress: Progress) -> Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME")
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .ok_or_else(|| Error::other("neither XDG_CACHE_HOME nor HOME is set: no cache"))?;
        let cache = Self::open_at(base.join("wg-vrf"))?;
        Ok(Self { progress, ..cache })
    }

    /// A cache in a given folder that tells nobody what it makes.
    pub fn open_at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        let progress = Progress::default();
        Ok(Self {
            root,
            progress,
            makes: true,
        })
    }

    /// A view of this cache in which an entry that is not there is an error. Apt is still asked:
    /// its answers cost nothing, and only tell which entries are meant.
    pub fn forbid_making(&self) -> Self {
        Self {
            makes: false,
            ..self.clone()
        }
    }

    /// Starts a step of its progress; the caller's message names what is made.
    pub fn begin_step(&self, text: &str) {
        self.progress.begin_step(text);
    }

    pub fn end_step(&self) {
        self.progress.end_step();
    }

    /// A folder of the cache that callers manage themselves, under their own lock.
    pub fn open_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Holds the lock of `name` until the returned value is dropped.
    pub fn hold_lock(&self, name: &str) -> Result<File> {
        let name = format!("{}.lock", name.replace('/', "_"));
        let file = File::create(self.open_folder("locks")?.join(name))?;
        // The kernel drops the lock with the file.
        retry_on_intr(|| flock(file.file(), FlockOperation::LockExclusive))
            .map_err(io::Error::from)?;
        Ok(file)
    }

    /// The path of an entry if it is there.
    pub fn get(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let path = self.find_place(kind, key);
        path.exists().then_some(path)
    }

    /// The place of an entry, whether it is there or not.
    pub fn find_place(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join(kind).join(key)
    }

    /// An entry that is a folder. `make` fills an empty folder; on an error nothing is kept.
    pub fn keep_folder(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.keep_file(kind, key, |path| {
            fs::create_dir(path)?;
            make(path)
        })
    }

    /// An entry that is a file. `make` writes the file at the path it is given.
    pub fn keep_file(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = self.find_place(kind, key);
        if place.exists() {
            return Ok(place);
        }
        if !self.makes && ![ANSWERS, STRIPPED].contains(&kind) {
            bail!("the cache has no {kind} {key}");
        }
        let _lock = self.hold_lock(&format!("{kind}-{key}"))?;
        // The other process may have made it while we waited.
        if place.exists() {
            return Ok(place);
        }
        let folder = place.parent().expect("an entry has a folder");
        fs::create_dir_all(folder)?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".draft-{}-{name}", process::id()));
        remove_path(&draft)?;
        let made = make(&draft).and_then(|()| Ok(fs::rename(&draft, &place)?));
        if let Err(error) = made {
            let _ = remove_path(&draft);
            return Err(error);
        }
        Ok(place)
    }
}

/// Removes a file or a folder that may not be there.
pub fn remove_path(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Builds the key of an entry from everything that it is made of.
#[derive(Clone, Default)]
pub struct Key(Sha256);

impl Key {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one named value; lengths go in too, so that no two lists hash alike.
    pub fn add_value(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds the contents of a file.
    pub fn add_file(self, name: &str, path: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(self.add_value(name, format!("{:x}", hash.finalize())))
    }

    /// 32 hexadecimal digits: 128 bits are enough against chance.
    pub fn finish(self) -> String {
        format!("{:x}", self.0.finalize())[..32].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn an_entry_is_made_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open_at(folder.path()).unwrap();
        let half = |dir: &Path| {
            fs::write(dir.join("half"), "x")?;
            Err(Error::other("no"))
        };
        cache.keep_folder("kind", "key", half).unwrap_err();
        assert_eq!(fs::read_dir(folder.path().join("kind")).unwrap().count(), 0);
        let made = AtomicUsize::new(0);
        let make = |dir: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(fs::write(dir.join("file"), "x")?)
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| cache.keep_folder("kind", "key", make).unwrap());
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(cache.find_place("kind", "key").join("file").exists());
        let as_it_is = cache.forbid_making();
        let there = as_it_is.keep_folder("kind", "key", |_| panic!("made"));
        assert!(there.is_ok());
        let error = as_it_is.keep_folder("kind", "other", |_| panic!("made"));
        assert!(error.unwrap_err().to_string().contains("no kind other"));
    }

    #[test]
    fn keys_tell_lists_apart() {
        let one = Key::new().add_value("a", "bc").finish();
        let two = Key::new().add_value("ab", "c").finish();
        assert_ne!(one, two);
        assert_eq!(one, Key::new().add_value("a", "bc").finish());
    }
}
