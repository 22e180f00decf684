// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that the user names: opened with the reference's words, read within bounds, wiped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::bytes::split_bytes;
use crate::error::{Error, Result, Task, shown};
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
    let mut all = 0;
    loop {
        let length = match file.read(&mut part) {
            Ok(0) => break,
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            // The reference takes a directory for an empty file and clears the device.
            Err(err) => {
                let path = shown(path.display());
                return Err(Error::io(Task::ReadConfiguration { path }, &err));
            }
        };
        let mut rest = &part[..length];
        while let Some((end, after)) = split_bytes(rest, b'\n') {
            rest = after;
            line.add_piece(end);
            all += line.text.len();
            line.end_line(&mut take)?;
        }
        line.add_piece(rest);
        if all + line.text.len() > LONGEST_TEXT {
            return Err(too_long(path));
        }
    }
    if file.limit() == 0 {
        return Err(too_long(path));
    }
    line.end_line(take)
}

fn too_long(path: &Path) -> Error {
    Error::Invalid(format!(
        "Configuration does not end within {} MiB, {} MiB of them without comments: `{}'",
        LONGEST_FILE >> 20,
        LONGEST_TEXT >> 20,
        shown(path.display())
    ))
}

/// What says something in a line that comes in pieces.
struct Line {
    text: Zeroizing<Vec<u8>>,
    /// A comment has begun.
    ended: bool,
}

impl Line {
    fn new() -> Self {
        Line {
            text: Zeroizing::new(Vec::with_capacity(SHORT_LINE)),
            ended: false,
        }
    }

    fn add_piece(&mut self, piece: &[u8]) {
        if self.ended {
            return;
        }
        if self.text.len() + piece.len() > self.text.capacity() {
            // Not by growing in place, which would leave keys in freed memory.
            let room = (self.text.len() + piece.len()).next_power_of_two();
            let mut larger = Zeroizing::new(Vec::with_capacity(room));
            larger.extend_from_slice(&self.text);
            self.text = larger;
        }
        let mut piece = piece;
        // A NUL ends a line, as it ends a C string.
        for end in [b'#', 0] {
            if let Some((before, _)) = split_bytes(piece, end) {
                piece = before;
                self.ended = true;
            }
        }
        // Added as it is, then moved together: a third of the time of adding byte by byte.
        let mut end = self.text.len();
        let start = end;
        self.text.extend_from_slice(piece);
        for at in start..self.text.len() {
            let byte = self.text[at];
            self.text[end] = byte;
            end += usize::from(!is_space(char::from(byte)));
        }
        self.text.truncate(end);
    }

    /// Bytes that are not UTF-8 are in the name of a device, or in lines that are wrong anyway.
    fn end_line(&mut self, take: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let taken = match std::str::from_utf8(&self.text) {
            Ok("") => Ok(()),
            Ok(text) => take(text),
            Err(_) => take(&Zeroizing::new(ifname::from_bytes(&self.text))),
        };
        self.text.clear();
        self.ended = false;
        taken
    }
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

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut line, mut lines) = (Line::new(), Vec::new());
        for piece in pieces {
            for (at, part) in piece.split(|byte| *byte == b'\n').enumerate() {
                let mut keep = |text: &str| {
                    lines.push(text.to_owned());
                    Ok(())
                };
                if at > 0 {
                    line.end_line(&mut keep).unwrap();
                }
                line.add_piece(part);
            }
        }
        line.end_line(|text| {
            lines.push(text.to_owned());
            Ok(())
        })
        .unwrap();
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
