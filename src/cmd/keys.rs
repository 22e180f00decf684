// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! genkey, genpsk and pubkey.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use super::Call;
use crate::error::{Error, Result, Task};
use crate::input;
use crate::key::{BASE64_LEN, Key};
use crate::sys;

pub fn genkey(call: Call) -> Result<()> {
    generate(call, Key::clamped)
}

pub fn genpsk(call: Call) -> Result<()> {
    generate(call, |key| key)
}

fn generate(call: Call, finish: fn(Key) -> Key) -> Result<()> {
    if writes_to_open_file() {
        super::print_note(
            "Warning: writing to world accessible file.\n\
             Consider setting the umask to 077 and trying again.",
        );
    }
    let key = Key::fill_with(sys::fill_random)
        .map_err(|err| Error::io(Task::Other("getrandom".to_owned()), &err))?;
    let printed = finish(key).write_base64(call.out);
    printed
        .and_then(|()| writeln!(call.out))
        .map_err(Error::output)
}

pub fn pubkey(call: Call) -> Result<()> {
    let wrong = |what: &str| Error::Invalid(format!("{}: {what}", call.program));
    let mut text = Zeroizing::new([0u8; BASE64_LEN]);
    // Not by std's own handle: its buffer is never wiped.
    let mut input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|err| Error::io(Task::Other("dup".to_owned()), &err))?;
    let key = match input.read_exact(text.as_mut_slice()) {
        Ok(()) => Some(text.as_slice()),
        Err(_) => None,
    };
    let malformed = || wrong("Key is not the correct length or format");
    let Some(key) = key else {
        return Err(malformed());
    };
    // Like blanks, a NUL is nothing: keys come out of C strings, too.
    if input::trailing_byte(&mut input, true) != Ok(None) {
        return Err(wrong("Trailing characters found after key"));
    }
    let key = std::str::from_utf8(key).ok().and_then(Key::from_base64);
    let key = key.ok_or_else(malformed)?.public();
    writeln!(call.out, "{}", key.to_base64()).map_err(Error::output)
}

/// Whether stdout is a regular file that others may touch.
fn writes_to_open_file() -> bool {
    let Ok(fd) = io::stdout().as_fd().try_clone_to_owned() else {
        return false;
    };
    File::from(fd)
        .metadata()
        .is_ok_and(|meta| meta.is_file() && meta.mode() & 0o007 != 0)
}
