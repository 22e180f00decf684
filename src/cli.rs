// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of verbs (name, help, usage, function) and the way from argv to one of them.
//!
//! Knows no sockets and no files. Texts are the reference's: scripts match on them. So clap says
//! which verb it is and whether its arguments are as many as it takes, and none of its own texts
//! is shown.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::cmd::conf::{SYNC_OPTIONS, SyncOptions};
use crate::cmd::{self, Call, Output};
use crate::error::{Error, Result, shown_value};
use crate::parse::words;

/// What `wg --version` prints: scripts read this line to learn what the tool can do, so it names
/// the version of the reference that this tool stands in for.
pub const VERSION: &str = "wireguard-tools v1.0.20260223 - https://git.zx2c4.com/wireguard-tools/";

/// A verb of the command line.
pub struct Verb {
    pub name: &'static str,
    pub help: &'static str,
    /// What follows `wg verb` in the usage text.
    usage: fn() -> String,
    run: Run,
}

/// The function of a verb, by the arguments that it takes.
enum Run {
    Nothing(fn(Call) -> Result<()>),
    /// From none to two.
    Words(fn(Call, &[OsString]) -> Result<()>),
    Interface(fn(Call, &OsStr) -> Result<()>),
    InterfaceAndFile(fn(Call, &OsStr, &OsStr) -> Result<()>),
    /// Behind options, where there are more than two words.
    OptionsInterfaceAndFile(fn(Call, SyncOptions, &OsStr, &OsStr) -> Result<()>),
    /// At least one word behind the interface.
    InterfaceAndWords(fn(Call, &OsStr, &[OsString]) -> Result<()>),
}

/// All verbs, in the order in which help shows them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "show",
        help: "Shows the current configuration and device information",
        usage: words::show_usage,
        run: Run::Words(cmd::show::show),
    },
    Verb {
        name: "showconf",
        help: "Shows the current configuration of a given WireGuard interface, for use with `setconf'",
        usage: || "<interface>".to_owned(),
        run: Run::Interface(cmd::showconf::showconf),
    },
    Verb {
        name: "set",
        help: "Change the current configuration, add peers, remove peers, or change peers",
        usage: words::set_usage,
        run: Run::InterfaceAndWords(cmd::set::set),
    },
    Verb {
        name: "setconf",
        help: "Applies a configuration file to a WireGuard interface",
        usage: conf_usage,
        run: Run::InterfaceAndFile(cmd::conf::setconf),
    },
    Verb {
        name: "addconf",
        help: "Appends a configuration file to a WireGuard interface",
        usage: conf_usage,
        run: Run::InterfaceAndFile(cmd::conf::addconf),
    },
    Verb {
        name: "syncconf",
        help: "Synchronizes a configuration file to a WireGuard interface",
        usage: sync_usage,
        run: Run::OptionsInterfaceAndFile(cmd::conf::syncconf),
    },
    Verb {
        name: "genkey",
        help: "Generates a new private key and writes it to stdout",
        usage: String::new,
        run: Run::Nothing(cmd::keys::genkey),
    },
    Verb {
        name: "genpsk",
        help: "Generates a new preshared key and writes it to stdout",
        usage: String::new,
        run: Run::Nothing(cmd::keys::genpsk),
    },
    Verb {
        name: "pubkey",
        help: "Reads a private key from stdin and writes a public key to stdout",
        usage: String::new,
        run: Run::Nothing(cmd::keys::pubkey),
    },
    Verb {
        name: "doctor",
        help: "Shows what keeps the packets of bound interfaces from their VRF, and what helps",
        usage: cmd::doctor::usage,
        run: Run::Words(cmd::doctor::doctor),
    },
    Verb {
        name: "reresolve",
        help: "Looks up the endpoints of silent peers again that a configuration file names",
        usage: conf_usage,
        run: Run::InterfaceAndFile(cmd::reresolve::reresolve),
    },
];

fn conf_usage() -> String {
    "<interface> <configuration filename>".to_owned()
}

fn sync_usage() -> String {
    let options: Vec<String> = SYNC_OPTIONS
        .iter()
        .map(|word| format!("[{word}] "))
        .collect();
    format!("{}{}", options.concat(), conf_usage())
}

/// Takes the options of `syncconf` out of argv. With two words behind the verb they are the
/// interface and the file, whatever they look like, as for the reference.
fn take_options(args: &mut Vec<OsString>) -> SyncOptions {
    let mut options = SyncOptions::default();
    while args.len() > 3 && args[0] == "syncconf" {
        match args[1].to_str() {
            Some("--dry-run") => options.dry_run = true,
            Some("--exit-code") => options.exit_code = true,
            _ => break,
        }
        args.remove(1);
    }
    options
}

/// Runs what argv asks for; `args` is argv without argv[0].
pub fn run(program: &str, mut args: Vec<OsString>, out: &mut Output) -> Result<()> {
    if args.is_empty() {
        args.push("show".into());
    }
    // Only alone do these words mean help and version; `wg help x` is an unknown subcommand.
    if let [word] = args.as_slice() {
        match word.to_str() {
            Some("-h" | "--help" | "help") => {
                return write!(out, "{}", help_text(program)).map_err(Error::output);
            }
            Some("-v" | "--version" | "version") => {
                return writeln!(out, "{VERSION}").map_err(Error::output);
            }
            _ => {}
        }
    }
    // Ours: for the reference, `version` is no verb.
    if let [verb, option] = args.as_slice() {
        if verb == "version" && option == "--all" {
            return cmd::version::print_all(VERSION, out);
        }
    }
    let verb = find_verb(&args[0]);
    let unknown = args[0].to_string_lossy().into_owned();
    let options = take_options(&mut args);
    let Some(verb) = verb else {
        let help = help_text(program);
        return Err(Error::Invalid(format!(
            "Invalid subcommand: `{}'{}\n{}",
            shown_value(&unknown),
            words::hint_at(&unknown, VERBS.iter().map(|verb| verb.name)),
            help.trim_end()
        )));
    };
    let usage = usage_text(program, verb);
    // Behind `--` all are values for clap: the reference has no options, and takes `-h` and `--`
    // for the name of an interface.
    args[0] = "--".into();
    let Ok(mut values) = describe_verb(verb).try_get_matches_from(args) else {
        return Err(Error::Invalid(usage));
    };
    let call = Call {
        program,
        usage: &usage,
        out,
    };
    let mut take = |name| values.remove_one::<OsString>(name).unwrap_or_default();
    match verb.run {
        Run::Nothing(run) => run(call),
        Run::Interface(run) => run(call, &take(INTERFACE)),
        Run::InterfaceAndFile(run) => run(call, &take(INTERFACE), &take(FILE)),
        Run::OptionsInterfaceAndFile(run) => run(call, options, &take(INTERFACE), &take(FILE)),
        Run::InterfaceAndWords(run) => {
            let interface = take(INTERFACE);
            run(call, &interface, &take_words(&mut values))
        }
        Run::Words(run) => run(call, &take_words(&mut values)),
    }
}

fn take_words(values: &mut ArgMatches) -> Vec<OsString> {
    values
        .remove_many::<OsString>(WORDS)
        .map(Iterator::collect)
        .unwrap_or_default()
}

const INTERFACE: &str = "interface";
const FILE: &str = "file";
const WORDS: &str = "words";

/// What stands behind a verb, as clap sees it.
fn describe_verb(verb: &Verb) -> Command {
    let value = |name| Arg::new(name).value_parser(value_parser!(OsString));
    let required = |name| value(name).required(true);
    let command = Command::new(verb.name)
        .no_binary_name(true)
        .disable_help_flag(true);
    match verb.run {
        Run::Nothing(_) => command,
        Run::Words(_) => command.arg(value(WORDS).num_args(0..=2)),
        Run::Interface(_) => command.arg(required(INTERFACE)),
        Run::InterfaceAndFile(_) | Run::OptionsInterfaceAndFile(_) => {
            command.args([required(INTERFACE), required(FILE)])
        }
        Run::InterfaceAndWords(_) => {
            command.args([required(INTERFACE), required(WORDS).num_args(1..)])
        }
    }
}

fn find_verb(name: &OsStr) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| name == verb.name)
}

fn usage_text(program: &str, verb: &Verb) -> String {
    let arguments = (verb.usage)();
    let space = if arguments.is_empty() { "" } else { " " };
    format!("Usage: {program} {}{space}{arguments}", verb.name)
}

fn help_text(program: &str) -> String {
    let mut text = format!("Usage: {program} <cmd> [<args>]\n\nAvailable subcommands:\n");
    for verb in VERBS {
        text += &format!("  {}: {}\n", verb.name, verb.help);
    }
    text + "You may pass `--help' to any of these subcommands to view usage.\n"
}

pub use crate::sys::enter;

/// What a process with keys does first.
pub fn protect_memory() {
    crate::sys::forbid_core_dumps();
}

/// The end of a call whose reader went away.
pub fn broken_pipe() -> ! {
    crate::sys::die_of_sigpipe()
}
