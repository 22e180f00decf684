// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices as text: for people, for scripts, as a configuration file and as JSON.
//!
//! Pure: the clock, the environment, the terminal and the names of interfaces come in as
//! [`Options`]. Printers take structs apart without `..`, so that a new field of the model does
//! not compile until each of them has dealt with it.

pub mod conf;
pub mod doctor;
pub mod fields;
pub mod json;
pub mod pretty;

use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::Names;
use crate::key::Key;

/// What the printers must not find out for themselves.
#[derive(Clone, Copy)]
pub struct Options {
    pub colour: bool,
    pub hide_keys: bool,
    /// Time since the epoch.
    pub now: Duration,
    pub names: Names,
}

/// Said of a device whose sockets may be in another network namespace.
const CONTESTED: &str = "not proven: fewer sockets are on its port than interfaces have it";

/// A secret as text, or `(hidden)`.
fn masked(key: &Key, hide: bool) -> Zeroizing<String> {
    if hide {
        Zeroizing::new("(hidden)".to_owned())
    } else {
        key.to_base64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bind, Device, Family, Fault, Presence, Selector};
    use crate::parse::words::Field;

    fn device(fwmark: u32, bind: Bind) -> Device {
        Device {
            name: "wg0".to_owned(),
            private_key: None,
            public_key: None,
            listen_port: 51001,
            fwmark,
            bind,
            receives: None,
            peers: Vec::new(),
        }
    }

    fn text(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    fn rules(dev: Option<String>, by: Selector) -> Bind {
        Bind::Rules {
            dev,
            by,
            table: 1023,
            faults: Vec::new(),
            elsewhere: Some(false),
        }
    }

    #[test]
    fn json_of_bindings() {
        let json = |bind| {
            let options = Options {
                colour: false,
                hide_keys: true,
                now: Duration::ZERO,
                names: Names {
                    interface: |_| None,
                },
            };
            let text = text(|out| json::print(&[device(0, bind)], &options, out));
            text.split_whitespace().collect::<String>()
        };
        let vrf = || "vrf_external".to_owned();
        assert!(!json(Bind::Off).contains("bindDev"));
        for (bind, wanted) in [
            (
                Bind::Kernel {
                    dev: vrf(),
                    presence: Presence::Present,
                },
                r#""device":"vrf_external","method":"kernel","receives":"bound","state":"bound""#,
            ),
            (
                Bind::Kernel {
                    dev: vrf(),
                    presence: Presence::Missing,
                },
                r#""device":"vrf_external","method":"kernel","receives":"nothing","state":"missing""#,
            ),
            (
                rules(Some(vrf()), Selector::Mark(7)),
                r#""device":"vrf_external","method":"fwmark","state":"bound""#,
            ),
            (
                rules(None, Selector::Mark(7)),
                r#""device":null,"method":"fwmark","state":"missing""#,
            ),
            (
                Bind::Unknown {
                    why: "reasons".to_owned(),
                },
                r#""device":null,"method":"unknown","state":"unknown","problems":["reasons"]"#,
            ),
        ] {
            let json = json(bind);
            assert!(
                json.contains(&format!(r#""bindDev":{{{wanted}}}"#)),
                "{json}"
            );
        }
    }

    /// Every way to be bound, and what each printer says about it.
    #[test]
    fn bindings() {
        let names = Names {
            interface: |_| None,
        };
        let options = Options {
            colour: false,
            hide_keys: true,
            now: Duration::ZERO,
            names,
        };
        let vrf = || "vrf_external".to_owned();
        let fwmark = |mark| rules(Some(vrf()), Selector::Mark(mark));
        let kernel = |presence| Bind::Kernel {
            dev: vrf(),
            presence,
        };
        let gone = rules(None, Selector::Mark(0x3ff));
        let derived = 0x7700_00ff;
        let unknown = || Bind::Unknown {
            why: "Cannot read the policy rules: No buffer space available".to_owned(),
        };
        for (mark, bind, line, word, conf) in [
            (0, Bind::Off, "", "off", ""),
            (0, unknown(), "", "(unknown)", ""),
            (
                0,
                kernel(Presence::Present),
                "  bind device: vrf_external\n",
                "vrf_external",
                "BindDev = vrf_external\n",
            ),
            (
                7,
                kernel(Presence::Present),
                "  bind device: vrf_external\n",
                "vrf_external",
                "FwMark = 0x7\nBindDev = vrf_external\n",
            ),
            (
                0,
                kernel(Presence::Missing),
                "  bind device: vrf_external (missing)\n",
                "vrf_external",
                "BindDev = vrf_external\n",
            ),
            (
                0,
                kernel(Presence::Unbound),
                "  bind device: vrf_external (the sockets are not bound to it)\n",
                "vrf_external",
                "BindDev = vrf_external\n",
            ),
            (
                0,
                kernel(Presence::Unused),
                "  bind device: vrf_external (there are no sockets on it)\n",
                "vrf_external",
                "BindDev = vrf_external\n",
            ),
            (
                0x3ff,
                fwmark(0x3ff),
                "  bind device: vrf_external (fwmark 0x3ff)\n",
                "vrf_external",
                "FwMark = 0x3ff\nBindDev = vrf_external\n",
            ),
            // A mark of our own choice is derived again, so it is not written down.
            (
                derived,
                fwmark(derived),
                "  bind device: vrf_external (fwmark 0x770000ff)\n",
                "vrf_external",
                "BindDev = vrf_external\n",
            ),
            // Without its VRF the table is all there is to say, and it keeps the tunnel closed.
            (
                0x3ff,
                gone,
                "  bind device: (missing) (fwmark 0x3ff, table 1023)\n",
                "(missing)",
                "FwMark = 0x3ff\nBindDev = table:1023\n",
            ),
            (
                0,
                rules(Some("red#1".to_owned()), Selector::Port(51001)),
                "  bind device: red#1 (source port 51001)\n",
                "red#1",
                "BindDev = red%231\n",
            ),
            (
                0,
                rules(Some("red\u{1b}c".to_owned()), Selector::Port(51001)),
                "  bind device: red?c (source port 51001)\n",
                "red\u{1b}c",
                "BindDev = red%1bc\n",
            ),
            (
                7,
                Bind::Rules {
                    dev: Some(vrf()),
                    by: Selector::Mark(7),
                    table: 1023,
                    faults: Vec::new(),
                    elsewhere: Some(true),
                },
                "  bind device: vrf_external (fwmark 0x7, not bound: its sockets are in another \
                 network namespace)\n",
                "vrf_external",
                "FwMark = 0x7\nBindDev = vrf_external\n",
            ),
            (
                7,
                Bind::Rules {
                    dev: Some(vrf()),
                    by: Selector::Mark(7),
                    table: 1023,
                    faults: vec![
                        (Family::V4, Fault::Overtaken { pref: 50 }),
                        (Family::V6, Fault::NotSteered),
                    ],
                    elsewhere: Some(false),
                },
                "  bind device: vrf_external (fwmark 0x7, IPv4 overtaken by rule 50, IPv6 not \
                 steered)\n",
                "vrf_external",
                "FwMark = 0x7\nBindDev = vrf_external\n",
            ),
        ] {
            let device = device(mark, bind);
            let mark = match mark {
                0 => String::new(),
                mark => format!("  fwmark: {mark:#x}\n"),
            };
            assert_eq!(
                text(|out| pretty::print(&device, &options, out)),
                format!("interface: wg0\n  listening port: 51001\n{mark}{line}")
            );
            assert_eq!(
                text(|out| fields::print(&device, Field::BindDev, None, &names, out)),
                format!("{word}\n")
            );
            assert_eq!(
                text(|out| conf::print(&device, &names, out)),
                format!("[Interface]\nListenPort = 51001\n{conf}\n")
            );
            // Four columns and the kernel's truth, whatever the binding.
            let dump = text(|out| fields::print(&device, Field::Dump, None, &names, out));
            assert_eq!(dump.split('\t').count(), 4);
            let truth = text(|out| fields::print(&device, Field::FwMark, None, &names, out));
            assert!(dump.ends_with(&format!("\t{truth}")));
        }
    }
}
