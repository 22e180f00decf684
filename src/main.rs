// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! argv and stdio in, exit code out. Knows no verb, no netlink and no syntax.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use wg_vrf::cli;
use wg_vrf::error::Error;
use zeroize::Zeroize;

/// Some fifty lines per write(2), and little to wipe.
const BUFFER: usize = 8 * 1024;

fn main() -> ExitCode {
    cli::protect_memory();
    let mut args = std::env::args_os();
    let program = args.next().map_or_else(
        || "wg".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let args = args.collect();
    // Not by std's own handle: it takes a descriptor that cannot be written for one that can.
    let out = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(out) => File::from(out),
        Err(err) => return fail(&Error::output(err)),
    };
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let result = cli::run(&program, args, &mut out);
    // What was printed before an error is part of the output, as in the reference.
    let flushed = out.flush().map_err(Error::output);
    if let (_, Ok(mut keys)) = out.into_parts() {
        keys.zeroize();
    }
    match result.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Output {
            broken_pipe: true, ..
        }) => cli::broken_pipe(),
        Err(Error::Reported) => ExitCode::FAILURE,
        Err(Error::Ended(code)) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    // Nothing is left to be done about a stderr that cannot be written.
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::FAILURE
}
