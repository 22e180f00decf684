// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A drop-in `wg` for Linux that can put the outside of a WireGuard device into a VRF.
//!
//! Each module owns one step of the way from an argument list to the kernel and back; none
//! reaches around its neighbour. See README.md for the map.

pub mod address;
pub mod backend;
pub(crate) mod bytes;
pub mod cli;
pub mod cmd;
pub mod doctor;
pub mod error;
pub mod ifname;
pub(crate) mod input;
pub mod key;
pub mod model;
pub mod parse;
pub mod plan;
pub mod render;
pub mod resolve;
pub(crate) mod sys;
pub mod wire;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn visit_sources(folder: &Path, visit: &mut impl FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit_sources(&path, visit);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                visit(&path, &fs::read_to_string(&path).expect("text"));
            }
        }
    }

    /// docs/migration.md and the scenario that goes through it.
    #[test]
    fn each_command_of_the_migration_is_run() {
        let page = include_str!("../docs/migration.md");
        let scenario = include_str!("../vm-tests/scenarios/u-migrate.sh");
        // Files, what `wg` prints, and the commands of `each_command_to_install_is_run`.
        let others = [
            "# /etc/",
            "auto ",
            "iface ",
            "vrf-table ",
            "[Interface]",
            "FwMark = ",
            "bind device: ",
            "receives: ",
            "systemctl ",
            "echo ",
            "rm ",
            "install ",
            "sed -i '/^ActivationPolicy",
            "sed -i 's/0x1023/",
            "sed -i 's/0x770000ff/",
        ];
        let is_run = |line: &&str| !others.iter().any(|start| line.starts_with(start));
        let commands: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .map(str::trim_start)
            .filter(is_run)
            .collect();
        assert!(commands.len() > 25, "{commands:?}");
        for command in commands {
            assert!(
                scenario.contains(command),
                "u-migrate does not run `{command}'"
            );
        }
    }

    const PROGRAMS: [&str; 8] = [
        "wg ", "ip ", "nft ", "ss ", "sysctl ", "ping ", "tcpdump ", "bpftool ",
    ];

    /// The commands of a page: each indented line, and what stands between backquotes.
    fn read_commands(page: &str) -> Vec<&str> {
        let mut commands = Vec::new();
        for line in page.lines() {
            if let Some(command) = line.strip_prefix("    ") {
                // A file of wg has its sections and settings.
                if !command.starts_with('[') && !command.contains(" = ") && !command.is_empty() {
                    assert!(is_command(command), "a block with no command: {line}");
                    commands.push(command);
                }
            } else {
                commands.extend(line.split('`').skip(1).step_by(2).filter(|c| is_command(c)));
            }
        }
        commands
    }

    fn is_command(text: &str) -> bool {
        PROGRAMS.iter().any(|program| text.starts_with(program))
    }

    /// The commands of these pages are run by a scenario, as they stand there.
    #[test]
    fn each_command_of_the_pages_is_run() {
        let scenario = include_str!("../vm-tests/scenarios/u-troubleshoot.sh");
        let code: Vec<&str> = scenario
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        let mut count = 0;
        for page in [
            include_str!("../docs/concepts.md"),
            include_str!("../docs/network.md"),
            include_str!("../docs/troubleshooting.md"),
        ] {
            for command in read_commands(page) {
                count += 1;
                assert!(
                    code.iter().any(|line| line.contains(command)),
                    "u-troubleshoot does not run `{command}'"
                );
            }
        }
        assert!(count > 40, "only {count} commands");
    }

    /// Commands of docs/install.md and README.md that no script runs, by how they begin, and why not.
    const NOT_RUN: [(&str, &str); 26] = [
        (
            "cargo xtask ",
            "some take hours; the tests of xtask look at what they are asked",
        ),
        ("git ", "it needs the network"),
        ("scp ", "it needs a second machine"),
        ("ssh ", "it needs a second machine"),
        (
            "Unattended-Upgrade::",
            "a line for apt; packaging/check looks for the Origin",
        ),
        ("dkms remove ", "it follows a build that failed"),
        ("apt -f install", "it follows a build that failed"),
        ("systemd-run ", "check-guest has no systemd"),
        ("systemctl stop wg-swap-back", "check-guest has no systemd"),
        ("systemctl reboot", "check-guest runs what stands before it"),
        ("install -m755 ppp/", "a scenario runs them without pppd"),
        ("sed -i '/^ActivationPolicy", "it is for the next boot"),
        ("rm -f /etc/systemd/networkd", "it is for the next boot"),
        ("apt install git ", "the toolchain that runs this test"),
        ("install -m755 wg ", "a guest has this `wg` from the start"),
        (
            "include ",
            "a line for AppArmor, whose profile Debian 12 and 13 lack",
        ),
        ("systemctl disable --now ", "it stops that timer, or rules"),
        (
            "systemctl stop wg-cr02-rules.service && rm ",
            "a scenario stops it, and keeps the file",
        ),
        (
            "systemctl disable ",
            "it holds from the next boot on, and there is none",
        ),
        ("rustup target add ", "the toolchain is its user's"),
        ("openssl ", "it needs the certificate of an operator"),
        ("mokutil ", "it needs firmware with Secure Boot"),
        ("packaging/check", "these are the scripts"),
        ("apt install debootstrap ", "what the scripts need"),
        ("apt install dh-dkms", "what builds a package"),
        ("apt install mokutil", "it needs firmware with Secure Boot"),
    ];

    /// And those that a script runs in other words: how they begin, and the words.
    const RUN_AS: [(&str, &str); 21] = [
        (
            "apt update && apt install ./wg-vrf-module-",
            "apt install \"wg-vrf-module-$flavour\"",
        ),
        (
            "apt install ./wg-vrf-module-",
            "apt install \"wg-vrf-module-$flavour\"",
        ),
        ("apt install ./wg-vrf_", "apt install wg-vrf"),
        (
            "apt-mark auto wg-vrf-module-",
            "apt-mark -qq auto \"wg-vrf-module-$kernel\"",
        ),
        (
            "apt remove 'wg-vrf-module-",
            "apt remove \"wg-vrf-module-$kernel\"",
        ),
        (
            "install -m600 wg-quick/wg-cr02.conf ",
            "examples/wg-quick/wg-cr02.conf\" \"$root/etc/wireguard/\"",
        ),
        ("nmcli connection reload", "nm connection reload"),
        (
            "install -m644 networkmanager/",
            "cp /lib/wgvrf/examples/networkmanager/wg-cr02-rules.service",
        ),
        (
            "apt install dkms openssl ",
            "apt install dkms openssl \"${headers[0]}\"",
        ),
        (
            "apt install ./wg-vrf-6.1-dkms_",
            "apt install \"/$(basename \"$root/$name\"_*.deb)\"",
        ),
        ("gpg --export ", "gpg --quiet --export"),
        ("echo 'deb ", "echo 'deb [trusted=yes] file:/packages ./' >"),
        (
            "rm /usr/bin/wg && dpkg-divert ",
            "dpkg-divert --quiet --rename --remove /usr/bin/wg",
        ),
        (
            "dpkg-divert --local ",
            "dpkg-divert --quiet --local --rename --add /usr/bin/wg",
        ),
        (
            "install -Dm644 systemd/wg-quick-after",
            "cp /lib/wgvrf/examples/systemd/wg-quick-after-vrf.conf",
        ),
        (
            "systemctl enable --now wg-quick@",
            "systemctl -q enable $UNIT",
        ),
        (
            "systemctl restart systemd-networkd",
            "systemctl --no-block restart systemd-networkd",
        ),
        (
            "install -m755 ifupdown-ng/wgbind ",
            "install -m755 $EXAMPLES/wgbind",
        ),
        (
            "systemctl enable ",
            "systemctl -q enable \"$(systemd-escape --template=wg-bind@",
        ),
        (
            "install -m640 -g systemd-network ",
            "install -m640 -g systemd-network /tmp/site1.key",
        ),
        (
            "for i in $tunnels; do wg-quick ",
            "for i in $tunnels; do wg-quick up \"$i\"; done",
        ),
    ];

    /// Upgrading, removing and swapping the module: packaging/check, check-guest and check-dkms do it, the
    /// scenarios with systemd what is left.
    #[test]
    fn each_command_to_install_is_run() {
        let scripts = [
            include_str!("../packaging/check"),
            include_str!("../packaging/check-guest"),
            include_str!("../packaging/check-dkms"),
            include_str!("../vm-tests/guest/systemd.sh"),
            include_str!("../vm-tests/guest/networkd.sh"),
            include_str!("../vm-tests/scenarios/u-networkmanager.sh"),
            include_str!("../vm-tests/scenarios/u-systemd-networkd.sh"),
            include_str!("../vm-tests/scenarios/u-systemd-networkmanager.sh"),
            include_str!("../vm-tests/scenarios/u-systemd-wg-quick.sh"),
            include_str!("../vm-tests/scenarios/u-ifupdown-ng-order.sh"),
            include_str!("../vm-tests/scenarios/u-troubleshoot.sh"),
            include_str!("../vm-tests/scenarios/u-migrate.sh"),
        ];
        let code: Vec<&str> = scripts
            .iter()
            .flat_map(|script| script.lines())
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        let is_run = |command: &str| code.iter().any(|line| line.contains(command));
        let others = NOT_RUN.map(|(start, _)| (start, ""));
        let others = [&others[..], &RUN_AS[..]].concat();
        let mut used = vec![false; others.len()];
        let mut count = 0;
        let all: &[&str] = &[""];
        for (page, starts) in [
            (include_str!("../docs/install.md"), all),
            (include_str!("../README.md"), all),
            (include_str!("../packaging/examples/README.md"), all),
            // `each_command_of_the_migration_is_run` has the rest of it.
            (
                include_str!("../docs/migration.md"),
                &[
                    "systemctl ",
                    "echo ",
                    "rm ",
                    "install ",
                    "sed -i '/^ActivationPolicy",
                    "sed -i 's/0x1023/",
                    "sed -i 's/0x770000ff/",
                ],
            ),
        ] {
            let blocks = page.lines().filter_map(|line| line.strip_prefix("    "));
            let is_meant = |line: &&str| starts.iter().any(|start| line.starts_with(start));
            for line in blocks.filter(is_meant) {
                let command = line.split("  #").next().unwrap_or(line).trim();
                count += 1;
                if is_run(command) {
                    continue;
                }
                let other = others
                    .iter()
                    .position(|(start, _)| command.starts_with(start));
                let Some(other) = other else {
                    panic!("neither packaging/check nor a scenario runs `{command}'");
                };
                used[other] = true;
            }
        }
        assert!(count > 40, "only {count} commands");
        for ((start, words), used) in others.iter().zip(used) {
            assert!(is_run(words), "no script runs `{words}'");
            assert!(used, "no page has a command that begins with `{start}'");
        }
    }

    /// Messages of the C tool, whose source is not here.
    const OF_THE_C_TOOL: [&str; 1] = ["Invalid argument: bind-dev"];

    /// What docs/troubleshooting.md says that `wg` says.
    fn read_messages() -> Vec<&'static str> {
        let page = include_str!("../docs/troubleshooting.md");
        let (_, section) = page.split_once("\n## What wg says\n").expect("the section");
        let (section, _) = section.split_once("\n## ").expect("another one");
        let cells = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        // A cell has several of them, and words between.
        let messages: Vec<&str> = cells
            .flat_map(|cell| cell.split('`').step_by(2))
            .filter(|message| !message.is_empty() && *message != "BindDev")
            .collect();
        assert!(messages.len() > 20, "{messages:?}");
        messages
    }

    /// Whether a literal of the source has this message. `…` stands for anything.
    fn has_message(literal: &str, message: &str) -> bool {
        let mut rest = literal;
        message.split('…').all(|part| {
            let found = rest.split_once(part);
            rest = found.map_or("", |(_, after)| after);
            found.is_some()
        })
    }

    /// A source as one text, in which no literal goes over the end of a line.
    fn join_literals(text: &str) -> String {
        let mut lines = text.split("\\\n");
        let mut joined = lines.next().unwrap_or_default().to_owned();
        lines.for_each(|line| joined += line.trim_start());
        joined
    }

    #[test]
    fn each_message_is_in_the_source() {
        let mut literals = Vec::new();
        visit_sources(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut |path, text| {
                if path.ends_with("src/lib.rs") {
                    return;
                }
                literals.extend(join_literals(text).split('"').map(str::to_owned));
            },
        );
        for message in read_messages() {
            assert!(
                OF_THE_C_TOOL.contains(&message)
                    || literals.iter().any(|literal| has_message(literal, message)),
                "no source has `{message}'"
            );
        }
    }

    /// The literals of an expression in parentheses. `text` begins behind the first one.
    fn read_expression(text: &str) -> Vec<&str> {
        let (mut depth, mut found) = (1, Vec::new());
        for (number, part) in text.split('"').enumerate() {
            if number % 2 == 1 {
                found.push(part);
                continue;
            }
            for c in part.chars() {
                depth += i32::from(c == '(') - i32::from(c == ')');
                if depth == 0 {
                    return found;
                }
            }
        }
        found
    }

    /// The other way round: each refusal of a binding, and each remedy, has a line on that page.
    #[test]
    fn each_refusal_is_explained() {
        /// Shorter ones are parts of a text, or names.
        const LONG: usize = 40;
        // One of few words would do for many.
        let fixed = |message: &&str| message.split('…').any(|part| part.len() > 10);
        let messages: Vec<&str> = read_messages().into_iter().filter(fixed).collect();
        let (mut count, mut missing) = (0, Vec::new());
        visit_sources(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut |path, text| {
                let name = path.file_name().unwrap_or_default();
                if path.ends_with("src/lib.rs") || name == "tests.rs" {
                    return;
                }
                let joined = join_literals(text);
                let code = joined.split("#[cfg(test)]\nmod tests {").next();
                let begins = match name.to_str() {
                    Some("error.rs") => "Some(",
                    Some("value.rs") => "reject_value(",
                    _ => "Error::Unsupported(",
                };
                for expression in code.unwrap_or_default().split(begins).skip(1) {
                    for literal in read_expression(expression) {
                        let ours = name != "value.rs" || literal.starts_with("Bind device");
                        if literal.len() < LONG || !ours {
                            continue;
                        }
                        count += 1;
                        if !messages.iter().any(|message| has_message(literal, message)) {
                            missing.push(literal.to_owned());
                        }
                    }
                }
            },
        );
        assert!(count > 40, "only {count} texts");
        assert!(missing.is_empty(), "not explained: {missing:#?}");
    }

    /// docs/configuration.md has each variable and each option that wg(8) has beside the C tool's.
    #[test]
    fn each_setting_is_in_the_configuration() {
        let manual = include_str!("../packaging/man/wg.8");
        let page = include_str!("../docs/configuration.md");
        let mut count = 0;
        for line in manual.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let name = match pair {
                    ["Ev", name] if name.contains("_BIND_DEV_") => format!("`{name}`"),
                    ["Fl", "-help" | "-version"] => continue,
                    ["Fl", option] if option.starts_with('-') => format!("-{option}"),
                    [".It", _] if words.get(1) == Some(&"Cm") && words[2].len() > 1 => {
                        match words[2] {
                            verb @ ("doctor" | "reresolve" | "bind-dev") => format!(" {verb} "),
                            _ => continue,
                        }
                    }
                    _ => continue,
                };
                count += 1;
                assert!(page.contains(&name), "docs/configuration.md lacks {name}");
            }
        }
        assert!(count > 8, "only {count} settings");
    }

    /// What `wg doctor` can find is a symptom of somebody.
    #[test]
    fn each_code_has_a_symptom() {
        let page = include_str!("../docs/troubleshooting.md");
        for code in crate::doctor::codes::Code::ALL {
            let name = format!("`{}`", code.name());
            assert!(page.contains(&name), "docs/troubleshooting.md lacks {name}");
        }
    }

    /// Debian 13's own compiler is Rust 1.85. It refuses a `let` behind `&&`, and clippy's check
    /// of `rust-version` sees the standard library only.
    #[test]
    fn no_let_is_chained() {
        let mut files = 0;
        for folder in ["src", "kit/src", "vm-tests/src", "xtask/src", "tests"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            visit_sources(&folder, &mut |path, text| {
                files += 1;
                for (number, line) in text.lines().enumerate() {
                    let code = line.trim_start();
                    let chained = code.contains(concat!("&&", " let ")) && !code.starts_with("//");
                    assert!(!chained, "{}:{}: {line}", path.display(), number + 1);
                }
            });
        }
        assert!(files > 60, "only {files} files were looked at");
    }
}
