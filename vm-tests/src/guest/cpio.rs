// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A writer of cpio archives in the "newc" format, the one that Linux unpacks at boot.
//!
//! Every entry belongs to root and has no time, so that equal contents give equal bytes. The
//! kernel takes several archives one after the other; a later file replaces an earlier one.

use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

pub struct Writer<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Paths are without a leading slash; a folder comes before what is in it.
    pub fn dir(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub fn file(&mut self, path: &str, executable: bool, contents: &[u8]) -> io::Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(path, REGULAR | mode, (0, 0), contents)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, CHARACTER | 0o600, (major, minor), &[])
    }

    /// Writes the end mark and gives the stream back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        contents: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(contents.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a file over 4 GiB"))?;
        // Inode numbers differ, or the kernel would take two files for hard links of one.
        self.inode = self.inode.wrapping_add(1);
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time
            size,
            0, // device of the file
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, only in the "crc" format
        ];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08X}");
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    /// Headers and contents each end on a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..(4 - written % 4) % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut cpio = Writer::new(Vec::new());
        cpio.dir("etc").unwrap();
        cpio.file("etc/a", false, b"12345").unwrap();
        cpio.file("etc/run", true, b"#!/bin/true\n").unwrap();
        cpio.symlink("sbin", "usr/sbin").unwrap();
        cpio.finish().unwrap()
    }

    /// What GNU cpio, written by others, makes of our bytes. The kernel reads them in each run.
    #[test]
    #[ignore = "needs Debian's package `cpio'"]
    fn others_read_it() {
        let mut reader = Command::new("cpio")
            .args(["-tv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        reader.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listing = reader.wait_with_output().unwrap();
        assert!(listing.status.success());
        let listing = String::from_utf8(listing.stdout).unwrap();
        let lines: Vec<_> = listing.lines().collect();
        assert_eq!(lines.len(), 4, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with("etc"));
        assert!(lines[1].starts_with("-rw-r--r--") && lines[1].contains(" 5 "));
        assert!(lines[2].starts_with("-rwxr-xr-x"));
        assert!(lines[3].ends_with("sbin -> usr/sbin"));
    }

    /// One entry byte by byte, as Documentation/driver-api/early-userspace has the format.
    #[test]
    fn a_file_is_header_name_contents() {
        let mut cpio = Writer::new(Vec::new());
        cpio.file("etc/a", false, b"12345").unwrap();
        let bytes = cpio.finish().unwrap();
        let expected = concat!(
            "070701",
            "00000001",
            "000081A4",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000006",
            "00000000",
            "etc/a\0",
            "12345\0\0\0",
            "070701"
        );
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with(expected), "{text:?}");
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }

    #[test]
    fn everything_is_aligned() {
        assert_eq!(sample().len() % 4, 0);
        assert!(sample().starts_with(b"070701"));
    }
}
