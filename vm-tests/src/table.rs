// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The tables of this crate (kernels, tools, trees): reading one, finding a row by its name.

use std::path::Path;

use serde::de::DeserializeOwned;

use kit::error::{Error, Result};

/// The folder of this crate, where scenarios and guest files are.
pub fn find_crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a table of ours; an error names the line.
pub(crate) fn parse_table<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.lines().count().max(1);
        Error::in_data(file, line, error.message().to_owned())
    })
}

/// Refuses a name that a table has twice.
pub(crate) fn check_names<'a>(
    file: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            let twice = format!("{what} `{name}' is there twice");
            return Err(Error::in_data(file, 1, twice));
        }
        seen.push(name);
    }
    Ok(())
}

/// The value of a name, or an error that lists the names.
pub(crate) fn find_named<T>(
    what: &str,
    name: &str,
    all: Vec<T>,
    name_of: impl Fn(&T) -> &str,
) -> Result<T> {
    let names: Vec<_> = all.iter().map(|v| name_of(v).to_owned()).collect();
    all.into_iter().find(|v| name_of(v) == name).ok_or_else(|| {
        let names = names.join(", ");
        Error::other(format!("no {what} `{name}'; there are: {names}"))
    })
}
