// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Packet filters, as far as they can keep packets of a VRF from a tunnel.
//!
//! What arrives by an interface of a VRF passes the input hook with the VRF for its interface
//! (`l3mdev_ip_rcv()` in net/ipv4/ip_input.c), so a rule there that names the interface never
//! matches. The text of `nft -a list ruleset` and of `iptables-legacy-save` is read line by line.
//! Rules about TCP or ICMP, or about other UDP ports, are none of our business.

use super::facts::Filter;
use super::quote;

impl Filter {
    /// Whether a word is anywhere in it.
    pub fn mentions(&self, word: &str) -> bool {
        self.nft.contains(word) || self.legacy.iter().any(|(_, text)| text.contains(word))
    }
}

/// An interface of a VRF by which packets to a port of ours arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slave {
    pub nic: String,
    pub vrf: String,
    pub port: u16,
}

/// A rule that names an interface which it never sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// The chain, for people.
    pub place: String,
    pub rule: String,
    pub nic: String,
    pub vrf: String,
    /// The command that mends it, where there is a safe one.
    pub mend: Option<String>,
}

pub fn find_blind_rules(filter: &Filter, slaves: &[Slave]) -> Vec<Blind> {
    let mut found = Vec::new();
    let tables = read_tables(&filter.nft);
    for table in &tables {
        let input = table.input_chains();
        for chain in table
            .chains
            .iter()
            .filter(|chain| input.contains(&chain.name))
        {
            for rule in &chain.rules {
                let blind = |slave: &Slave| find_blind(table, chain, rule, slave);
                found.extend(slaves.iter().find_map(blind));
            }
        }
    }
    for (program, text) in &filter.legacy {
        found.extend(find_blind_legacy(program, text, slaves));
    }
    found
}

// nftables

#[derive(Debug, Default)]
struct Table {
    /// Family and name: `inet filter`.
    name: String,
    chains: Vec<Chain>,
    /// Named sets and maps, with all their text.
    sets: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Chain {
    name: String,
    hook: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    handle: String,
}

impl Table {
    /// The chains of the input hook, with those that they jump to.
    fn input_chains(&self) -> Vec<String> {
        let of_hook = |hook: &str| {
            let chains = self.chains.iter();
            let mut names: Vec<String> = chains
                .filter(|chain| chain.hook.as_deref() == Some(hook))
                .map(|chain| chain.name.clone())
                .collect();
            let mut at = 0;
            while let Some(name) = names.get(at) {
                let next: Vec<String> = self
                    .chains
                    .iter()
                    .filter(|chain| chain.name == *name)
                    .flat_map(Chain::targets)
                    .collect();
                for target in next {
                    if !names.contains(&target) {
                        names.push(target);
                    }
                }
                at += 1;
            }
            names
        };
        // A chain that prerouting uses as well sees the interface there.
        let early = of_hook("prerouting");
        let mut input = of_hook("input");
        input.retain(|name| !early.contains(name));
        input
    }
}

impl Chain {
    fn targets(&self) -> Vec<String> {
        let words = |rule: &Rule| -> Vec<String> {
            let words: Vec<&str> = rule.text.split_whitespace().collect();
            words
                .windows(2)
                .filter(|pair| pair[0] == "jump" || pair[0] == "goto")
                .map(|pair| pair[1].trim_end_matches([',', '}']).to_owned())
                .collect()
        };
        self.rules.iter().flat_map(words).collect()
    }
}

/// The blocks of `nft -a list ruleset`.
fn read_tables(text: &str) -> Vec<Table> {
    enum Block {
        Chain,
        Set,
        Other,
    }
    let mut tables: Vec<Table> = Vec::new();
    let mut block = None;
    for line in text.lines() {
        let line = line.trim();
        let (body, handle) = match line.rsplit_once(" # handle ") {
            Some((body, handle)) => (body.trim_end(), handle.trim().to_owned()),
            None => (line, String::new()),
        };
        if let Some(name) = body
            .strip_prefix("table ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            tables.push(Table {
                name: name.to_owned(),
                ..Table::default()
            });
            block = None;
            continue;
        }
        let Some(table) = tables.last_mut() else {
            continue;
        };
        match &block {
            None => {
                let Some(head) = body.strip_suffix(" {") else {
                    continue;
                };
                let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
                block = Some(match kind {
                    "chain" => {
                        table.chains.push(Chain {
                            name: name.to_owned(),
                            ..Chain::default()
                        });
                        Block::Chain
                    }
                    "set" | "map" => {
                        table.sets.push((name.to_owned(), String::new()));
                        Block::Set
                    }
                    _ => Block::Other,
                });
            }
            Some(_) if line == "}" => block = None,
            Some(Block::Chain) => {
                let Some(chain) = table.chains.last_mut() else {
                    continue;
                };
                let words: Vec<&str> = body.split_whitespace().collect();
                if words.first() == Some(&"type") && words.contains(&"hook") {
                    let at = words.iter().position(|word| *word == "hook");
                    chain.hook = at
                        .and_then(|at| words.get(at + 1))
                        .map(|hook| (*hook).to_owned());
                } else if !handle.is_empty() {
                    chain.rules.push(Rule {
                        text: body.to_owned(),
                        handle,
                    });
                }
            }
            Some(Block::Set) => {
                if let Some((_, set)) = table.sets.last_mut() {
                    set.push_str(line);
                    set.push(' ');
                }
            }
            Some(Block::Other) => {}
        }
    }
    tables
}

/// What stands behind `iifname` or `iif`, up to the end of its value.
fn find_interfaces(text: &str) -> Option<&str> {
    let (_, rest) = text
        .split_once("iifname ")
        .or_else(|| text.split_once("iif "))?;
    let rest = rest.trim_start();
    let value = ["!= ", "== ", "vmap "]
        .iter()
        .find_map(|word| rest.strip_prefix(word))
        .unwrap_or(rest);
    let end = match value.chars().next()? {
        '{' => value.find('}').map(|at| at + 1),
        _ => value.find(' '),
    };
    Some(&value[..end.unwrap_or(value.len())])
}

/// Whether a text names an interface in quotes, also by its first letters.
fn names(text: &str, interface: &str) -> bool {
    text.split('"').skip(1).step_by(2).any(|name| {
        name == interface
            || name
                .strip_suffix('*')
                .is_some_and(|start| interface.starts_with(start))
    })
}

fn find_blind(table: &Table, chain: &Chain, rule: &Rule, slave: &Slave) -> Option<Blind> {
    let Slave { nic, vrf, port } = slave;
    if !concerns(&rule.text, *port) {
        return None;
    }
    let interfaces = find_interfaces(&rule.text)?;
    let of_set = interfaces.strip_prefix('@').and_then(|name| {
        let set = table.sets.iter().find(|(known, _)| known == name)?;
        Some((name, set.1.as_str()))
    });
    let value = of_set.map_or(interfaces, |(_, text)| text);
    if !names(value, nic) || names(value, vrf) {
        return None;
    }
    let Rule { text, handle } = rule;
    let word = format!("\"{nic}\"");
    let mend = match of_set {
        Some((name, _)) if !text.contains(" vmap ") => {
            Some(format!("add element {} {name} {{ \"{vrf}\" }}", table.name))
        }
        // What a map does with another name cannot be guessed.
        _ if text.contains(" vmap ") || !value.contains(&word) => None,
        _ => {
            let more = if interfaces.starts_with('{') {
                format!("\"{nic}\", \"{vrf}\"")
            } else {
                format!("\"{vrf}\"")
            };
            let mended = interfaces.replace(&word, &more);
            Some(format!(
                "replace rule {} {} handle {handle} {}",
                table.name,
                chain.name,
                text.replacen(interfaces, &mended, 1)
            ))
        }
    };
    Some(Blind {
        place: format!("the chain {} of {}", chain.name, table.name),
        rule: text.clone(),
        nic: nic.clone(),
        vrf: vrf.clone(),
        mend: mend.map(|command| format!("nft {}", quote(&command))),
    })
}

/// Whether a rule may be about UDP to this port.
fn concerns(text: &str, port: u16) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let about = |protocol: &str| {
        words
            .iter()
            .any(|word| word.trim_matches([',', '{', '}']) == protocol)
    };
    if about("udp") {
        let ports = words
            .windows(3)
            .find(|three| three[0] == "udp" && three[1] == "dport");
        return ports.is_none_or(|three| may_be_port(text, three[2], port));
    }
    !["tcp", "icmp", "icmpv6", "ipv6-icmp", "sctp", "esp"]
        .iter()
        .any(|protocol| about(protocol))
}

/// `first` is the first word behind `dport`: a number, a range, a set, `!=`.
fn may_be_port(text: &str, first: &str, port: u16) -> bool {
    let ports = match first {
        "{" => {
            let from = text.find("dport {").map_or(0, |at| at + "dport {".len());
            text[from..].split('}').next().unwrap_or_default()
        }
        other => other,
    };
    let mut known = false;
    for word in ports.split([',', ' ']).filter(|word| !word.is_empty()) {
        let (low, high) = word.split_once('-').unwrap_or((word, word));
        match (low.parse::<u16>(), high.parse::<u16>()) {
            (Ok(low), Ok(high)) if (low..=high).contains(&port) => return true,
            (Ok(_), Ok(_)) => known = true,
            // A name of a set, or of a service.
            _ => return true,
        }
    }
    !known
}

// iptables-legacy

fn find_blind_legacy(program: &str, text: &str, slaves: &[Slave]) -> Vec<Blind> {
    let rules = text
        .lines()
        .filter_map(|line| line.strip_prefix("-A INPUT "));
    let mut found = Vec::new();
    for (at, rule) in rules.enumerate() {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let value = |option: &str| {
            let pair = words.windows(2).find(|pair| pair[0] == option);
            pair.map(|pair| pair[1])
        };
        let is_named = |slave: &&Slave| {
            value("-i").is_some_and(|name| match name.strip_suffix('+') {
                Some(start) => slave.nic.starts_with(start) && !slave.vrf.starts_with(start),
                None => name == slave.nic,
            })
        };
        let udp = matches!(value("-p"), None | Some("udp" | "17"));
        let Some(slave) = slaves.iter().filter(|_| udp).find(is_named) else {
            continue;
        };
        let port = value("--dport").and_then(|port| port.parse::<u16>().ok());
        if port.is_some_and(|port| port != slave.port) {
            continue;
        }
        let mended: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(at, word)| match at.checked_sub(1).map(|at| words[at]) {
                Some("-i") => quote(&slave.vrf),
                _ => (*word).to_owned(),
            })
            .collect();
        // Words in quotes, such as comments, may hold blanks.
        let plain = !rule.contains(['"', '\\', '\'']);
        found.push(Blind {
            place: format!("the chain INPUT of {program}"),
            rule: rule.to_owned(),
            nic: slave.nic.clone(),
            vrf: slave.vrf.clone(),
            mend: plain.then(|| format!("{program} -R INPUT {} {}", at + 1, mended.join(" "))),
        });
    }
    found
}
