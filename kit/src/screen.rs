// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Text for a terminal.

use std::io::{ErrorKind, Write as _};

/// Writes a line on stdout. Unwinds without a word where the reader has gone: `vm list | head -1`.
pub fn write_line(text: std::fmt::Arguments<'_>) {
    match std::io::stdout().write_fmt(format_args!("{text}\n")) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => std::panic::resume_unwind(Box::new(err)),
        done => done.expect("write on stdout"),
    }
}

/// In place of std's, which panics aloud where the reader has gone.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::screen::write_line(format_args!($($text)*)) };
}

/// Rows as columns that begin under each other.
pub fn align_columns(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}
