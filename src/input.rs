// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Files that the user names: opened with the reference's words, read within bounds, wiped.

use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result, Task, shown};
use crate::ifname;
use crate::parse::value::is_space;
use crate::sys;

/// First size of the buffer for a configuration; most fit.
const FIRST_READ: usize = 16 * 1024;
/// Bytes that are read of a configuration.
const LONGEST_FILE: u64 = 256 * 1024 * 1024;
/// Bytes of it that say something: more than a quarter of a million peers.
const LONGEST_TEXT: usize = 64 * 1024 * 1024;
/// Bytes behind a key. An editor leaves a newline there.
const LONGEST_TAIL: u64 = 64 * 1024;

/// Opens a file or a pipe.
///
/// # Errors
/// Also where the path means a standard stream that was closed: std has /dev/null there, and an
/// empty configuration would clear the device.
pub fn open(path: &Path) -> Result<File> {
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

/// The text of a configuration, without comments, blanks and empty lines: they mean nothing, and
/// are most of what an endless file has.
///
/// # Errors
/// The file cannot be read, or does not end.
pub fn read_config(path: &Path) -> Result<Zeroizing<String>> {
    let mut file = open(path)?.take(LONGEST_FILE);
    let mut text = Zeroizing::new(Vec::with_capacity(FIRST_READ));
    let mut part = Zeroizing::new([0u8; FIRST_READ]);
    let mut ended = false;
    loop {
        let length = match file.read(part.as_mut_slice()) {
            Ok(0) => break,
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            // The reference takes a directory for an empty file and clears the device.
            Err(err) => {
                let path = shown(path.display());
                return Err(Error::io(Task::ReadConfiguration { path }, &err));
            }
        };
        if text.len() + length > text.capacity() {
            // Not by growing in place, which would leave keys in freed memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(text.capacity() * 2));
            larger.extend_from_slice(&text);
            text = larger;
        }
        keep_words(&part[..length], &mut ended, &mut text);
        if text.len() > LONGEST_TEXT {
            return Err(too_long(path));
        }
    }
    if file.limit() == 0 {
        return Err(too_long(path));
    }
    Ok(into_text(text))
}

fn too_long(path: &Path) -> Error {
    Error::Invalid(format!(
        "Configuration does not end within {} MiB, {} MiB of them without comments: `{}'",
        LONGEST_FILE >> 20,
        LONGEST_TEXT >> 20,
        shown(path.display())
    ))
}

/// Appends what says something. `ended` tells whether the line has ended before its newline, and
/// goes on from one part of a file to the next.
fn keep_words(mut part: &[u8], ended: &mut bool, text: &mut Vec<u8>) {
    while let Some(mut byte) = part.first() {
        if *ended {
            // An endless comment is skipped as fast as it is read.
            let comment = part;
            let length = part.skip_until(b'\n').unwrap_or(0);
            byte = comment[..length].last().unwrap_or(&0);
        } else {
            part = &part[1..];
        }
        match byte {
            b'\n' => {
                *ended = false;
                if text.last().is_some_and(|last| *last != b'\n') {
                    text.push(b'\n');
                }
            }
            _ if *ended => {}
            // A NUL ends a line, as it ends a C string.
            b'#' | 0 => *ended = true,
            byte if is_space(char::from(*byte)) => {}
            byte => text.push(*byte),
        }
    }
}

/// Bytes that are not UTF-8 are in the name of a device, or in lines that are wrong anyway.
fn into_text(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<String> {
    let bytes = match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => return Zeroizing::new(text),
        Err(err) => Zeroizing::new(err.into_bytes()),
    };
    Zeroizing::new(ifname::from_bytes(&bytes))
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

    fn kept(parts: &[&str]) -> String {
        let (mut ended, mut text) = (false, Vec::new());
        for part in parts {
            keep_words(part.as_bytes(), &mut ended, &mut text);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn comments_blanks_and_empty_lines_say_nothing() {
        for (text, wanted) in [
            ("", ""),
            ("\n\n# x\n \t\n", ""),
            ("[Peer]#x\n\n\nPublic Key = a\n", "[Peer]\nPublicKey=a\n"),
            ("a\0b#c\nd", "a\nd"),
            ("#\0\na", "a"),
        ] {
            assert_eq!(kept(&[text]), wanted, "{text:?}");
            // In any two parts.
            for cut in 0..=text.len() {
                assert_eq!(
                    kept(&[&text[..cut], &text[cut..]]),
                    wanted,
                    "{text:?} {cut}"
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        let text = |bytes: &[u8]| into_text(Zeroizing::new(bytes.to_vec())).to_string();
        assert_eq!(text(b"a\xffb\xc3"), "a%ffb%c3");
        assert_eq!(text("caf\u{e9}".as_bytes()), "caf\u{e9}");
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
