// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg setconf`, `wg addconf` and `wg syncconf`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::Call;
use crate::backend;
use crate::error::{Error, Result, Task, shown};
use crate::model::{Change, Update};
use crate::parse::conf;
use crate::plan::sync::sync_peers;
use crate::resolve;

/// First size of the buffer for a file; most files fit.
const FIRST_READ: usize = 16 * 1024;

/// The file states the whole configuration: what it does not mention is off.
pub fn setconf(_: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    super::apply(read_update(interface, file, whole())?)
}

/// The file changes what it mentions.
pub fn addconf(_: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    super::apply(read_update(interface, file, Update::default())?)
}

/// The file states the whole configuration, and peers that stay keep their sessions.
pub fn syncconf(_: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    let wanted = read_update(interface, file, whole())?;
    // Without peers in the file all go, and nothing has to be known about them.
    if wanted.peers.is_empty() {
        return super::apply(wanted);
    }
    let now = backend::get(&wanted.interface).map_err(|error| {
        let interface = wanted.interface.clone();
        error.with_task(Task::Retrieve { interface })
    })?;
    super::apply(sync_peers(&now, wanted))
}

/// An update that turns off all that is not mentioned after it.
fn whole() -> Update {
    Update {
        private_key: Change::Clear,
        listen_port: Change::Clear,
        fwmark: Change::Clear,
        bind_dev: Change::Clear,
        bind_dev_omitted: true,
        replace_peers: true,
        ..Update::default()
    }
}

/// The update that a file asks for; `base` has what applies unless the file says otherwise.
fn read_update(interface: &OsStr, file: &OsStr, base: Update) -> Result<Update> {
    let base = Update {
        interface: interface.to_string_lossy().into_owned(),
        ..base
    };
    let text = read_file(file)?;
    // Bytes that are not UTF-8 stand in comments, or in lines that are wrong anyway.
    let text = match String::from_utf8_lossy(&text) {
        std::borrow::Cow::Borrowed(text) => Zeroizing::new(text.to_owned()),
        std::borrow::Cow::Owned(text) => Zeroizing::new(text),
    };
    resolve::resolve(conf::parse(&text), base, &super::say_from_threads())
}

/// The whole of a file or pipe, in a buffer that is wiped, also where it had to grow.
fn read_file(path: &OsStr) -> Result<Zeroizing<Vec<u8>>> {
    let path = Path::new(path);
    let mut file = File::open(path).map_err(|err| Error::open_file(path, &err))?;
    let mut text = Zeroizing::new(vec![0u8; FIRST_READ]);
    let mut length = 0;
    loop {
        if length == text.len() {
            let mut larger = Zeroizing::new(vec![0u8; text.len() * 2]);
            larger[..length].copy_from_slice(&text);
            text = larger;
        }
        match file.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // The reference takes a directory for an empty file and clears the device.
            Err(err) => {
                let path = shown(path.display());
                return Err(Error::io(Task::ReadConfiguration { path }, &err));
            }
        }
    }
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::resolve::Say;

    fn update(base: fn() -> Update, text: &str) -> Update {
        let quiet: Say = Arc::new(|_| {});
        resolve::resolve(conf::parse(text), base(), &quiet).expect("a good file")
    }

    /// setconf and syncconf state all there is, addconf only what it says.
    #[test]
    fn bind_dev_in_files() {
        let vrf = Change::Set("vrf_external".to_owned());
        for (text, whole_says, part_says) in [
            ("", Change::Clear, Change::Keep),
            ("[Interface]\nListenPort = 1\n", Change::Clear, Change::Keep),
            ("[Interface]\nBindDev = off\n", Change::Clear, Change::Clear),
            (
                "[interface]\nbinddev=vrf_external#\n",
                vrf.clone(),
                vrf.clone(),
            ),
            (
                "[Interface]\nBindDev = a\nBindDev = vrf_external\n",
                vrf.clone(),
                vrf,
            ),
        ] {
            assert_eq!(update(whole, text).bind_dev, whole_says, "{text}");
            assert_eq!(update(Update::default, text).bind_dev, part_says, "{text}");
        }
        for text in [
            "[Interface]\nBindDev =\n",
            "[Peer]\nBindDev = a\n",
            "BindDev = a\n",
        ] {
            assert!(conf::parse(text).stopped.is_some(), "{text}");
        }
    }
}
