// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! An SMTP server on the loopback that takes every mail and delivers none.
//!
//! `export --dry-run` posts to it for real; what arrived is compared with what should have.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kit::{Error, Result};

/// A client that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(120);

/// A mail as it came over the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// MAIL FROM
    pub from: String,
    /// RCPT TO, in order
    pub to: Vec<String>,
    /// After DATA, with `\n` at line ends and without the dots that SMTP adds.
    pub text: String,
}

pub struct Sink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Arrived>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        let fail =
            |source: io::Error| Error::other(format!("cannot listen on 127.0.0.1: {source}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, stopped) = (Arc::clone(&mails), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client that breaks off has not delivered; the comparison sees that.
                if let Ok(stream) = stream {
                    let _ = talk(stream, &into);
                }
            }
        });
        Ok(Self {
            address,
            mails,
            stop,
            thread: Some(thread),
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that arrived; the server is gone afterwards.
    pub fn finish(mut self) -> Vec<Arrived> {
        self.close();
        self.mails.lock().map(|m| m.clone()).unwrap_or_default()
    }

    fn close(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread up from accept().
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.close();
        }
    }
}

/// One connection.
fn talk(stream: TcpStream, mails: &Mutex<Vec<Arrived>>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mut mail = Arrived::default();
    say(&mut out, "220 sink ready")?;
    while let Some(line) = line(&mut lines)? {
        let upper = line.to_ascii_uppercase();
        let word = upper.split([' ', ':']).next().unwrap_or_default();
        match word {
            "EHLO" => {
                say(&mut out, "250-sink")?;
                say(&mut out, "250-8BITMIME")?;
                say(&mut out, "250 SMTPUTF8")?;
            }
            "HELO" | "NOOP" => say(&mut out, "250 sink")?,
            "RSET" => {
                mail = Arrived::default();
                say(&mut out, "250 forgotten")?;
            }
            "MAIL" => {
                mail = Arrived {
                    from: path(&line),
                    ..Arrived::default()
                };
                say(&mut out, "250 sender")?;
            }
            "RCPT" => {
                mail.to.push(path(&line));
                say(&mut out, "250 recipient")?;
            }
            "DATA" => {
                say(&mut out, "354 go on")?;
                mail.text = data(&mut lines)?;
                if let Ok(mut mails) = mails.lock() {
                    mails.push(std::mem::take(&mut mail));
                }
                say(&mut out, "250 kept")?;
            }
            "QUIT" => return say(&mut out, "221 bye"),
            _ => say(&mut out, "502 unknown")?,
        }
    }
    Ok(())
}

fn say(out: &mut TcpStream, text: &str) -> io::Result<()> {
    out.write_all(format!("{text}\r\n").as_bytes())
}

fn line(lines: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if lines.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn data(lines: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let Some(line) = line(lines)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push('\n');
    }
}

/// `MAIL FROM:<a@b> SIZE=…` → `a@b`
fn path(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(line, |(path, _)| path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_mail_arrives_as_it_was_sent() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        let talk = "EHLO me\r\nMAIL FROM:<a@x.test> SIZE=3\r\nRCPT TO:<b@x.test>\r\n\
                    RCPT TO:<c@x.test>\r\nDATA\r\nSubject: pots\r\n\r\n..dot\r\n-- \r\n.\r\nQUIT\r\n";
        stream.write_all(talk.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("221 bye\r\n"), "{answer}");
        let mails = sink.finish();
        assert_eq!(
            mails,
            [Arrived {
                from: "a@x.test".to_owned(),
                to: vec!["b@x.test".to_owned(), "c@x.test".to_owned()],
                text: "Subject: pots\n\n.dot\n-- \n".to_owned(),
            }]
        );
    }

    #[test]
    fn a_mail_that_breaks_off_does_not_arrive() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        stream
            .write_all(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhalf")
            .unwrap();
        drop(stream);
        assert!(sink.finish().is_empty());
    }
}
