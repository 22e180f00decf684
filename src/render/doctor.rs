// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg doctor` for people and as JSON; docs/doctor.md has the shape.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::doctor::{Finding, Gets, Level, Reach, Remedy, Report, Sends, Summary, Underlay};
use crate::error::shown;
use crate::model::Selector;

/// The version of the JSON's shape.
pub const SCHEMA: u32 = 1;

/// How many endpoints are told one by one.
const ENDPOINTS: usize = 8;

/// First how each device is bound, then what was found.
pub fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for summary in &report.devices {
        print_summary(summary, out)?;
    }
    for (at, finding) in report.findings.iter().enumerate() {
        if at > 0 || !report.devices.is_empty() {
            writeln!(out)?;
        }
        print_finding(finding, out)?;
    }
    if report.findings.is_empty() && !report.devices.is_empty() {
        writeln!(out, "\nnothing found")?;
    }
    Ok(())
}

fn print_summary(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let Summary {
        name,
        sends,
        gets,
        underlay,
        closed,
        elsewhere,
        reach,
    } = summary;
    writeln!(out, "interface: {}", shown(name))?;
    let mut line = |key: &str, value: String| writeln!(out, "  {key}: {}", shown(value));
    if *elsewhere {
        line("sockets", "in another network namespace".to_owned())?;
    }
    let place = underlay.as_ref().map_or("its VRF", |bound| &bound.name);
    line(
        "sends",
        match sends {
            Sends::Unknown => "cannot be told, the policy rules cannot be read".to_owned(),
            Sends::Unbound => "by every route of this host (not bound)".to_owned(),
            Sends::Attribute { dev } => format!("by {dev}, by the kernel's attribute"),
            Sends::Rules { by, table, ours } => {
                let whose = if *ours { "" } else { " that wg did not make" };
                match table {
                    Some(table) => format!("by {place}, by rules{whose} ({by} to table {table})"),
                    None => format!("nothing: only the closing rule is left ({by})"),
                }
            }
        },
    )?;
    if let Some(gets) = gets {
        line(
            "receives",
            match gets {
                Gets::BoundByKernel => format!("from {place} only, by the kernel's attribute"),
                Gets::BoundByHook => format!("from {place} only, its sockets are bound"),
                Gets::Everywhere => "from everywhere, its sockets are not bound".to_owned(),
                Gets::DefaultVrfOnly => "from everywhere but the VRFs".to_owned(),
                Gets::Nothing => "nothing".to_owned(),
                Gets::Lost => "only by those of its sockets that are bound".to_owned(),
                Gets::Other(devices) => format!("from {}, not {place}", devices.join(", ")),
                Gets::Down => "nothing, it is down".to_owned(),
                Gets::Unknown => "not known".to_owned(),
                Gets::Unclear => "cannot tell, other sockets have its port".to_owned(),
            },
        )?;
    }
    if let Some(underlay) = underlay {
        line("bound to", describe_underlay(underlay))?;
    }
    if let Some(closed) = closed {
        let text = if *closed {
            "yes: nothing leaves elsewhere"
        } else {
            "no"
        };
        line("closed", text.to_owned())?;
    }
    for one in reach.iter().take(ENDPOINTS) {
        line("to", describe_reach(one))?;
    }
    if reach.len() > ENDPOINTS {
        line("to", format!("{} more endpoints", reach.len() - ENDPOINTS))?;
    }
    Ok(())
}

fn describe_underlay(underlay: &Underlay) -> String {
    let Underlay {
        name,
        table,
        exists,
        up,
        members,
    } = underlay;
    if !exists {
        return format!("{name}, which does not exist");
    }
    let state = if *up { "up" } else { "down" };
    match table {
        Some(table) => {
            let members = if members.is_empty() {
                "no interface".to_owned()
            } else {
                members.join(", ")
            };
            format!("{name}: VRF with table {table}, {state}, with {members}")
        }
        None => format!("{name}: {state}"),
    }
}

fn describe_reach(reach: &Reach) -> String {
    let Reach {
        endpoint,
        out,
        table,
        source,
    } = reach;
    let Some(out) = out else {
        return format!("{endpoint}: no route");
    };
    let mut text = format!("{endpoint}: by {out}");
    if let Some(table) = table {
        text += &format!(", table {table}");
    }
    if let Some(source) = source {
        text += &format!(", from {source}");
    }
    text
}

fn print_finding(finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let Finding {
        code,
        level,
        device,
        text,
        remedy,
    } = finding;
    let subject = device
        .as_ref()
        .map_or_else(String::new, |device| format!("{device}: "));
    let note = match level {
        Level::Note => " (note)",
        Level::Problem | Level::Unseen => "",
    };
    writeln!(
        out,
        "{}{note}: {}.",
        code.name(),
        shown(format!("{subject}{text}"))
    )?;
    match remedy {
        Remedy::Run(commands) => commands
            .iter()
            .try_for_each(|command| writeln!(out, "    {}", shown(command))),
        Remedy::Do(words) => writeln!(out, "  What helps: {}.", shown(words)),
    }
}

/// The whole report as one object.
pub fn print_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Report { devices, findings } = report;
    let shape = ReportJson {
        schema: SCHEMA,
        interfaces: devices.iter().map(DeviceJson::new).collect(),
        findings: findings.iter().map(FindingJson::new).collect(),
    };
    let format = PrettyFormatter::with_indent(b"\t");
    let mut json = serde_json::Serializer::with_formatter(&mut *out, format);
    shape.serialize(&mut json)?;
    writeln!(out)
}

#[derive(Serialize)]
struct ReportJson<'a> {
    schema: u32,
    interfaces: Vec<DeviceJson<'a>>,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceJson<'a> {
    interface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    sends: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fwmark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receives: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exists: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<bool>,
    endpoints: Vec<ReachJson<'a>>,
}

impl<'a> DeviceJson<'a> {
    fn new(summary: &'a Summary) -> Self {
        let Summary {
            name,
            sends,
            gets,
            underlay,
            closed,
            elsewhere,
            reach,
        } = summary;
        let (by, table) = match sends {
            Sends::Rules { by, table, .. } => (Some(*by), *table),
            Sends::Unknown | Sends::Unbound | Sends::Attribute { .. } => (None, None),
        };
        let underlay = underlay.as_ref();
        DeviceJson {
            interface: name,
            device: underlay.map(|underlay| underlay.name.as_str()),
            sends: match sends {
                Sends::Unknown => "unknown",
                Sends::Unbound => "unbound",
                Sends::Attribute { .. } => "kernel",
                Sends::Rules { ours: false, .. } => "foreign-rules",
                Sends::Rules {
                    by: Selector::Mark(_),
                    ..
                } => "fwmark",
                Sends::Rules {
                    by: Selector::Port(_),
                    ..
                } => "port",
            },
            fwmark: match by {
                Some(Selector::Mark(mark)) => Some(mark),
                _ => None,
            },
            source_port: match by {
                Some(Selector::Port(port)) => Some(port),
                _ => None,
            },
            table: table.or_else(|| underlay.and_then(|underlay| underlay.table)),
            receives: match gets {
                _ if *elsewhere => Some("unknown"),
                None => None,
                Some(Gets::BoundByKernel | Gets::BoundByHook) => Some("bound"),
                Some(Gets::Everywhere | Gets::DefaultVrfOnly) => Some("any"),
                Some(Gets::Nothing | Gets::Lost) => Some("nothing"),
                Some(Gets::Other(_)) => Some("other"),
                Some(Gets::Down) => Some("down"),
                Some(Gets::Unknown | Gets::Unclear) => Some("unknown"),
            },
            exists: underlay.map(|underlay| underlay.exists),
            up: underlay.map(|underlay| underlay.up),
            members: underlay.map(|underlay| underlay.members.as_slice()),
            closed: *closed,
            endpoints: reach.iter().map(ReachJson::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct ReachJson<'a> {
    address: String,
    /// Null: no route.
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

impl<'a> ReachJson<'a> {
    fn new(reach: &'a Reach) -> Self {
        let Reach {
            endpoint,
            out,
            table,
            source,
        } = reach;
        ReachJson {
            address: endpoint.to_string(),
            device: out.as_deref(),
            table: *table,
            source: source.map(|source| source.to_string()),
        }
    }
}

#[derive(Serialize)]
struct FindingJson<'a> {
    code: &'static str,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
}

impl<'a> FindingJson<'a> {
    fn new(finding: &'a Finding) -> Self {
        let Finding {
            code,
            level,
            device,
            text,
            remedy,
        } = finding;
        let (commands, advice) = match remedy {
            Remedy::Run(commands) => (Some(commands.as_slice()), None),
            Remedy::Do(words) => (None, Some(words.as_str())),
        };
        FindingJson {
            code: code.name(),
            level: match level {
                Level::Problem => "problem",
                Level::Note => "note",
                Level::Unseen => "unseen",
            },
            interface: device.as_deref(),
            text,
            commands,
            advice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::codes::Code;

    fn report() -> Report {
        Report {
            devices: vec![Summary {
                name: "wg-cr02".to_owned(),
                sends: Sends::Rules {
                    by: Selector::Mark(0x7700_00ff),
                    table: Some(1023),
                    ours: true,
                },
                gets: Some(Gets::BoundByHook),
                underlay: Some(Underlay {
                    name: "vrf_external".to_owned(),
                    table: Some(1023),
                    exists: true,
                    up: true,
                    members: vec!["wan0".to_owned()],
                }),
                closed: Some(true),
                elsewhere: false,
                reach: vec![Reach {
                    endpoint: [203, 0, 113, 10].into(),
                    out: Some("wan0".to_owned()),
                    table: Some(1023),
                    source: Some([198, 51, 100, 10].into()),
                }],
            }],
            findings: vec![
                Finding {
                    code: Code::NotClosed,
                    level: Level::Problem,
                    device: Some("wg-cr02".to_owned()),
                    text: "it leaks".to_owned(),
                    remedy: Remedy::Run(vec!["wg set wg-cr02".to_owned()]),
                },
                Finding {
                    code: Code::LeakedRoute,
                    level: Level::Note,
                    device: None,
                    // A name that would move the cursor.
                    text: "by \x1b[2J".to_owned(),
                    remedy: Remedy::Do("nothing".to_owned()),
                },
            ],
        }
    }

    /// The first lines are the example of docs/doctor.md.
    #[test]
    fn text_is_what_the_page_shows() {
        let mut out = Vec::new();
        print(&report(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (summary, findings) = text.split_once("\n\n").unwrap();
        let page = include_str!("../../docs/doctor.md");
        let indented = format!("    {}\n", summary.replace('\n', "\n    "));
        assert!(page.contains(&indented), "{summary}");
        assert_eq!(
            findings,
            "not-closed: wg-cr02: it leaks.\n    wg set wg-cr02\n\n\
             leaked-route (note): by ?[2J.\n  What helps: nothing.\n"
        );
    }

    /// Only the closing rule is left, and nothing tells of which VRF.
    #[test]
    fn a_name_that_is_not_known_is_not_shown() {
        let mut report = report();
        let device = &mut report.devices[0];
        (device.underlay, device.closed) = (None, None);
        device.gets = Some(Gets::Other(vec!["vrf_other".to_owned()]));
        if let Sends::Rules { table, .. } = &mut device.sends {
            *table = None;
        }
        let (mut text, mut json) = (Vec::new(), Vec::new());
        print(&report, &mut text).unwrap();
        print_json(&report, &mut json).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("receives: from vrf_other, not its VRF\n"),
            "{text}"
        );
        assert!(!text.contains("bound to"), "{text}");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["interfaces"][0].get("device"), None);
    }

    /// Each member is in the tables of docs/doctor.md.
    #[test]
    fn json_has_the_documented_members() {
        let mut out = Vec::new();
        print_json(&report(), &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let (device, finding) = (&json["interfaces"][0], &json["findings"][0]);
        assert_eq!(json["schema"], 1);
        assert_eq!(device["sends"], "fwmark");
        assert_eq!(device["fwmark"], 0x7700_00ff_u32);
        assert_eq!(device["receives"], "bound");
        assert_eq!(device["endpoints"][0]["device"], "wan0");
        assert_eq!(finding["code"], "not-closed");
        assert_eq!(finding["level"], "problem");
        assert_eq!(finding["commands"][0], "wg set wg-cr02");
        assert_eq!(json["findings"][1]["advice"], "nothing");
        let page = include_str!("../../docs/doctor.md");
        for object in [device, finding, &device["endpoints"][0]] {
            for member in object.as_object().unwrap().keys() {
                assert!(page.contains(&format!("`{member}`")), "{member}");
            }
        }
    }
}
