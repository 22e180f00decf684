// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Shows long work: one line for each step with the time it took, on stderr.
//!
//! On a terminal a last line, rewritten in place, shows what runs now. Steps of several threads
//! run side by side; a thread has one step at a time. Knows nothing of what the steps are.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::{Event, Progress};

/// Without a terminal a step says that it is still alive this often.
const ALIVE: Duration = Duration::from_secs(60);

struct Step {
    thread: ThreadId,
    text: String,
    since: Instant,
    said: Instant,
    bytes: Option<(u64, u64)>,
}

struct State {
    tty: bool,
    quiet: bool,
    running: Vec<Step>,
    /// How far the whole is; before the steps on the live line.
    head: String,
    head_said: Instant,
    drawn: bool,
}

/// The lines on stderr. Dropping it ends the live line.
pub struct Screen {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    started: Instant,
}

impl Screen {
    pub fn new() -> Self {
        Self::with(io::stderr().is_terminal(), false)
    }

    fn with(tty: bool, quiet: bool) -> Self {
        let state = Arc::new(Mutex::new(State {
            tty,
            quiet,
            running: Vec::new(),
            head: String::new(),
            head_said: Instant::now(),
            drawn: false,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        // Detached on purpose: it ends by itself within a tick after the screen is gone.
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(200));
                if let Ok(mut state) = shared.lock() {
                    state.tick();
                }
            }
        });
        Self {
            state,
            stop,
            started: Instant::now(),
        }
    }

    /// The callback that work reports to.
    pub fn progress(&self) -> Progress {
        let state = Arc::clone(&self.state);
        Progress::new(move |event| {
            let Ok(mut state) = state.lock() else { return };
            let thread = thread::current().id();
            match event {
                Event::Step(text) => {
                    state.finish(thread);
                    state.start(thread, text);
                }
                Event::Bytes { done, total } => {
                    if let Some(step) = state.running.iter_mut().find(|s| s.thread == thread) {
                        step.bytes = Some((done, total));
                    }
                }
                Event::Done => state.finish(thread),
                Event::Dropped => state.running.retain(|s| s.thread != thread),
            }
        })
    }

    /// How far the whole is: what the live line begins with. Empty ends it.
    pub fn head(&self, text: &str) {
        if let Ok(mut state) = self.state.lock() {
            text.clone_into(&mut state.head);
            state.draw();
        }
    }

    /// A line that stays, above the live one.
    pub fn say(&self, text: &str) {
        if let Ok(mut state) = self.state.lock() {
            state.line(text);
        }
    }

    /// A line of the result: on stdout, between the live lines.
    pub fn result(&self, text: &str) {
        if let Ok(mut state) = self.state.lock() {
            state.wipe();
            println!("{text}");
            state.draw();
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(mut state) = self.state.lock() {
            state.running.clear();
            state.wipe();
        }
    }
}

impl State {
    fn start(&mut self, thread: ThreadId, text: &str) {
        let now = Instant::now();
        self.running.push(Step {
            thread,
            text: text.to_owned(),
            since: now,
            said: now,
            bytes: None,
        });
        self.draw();
    }

    fn finish(&mut self, thread: ThreadId) {
        let Some(at) = self.running.iter().position(|s| s.thread == thread) else {
            return;
        };
        let step = self.running.remove(at);
        let size = match step.bytes {
            Some((_, total)) => format!(" ({})", megabytes(total)),
            None => String::new(),
        };
        let text = format!("{}  {}{size}", time(step.since.elapsed()), step.text);
        self.line(&text);
    }

    fn line(&mut self, text: &str) {
        self.wipe();
        if !self.quiet {
            eprintln!("{text}");
        }
        self.draw();
    }

    fn tick(&mut self) {
        if self.tty {
            self.draw();
            return;
        }
        let now = Instant::now();
        let mut late = Vec::new();
        if !self.head.is_empty() && now.duration_since(self.head_said) >= ALIVE {
            self.head_said = now;
            late.push(format!("          {}", self.head));
        }
        for step in &mut self.running {
            if now.duration_since(step.said) >= ALIVE {
                step.said = now;
                late.push(format!(
                    "{}  … {}",
                    time(now.duration_since(step.since)),
                    step.text
                ));
            }
        }
        for text in late {
            self.line(&text);
        }
    }

    fn draw(&mut self) {
        if !self.tty || self.quiet {
            return;
        }
        self.wipe();
        if self.running.is_empty() && self.head.is_empty() {
            return;
        }
        let parts: Vec<_> = Some(self.head.clone())
            .filter(|head| !head.is_empty())
            .into_iter()
            .chain(self.running.iter().map(Step::live))
            .collect();
        // 78: a line that wraps cannot be wiped again.
        let text: String = format!("       … {}", parts.join(" | "))
            .chars()
            .take(78)
            .collect();
        let mut out = io::stderr();
        // A screen that cannot be written to must not stop the work.
        let _ = write!(out, "{text}");
        let _ = out.flush();
        self.drawn = true;
    }

    fn wipe(&mut self) {
        if self.drawn {
            eprint!("\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Step {
    fn live(&self) -> String {
        let seconds = self.since.elapsed().as_secs();
        match self.bytes {
            Some((done, total)) if total > 0 => format!(
                "{} {} % of {}",
                self.text,
                done * 100 / total,
                megabytes(total)
            ),
            _ => format!("{} {seconds} s", self.text),
        }
    }
}

fn time(duration: Duration) -> String {
    format!("{:>6.1} s", duration.as_secs_f64())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_one_step_at_a_time() {
        let screen = Screen::with(false, true);
        let progress = screen.progress();
        progress.step("one");
        progress.step("two");
        let other = progress.clone();
        thread::spawn(move || other.step("beside")).join().unwrap();
        let texts = |screen: &Screen| -> Vec<String> {
            let state = screen.state.lock().unwrap();
            state.running.iter().map(|s| s.text.clone()).collect()
        };
        assert_eq!(texts(&screen), ["two", "beside"]);
        progress.tell(Event::Done);
        assert_eq!(texts(&screen), ["beside"]);
    }
}
