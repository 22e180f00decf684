// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How long cells took in earlier runs: what estimates are made from, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::matrix::data::Data;

#[derive(Default)]
pub struct Times {
    cells: BTreeMap<[String; 3], f64>,
    /// The mean over the kernels.
    scenarios: BTreeMap<String, f64>,
}

impl Times {
    /// From the committed results, and over them those of the last runs here.
    pub fn load() -> Self {
        let mut times = Self::default();
        for file in super::sources() {
            // Without any, everything is estimated by its limit.
            if let Ok(data) = Data::read(&file) {
                times.add(&data);
            }
        }
        times
    }

    fn add(&mut self, data: &Data) {
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for cell in &data.cells {
            let Some(seen) = cell.seen().filter(|s| s.took > 0) else {
                continue;
            };
            let seconds = seen.took as f64 / 1000.0;
            let id = [&cell.kernel, &cell.tool, &cell.scenario].map(String::clone);
            self.cells.insert(id, seconds);
            let sum = sums.entry(&cell.scenario).or_default();
            *sum = (sum.0 + seconds, sum.1 + 1.0);
        }
        for (scenario, (sum, n)) in sums {
            self.scenarios.insert(scenario.to_owned(), sum / n);
        }
    }

    /// A guess where nothing is known: a scenario's limit is several times what it takes.
    pub fn seconds(&self, ids: [&str; 3], timeout: Duration) -> f64 {
        self.cells
            .get(&ids.map(str::to_owned))
            .or_else(|| self.scenarios.get(ids[2]))
            .copied()
            .unwrap_or(10.0 + timeout.as_secs_f64() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cell_then_the_scenario_then_the_limit() {
        let mut times = Times::default();
        times.add(&crate::matrix::data::tests::sample());
        let limit = Duration::from_secs(80);
        assert_eq!(
            times.seconds(["debian-6.1", "ours", "smoke"], limit),
            12.345
        );
        let other = times.seconds(["vanilla-7.3", "ours", "smoke"], limit);
        assert!((other - 12.345).abs() < 1e-9, "{other}");
        assert_eq!(times.seconds(["debian-6.1", "ours", "new"], limit), 30.0);
    }
}
