// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The pictures of the results page. Coordinates are whole numbers and nothing depends on time or
//! place: the same values give the same bytes. Colours follow the reader's light or dark.

use std::fmt::Write as _;

use crate::matrix::junit::escape;

const STYLE: &str = "\
  <style>
    text { fill: #1f2328; font: 13px system-ui, sans-serif }
    .small { font-size: 11px; fill: #59636e }
    .head { font-weight: 600 }
    .back { fill: #ffffff }
    .line { stroke: #8c959f; fill: none }
    .box { fill: #f6f8fa; stroke: #8c959f }
    .own { fill: #ddf4ff; stroke: #0969da }
    .out { fill: #fff1e5; stroke: #bc4c00 }
    .dev { fill: #ffffff; stroke: #8c959f }
    .clear { stroke: #0969da; fill: none; stroke-width: 2 }
    .secret { stroke: #bc4c00; fill: none; stroke-width: 2 }
    .c0 { fill: #6e7781 } .c1 { fill: #1a7f37 } .c2 { fill: #bc4c00 } .c3 { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small { fill: #9198a1 }
      .back { fill: #0d1117 }
      .line { stroke: #656c76 }
      .box { fill: #151b23; stroke: #656c76 }
      .own { fill: #0c2d6b; stroke: #4493f8 }
      .out { fill: #3d1e00; stroke: #f0883e }
      .dev { fill: #0d1117; stroke: #656c76 }
      .clear { stroke: #4493f8 }
      .secret { stroke: #f0883e }
      .c0 { fill: #9198a1 } .c1 { fill: #3fb950 } .c2 { fill: #f0883e } .c3 { fill: #4493f8 }
    }
  </style>
";

/// One panel: a title, the unit, and groups of bars with a value for each of the series.
pub struct Panel {
    pub title: String,
    pub groups: Vec<(String, Vec<Option<u64>>)>,
}

/// Panels of horizontal bars, one under the other, with one legend.
pub fn bars(title: &str, series: &[&str], panels: &[Panel]) -> String {
    const LEFT: i64 = 190;
    const WIDTH: i64 = 520;
    const BAR: i64 = 14;
    let mut body = String::new();
    let mut y = 34;
    for (index, name) in series.iter().enumerate() {
        let x = 20 + index as i64 * 180;
        let _ = writeln!(
            body,
            "  <rect class=\"c{index}\" x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            x + 18,
            y + 11,
            escape(name)
        );
    }
    y += 40;
    for panel in panels {
        let values = panel.groups.iter().flat_map(|(_, v)| v.iter().flatten());
        let most = values.max().copied().unwrap_or(1).max(1);
        let _ = writeln!(
            body,
            "  <text class=\"head\" x=\"20\" y=\"{y}\">{}</text>",
            escape(&panel.title)
        );
        y += 12;
        for (name, values) in &panel.groups {
            let middle = y + (values.len() as i64 * BAR) / 2 + 4;
            let _ = writeln!(
                body,
                "  <text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
                LEFT - 10,
                escape(name)
            );
            for (index, value) in values.iter().enumerate() {
                let (width, text) = match value {
                    // Integers: the same on every machine.
                    Some(value) => (
                        (*value as i128 * WIDTH as i128 / most as i128) as i64,
                        thousands(*value),
                    ),
                    None => (0, "not measured".to_owned()),
                };
                let _ = writeln!(
                    body,
                    "  <rect class=\"c{index}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" \
                     height=\"{}\"/><text class=\"small\" x=\"{}\" y=\"{}\">{text}</text>",
                    BAR - 3,
                    LEFT + width + 6,
                    y + BAR - 4
                );
                y += BAR;
            }
            y += 10;
        }
        y += 22;
    }
    document(820, y, title, &body)
}

/// `12 345`, with a narrow blank.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The network of the scenarios front-door-v4 and front-door-v6 (vm-tests/guest/front-door.sh).
pub fn topology() -> String {
    let mut body = String::new();
    let mut rect = |class: &str, [x, y, w, h]: [i64; 4], label: &str| {
        let _ = writeln!(
            body,
            "  <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"6\"/>"
        );
        let (class, x, y, anchor) = match class {
            "dev" => ("", x + w / 2, y + h / 2 + 4, "middle"),
            _ => ("head", x + 12, y + 20, "start"),
        };
        let _ = writeln!(
            body,
            "  <text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>"
        );
    };
    for (site, mirror) in [("site1", false), ("site2", true)] {
        // The second site is the first one in a mirror.
        let at = |[x, y, w, h]: [i64; 4]| {
            if mirror {
                [900 - x - w, y, w, h]
            } else {
                [x, y, w, h]
            }
        };
        rect("box", at([20, 40, 350, 200]), &format!("namespace {site}"));
        rect("own", at([34, 72, 190, 154]), "default VRF");
        rect("out", at([236, 72, 122, 154]), "vrf_external");
        rect("dev", at([48, 104, 70, 34]), "lan0");
        rect("dev", at([134, 104, 78, 34]), "wg-cr02");
        rect("dev", at([48, 178, 70, 34]), "core0");
        rect("dev", at([274, 104, 70, 34]), "wan0");
        rect(
            "box",
            at([20, 290, 126, 70]),
            &format!("decoy{}", &site[4..]),
        );
        rect("dev", at([48, 316, 70, 34]), "up0");
    }
    rect("box", [400, 40, 100, 200], "internet");
    rect("dev", [412, 104, 34, 34], "i1");
    rect("dev", [454, 104, 34, 34], "i2");
    for (class, path) in [
        ("clear", "M118 121H134"),
        ("clear", "M782 121H766"),
        ("secret", "M212 121H274"),
        ("secret", "M688 121H626"),
        ("secret", "M344 121H412"),
        ("secret", "M556 121H488"),
        ("secret", "M446 121H454"),
        ("line", "M83 212V316"),
        ("line", "M817 212V316"),
    ] {
        let _ = writeln!(body, "  <path class=\"{class}\" d=\"{path}\"/>");
    }
    for (x, y, text) in [
        (
            450,
            272,
            "blue: plain packets of the tunnel; orange: its encrypted UDP, in vrf_external only",
        ),
        (
            450,
            316,
            "The decoys have the default VRFs' default routes: an encrypted packet",
        ),
        (450, 334, "that missed its VRF would be seen there."),
    ] {
        let _ = writeln!(
            body,
            "  <text class=\"small\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>"
        );
    }
    document(900, 380, "The network of the front-door scenarios", &body)
}

fn document(width: i64, height: i64, title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n  \
         <!-- SPDX-License-Identifier: GPL-2.0-only OR MIT; written by cargo xtask results -->\n\
         {STYLE}  <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n  \
         <text class=\"head\" x=\"20\" y=\"22\">{title}</text>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let panel = Panel {
            title: "a < b".into(),
            groups: vec![
                ("one".into(), vec![Some(100), Some(50)]),
                ("two".into(), vec![None, Some(25)]),
            ],
        };
        let svg = bars("T & U", &["x", "y"], &[panel]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let widths: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "rect")))
            .filter(|n| n.attribute("x") == Some("190"))
            .map(|n| n.attribute("width").unwrap().to_owned())
            .collect();
        assert_eq!(widths, ["520", "260", "0", "130"]);
        assert!(svg.contains("not measured") && svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_topology_is_well_formed_and_names_what_is_in_it() {
        let svg = topology();
        roxmltree::Document::parse(&svg).unwrap();
        let library = include_str!("../../guest/front-door.sh");
        for name in [
            "wg-cr02",
            "vrf_external",
            "lan0",
            "core0",
            "wan0",
            "up0",
            "internet",
            "decoy1",
        ] {
            assert!(
                svg.contains(&format!(">{name}<")) || svg.contains(name),
                "{name}"
            );
            assert!(library.contains(name), "{name} is in the picture only");
        }
        assert_eq!(svg, topology());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(5), "5");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
