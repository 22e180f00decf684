// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Outcomes that were seen, kept by what they depend on: the full matrix takes longer than people
//! (and time limits) wait, so that a run can go on where another one ended.
//!
//! Only what says something counts: passed and skipped. What failed is always run again. What is
//! not kept here may stand in docs/results.json: another machine saw it, with the same inputs.

use std::path::PathBuf;

use fs_err as fs;
use kit::cache::Key;
use kit::{Cache, Result};

use crate::matrix::data::{Data, Kind, Seen};

pub struct Store {
    folder: PathBuf,
    committed: Data,
}

impl Store {
    /// `committed` is docs/results.json, or nothing where there is none.
    pub fn open(cache: &Cache, committed: Data) -> Result<Self> {
        Ok(Self {
            folder: cache.folder("results")?,
            committed,
        })
    }

    /// What was seen of a cell with these inputs, here or else elsewhere.
    pub fn find(&self, ids: [&str; 3], inputs: &str) -> Option<Seen> {
        let seen: Seen = match fs::read_to_string(self.place(ids, inputs)) {
            // Half a file is none: it is run again.
            Ok(text) => serde_json::from_str(&text).ok()?,
            Err(_) => {
                let [kernel, tool, scenario] = ids;
                let seen = self.committed.find(kernel, tool, scenario)?.seen()?;
                (seen.inputs == inputs).then(|| seen.clone())?
            }
        };
        matches!(seen.kind(), Kind::Passed | Kind::Skipped).then_some(seen)
    }

    /// Keeps a failure as well: a pass that came before is no comfort when the same inputs fail now.
    pub fn keep(&self, ids: [&str; 3], seen: &Seen) -> Result<()> {
        let place = self.place(ids, &seen.inputs);
        let draft = place.with_extension(format!("draft-{}", std::process::id()));
        fs::write(
            &draft,
            serde_json::to_string(seen).expect("our own values have JSON"),
        )?;
        Ok(fs::rename(&draft, &place)?)
    }

    /// The names go in as well: two cells with equal inputs are still two cells.
    fn place(&self, ids: [&str; 3], inputs: &str) -> PathBuf {
        let key = ids
            .iter()
            .fold(Key::new(), |key, name| key.add("name", name));
        self.folder.join(key.add("seen", inputs).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::data::tests::sample;
    use crate::run::verdict::Ending;

    fn open(folder: &tempfile::TempDir, committed: Data) -> Store {
        Store::open(&Cache::at(folder.path()).unwrap(), committed).unwrap()
    }

    #[test]
    fn only_the_same_inputs_and_only_what_passed() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, Data::default());
        let data = sample();
        let seen = data.cells.iter().filter_map(|c| Some((c.ids(), c.seen()?)));
        for (ids, seen) in seen {
            store.keep(ids, seen).unwrap();
            let wanted = (seen.outcome.ending != Ending::Splat).then(|| seen.clone());
            assert_eq!(store.find(ids, "key of all"), wanted, "{ids:?}");
            assert_eq!(store.find(ids, "another key"), None);
        }
    }

    #[test]
    fn what_another_machine_saw_counts_until_it_fails_here() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, sample());
        let smoke = ["debian-6.1", "ours", "smoke"];
        let mut seen = store.find(smoke, "key of all").unwrap();
        assert_eq!(store.find(smoke, "another key"), None);
        // It has no key where nobody could tell one.
        assert_eq!(store.find(smoke, ""), None);
        // Failed there: run again.
        assert_eq!(
            store.find(["patched-6.1", "ours", "smoke"], "key of all"),
            None
        );
        seen.outcome.ending = Ending::Panic;
        store.keep(smoke, &seen).unwrap();
        assert_eq!(store.find(smoke, "key of all"), None);
    }
}
