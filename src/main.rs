// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! argv and stdio in, exit code out. Knows no verb, no netlink and no syntax.
#![no_main]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use wg_vrf::cli;
use wg_vrf::cmd::Stdout;
use wg_vrf::error::Error;
use zeroize::Zeroize;

/// Some fifty lines per write(2), and little to wipe.
const BUFFER: usize = 8 * 1024;

wg_vrf::entry!(run);

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

fn run(mut args: Vec<OsString>) -> u8 {
    cli::protect_memory();
    let program = if args.is_empty() {
        "wg".to_owned()
    } else {
        args.remove(0).to_string_lossy().into_owned()
    };
    // Not by std's own handle: it takes a descriptor that cannot be written for one that can.
    let out = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(out) => Stdout(File::from(out)),
        Err(err) => return fail(&Error::output(err)),
    };
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let result = cli::run(&program, args, &mut out);
    // What was printed before an error is part of the output, as in the reference.
    let flushed = out.flush().map_err(Error::output);
    if let (_, Ok(mut keys)) = out.into_parts() {
        keys.zeroize();
    }
    let result = match (result, flushed) {
        // An exit code alone does not tell that the output is lost.
        (Ok(()) | Err(Error::Reported | Error::Ended(_)), Err(lost)) => Err(lost),
        (result, _) => result,
    };
    match result {
        Ok(()) => SUCCESS,
        Err(Error::Output {
            broken_pipe: true, ..
        }) => cli::broken_pipe(),
        Err(Error::Reported) => FAILURE,
        Err(Error::Ended(code)) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> u8 {
    // Nothing is left to be done about a stderr that cannot be written.
    let _ = writeln!(io::stderr(), "{error}");
    FAILURE
}
