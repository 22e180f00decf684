// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Outcomes that were seen, kept by what they depend on: the full matrix takes longer than people
//! (and time limits) wait, so that a run can go on where another one ended.
//!
//! Only what says something counts: passed and skipped. What failed is always run again. What is
//! not kept here may stand in docs/results.tsv: another machine saw it, with the same inputs.

use std::fs;
use std::path::PathBuf;

use kit::cache::Key;
use kit::{Cache, Error, Result};

use crate::matrix::data::{Cell, Data, Kind, Seen, Verdict};

pub struct Store {
    folder: PathBuf,
    committed: Data,
}

impl Store {
    /// `committed` is docs/results.tsv, or nothing where there is none.
    pub fn open(cache: &Cache, committed: Data) -> Result<Self> {
        Ok(Self {
            folder: cache.folder("results")?,
            committed,
        })
    }

    /// What was seen of a cell with these inputs, here or else elsewhere.
    pub fn get(&self, [kernel, tool, scenario]: [&str; 3], inputs: &str) -> Option<Seen> {
        let place = self.place([kernel, tool, scenario], inputs);
        let seen = if place.exists() {
            // Half a file is none: it is run again.
            let data = Data::read(&place).ok()?;
            data.find(kernel, tool, scenario)?.seen()?.clone()
        } else {
            let seen = self.committed.find(kernel, tool, scenario)?.seen()?;
            (seen.inputs == inputs).then(|| seen.clone())?
        };
        counts(&seen).then_some(seen)
    }

    /// Keeps a failure as well: a pass that came before is no comfort when the same inputs fail now.
    pub fn put(&self, cell: &Cell, inputs: &str) -> Result<()> {
        let place = self.place([&cell.kernel, &cell.tool, &cell.scenario], inputs);
        if !matches!(cell.verdict, Verdict::Seen(_)) {
            return Ok(());
        }
        let data = Data {
            cells: vec![cell.clone()],
            ..Data::default()
        };
        let draft = place.with_extension(format!("draft-{}", std::process::id()));
        fs::write(&draft, data.text())
            .and_then(|()| fs::rename(&draft, &place))
            .map_err(Error::io("write", &place))
    }

    /// The names go in as well: two cells with equal inputs are still two cells.
    fn place(&self, names: [&str; 3], inputs: &str) -> PathBuf {
        let key = names
            .iter()
            .fold(Key::new(), |key, name| key.add("name", name))
            .add("inputs", inputs);
        self.folder.join(key.finish())
    }
}

fn counts(seen: &Seen) -> bool {
    matches!(seen.kind(), Kind::Passed | Kind::Skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::data::tests::sample;

    #[test]
    fn only_the_same_inputs_and_only_what_passed() {
        let root = std::env::temp_dir().join(format!("wg-vrf-store-{}", std::process::id()));
        let store = Store::open(&Cache::at(&root).unwrap(), Data::default()).unwrap();
        let names = |c: &Cell| [c.kernel.clone(), c.tool.clone(), c.scenario.clone()];
        let data = sample();
        for cell in &data.cells {
            store.put(cell, "key").unwrap();
        }
        let mut kept = 0;
        for cell in &data.cells {
            let names = names(cell);
            let names = [&*names[0], &names[1], &names[2]];
            let found = store.get(names, "key");
            let wanted = cell.seen().filter(|s| s.word != "splat").cloned();
            assert_eq!(found, wanted, "{names:?}");
            kept += usize::from(found.is_some());
            assert_eq!(store.get(names, "another key"), None);
        }
        assert_eq!(kept, 4);
        // What passed once and fails now is forgotten.
        let mut cell = data.cells[0].clone();
        let Verdict::Seen(seen) = &mut cell.verdict else {
            panic!("it was run")
        };
        seen.word = "failed".into();
        store.put(&cell, "key").unwrap();
        assert_eq!(store.get(["debian-6.1", "ours", "smoke"], "key"), None);
        kit::cache::remove(&root).unwrap();
    }

    #[test]
    fn what_another_machine_saw_counts_until_it_fails_here() {
        let root = std::env::temp_dir().join(format!("wg-vrf-elsewhere-{}", std::process::id()));
        let mut committed = sample();
        for cell in &mut committed.cells {
            if let Verdict::Seen(seen) = &mut cell.verdict {
                seen.inputs = "key".into();
            }
        }
        let store = Store::open(&Cache::at(&root).unwrap(), committed.clone()).unwrap();
        let smoke = ["debian-6.1", "ours", "smoke"];
        let cell = committed.find(smoke[0], smoke[1], smoke[2]).unwrap();
        assert_eq!(store.get(smoke, "key").as_ref(), cell.seen());
        assert_eq!(store.get(smoke, "another key"), None);
        // It has no key where nobody could tell one.
        assert_eq!(store.get(smoke, ""), None);
        // Failed there: run again.
        assert_eq!(store.get(["patched-6.1", "ours", "smoke"], "key"), None);
        let mut cell = cell.clone();
        if let Verdict::Seen(seen) = &mut cell.verdict {
            seen.word = "panic".into();
        }
        store.put(&cell, "key").unwrap();
        assert_eq!(store.get(smoke, "key"), None);
        kit::cache::remove(&root).unwrap();
    }
}
