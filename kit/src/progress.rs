// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The progress of long work, and [`Screen`], which shows it: a line on stderr for each step with
//! the time it took, and on a terminal what runs now. A thread has one step at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Without a terminal a step says that it is still alive this often.
const ALIVE: Duration = Duration::from_secs(60);

/// Takes the steps of long work; the default shows none. Cheap to clone; may be used from several
/// threads.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<Arc<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    lines: MultiProgress,
    steps: Mutex<HashMap<ThreadId, Step>>,
    /// The progress of the whole.
    head: Mutex<Option<ProgressBar>>,
}

#[derive(Debug)]
struct Step {
    text: String,
    since: Instant,
    line: ProgressBar,
}

impl Progress {
    /// A step starts on this thread: `unpack linux-image-…`.
    pub fn begin_step(&self, text: &str) {
        self.end_step();
        let Some(shown) = &self.0 else { return };
        let line = shown.lines.add(ProgressBar::new_spinner());
        line.set_message(text.to_owned());
        line.enable_steady_tick(Duration::from_millis(200));
        let step = Step {
            text: text.to_owned(),
            since: Instant::now(),
            line,
        };
        shown.lock_steps().insert(thread::current().id(), step);
    }

    /// The present step is over: a line says how long it took.
    pub fn end_step(&self) {
        let Some((shown, step)) = self.take_step() else {
            return;
        };
        let seconds = step.since.elapsed().as_secs_f64();
        shown.say_line(&format!("{seconds:>6.1} s  {}", step.text));
    }

    /// Ends a step without a line for it, where the caller prints the outcome.
    pub fn drop_step(&self) {
        self.take_step();
    }

    fn take_step(&self) -> Option<(&Shown, Step)> {
        let shown = self.0.as_ref()?;
        let step = shown.lock_steps().remove(&thread::current().id())?;
        step.line.finish_and_clear();
        Some((shown, step))
    }
}

impl Shown {
    fn lock_steps(&self) -> MutexGuard<'_, HashMap<ThreadId, Step>> {
        self.steps.lock().expect("no holder panics")
    }

    fn say_line(&self, text: &str) {
        self.lines.suspend(|| eprintln!("{text}"));
    }

    /// Says what has run for a while, where no line is redrawn.
    fn say_alive(&self) {
        let is_old = |step: &&Step| step.since.elapsed() >= ALIVE;
        for step in self.lock_steps().values().filter(is_old) {
            let seconds = step.since.elapsed().as_secs();
            self.say_line(&format!("{seconds:>6} s  … {}", step.text));
        }
        if let Some(head) = &*self.head.lock().expect("no holder panics") {
            self.say_line(&format!("          {}", head.message()));
        }
    }
}

/// The lines on stderr.
pub struct Screen {
    shown: Arc<Shown>,
}

impl Default for Screen {
    fn default() -> Self {
        let shown = Arc::new(Shown::default());
        if shown.lines.is_hidden() {
            let weak = Arc::downgrade(&shown);
            // Detached on purpose: it ends once the screen is gone.
            thread::spawn(move || {
                loop {
                    thread::sleep(ALIVE);
                    let Some(shown) = weak.upgrade() else { return };
                    shown.say_alive();
                }
            });
        }
        Self { shown }
    }
}

impl Screen {
    pub fn make_progress(&self) -> Progress {
        Progress(Some(Arc::clone(&self.shown)))
    }

    /// Shows the progress of the whole above the steps. An empty text ends it.
    pub fn show_head(&self, text: &str) {
        let mut head = self.shown.head.lock().expect("no holder panics");
        let line = head.get_or_insert_with(|| {
            let line = self.shown.lines.insert(0, ProgressBar::new_spinner());
            line.with_style(ProgressStyle::with_template("{msg}").expect("the template is sound"))
        });
        line.set_message(text.to_owned());
        if text.is_empty() {
            line.finish_and_clear();
            *head = None;
        }
    }

    /// A line that stays, above the live ones.
    pub fn say_line(&self, text: &str) {
        self.shown.say_line(text);
    }

    /// A line of the result: on stdout, between the live lines.
    pub fn print_result(&self, text: &str) {
        self.shown.lines.suspend(|| crate::println!("{text}"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // An error's message must not share the terminal with a live line.
        let _ = self.shown.lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thread_has_one_step_at_a_time() {
        let screen = Screen::default();
        let progress = screen.make_progress();
        progress.begin_step("one");
        progress.begin_step("two");
        let other = progress.clone();
        let beside = thread::spawn(move || other.begin_step("beside"));
        beside.join().unwrap();
        let texts = || {
            let steps = screen.shown.lock_steps();
            let texts = steps.values().map(|s| s.text.clone());
            texts.collect::<BTreeSet<_>>()
        };
        assert_eq!(texts(), ["beside", "two"].map(str::to_owned).into());
        progress.end_step();
        assert_eq!(texts(), ["beside".to_owned()].into());
    }
}
