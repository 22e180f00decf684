// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the user wrote into an [`Update`]: names to addresses, key files to keys, and the `WG_*`
//! environment. The only step of a change that asks DNS, opens key files or reads the environment.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::address::parse_endpoint;
use crate::error::{Error, Result, shown, shown_path, shown_value};
use crate::input;
use crate::key::{BASE64_LEN, Key, PublicKey};
use crate::model::{AllowedIpUpdate, Change, Packed, PeerUpdate, Update};
use crate::parse::value::{self, Port};
use crate::parse::{AllowedIps, Draft, KeySource, Step};
use crate::plan::BindMode;
use crate::plan::receive::ReceiveMode;
use crate::sys::{self, LookupError};

/// Lookups at the same time. A thousand names in one file are many; more wait their turn.
const MAX_LOOKUPS: usize = 1024;
/// So many lookups start at once, further ones at this distance: each sends two packets, a name
/// server's socket holds some 270 of them, and a lost one costs its name seconds.
const BURST: usize = 64;
const DISTANCE: Duration = Duration::from_micros(500);
/// getaddrinfo(3) and its NSS modules keep their packets on the stack.
const LOOKUP_STACK: usize = 256 * 1024;
/// Pauses between tries, in microseconds, as the reference makes them.
const FIRST_PAUSE: u64 = 1_000_000;
const LONGEST_PAUSE: u64 = 20_000_000;

/// Lines for stderr, from any thread.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// How often a failed lookup is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    Times(u32),
    Forever,
}

impl Retries {
    const DEFAULT: Retries = Retries::Times(15);

    /// `WG_ENDPOINT_RESOLUTION_RETRIES`
    pub fn from_env() -> Result<Self> {
        let name = "WG_ENDPOINT_RESOLUTION_RETRIES";
        let Some(text) = env::var_os(name) else {
            return Ok(Retries::DEFAULT);
        };
        let text = text.to_string_lossy();
        Retries::parse(&text).ok_or_else(|| {
            Error::Invalid(format!("Unable to parse {name}: `{}'", shown_value(&text)))
        })
    }

    /// A number as strtoul(3) reads it: nothing at all is 0, blanks and a plus sign may lead.
    fn parse(text: &str) -> Option<Self> {
        if text == "infinity" {
            return Some(Retries::Forever);
        }
        if text.is_empty() {
            return Some(Retries::Times(0));
        }
        let number = text.trim_start_matches(value::is_space);
        let (digits, negative) = match number.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (number.strip_prefix('+').unwrap_or(number), false),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        match digits.parse::<i32>() {
            Ok(times) if !negative || times == 0 => Some(Retries::Times(times.unsigned_abs())),
            _ => None,
        }
    }
}

/// `WG_BIND_DEV_MODE`
pub fn bind_mode() -> Result<BindMode> {
    let name = "WG_BIND_DEV_MODE";
    let Some(text) = env::var_os(name) else {
        return Ok(BindMode::Auto);
    };
    match text.to_str() {
        Some("" | "auto") => Ok(BindMode::Auto),
        Some("kernel") => Ok(BindMode::Kernel),
        Some("fwmark") => Ok(BindMode::Fwmark),
        Some("port") => Ok(BindMode::Port),
        _ => Err(Error::Invalid(format!(
            "{name} is neither auto, kernel, fwmark nor port: `{}'",
            shown_value(&text.to_string_lossy())
        ))),
    }
}

/// `WG_BIND_DEV_RECEIVE`
pub fn receive_mode() -> Result<ReceiveMode> {
    let name = "WG_BIND_DEV_RECEIVE";
    let Some(text) = env::var_os(name) else {
        return Ok(ReceiveMode::Auto);
    };
    match text.to_str() {
        Some("" | "auto") => Ok(ReceiveMode::Auto),
        Some("any") => Ok(ReceiveMode::Any),
        Some("bound") => Ok(ReceiveMode::Bound),
        _ => Err(Error::Invalid(format!(
            "{name} is neither auto, any nor bound: `{}'",
            shown_value(&text.to_string_lossy())
        ))),
    }
}

/// A peer while its steps are being read; files may name its key last.
#[derive(Default)]
struct PeerDraft {
    /// There is one. Words of a peer come behind a `Step::Peer`; without one they change nothing.
    open: bool,
    public_key: Option<PublicKey>,
    remove: bool,
    replace_allowed_ips: bool,
    preshared_key: Change<Key>,
    endpoint: Option<SocketAddr>,
    /// The name of an endpoint is in [`Resolver::waiting`]; those that follow get in line.
    endpoint_waits: bool,
    persistent_keepalive: Change<u16>,
    allowed_ips: Packed<AllowedIpUpdate>,
}

impl PeerDraft {
    /// `None` without a public key.
    fn finish(self) -> Option<PeerUpdate> {
        let PeerDraft {
            open: _,
            public_key,
            remove,
            replace_allowed_ips,
            preshared_key,
            endpoint,
            endpoint_waits: _,
            persistent_keepalive,
            mut allowed_ips,
        } = self;
        allowed_ips.shrink_to_fit();
        Some(PeerUpdate {
            remove,
            replace_allowed_ips,
            preshared_key,
            endpoint,
            persistent_keepalive,
            allowed_ips,
            ..PeerUpdate::new(public_key?)
        })
    }
}

/// Looks everything up that `draft` names and applies it to `base`, which holds what applies
/// unless the draft says otherwise. Reports the first error in the order of the text.
pub fn resolve(draft: Draft, base: Update, say: &Say) -> Result<Update> {
    let Draft {
        steps,
        whole_peers,
        stopped,
    } = draft;
    let mut resolver = Resolver::new(base, whole_peers, say);
    for step in steps {
        if let Err(error) = resolver.apply(step) {
            return resolver.finish(Some(error));
        }
    }
    resolver.finish(stopped)
}

/// Applies steps as they come. Names are looked up at the end, all at the same time, and what the
/// user should hear after them is said then.
pub struct Resolver<'a> {
    update: Update,
    whole_peers: bool,
    say: &'a Say,
    /// The peer that steps are about.
    peer: PeerDraft,
    /// A peer before it has no public key.
    keyless: bool,
    /// Read where there is an endpoint.
    retries: Option<Result<Retries>>,
    waiting: Vec<Waiting>,
}

/// What has its turn once the names before it are known.
enum Waiting {
    Endpoint {
        /// Its number in the update.
        peer: usize,
        text: String,
    },
    Warning(String),
}

impl<'a> Resolver<'a> {
    /// `base` and `whole_peers` are those of [`resolve`] and [`Draft`].
    pub fn new(base: Update, whole_peers: bool, say: &'a Say) -> Self {
        Resolver {
            update: base,
            whole_peers,
            say,
            peer: PeerDraft::default(),
            keyless: false,
            retries: None,
            waiting: Vec::new(),
        }
    }

    /// Applies the next step.
    ///
    /// # Errors
    /// For [`Resolver::finish`], which knows whether one before it comes first.
    pub fn apply(&mut self, step: Step) -> Result<()> {
        let peer = &mut self.peer;
        match step {
            Step::PrivateKey(source) => self.update.private_key = resolve_secret(source)?,
            Step::ListenPort(text) => {
                self.update.listen_port =
                    resolve_port(&text).map_err(|error| wrap_error(self.whole_peers, error))?;
            }
            Step::FwMark(mark) => self.update.fwmark = mark,
            Step::BindDev(dev) => {
                self.update.bind_dev = dev;
                self.update.bind_dev_omitted = false;
            }
            Step::Peer => {
                self.close_peer();
                self.peer.open = true;
                self.peer.replace_allowed_ips = self.whole_peers;
            }
            Step::PublicKey(key) => peer.public_key = Some(key),
            Step::Remove => peer.remove = true,
            Step::PresharedKey(source) => peer.preshared_key = resolve_secret(source)?,
            Step::Endpoint(text) => {
                let retries = self.retries.get_or_insert_with(Retries::from_env);
                let numeric = match retries {
                    Ok(_) => find_numeric(&text),
                    Err(error) => Err(error.clone()),
                };
                match numeric.map_err(|error| wrap_error(self.whole_peers, error))? {
                    Some(addr) if !peer.endpoint_waits => peer.endpoint = Some(addr),
                    _ => {
                        peer.endpoint_waits = true;
                        let peer = self.update.peers.len();
                        self.waiting.push(Waiting::Endpoint { peer, text });
                    }
                }
            }
            Step::PersistentKeepalive(interval) => peer.persistent_keepalive = interval,
            Step::AllowedIps(list) => {
                let AllowedIps {
                    replace,
                    prefixes,
                    warnings,
                } = list;
                peer.replace_allowed_ips = replace;
                if peer.allowed_ips.is_empty() {
                    peer.allowed_ips = prefixes;
                } else {
                    peer.allowed_ips.append(&prefixes);
                }
                if self.waiting.is_empty() {
                    warnings.iter().for_each(|warning| (self.say)(warning));
                } else {
                    self.waiting
                        .extend(warnings.into_iter().map(Waiting::Warning));
                }
            }
        }
        Ok(())
    }

    fn close_peer(&mut self) {
        let peer = mem::take(&mut self.peer);
        if !peer.open {
            return;
        }
        match peer.finish() {
            None => self.keyless = true,
            Some(peer) => self.update.peers.push(peer),
        }
    }

    /// The update, where nothing `stopped` the text.
    ///
    /// # Errors
    /// The first one in the order of the text.
    pub fn finish(mut self, stopped: Option<Error>) -> Result<Update> {
        self.close_peer();
        if !self.waiting.is_empty() {
            let bound = match &self.update.bind_dev {
                Change::Set(dev) => Some(dev.clone()),
                _ => None,
            };
            let retries = self.retries.unwrap_or(Ok(Retries::DEFAULT))?;
            let mut names = NameLookups::start(&self.waiting, retries, bound, self.say);
            for waiting in self.waiting {
                match waiting {
                    Waiting::Warning(text) => (self.say)(&text),
                    Waiting::Endpoint { peer, text } => {
                        let found = names.find_address(&text);
                        let addr = found.map_err(|error| wrap_error(self.whole_peers, error))?;
                        if let Some(peer) = self.update.peers.get_mut(peer) {
                            peer.endpoint = Some(addr);
                        }
                    }
                }
            }
        }
        match stopped {
            Some(error) => Err(error),
            None if self.keyless => Err(Error::Invalid(
                "A peer is missing a public key\nInvalid configuration".to_owned(),
            )),
            None => Ok(self.update),
        }
    }
}

/// An error as a file has it.
fn wrap_error(in_file: bool, error: Error) -> Error {
    if in_file {
        Error::InFile(Box::new(error))
    } else {
        error
    }
}

/// The address of an endpoint without a name; `None` where it is one.
fn find_numeric(text: &str) -> Result<Option<SocketAddr>> {
    if let Some(found) = parse_endpoint(text.as_bytes()) {
        return Ok(Some(found));
    }
    let (host, service) = value::split_endpoint(text)?;
    let found = sys::look_up_name(Some(host), service, true).ok();
    if found.is_some() {
        check_port(service, text)?;
    }
    Ok(found)
}

fn resolve_port(text: &str) -> Result<Change<u16>> {
    if text.is_empty() {
        return Err(Error::Invalid("Unable to parse empty port".to_owned()));
    }
    let port = match sys::look_up_name(None, text, false) {
        Ok(found) => found.port(),
        Err(error) => {
            return Err(Error::Invalid(format!(
                "{}: `{}'",
                error.text(),
                shown_value(text)
            )));
        }
    };
    check_port(text, text)?;
    Ok(if port == 0 {
        Change::Clear
    } else {
        Change::Set(port)
    })
}

/// The reference takes 65536 for 0 without a word; this tool says so.
fn check_port(port: &str, whole: &str) -> Result<()> {
    match value::parse_port(port) {
        Port::TooLarge => Err(Error::Invalid(format!(
            "Port is not 0-65535: `{}'",
            shown_value(whole)
        ))),
        Port::Number(_) | Port::Name => Ok(()),
    }
}

fn resolve_secret(source: KeySource) -> Result<Change<Key>> {
    let key = match source {
        KeySource::Given(key) => Some(key),
        KeySource::File(path) => read_key_file(&path)?,
    };
    Ok(match key {
        Some(key) if !key.is_zero() => Change::Set(key),
        _ => Change::Clear,
    })
}

/// A key from a file or a pipe; `None` from `/dev/null` or an empty file.
fn read_key_file(path: &Path) -> Result<Option<Key>> {
    let mut file = input::open_input(path)?;
    let mut text = Zeroizing::new([0u8; BASE64_LEN]);
    let length = read_full(&mut file, text.as_mut_slice());
    // Nothing in a file that has positions is "no key"; nothing in a pipe is a broken script.
    if matches!(length, Ok(0)) && file.stream_position().is_ok() {
        return Ok(None);
    }
    if !matches!(length, Ok(BASE64_LEN)) {
        return Err(Error::Invalid(format!(
            "Invalid length key in key file: `{}'",
            shown_path(path)
        )));
    }
    let trailing = match input::trailing_byte(&mut file, false) {
        Ok(None) => None,
        Ok(Some(byte)) => Some(shown(char::from(byte))),
        Err(()) => Some("blanks without an end".to_owned()),
    };
    if let Some(trailing) = trailing {
        return Err(Error::Invalid(format!(
            "Found trailing character in key file: `{trailing}': `{}'",
            shown_path(path)
        )));
    }
    let text = std::str::from_utf8(text.as_slice()).unwrap_or_default();
    value::parse_secret_key(text).map(Some)
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(done)
}

/// Where the address of an endpoint is to come from.
#[derive(Clone, Copy)]
enum Lookup {
    /// It was one already.
    Done(SocketAddr),
    /// From this lookup in the background.
    Pending(usize),
}

/// All endpoint names that wait, being looked up at the same time.
struct NameLookups {
    retries: Retries,
    lookups: HashMap<String, Lookup>,
    answers: HashMap<usize, Result<SocketAddr>>,
    /// What the draft binds the device to.
    bound: Option<String>,
    incoming: mpsc::Receiver<(usize, Result<SocketAddr>)>,
    say: Say,
    /// Cleared at the end: what a thread has to say then would stand behind the error.
    heard: Arc<Mutex<bool>>,
}

impl Drop for NameLookups {
    fn drop(&mut self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl NameLookups {
    fn start(waiting: &[Waiting], retries: Retries, bound: Option<String>, say: &Say) -> Self {
        let (sender, incoming) = mpsc::channel();
        let mut names = NameLookups {
            retries,
            lookups: HashMap::new(),
            answers: HashMap::new(),
            bound,
            incoming,
            say: Arc::clone(say),
            heard: Arc::new(Mutex::new(true)),
        };
        let mut texts = Vec::new();
        for entry in waiting {
            let Waiting::Endpoint { text, .. } = entry else {
                continue;
            };
            if names.lookups.contains_key(text) {
                continue;
            }
            let Ok((host, service)) = value::split_endpoint(text) else {
                continue;
            };
            let lookup = match parse_numeric(text, host, service) {
                Some(addr) => Lookup::Done(addr),
                None => {
                    texts.push(text.clone());
                    Lookup::Pending(texts.len() - 1)
                }
            };
            names.lookups.insert(text.clone(), lookup);
        }
        let texts = Arc::new(texts);
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let say: Say = {
            let (say, heard) = (Arc::clone(say), Arc::clone(&names.heard));
            Arc::new(move |line| {
                // Held while it is said: a line is whole, or it is not there.
                let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                if *heard {
                    say(line);
                }
            })
        };
        for _ in 0..texts.len().min(MAX_LOOKUPS) {
            let (texts, next) = (Arc::clone(&texts), Arc::clone(&next));
            let (sender, say) = (sender.clone(), Arc::clone(&say));
            let work = move || {
                while let Some((number, text)) = take_next(&texts, &next) {
                    let turn = u32::try_from(number.saturating_sub(BURST)).unwrap_or(u32::MAX);
                    thread::sleep((DISTANCE * turn).saturating_sub(start.elapsed()));
                    // The receiver is gone once an earlier name has failed.
                    let _ = sender.send((number, look_up(text, retries, &say)));
                }
            };
            if thread::Builder::new()
                .stack_size(LOOKUP_STACK)
                .spawn(work)
                .is_err()
            {
                // No more threads: those that run take the rest.
                break;
            }
        }
        names
    }

    /// The address of one endpoint; waits for its lookup.
    fn find_address(&mut self, text: &str) -> Result<SocketAddr> {
        let (_, service) = value::split_endpoint(text)?;
        let found = self.find(text).map_err(|error| self.about_vrf(error))?;
        check_port(service, text)?;
        Ok(found)
    }

    fn find(&mut self, text: &str) -> Result<SocketAddr> {
        match self.lookups.get(text).copied() {
            // Every good endpoint of the draft was started; this one is looked up here.
            None => look_up(text, self.retries, &self.say),
            Some(Lookup::Done(addr)) => Ok(addr),
            Some(Lookup::Pending(number)) => loop {
                if let Some(answer) = self.answers.get(&number) {
                    break answer.clone();
                }
                match self.incoming.recv() {
                    Ok((number, answer)) => self.answers.insert(number, answer),
                    // Not one thread could be started: look it up here.
                    Err(_) => self
                        .answers
                        .insert(number, look_up(text, self.retries, &self.say)),
                };
            },
        }
    }

    /// A name may be known where the device is to send, and only there.
    fn about_vrf(&self, error: Error) -> Error {
        match &self.bound {
            Some(dev) => Error::Invalid(format!(
                "{error} (looked up in the VRF that wg runs in; if {0} is a VRF, \
                 `ip vrf exec {0} wg ...' looks there)",
                shown(dev)
            )),
            None => error,
        }
    }
}

/// The address that needs no name service. What Rust takes for one, the C library takes for the
/// same, and for more.
fn parse_numeric(text: &str, host: &str, service: &str) -> Option<SocketAddr> {
    match text.parse() {
        Ok(addr) => Some(addr),
        Err(_) => sys::look_up_name(Some(host), service, true).ok(),
    }
}

/// The next text that no thread has taken.
fn take_next<'a>(texts: &'a [String], next: &AtomicUsize) -> Option<(usize, &'a str)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    texts.get(number).map(|text| (number, text.as_str()))
}

/// One name, tried as often as the reference tries it and with the same words.
fn look_up(text: &str, retries: Retries, say: &Say) -> Result<SocketAddr> {
    let (host, service) = value::split_endpoint(text)?;
    let mut left = retries;
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match sys::look_up_name(Some(host), service, false) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let line = format!("{}: `{}'", error.text(), shown_value(text));
        left = match left {
            Retries::Forever => Retries::Forever,
            Retries::Times(times) if times > 0 => Retries::Times(times - 1),
            Retries::Times(_) => return Err(Error::Invalid(line)),
        };
        if is_final(error) {
            return Err(Error::Invalid(line));
        }
        say(&format!(
            "{line}. Trying again in {:.2} seconds...",
            pause as f64 / 1e6
        ));
        thread::sleep(Duration::from_micros(pause));
        pause = LONGEST_PAUSE.min(pause * 6 / 5);
    }
}

/// Answers that another try will not change.
fn is_final(error: LookupError) -> bool {
    matches!(
        error.0,
        libc::EAI_NONAME | libc::EAI_FAIL | libc::EAI_NODATA | libc::EAI_SERVICE
    )
}
