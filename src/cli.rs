// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of verbs (name, help, usage, function) and the way from argv to one of them.
//!
//! Knows no sockets and no files. Texts are the reference's: scripts match on them.

use std::ffi::OsString;
use std::io::Write;

use clap::Command;

use crate::cmd;
use crate::error::{Error, Result};
use crate::parse::words;

/// What `wg --version` prints: scripts read this line to learn what the tool can do, so it names
/// the version of the reference that this tool stands in for.
pub const VERSION: &str = "wireguard-tools v1.0.20260223 - https://git.zx2c4.com/wireguard-tools/";

/// One call of the tool, as a verb sees it.
pub struct Call<'a> {
    /// argv[0], as the reference shows it in its usage texts.
    pub program: &'a str,
    pub verb: &'static Verb,
    /// Everything behind the verb.
    pub args: Vec<OsString>,
    pub out: &'a mut dyn Write,
}

impl Call<'_> {
    /// The error of a call with the wrong arguments.
    pub fn usage(&self) -> Error {
        Error::Invalid(self.usage_text())
    }

    pub fn usage_text(&self) -> String {
        let Verb { name, usage, .. } = self.verb;
        let arguments = usage();
        let space = if arguments.is_empty() { "" } else { " " };
        format!("Usage: {} {name}{space}{arguments}", self.program)
    }
}

/// A verb of the command line.
pub struct Verb {
    pub name: &'static str,
    pub help: &'static str,
    /// What follows `wg verb` in the usage text.
    pub usage: fn() -> String,
    pub run: fn(Call) -> Result<()>,
}

/// All verbs, in the order in which help shows them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "show",
        help: "Shows the current configuration and device information",
        usage: words::show_usage,
        run: cmd::show::run,
    },
    Verb {
        name: "showconf",
        help: "Shows the current configuration of a given WireGuard interface, for use with `setconf'",
        usage: || "<interface>".to_owned(),
        run: cmd::showconf::run,
    },
    Verb {
        name: "set",
        help: "Change the current configuration, add peers, remove peers, or change peers",
        usage: words::set_usage,
        run: cmd::set::run,
    },
    Verb {
        name: "setconf",
        help: "Applies a configuration file to a WireGuard interface",
        usage: conf_usage,
        run: cmd::conf::setconf,
    },
    Verb {
        name: "addconf",
        help: "Appends a configuration file to a WireGuard interface",
        usage: conf_usage,
        run: cmd::conf::addconf,
    },
    Verb {
        name: "syncconf",
        help: "Synchronizes a configuration file to a WireGuard interface",
        usage: conf_usage,
        run: cmd::conf::syncconf,
    },
    Verb {
        name: "genkey",
        help: "Generates a new private key and writes it to stdout",
        usage: String::new,
        run: cmd::keys::genkey,
    },
    Verb {
        name: "genpsk",
        help: "Generates a new preshared key and writes it to stdout",
        usage: String::new,
        run: cmd::keys::genpsk,
    },
    Verb {
        name: "pubkey",
        help: "Reads a private key from stdin and writes a public key to stdout",
        usage: String::new,
        run: cmd::keys::pubkey,
    },
];

fn conf_usage() -> String {
    "<interface> <configuration filename>".to_owned()
}

/// Runs what argv asks for; `args` is argv without argv[0].
pub fn run(program: &str, args: Vec<OsString>, out: &mut dyn Write) -> Result<()> {
    // Only alone do these words mean help and version; `wg help x` is an unknown subcommand.
    if let [word] = args.as_slice() {
        match word.to_str() {
            Some("-h" | "--help" | "help") => {
                return write!(out, "{}", help(program)).map_err(Error::output);
            }
            Some("-v" | "--version" | "version") => {
                return writeln!(out, "{VERSION}").map_err(Error::output);
            }
            _ => {}
        }
    }
    let first = args.first().cloned();
    let (verb, args) = match first {
        None => (verb("show"), Vec::new()),
        Some(_) => split(args),
    };
    let Some(verb) = verb else {
        let name = first.unwrap_or_default();
        return Err(Error::Invalid(format!(
            "Invalid subcommand: `{}'\n{}",
            name.to_string_lossy(),
            help(program).trim_end()
        )));
    };
    (verb.run)(Call {
        program,
        verb,
        args,
        out,
    })
}

/// The verb and what follows it. clap takes the line apart; the arguments of a verb are its own
/// affair (`wg show -h` is help, `wg showconf -h` is an interface), so they stay as they are.
fn split(args: Vec<OsString>) -> (Option<&'static Verb>, Vec<OsString>) {
    let first = args.first().cloned();
    let Ok(matches) = command().try_get_matches_from(args) else {
        return (None, Vec::new());
    };
    // `wg -- show` has a verb for clap; for the reference `--` would have to be one.
    let Some((name, matches)) = matches
        .subcommand()
        .filter(|(name, _)| first.is_some_and(|first| first == *name))
    else {
        return (None, Vec::new());
    };
    let args = matches
        .get_many::<OsString>("")
        .map(|args| args.cloned().collect())
        .unwrap_or_default();
    (verb(name), args)
}

/// The command line as clap sees it: a verb, then anything at all.
fn command() -> Command {
    Command::new("wg")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(clap::value_parser!(OsString))
}

fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

fn help(program: &str) -> String {
    let mut text = format!("Usage: {program} <cmd> [<args>]\n\nAvailable subcommands:\n");
    for verb in VERBS {
        text += &format!("  {}: {}\n", verb.name, verb.help);
    }
    text + "You may pass `--help' to any of these subcommands to view usage.\n"
}

/// The end of a call whose reader went away.
pub fn broken_pipe() -> ! {
    crate::sys::die_of_sigpipe()
}
