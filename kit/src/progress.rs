// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What long work tells whoever shows it. Nothing here prints.

use std::sync::Arc;

/// One thing worth showing while something long goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step starts: `unpack linux-image-…`.
    Step(&'a str),
    /// How far the present step is, in bytes.
    Bytes { done: u64, total: u64 },
    /// The present step is over.
    Done,
    /// The same, and somebody else says what came of it.
    Dropped,
}

/// A shared callback. Cheap to clone; may be called from several threads.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Event<'_>) + Send + Sync>);

impl Progress {
    pub fn new(show: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    pub fn tell(&self, event: Event<'_>) {
        (self.0)(event);
    }

    pub fn step(&self, text: &str) {
        self.tell(Event::Step(text));
    }

    /// Ends a step without a line for it.
    pub fn drop_step(&self) {
        self.tell(Event::Dropped);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::silent()
    }
}
