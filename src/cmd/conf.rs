// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg setconf`, `wg addconf` and `wg syncconf`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Call;
use crate::backend;
use crate::error::{Error, Result, Task, shown};
use crate::ifname;
use crate::input;
use crate::model::{Change, Update};
use crate::parse::conf;
use crate::plan::changes::{Line, find_differences};
use crate::plan::sync::sync_peers;
use crate::resolve::{self, Resolver};

/// The file states the whole configuration: what it does not mention is off.
pub fn setconf(_: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    super::apply_update(read_update(interface, file, update_of_everything())?)
}

/// The file changes what it mentions.
pub fn addconf(_: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    super::apply_update(read_update(interface, file, Update::default())?)
}

/// What is asked of [`syncconf`] beside the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncOptions {
    /// Print what would change, and change nothing.
    pub dry_run: bool,
    /// Say by the exit code whether something changed, or would.
    pub exit_code: bool,
}

/// The options as words, in the order of the usage text.
pub const SYNC_OPTIONS: [&str; 2] = ["--dry-run", "--exit-code"];

/// The exit code where something changed. 1 is an error.
const CHANGED: u8 = 2;

/// The file states the whole configuration, and peers that stay keep their sessions.
pub fn syncconf(call: Call, options: SyncOptions, interface: &OsStr, file: &OsStr) -> Result<()> {
    let wanted = read_update(interface, file, update_of_everything())?;
    // Without peers in the file all go, and nothing has to be known about them.
    if wanted.peers.is_empty() && options == SyncOptions::default() {
        return super::apply_update(wanted);
    }
    let now = backend::get(&wanted.interface).map_err(|error| {
        let interface = wanted.interface.clone();
        error.with_task(Task::Retrieve { interface })
    })?;
    let update = sync_peers(&now, wanted);
    let differences = if options == SyncOptions::default() {
        Vec::new()
    } else {
        let (mode, receive) = (resolve::bind_mode()?, resolve::receive_mode()?);
        let means = backend::foresee_update(&now, &update, mode, receive)?;
        find_differences(&now, &update, &means)
    };
    if options.dry_run {
        let names = super::show::interface_names();
        for one in &differences {
            let line = shown(Line(one, &names));
            writeln!(call.out, "{}: {line}", shown(&now.name)).map_err(Error::output)?;
        }
    } else {
        super::apply_update(update)?;
    }
    if options.exit_code && !differences.is_empty() {
        return Err(Error::Ended(CHANGED));
    }
    Ok(())
}

/// An update that turns off all that is not mentioned after it.
fn update_of_everything() -> Update {
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
        interface: ifname::from_bytes(interface.as_bytes()),
        ..base
    };
    let say = super::say_from_threads();
    let mut resolver = Resolver::new(base, true, &say);
    let mut parser = conf::Parser::default();
    // Line by line: neither the text of a large file nor its steps are held.
    let read = input::read_config(Path::new(file), |line| {
        parser.read_line(line, &mut |step| resolver.apply(step))
    });
    resolver.finish(read.err())
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

    /// Left out, it would be one that the file does not name, and setconf takes those away.
    #[test]
    fn a_peer_without_a_key_is_an_error_beside_others() {
        let quiet: Say = Arc::new(|_| {});
        let whole = "[Peer]\nPublicKey = k1Zf6J5kI4BhHwNnM3nUzEn6QyhYlcdFLn0jgSjcOFA=\n";
        let half = "[Peer]\nAllowedIPs = 10.0.0.1/32\n";
        for text in [[whole, half].concat(), [half, whole].concat()] {
            let read = resolve::resolve(conf::parse(&text), update_of_everything(), &quiet);
            let said = read.unwrap_err().to_string();
            assert!(said.contains("missing a public key"), "{said}");
        }
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
            assert_eq!(
                update(update_of_everything, text).bind_dev,
                whole_says,
                "{text}"
            );
            assert_eq!(update(Update::default, text).bind_dev, part_says, "{text}");
            let omitted = update(update_of_everything, text).bind_dev_omitted;
            assert_eq!(
                omitted,
                !text.to_ascii_lowercase().contains("binddev"),
                "{text}"
            );
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
