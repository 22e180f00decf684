// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verdicts of a run as a table on a terminal.

use crate::matrix::data::{Cell, Data, Kind};

/// The scenarios that were run, by kernel, for each tool; `-` is not applicable.
pub fn text(data: &Data) -> String {
    let mut text = String::new();
    for tool in &data.tools {
        let head = format!("with {}", tool.name);
        let mut rows = vec![vec![head]];
        rows[0].extend(data.kernels.iter().map(|k| k.name.clone()));
        for scenario in &data.scenarios {
            let cells: Vec<_> = data
                .kernels
                .iter()
                .map(|k| data.find(&k.name, &tool.name, &scenario.name))
                .collect();
            let kind = |c: &Option<&Cell>| c.map(|c| c.kind());
            if cells
                .iter()
                .all(|c| kind(c).is_none_or(|k| k == Kind::NotApplicable))
            {
                continue;
            }
            let mut row = vec![scenario.name.clone()];
            row.extend(cells.iter().map(|cell| {
                match kind(cell) {
                    Some(Kind::Passed) => "ok",
                    Some(Kind::Failed) => "FAILED",
                    Some(Kind::Skipped) => "skipped",
                    Some(Kind::NotApplicable) => "-",
                    None => "?",
                }
                .to_owned()
            }));
            rows.push(row);
        }
        if rows.len() > 1 {
            text += &kit::screen::align(&rows);
            text += "\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_scenario_that_ran() {
        let text = text(&crate::matrix::data::tests::sample());
        assert_eq!(
            text,
            "with ours  debian-6.1  patched-6.1\n\
             k-one      -           ok\n\
             smoke      ok          FAILED\n\
             \n\
             with c-sid  debian-6.1  patched-6.1\n\
             smoke       skipped     ok\n\
             \n"
        );
    }
}
