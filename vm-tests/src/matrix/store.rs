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

use crate::matrix::data::{Data, FIRST_TRY, Known, Seen};
use crate::run::verdict::Kind;

pub struct Store {
    folder: PathBuf,
    committed: Data,
}

impl Store {
    /// `committed` is docs/results.json, or nothing where there is none.
    pub fn open(cache: &Cache, committed: Data) -> Result<Self> {
        let folder = cache.open_folder("results")?;
        Ok(Self { folder, committed })
    }

    /// Finds the observations of a cell with these inputs, made here or else elsewhere.
    pub fn find_seen(&self, ids: [&str; 3], inputs: &str) -> Option<Seen> {
        let [kernel, tool, scenario] = ids;
        let seen: Seen = match fs::read_to_string(self.find_place(ids, inputs)) {
            // Half a file is none: it is run again.
            Ok(text) => serde_json::from_str(&text).ok()?,
            Err(_) => match self.committed.find_known(kernel, tool, scenario)? {
                Known::Seen(seen) if seen.inputs == inputs => seen.clone(),
                _ => return None,
            },
        };
        (seen.outcome.get_kind() != Kind::Failed).then_some(seen)
    }

    /// The note of a cell that failed here before with these inputs, in this run or another.
    pub fn describe_failure(&self, ids: [&str; 3], inputs: &str) -> Option<String> {
        let text = fs::read_to_string(self.find_place(ids, inputs)).ok()?;
        let seen: Seen = serde_json::from_str(&text).ok()?;
        let now = format!("{FIRST_TRY} {}", seen.outcome);
        let now = (seen.outcome.get_kind() == Kind::Failed).then_some(now);
        seen.notes
            .into_iter()
            .chain(now)
            .find(|n| n.starts_with(FIRST_TRY))
    }

    /// Keeps a failure as well: a pass that came before is no comfort when the same inputs fail
    /// now.
    pub fn keep_seen(&self, ids: [&str; 3], seen: &Seen) -> Result<()> {
        let place = self.find_place(ids, &seen.inputs);
        let draft = place.with_extension(format!("draft-{}", std::process::id()));
        let text = serde_json::to_string(seen).expect("our own values have JSON");
        fs::write(&draft, text)?;
        Ok(fs::rename(&draft, &place)?)
    }

    /// The names go in as well: two cells with equal inputs are still two cells.
    fn find_place(&self, ids: [&str; 3], inputs: &str) -> PathBuf {
        let named = |key: Key, name: &&str| key.add_value("name", name);
        let key = ids.iter().fold(Key::new(), named);
        self.folder.join(key.add_value("seen", inputs).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::data::tests::read_sample;
    use crate::run::verdict::{Ending, Outcome};

    fn open_store(folder: &tempfile::TempDir, committed: Data) -> Store {
        Store::open(&Cache::open_at(folder.path()).unwrap(), committed).unwrap()
    }

    #[test]
    fn only_the_same_inputs_and_only_what_passed() {
        let folder = tempfile::tempdir().unwrap();
        let data = read_sample();
        // As another machine saw it, and as it is kept here.
        let committed = open_store(&folder, data.clone());
        let kept = open_store(&folder, Data::default());
        for store in [&committed, &kept] {
            for cell in &data.cells {
                let (ids, seen) = (cell.get_ids(), &cell.seen);
                let wanted = (seen.outcome.ending != Ending::Splat).then(|| seen.clone());
                assert_eq!(store.find_seen(ids, "key of all"), wanted, "{ids:?}");
                assert_eq!(store.find_seen(ids, "another key"), None);
                // It has no key where its inputs could not be read.
                assert_eq!(store.find_seen(ids, ""), None);
            }
            // Kept after the first round, for the second.
            for cell in &data.cells {
                kept.keep_seen(cell.get_ids(), &cell.seen).unwrap();
            }
        }
        let smoke = &data.cells[0];
        let mut seen = smoke.seen.clone();
        seen.outcome.ending = Ending::Panic;
        kept.keep_seen(smoke.get_ids(), &seen).unwrap();
        assert_eq!(committed.find_seen(smoke.get_ids(), "key of all"), None);
        // Told of those that follow, whatever came of them.
        for (ending, why) in [(Ending::Leak, "two"), (Ending::Passed, "")] {
            let first = kept.describe_failure(smoke.get_ids(), "key of all");
            assert_eq!(first.as_deref(), Some("the first try came to: panic"));
            seen.outcome = Outcome::new(ending, why);
            seen.notes = first.into_iter().collect();
            kept.keep_seen(smoke.get_ids(), &seen).unwrap();
        }
        let other = kept.describe_failure(data.cells[1].get_ids(), "key of all");
        assert_eq!(other, None);
    }
}
