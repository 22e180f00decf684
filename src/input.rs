// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that the user names: opened with the reference's words, read within bounds, wiped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::str;

use zeroize::Zeroizing;

use crate::error::{Error, Result, Task, shown_path};
use crate::ifname;
use crate::parse::value::is_space;
use crate::sys;

/// Bytes of one read(2).
const PART: usize = 16 * 1024;
/// Most lines that begin in one part and end in the next fit.
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
/// empty: they mean nothing, and are most of what an endless file has. Never more than a part and a line
/// are held.
///
/// # Errors
/// The file cannot be read, or does not end, or `take` says so.
pub fn read_config(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut file = open_input(path)?.take(LONGEST_FILE);
    let mut part = Zeroizing::new(vec![0; PART]);
    let mut lines = Lines::new();
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
        lines.add_part(&part[..length]);
        lines.hand_over(&mut take)?;
        if lines.all + lines.length > LONGEST_TEXT {
            return Err(too_long(path));
        }
    }
    if file.limit() == 0 {
        return Err(too_long(path));
    }
    lines.add_part(b"\n");
    lines.hand_over(&mut take)
}

fn too_long(path: &Path) -> Error {
    Error::Invalid(format!(
        "Configuration does not end within {} MiB, {} MiB of them without comments: `{}'",
        LONGEST_FILE >> 20,
        LONGEST_TEXT >> 20,
        shown_path(path)
    ))
}

/// What says something in a text that comes in parts.
struct Lines {
    /// Up to `length` they are lines, none of them empty, each but the last with its newline.
    text: Zeroizing<Vec<u8>>,
    length: usize,
    /// Where the lines end.
    ends: Vec<usize>,
    /// A comment has begun.
    ended: bool,
    /// Bytes of the lines that were handed over.
    all: usize,
}

impl Lines {
    fn new() -> Self {
        Lines {
            text: Zeroizing::new(vec![0; PART + SHORT_LINE]),
            length: 0,
            ends: Vec::new(),
            ended: false,
            all: 0,
        }
    }

    fn add_part(&mut self, part: &[u8]) {
        // Eight are written where fewer count.
        if self.text.len() - self.length < part.len() + 8 {
            self.grow(part.len() + 8);
        }
        let (text, mut length) = (self.text.as_mut_slice(), self.length);
        let mut start = self.ends.last().map_or(0, |end| end + 1);
        let mut rest = part;
        loop {
            if self.ended {
                let Some(newline) = sys::find_byte(rest, b'\n') else {
                    break;
                };
                rest = &rest[newline..];
                self.ended = false;
            }
            // Eight at once: those before the first that may mean something else.
            while let (Some(eight), Some(room)) = (
                rest.first_chunk::<8>(),
                text[length..].first_chunk_mut::<8>(),
            ) {
                *room = *eight;
                let plain = count_plain(*eight);
                length += plain;
                rest = &rest[plain..];
                if plain < 8 {
                    break;
                }
            }
            let [first, after @ ..] = rest else {
                break;
            };
            rest = after;
            match first {
                b'\n' if length == start => {}
                b'\n' => {
                    text[length] = b'\n';
                    self.ends.push(length);
                    length += 1;
                    start = length;
                }
                // A NUL ends a line, as it ends a C string.
                b'#' | 0 => self.ended = true,
                byte if is_space(char::from(*byte)) => {}
                byte => {
                    text[length] = *byte;
                    length += 1;
                }
            }
        }
        self.length = length;
    }

    /// Not in place, which would leave keys in freed memory.
    #[cold]
    fn grow(&mut self, more: usize) {
        let mut larger = Zeroizing::new(vec![0; 2 * self.text.len() + more]);
        larger[..self.length].copy_from_slice(&self.text[..self.length]);
        self.text = larger;
    }

    /// Hands the lines that have ended to `take`.
    fn hand_over(&mut self, take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
        let whole = self.ends.last().map_or(0, |end| end + 1);
        let bytes = &self.text[..whole];
        // All at once, which takes a fifth of the time.
        let text = str::from_utf8(bytes);
        let mut start = 0;
        for end in self.ends.drain(..) {
            match text {
                Ok(text) => take(&text[start..end])?,
                Err(_) => take_bytes(&bytes[start..end], take)?,
            }
            start = end + 1;
        }
        self.all += whole;
        self.text.copy_within(whole..self.length, 0);
        self.length -= whole;
        Ok(())
    }
}

/// Bytes that are not UTF-8 are in the name of a device, or in lines that are wrong anyway.
#[cold]
fn take_bytes(line: &[u8], take: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    match str::from_utf8(line) {
        Ok(line) => take(line),
        Err(_) => take(&Zeroizing::new(ifname::from_bytes(line))),
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
        let (mut lines, mut kept) = (Lines::new(), Vec::new());
        let mut keep = |text: &str| {
            kept.push(text.to_owned());
            Ok(())
        };
        for part in parts.iter().copied().chain([&b"\n"[..]]) {
            lines.add_part(part);
            lines.hand_over(&mut keep).unwrap();
        }
        kept
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
