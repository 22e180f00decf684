// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A scripted userspace device: answers `get=1` with a given state, records every `set=1`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Default)]
struct Shared {
    state: String,
    errno: i32,
    sets: Vec<String>,
    /// How often it was asked for its state.
    gets: usize,
    ended: bool,
    /// Its answer to every request.
    raw: Option<Raw>,
    /// Takes changes and never says how they went.
    holds_sets: bool,
}

/// An answer as it is, right or wrong.
#[derive(Clone, Debug)]
pub struct Raw {
    pub answer: Vec<u8>,
    /// Keeps the connection after it, until the tool ends it.
    pub holds: bool,
    /// Reads so much of a request and no more.
    pub reads: usize,
}

/// A device that lives until it is dropped.
pub struct Device {
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
    server: Option<thread::JoinHandle<()>>,
}

impl Device {
    /// `state` is what follows `get=1`, without the last `errno=0`. `@now-5@` in it becomes the
    /// time five seconds before the answer. `errno` ends all answers, a negative one those to changes.
    pub fn start(name: impl AsRef<OsStr>, state: &str, errno: i32) -> Self {
        let mut path = OsString::from("/var/run/wireguard/");
        path.push(name);
        path.push(".sock");
        let path = PathBuf::from(path);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("listen");
        let shared = Arc::new(Mutex::new(Shared {
            state: state.to_owned(),
            errno,
            sets: Vec::new(),
            gets: 0,
            ended: false,
            raw: None,
            holds_sets: false,
        }));
        let served = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.lock().expect("device").ended {
                    break;
                }
                serve(stream, &served);
            }
        });
        Device {
            path,
            shared,
            server: Some(server),
        }
    }

    /// A device that breaks the protocol.
    pub fn start_raw(name: &str, raw: Raw) -> Self {
        let device = Device::start(name, "", 0);
        device.shared.lock().expect("device").raw = Some(raw);
        device
    }

    /// From now on a change is taken and not answered.
    pub fn hold_sets(&self) {
        self.shared.lock().expect("device").holds_sets = true;
    }

    /// The requests to change it, since the last call.
    pub fn take_sets(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().expect("device").sets)
    }

    /// How often it was asked for its state, since the last call.
    pub fn take_gets(&self) -> usize {
        std::mem::take(&mut self.shared.lock().expect("device").gets)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // The last visitor lets it see that it has ended.
        self.shared.lock().expect("device").ended = true;
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn serve(mut stream: UnixStream, shared: &Mutex<Shared>) {
    let mut request = Vec::new();
    let mut buffer = [0u8; 65536];
    let raw = shared.lock().expect("device").raw.clone();
    let enough = raw.as_ref().map_or(usize::MAX, |raw| raw.reads);
    while !request.ends_with(b"\n\n") && request.len() < enough {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(more) => request.extend_from_slice(&buffer[..more]),
        }
    }
    let ended = || shared.lock().map_or(true, |shared| shared.ended);
    if let Some(Raw { answer, holds, .. }) = raw {
        let _ = stream.write_all(&answer);
        // It says no more; a silent device that holds on is what the tool has to bear.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        while holds && !request.is_empty() && !ended() {
            if enough < usize::MAX {
                thread::sleep(Duration::from_millis(20));
            } else if matches!(stream.read(&mut buffer), Ok(0)) {
                break;
            }
        }
        return;
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let answer = {
        let mut shared = shared.lock().expect("device");
        let errno = shared.errno;
        if request.starts_with("get=1") {
            shared.gets += 1;
            format!("{}errno={}\n\n", at_now(&shared.state), errno.max(0))
        } else if request.is_empty() {
            // The tool only looked whether a device is here.
            return;
        } else {
            shared.sets.push(request);
            if shared.holds_sets {
                drop(shared);
                while !ended() {
                    thread::sleep(Duration::from_millis(20));
                }
                return;
            }
            format!("errno={}\n\n", errno.abs())
        }
    };
    let _ = stream.write_all(answer.as_bytes());
}

fn at_now(state: &str) -> String {
    let mut text = String::new();
    let mut parts = state.split('@');
    text += parts.next().unwrap_or_default();
    while let (Some(expression), Some(rest)) = (parts.next(), parts.next()) {
        let offset: i64 = expression
            .strip_prefix("now")
            .and_then(|offset| offset.parse().ok())
            .expect("@now-5@ or @now+5@");
        text += &(now() + offset).to_string();
        text += rest;
    }
    text
}

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    i64::try_from(now.as_secs()).expect("clock")
}
