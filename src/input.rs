// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that the user names: opened with the reference's words, read within bounds, wiped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::bytes::split_bytes;
use crate::error::{Error, Result, Task, shown_path};
use crate::ifname;
use crate::parse::value::is_space;
use crate::sys;

/// Bytes of one read(2).
const PART: usize = 16 * 1024;
/// Most lines of a configuration fit.
const SHORT_LINE: usize = 1024;
/// Bytes that are read of a configuration.
const LONGEST_FILE: u64 = 512 * 1024 * 1024;
/// Bytes of it that say something: more than a million peers.
const LONGEST_TEXT: usize = 256 * 1024 * 1024;
/// Bytes behind a key. An editor leaves a newline there.
const LONGEST_TAIL: u64 = 64 * 1024;

/// Opens a file or a pipe.
///
/// # Errors
/// Also where the path means a standard stream that was closed: std has /dev/null there, and an
/// empty configuration would clear the device.
pub fn open_input(path: &Path) -> Result<File> {
    let failed = |err: &io::Error| Error::open_file(path, err);
    if (0..3).any(sys::was_closed) && standard_stream(path).is_some_and(sys::was_closed) {
        return Err(failed(&io::Error::from_raw_os_error(libc::ENOENT)));
    }
    File::open(path).map_err(|err| failed(&err))
}

/// The descriptor of this process that the path means, through links of any kind.
fn standard_stream(path: &Path) -> Option<RawFd> {
    let folders = ["/proc/self/fd", "/proc/thread-self/fd"].map(fs::canonicalize);
    let mut path = path.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
        if folders.iter().flatten().any(|folder| *folder == parent) {
            return path.file_name()?.to_str()?.parse().ok();
        }
        let target: PathBuf = fs::read_link(&path).ok()?;
        path = parent.join(target);
    }
    None
}

/// Hands the lines of a configuration to `take`, without comments and blanks, and none that is
/// empty: they mean nothing, and are most of what an endless file has. Never more than a line is held.
///
/// # Errors
/// The file cannot be read, or does not end, or `take` says so.
pub fn read_config(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut file = open_input(path)?.take(LONGEST_FILE);
    let mut part = Zeroizing::new(vec![0; PART]);
    let mut line = Line::new();
    loop {
        let length = match file.read(&mut part) {
            Ok(0) => break,
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            // The reference takes a directory for an empty file and clears the device.
            Err(err) => {
                let path = shown_path(path);
                return Err(Error::io(Task::ReadConfiguration { path }, &err));
            }
        };
        line.add_part(&part[..length], &mut take)?;
        if line.all + line.text.len() > LONGEST_TEXT {
            return Err(too_long(path));
        }
    }
    if file.limit() == 0 {
        return Err(too_long(path));
    }
    line.end_line(&mut take)
}

fn too_long(path: &Path) -> Error {
    Error::Invalid(format!(
        "Configuration does not end within {} MiB, {} MiB of them without comments: `{}'",
        LONGEST_FILE >> 20,
        LONGEST_TEXT >> 20,
        shown_path(path)
    ))
}

/// What says something in a line of a text that comes in parts.
struct Line {
    text: Zeroizing<Vec<u8>>,
    /// A comment has begun.
    ended: bool,
    /// Bytes of the lines before it.
    all: usize,
}

impl Line {
    fn new() -> Self {
        Line {
            text: Zeroizing::new(Vec::with_capacity(SHORT_LINE)),
            ended: false,
            all: 0,
        }
    }

    /// Hands the lines that end in this part to `take`.
    fn add_part(&mut self, part: &[u8], take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut rest = part;
        while !rest.is_empty() {
            if self.ended {
                let Some((_, after)) = split_bytes(rest, b'\n') else {
                    break;
                };
                rest = after;
                self.end_line(take)?;
                continue;
            }
            if self.text.capacity() - self.text.len() <= 8 {
                self.grow();
            }
            // Eight at once: those before the first that may mean something else.
            if let Some(eight) = rest.first_chunk::<8>() {
                let plain = count_plain(*eight);
                let end = self.text.len() + plain;
                self.text.extend_from_slice(eight);
                self.text.truncate(end);
                rest = &rest[plain..];
                if plain == 8 {
                    continue;
                }
            }
            let first = rest[0];
            rest = &rest[1..];
            match first {
                b'\n' => self.end_line(take)?,
                // A NUL ends a line, as it ends a C string.
                b'#' | 0 => self.ended = true,
                byte if is_space(char::from(byte)) => {}
                byte => self.text.push(byte),
            }
        }
        Ok(())
    }

    /// Not in place, which would leave keys in freed memory.
    #[cold]
    fn grow(&mut self) {
        let mut larger = Zeroizing::new(Vec::with_capacity(self.text.capacity() * 2));
        larger.extend_from_slice(&self.text);
        self.text = larger;
    }

    /// Bytes that are not UTF-8 are in the name of a device, or in lines that are wrong anyway.
    fn end_line(&mut self, take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let taken = match std::str::from_utf8(&self.text) {
            Ok("") => Ok(()),
            Ok(text) => take(text),
            Err(_) => take(&Zeroizing::new(ifname::from_bytes(&self.text))),
        };
        self.all += self.text.len();
        self.text.clear();
        self.ended = false;
        taken
    }
}

/// How many come before the first that may be a blank, a `#` or a NUL: all of these are below `$`.
fn count_plain(eight: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(eight);
    // A byte below it borrows, which its highest bit shows.
    let below = word.wrapping_sub(ONES * u64::from(b'$')) & !word & (ONES * 0x80);
    below.trailing_zeros() as usize / 8
}

/// The first byte behind a key that is neither a blank nor, where those count as nothing, a NUL.
///
/// # Errors
/// The blanks do not end.
pub fn trailing_byte(file: &mut impl Read, skip_nul: bool) -> std::result::Result<Option<u8>, ()> {
    let mut tail = file.take(LONGEST_TAIL);
    let mut byte = Zeroizing::new([0u8; 1]);
    loop {
        match tail.read(byte.as_mut_slice()) {
            Ok(0) if tail.limit() == 0 => return Err(()),
            Ok(0) => return Ok(None),
            Ok(_) if is_space(char::from(byte[0])) || (skip_nul && byte[0] == 0) => {}
            Ok(_) => return Ok(Some(byte[0])),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // As the reference: what cannot be read is not there.
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut line, mut lines) = (Line::new(), Vec::new());
        let mut keep = |text: &str| {
            lines.push(text.to_owned());
            Ok(())
        };
        for part in parts {
            line.add_part(part, &mut keep).unwrap();
        }
        line.end_line(&mut keep).unwrap();
        lines
    }

    #[test]
    fn comments_blanks_and_empty_lines_say_nothing() {
        let long = "x".repeat(3 * SHORT_LINE);
        for (text, wanted) in [
            ("", &[][..]),
            ("\n\n# x\n \t\n", &[]),
            ("[Peer]#x\n\n\nPublic Key = a\n", &["[Peer]", "PublicKey=a"]),
            ("a\0b#c\nd", &["a", "d"]),
            ("#\0\na", &["a"]),
            (
                "AllowedIPs = 10.0.0.0/8,\t::/0#\nb!\"c=$d\r\n",
                &["AllowedIPs=10.0.0.0/8,::/0", "b!\"c=$d"],
            ),
            (&long, &[&long]),
        ] {
            assert_eq!(lines(&[text.as_bytes()]), wanted, "{text:?}");
            // In any two pieces.
            for cut in 0..=text.len().min(50) {
                let (first, second) = text.as_bytes().split_at(cut);
                assert_eq!(lines(&[first, second]), wanted, "{text:?} {cut}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(lines(&[b"a\xffb\xc3"]), ["a%ffb%c3"]);
        assert_eq!(lines(&["caf\u{e9}".as_bytes()]), ["caf\u{e9}"]);
    }

    #[test]
    fn only_blanks_may_follow_a_key() {
        let tail = |bytes: &[u8], skip| trailing_byte(&mut &bytes[..], skip);
        assert_eq!(tail(b" \n\t", false), Ok(None));
        assert_eq!(tail(b"\nx", false), Ok(Some(b'x')));
        assert_eq!(tail(b"\0", false), Ok(Some(0)));
        assert_eq!(tail(b"\0\n", true), Ok(None));
        assert_eq!(trailing_byte(&mut io::repeat(b'\n'), false), Err(()));
    }
}
