// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Plans over time: random histories of commands, foreign rules, VRFs that go and come back, and
//! crashes, on a model of the kernel's rules.
//!
//! The model is naive on purpose: it walks a packet rule by rule as fib_rules_lookup() does, and
//! shares no code with the placement. After each command that ends well, a packet of its device
//! must reach the VRF's table when that has a route, and nothing when it has none. A device that
//! was bound before stays so when others change, and foreign rules are never touched.

use super::receive::CLOSED_MARK;
use super::*;

/// What does not hold, with the rules that show it.
type Outcome<T = ()> = std::result::Result<T, String>;

const MAIN: u32 = 254;
/// A foreign table, with a default route.
const FOREIGN: u32 = 900;
const VRFS: [&str; 2] = ["vrf_a", "vrf_b"];
/// The ports that the devices have at first.
const PORTS: [u16; 3] = [51001, 51002, 51003];
const FREE_PORT: u16 = 40000;
const TABLES: [u32; 4] = [1023, 7, 2000, 1279];

/// How many histories, and how many events each has.
const HISTORIES: usize = 10_000;
const EVENTS: u64 = 14;

enum Random<'a> {
    Seed(u64),
    /// A fuzzer's choices; 0 when there are no more.
    #[cfg_attr(not(fuzzing), expect(dead_code))]
    Chosen(&'a [u8]),
}

impl Random<'_> {
    fn below(&mut self, below: u64) -> u64 {
        let number = match self {
            Random::Seed(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                *state
            }
            Random::Chosen(bytes) => {
                let Some((first, rest)) = bytes.split_first_chunk::<2>() else {
                    return 0;
                };
                *bytes = rest;
                u64::from(u16::from_le_bytes(*first))
            }
        };
        number % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Debug)]
enum Event {
    Command(Command),
    /// `None` leaves the priority to the kernel.
    AddForeign(Vec<usize>, Option<u32>, Rule),
    /// Deletes the rule that stands at this place among the foreign ones.
    DeleteForeign(usize, usize),
    VrfGone(usize),
    VrfBack(usize, u32),
    Move(usize),
    MoveBack(usize),
    DeleteAndMake(usize),
    /// Whether other devices can be asked for what they have.
    Hide(bool),
}

#[derive(Clone, Debug)]
struct Command {
    device: usize,
    what: What,
    /// Names the mark or port of one of our rules, of the nth, in place of the one in `what`.
    reuse: Option<usize>,
    /// Ends after so many requests to the kernel.
    crash: Option<usize>,
}

#[derive(Clone, Debug)]
enum What {
    Bind {
        vrf: usize,
        fwmark: Change<u32>,
        port: Change<u16>,
        mode: BindMode,
    },
    Port(Change<u16>),
    Unbind {
        fwmark: Change<u32>,
    },
    Mark(Change<u32>),
}

#[derive(Clone, Debug)]
struct Dev {
    mark: u32,
    port: u16,
    here: bool,
    /// The table that it is bound to since a command that ended well.
    bound: Option<u32>,
}

#[derive(Clone, Debug)]
struct World {
    /// IPv4 and IPv6, `None` when off.
    rules: [Option<Vec<Rule>>; 2],
    vrfs: [Option<u32>; 2],
    devices: Vec<Dev>,
    /// The entries at the bind hooks: ports with the devices that they are for.
    hooked: Vec<(u16, usize)>,
    /// Devices that may be there are not seen.
    hidden: bool,
}

fn stock() -> Vec<Rule> {
    let lookup = |pref, table, l3mdev| Rule {
        pref,
        protocol: 2,
        action: Action::Table(table),
        l3mdev,
        ..Rule::default()
    };
    vec![
        lookup(0, 255, false),
        lookup(1000, 0, true),
        lookup(32766, MAIN, false),
        lookup(32767, 253, false),
    ]
}

/// As fib_nl_newrule() does it: behind all rules of the same priority.
fn insert(rules: &mut Vec<Rule>, rule: Rule) {
    let at = rules.partition_point(|r| r.pref <= rule.pref);
    rules.insert(at, rule);
}

/// As fib_default_rule_pref() chooses for a rule without a priority.
fn default_pref(rules: &[Rule]) -> u32 {
    rules
        .get(1)
        .map_or(0, |second| second.pref.saturating_sub(1))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Reaches(u32),
    Nowhere,
}

/// Where a packet of this device ends. `routed` says which tables have a route to its
/// destination, `narrow` whether selectors that are not modelled match.
fn walk(rules: &[Rule], dev: &Dev, routed: impl Fn(u32) -> bool, narrow: bool) -> Fate {
    for rule in rules {
        let hit = (rule.mask == 0 || (rule.mark ^ dev.mark) & rule.mask == 0)
            && rule
                .source_ports
                .is_none_or(|(first, last)| first <= dev.port && dev.port <= last)
            && (rule.ip_proto == 0 || rule.ip_proto == 17)
            && !rule.forwarded_only
            && !rule.l3mdev
            && (!rule.narrowed || narrow);
        if hit == rule.invert {
            continue;
        }
        match rule.action {
            Action::Table(255) | Action::Nop => {}
            Action::Table(table) if routed(table) => {
                // A default route is suppressed, a better one is not. Ours is the first kind.
                if !rule.suppress || table == MAIN {
                    return Fate::Reaches(table);
                }
            }
            Action::Table(_) => {}
            Action::Unreachable | Action::Drop => return Fate::Nowhere,
            // Where a jump ends is not modelled: the worst is assumed.
            Action::Goto | Action::Other => return Fate::Reaches(MAIN),
        }
    }
    Fate::Nowhere
}

impl Dev {
    fn new(port: u16) -> Dev {
        Dev {
            mark: 0,
            port,
            here: true,
            bound: None,
        }
    }
}

impl World {
    fn new(random: &mut Random) -> World {
        let off = random.below(8);
        let only_at = random.below(6);
        // Administrators take `main' and `default' away: then rules at the last priority count.
        let first = |family: u64| {
            let mut rules = stock();
            rules.retain(|rule| only_at != family || rule.pref <= 1000);
            (off != family).then_some(rules)
        };
        World {
            rules: [first(0), first(1)],
            vrfs: [Some(1023), Some(7)],
            devices: PORTS.map(Dev::new).to_vec(),
            hooked: Vec::new(),
            hidden: false,
        }
    }

    /// Whether packets of this device reach the table and nothing else, in each family.
    fn is_tight(&self, dev: &Dev, table: u32) -> Outcome {
        for rules in self.rules.iter().flatten() {
            for narrow in [false, true] {
                for vrf_routed in [false, true] {
                    let routed = |t: u32| t != table || vrf_routed;
                    let expected = match vrf_routed {
                        true => Fate::Reaches(table),
                        false => Fate::Nowhere,
                    };
                    let fate = walk(rules, dev, routed, narrow);
                    if fate != expected {
                        return Err(format!(
                            "{dev:?}: {fate:?} instead of {expected:?}, narrow {narrow}\n{}",
                            self.shown()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the rules of a device stand where they would stand if nothing had happened before:
    /// where they are depends on the rules of others alone.
    fn stands_as_in_a_fresh_world(&self, device: usize, what: &What) -> Outcome {
        let mut fresh = self.clone();
        for rules in fresh.rules.iter_mut().flatten() {
            rules.retain(|rule| !rule.is_ours());
        }
        let facts = self.facts(device, None);
        let (mark, port) = (facts.mark, facts.port);
        let Some(by) = facts.rules.find_binding(mark, port).map(|b| b.by) else {
            return Ok(());
        };
        let What::Bind { vrf, .. } = what else {
            return Ok(());
        };
        let (mode, fwmark) = match by {
            Selector::Mark(mark) => (BindMode::Fwmark, Change::Set(mark)),
            Selector::Port(_) => (BindMode::Port, Change::Keep),
        };
        let same = What::Bind {
            vrf: *vrf,
            fwmark,
            port: Change::Keep,
            mode,
        };
        // At priority 0 only what stands there already is in time.
        let Ok(plan) = fresh.plan(device, &same) else {
            return Ok(());
        };
        let mut ours = facts.rules.ours_for(by);
        // One that is never asked cannot be removed without its twin in front of a foreign rule.
        ours.dedup();
        // A closing rule at the priority of a foreign lookup: what came behind both since then would
        // have taken its place.
        let stood = ours.iter().all(|(family, closing)| {
            let mut rules = facts.rules.in_family(*family).into_iter().flatten();
            let lookup = |rule: &Rule| !rule.is_ours() && matches!(rule.action, Action::Table(_));
            closing.action == Action::Unreachable
                && rules.any(|rule| rule.pref == closing.pref && lookup(rule))
        });
        if stood || plan.add == ours {
            Ok(())
        } else {
            Err(format!("wandered, not {:?}\n{}", plan.add, self.shown()))
        }
    }

    /// Where packets of this device can end: all tables have routes, those that are named have
    /// none, or one VRF's table alone has one.
    fn reached(&self, dev: &Dev, tables: &[u32]) -> Vec<u32> {
        let mut reached = Vec::new();
        for rules in self.rules.iter().flatten() {
            for narrow in [false, true] {
                let mut look = |routed: &dyn Fn(u32) -> bool| {
                    if let Fate::Reaches(table) = walk(rules, dev, routed, narrow) {
                        reached.push(table);
                    }
                };
                look(&|_| true);
                look(&|t| !tables.contains(&t));
                for alone in TABLES {
                    look(&|t| t == alone || !TABLES.contains(&t));
                }
            }
        }
        reached
    }

    /// Whether packets of this device reach one of the tables or nothing.
    fn leads_only_to(&self, dev: &Dev, tables: &[u32]) -> Outcome {
        match self
            .reached(dev, tables)
            .iter()
            .find(|t| !tables.contains(t))
        {
            None => Ok(()),
            Some(table) => Err(format!(
                "{dev:?}: reaches {table} between two steps\n{}",
                self.shown()
            )),
        }
    }

    /// The command with the mark or port of one of our rules.
    fn with_reused(&self, command: &Command) -> What {
        let mut what = command.what.clone();
        let selectors = self.facts(command.device, None).rules.our_selectors();
        let nth = command
            .reuse
            .and_then(|nth| selectors.get(nth % selectors.len().max(1)));
        match (nth, &mut what) {
            (Some(Selector::Mark(mark)), What::Bind { fwmark, .. } | What::Unbind { fwmark })
            | (Some(Selector::Mark(mark)), What::Mark(fwmark)) => *fwmark = Change::Set(*mark),
            (Some(Selector::Port(to)), What::Bind { port, .. } | What::Port(port)) => {
                *port = Change::Set(*to);
            }
            _ => {}
        }
        what
    }

    /// Whether packets with the device's mark are stopped in a family: another device is bound by the
    /// mark, and somebody deleted the foreign rule that led it to the VRF. A port does not help then.
    fn is_stopped_by_its_mark(&self, device: usize, what: &What) -> bool {
        let fwmark = match what {
            What::Bind { fwmark, .. } | What::Mark(fwmark) | What::Unbind { fwmark } => fwmark,
            What::Port(_) => &Change::Keep,
        };
        let facts = self.facts(device, None);
        let mark = facts.mark_after(fwmark);
        let stops = |rules: &Vec<Rule>| {
            let by_mark = |rule: &&Rule| rule.our_selector() == Some(Selector::Mark(mark));
            let leads = |rule: &&Rule| {
                TABLES
                    .iter()
                    .any(|table| rule.steers(Flow::marked(mark), *table))
            };
            let first = rules.iter().find(|rule| by_mark(rule) || leads(rule));
            first.is_some_and(|rule| rule.action == Action::Unreachable)
        };
        self.rules.iter().flatten().any(stops)
    }

    fn shown(&self) -> String {
        let family = |rules: &Vec<Rule>| -> String {
            let lines = rules.iter().map(|rule| {
                let ours = if rule.is_ours() { " ours" } else { "" };
                let narrowed = if rule.narrowed { " narrowed" } else { "" };
                format!("  {rule}{narrowed}{ours}\n")
            });
            lines.collect()
        };
        self.rules
            .iter()
            .flatten()
            .map(|rules| family(rules) + "  --\n")
            .collect()
    }

    fn foreign(&self) -> Vec<Rule> {
        let all = self.rules.iter().flatten().flatten();
        all.filter(|rule| !rule.is_ours()).copied().collect()
    }

    fn facts(&self, device: usize, vrf: Option<usize>) -> Facts {
        let vrfs = VRFS.iter().zip(self.vrfs);
        Facts {
            mark: self.devices[device].mark,
            port: self.devices[device].port,
            free_port: FREE_PORT,
            target: match vrf.map(|vrf| self.vrfs[vrf]) {
                None => Target::None,
                Some(None) => Target::Missing,
                Some(Some(table)) => Target::Vrf { table },
            },
            rules: Rules {
                v4: self.rules[0].clone(),
                v6: self.rules[1].clone(),
            },
            vrfs: vrfs
                .filter_map(|(name, table)| Some(((*name).to_owned(), table?)))
                .collect(),
            others: (0..self.devices.len())
                .filter(|other| *other != device && self.devices[*other].here)
                .map(|other| self.other(other))
                .collect(),
            elsewhere: Elsewhere {
                devices: (0..self.devices.len())
                    .filter(|other| !self.devices[*other].here)
                    .map(|other| self.other(other))
                    .collect(),
                unknown: self.hidden.then(|| "hidden".to_owned()),
            },
            hooked: self
                .hooked
                .iter()
                .filter(|(_, owner)| *owner != device)
                .map(|(port, _)| (*port, HookEntry::default()))
                .collect(),
            sockets: Sockets::Here,
            ..Facts::default()
        }
    }

    fn plan(&self, device: usize, what: &What) -> Result<Plan> {
        let mut update = Update {
            interface: format!("wg{device}"),
            ..Update::default()
        };
        let mut mode = BindMode::Auto;
        let mut target = None;
        match what {
            What::Bind {
                vrf,
                fwmark,
                port,
                mode: forced,
            } => {
                update.bind_dev = Change::Set(VRFS[*vrf].to_owned());
                update.fwmark = fwmark.clone();
                update.listen_port = port.clone();
                mode = *forced;
                target = Some(*vrf);
            }
            What::Unbind { fwmark } => {
                update.bind_dev = Change::Clear;
                update.fwmark = fwmark.clone();
            }
            What::Mark(fwmark) => update.fwmark = fwmark.clone(),
            What::Port(port) => update.listen_port = port.clone(),
        }
        let facts = self.facts(device, target);
        let strategy = Strategy::choose(facts.support, &update, mode)?;
        plan(&facts, update, &strategy)
    }

    fn other(&self, device: usize) -> Other {
        Other {
            name: format!("wg{device}"),
            mark: self.devices[device].mark,
            port: self.devices[device].port,
            userspace: false,
        }
    }

    /// Adds or removes as the kernel does, which removes the first of two.
    fn change(&mut self, family: Family, rule: &Rule, add: bool) {
        let rules = self.rules[match family {
            Family::V4 => 0,
            Family::V6 => 1,
        }]
        .as_mut()
        .expect("a family that is on");
        let there = rules.iter().position(|r| r == rule);
        match (add, there) {
            (true, _) => insert(rules, *rule),
            (false, Some(at)) => drop(rules.remove(at)),
            (false, None) => {}
        }
    }

    fn command(&mut self, command: &Command, counts: &mut Counts) -> Outcome {
        let Command { device, crash, .. } = command;
        let what = &self.with_reused(command);
        if !self.devices[*device].here {
            return Ok(());
        }
        let plan = match self.plan(*device, what) {
            Ok(plan) => plan,
            // The last look at what would be: the place was wrong.
            Err(error)
                if error.to_string().contains("would not keep its packets")
                    && !self.is_stopped_by_its_mark(*device, what) =>
            {
                return Err(format!("{what:?}: {error}\n{}", self.shown()));
            }
            Err(_) => {
                counts.refused += 1;
                return Ok(());
            }
        };
        let foreign = self.foreign();
        let before = self.devices[*device].clone();
        let held = before
            .bound
            .filter(|table| self.is_tight(&before, *table).is_ok());
        let world_before = self.clone();
        // Which VRF the devices with its mark had is not known: the one may bind the others again.
        let rules = self.facts(*device, None).rules;
        let is_lost = rules
            .find_binding(before.mark, 0)
            .is_some_and(|one| one.table.is_none());
        let tight: Vec<(usize, u32)> = self
            .devices
            .iter()
            .enumerate()
            .filter_map(|(at, dev)| {
                let table = dev.bound.filter(|_| at != *device)?;
                self.is_tight(dev, table).ok()?;
                // A foreign rule holds it by chance.
                (!is_lost || dev.mark != before.mark).then_some((at, table))
            })
            .collect();
        let mut left = crash.unwrap_or(usize::MAX);
        let mut step = || {
            let go = left > 0;
            left = left.saturating_sub(1);
            go
        };
        for (family, rule) in plan.add.iter().filter(|_| step()) {
            self.change(*family, rule, true);
        }
        for (family, rule) in plan.clear.iter().filter(|_| step()) {
            self.change(*family, rule, false);
        }
        let sent = step();
        if sent {
            let dev = &mut self.devices[*device];
            match plan.update.fwmark {
                Change::Keep => {}
                Change::Set(mark) => dev.mark = mark,
                Change::Clear => dev.mark = 0,
            }
            match plan.update.listen_port {
                Change::Keep => {}
                Change::Set(port) => dev.port = port,
                // The kernel chooses one.
                Change::Clear => dev.port = FREE_PORT + 1 + *device as u16,
            }
        }
        for (family, rule) in plan.remove.iter().filter(|_| step()) {
            self.change(*family, rule, false);
        }
        let whole = left > 0 || crash.is_none();

        if self.foreign() != foreign {
            return Err(format!("a foreign rule was touched\n{}", self.shown()));
        }
        for (other, table) in tight {
            self.is_tight(&self.devices[other], table)
                .map_err(|why| format!("wg{other} was bound, and is not any more: {why}"))?;
        }
        for at in (0..self.devices.len()).filter(|at| is_lost && at != device) {
            let dev = &self.devices[at];
            let was_closed = dev.bound.is_some() && world_before.reached(dev, &[]).is_empty();
            if was_closed && dev.mark == before.mark {
                self.leads_only_to(dev, &TABLES)?;
            }
            let is_led = world_before.reached(dev, &[]) != self.reached(dev, &[]);
            let follows =
                |table| is_led && dev.mark == before.mark && self.is_tight(dev, table).is_err();
            if dev.bound.is_some_and(follows) {
                self.devices[at].bound = None;
            }
        }
        if !whole {
            counts.crashed += 1;
            self.devices[*device].bound = None;
            if let What::Bind { vrf, .. } = what {
                let new = self.vrfs[*vrf].expect("bound to a VRF that is there");
                let dev = &self.devices[*device];
                if let Some(old) = held {
                    // Between the one binding and the other nothing else is reached.
                    self.leads_only_to(dev, &[old, new])?;
                } else if sent {
                    // Nor after the device was told, but for what it reached before by a mark or
                    // port that it keeps.
                    let rules = world_before.facts(*device, None).rules;
                    let mut kept = rules.our_selectors();
                    kept.retain(|by| {
                        (*by == Selector::Mark(dev.mark) && dev.mark == before.mark)
                            || (*by == Selector::Port(dev.port) && dev.port == before.port)
                    });
                    let mut tables = vec![new];
                    if !kept.is_empty() {
                        tables.extend(world_before.reached(&before, &[new]));
                    }
                    // A rule of others, or its old mark, may have hidden what ours lead to.
                    let ours = kept.iter().flat_map(|by| rules.ours_for(*by));
                    tables.extend(ours.filter_map(|(_, rule)| match rule.action {
                        Action::Table(table) => Some(table),
                        _ => None,
                    }));
                    self.leads_only_to(dev, &tables)?;
                }
            }
            return Ok(());
        }
        counts.done += 1;
        match what {
            What::Bind { vrf, .. } => {
                let table = self.vrfs[*vrf].expect("bound to a VRF that is there");
                self.devices[*device].bound = Some(table);
                self.tell_hooks(*device, true);
                counts.bound += 1;
            }
            What::Unbind { .. } => {
                self.devices[*device].bound = None;
                self.tell_hooks(*device, false);
                self.is_free(*device)?;
            }
            What::Port(_) if before.bound.is_some() => self.tell_hooks(*device, true),
            _ => {}
        }
        let rules = world_before.facts(*device, None).rules;
        let binding = rules.find_binding(before.mark, before.port);
        match what {
            What::Bind { .. } | What::Unbind { .. } => {}
            // Somebody took the lookup, and no rule says where it led: a mark beside the port that it
            // is bound by changes nothing, nor does a port beside the mark. A foreign rule may have held it
            // by the one that it had.
            What::Mark(_) | What::Port(_)
                if binding.is_some_and(|binding| binding.table.is_none()) =>
            {
                return Ok(());
            }
            // Says nothing about the mark, so nothing is looked at.
            What::Mark(Change::Keep) => return Ok(()),
            // Nor does the mark that it has, where somebody took the rule that led it.
            What::Mark(_) if self.devices[*device].mark == before.mark && held.is_none() => {
                return Ok(());
            }
            // Of a device that is bound by its mark, neither does a port.
            What::Port(_) if before.bound.is_some() && held.is_none() => return Ok(()),
            What::Mark(_) | What::Port(_) => {
                // A rule of others led it elsewhere: it stays where that leads.
                if let (Some(_), None, Some(binding)) = (before.bound, held, binding) {
                    self.devices[*device].bound = binding.table;
                }
            }
        }
        let dev = &self.devices[*device];
        if dev.bound.is_none() && binding.is_none() && dev.port != before.port {
            self.has_no_port_of_another(*device)?;
        }
        if let Some(table) = dev.bound {
            self.is_tight(dev, table)?;
            // Rules of others that had to stay may stand beside.
            if !matches!(what, What::Bind { .. }) || self.hidden {
                return Ok(());
            }
            self.stands_as_in_a_fresh_world(*device, what)?;
            let again = self.plan(*device, what);
            let again = again.map_err(|error| format!("the second time: {error}"))?;
            let changes = (again.add, again.clear, again.remove);
            if changes != Default::default() {
                return Err(format!("twice is not once: {changes:?}\n{}", self.shown()));
            }
        }
        Ok(())
    }

    /// Whether no other device is bound by the port that this one was given: it would be bound by it.
    fn has_no_port_of_another(&self, device: usize) -> Outcome {
        let port = self.devices[device].port;
        let by_port = !self
            .facts(device, None)
            .rules
            .ours_for(Selector::Port(port))
            .is_empty();
        let others = self.devices.iter().enumerate();
        let mut bound =
            others.filter(|(at, dev)| *at != device && dev.port == port && dev.bound.is_some());
        let owner = bound.find(|(at, _)| by_port || self.hooked.contains(&(port, *at)));
        match owner {
            Some((at, _)) => Err(format!(
                "wg{device} got port {port}, by which wg{at} is bound\n{}",
                self.shown()
            )),
            None => Ok(()),
        }
    }

    /// What the backend does at the hooks: an entry for a device that is bound, in place of any that
    /// its port has.
    fn tell_hooks(&mut self, device: usize, is_bound: bool) {
        let port = self.devices[device].port;
        self.hooked
            .retain(|(of, owner)| *owner != device && (!is_bound || *of != port));
        if is_bound {
            self.hooked.push((port, device));
        }
    }

    /// Whether no rule of ours takes the packets of a device that was unbound, but for those that
    /// a device in another namespace may need.
    fn is_free(&self, device: usize) -> Outcome {
        let dev = &self.devices[device];
        let facts = self.facts(device, None);
        let own = [Selector::Mark(dev.mark), Selector::Port(dev.port)];
        let mut takes = facts.rules.our_selectors();
        takes.retain(|by| {
            let elsewhere = facts.elsewhere.devices.iter().any(|dev| dev.carries(*by));
            own.contains(by) && !elsewhere && !self.hidden
        });
        if takes.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{dev:?}: unbound, and still taken by {takes:?}\n{}",
                self.shown()
            ))
        }
    }

    fn happen(&mut self, event: &Event, counts: &mut Counts) -> Outcome {
        match event {
            Event::Command(command) => self.command(command, counts)?,
            Event::AddForeign(families, pref, rule) => {
                for at in families {
                    let Some(rules) = self.rules[*at].as_mut() else {
                        continue;
                    };
                    let pref = pref.unwrap_or_else(|| default_pref(rules));
                    insert(rules, Rule { pref, ..*rule });
                }
            }
            Event::DeleteForeign(family, nth) => {
                let rules = self.rules[*family].iter_mut().next();
                if let Some(rules) = rules {
                    let theirs = |rule: &Rule| rule.protocol == 3;
                    let places: Vec<usize> =
                        (0..rules.len()).filter(|at| theirs(&rules[*at])).collect();
                    if let Some(at) = places.get(nth % places.len().max(1)) {
                        rules.remove(*at);
                    }
                }
            }
            Event::VrfGone(vrf) => self.vrfs[*vrf] = None,
            Event::VrfBack(vrf, table) => {
                if !self.vrfs.contains(&Some(*table)) {
                    self.vrfs[*vrf] = Some(*table);
                }
            }
            Event::Move(device) => self.devices[*device].here = false,
            Event::MoveBack(device) => self.devices[*device].here = true,
            Event::DeleteAndMake(device) => {
                self.devices[*device] = Dev::new(PORTS[*device]);
                self.tell_hooks(*device, false);
            }
            Event::Hide(hidden) => self.hidden = *hidden,
        }
        Ok(())
    }

    /// Unbinds all: when each command ends well, nothing of ours is left.
    fn end(&mut self, counts: &mut Counts) -> Outcome {
        self.hidden = false;
        for dev in &mut self.devices {
            dev.here = true;
        }
        let refused = counts.refused;
        for device in 0..self.devices.len() {
            let command = Command {
                device,
                what: What::Unbind {
                    fwmark: Change::Clear,
                },
                reuse: None,
                crash: None,
            };
            self.command(&command, counts)?;
        }
        let ours = |world: &World| {
            let mut all = world.rules.iter().flatten().flatten();
            all.any(Rule::is_ours)
        };
        if counts.refused == refused && ours(self) {
            return Err(format!("something of ours stays\n{}", self.shown()));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counts {
    done: usize,
    bound: usize,
    refused: usize,
    crashed: usize,
}

fn random_mark(random: &mut Random) -> u32 {
    match random.below(3) {
        0 => default_mark(random.pick(&TABLES)),
        1 => random.pick(&[0x77, 0x1023, 0x8000, CLOSED_MARK]),
        _ => 0x42,
    }
}

fn random_rule(random: &mut Random) -> Rule {
    let rule = Rule {
        pref: 0,
        mark: random_mark(random),
        mask: random.pick(&[0, u32::MAX, u32::MAX, 0xff, 0xffff]),
        protocol: 3,
        action: random.pick(&[
            Action::Table(FOREIGN),
            Action::Table(MAIN),
            Action::Table(1023),
            Action::Table(7),
            Action::Unreachable,
            Action::Nop,
            Action::Goto,
            Action::Other,
        ]),
        invert: random.once_in(6),
        l3mdev: random.once_in(8),
        local_output: random.once_in(6),
        forwarded_only: random.once_in(8),
        suppress: random.once_in(6),
        narrowed: random.once_in(3),
        ip_proto: random.pick(&[0, 0, 0, 17, 6]),
        source_ports: random.pick(&[None, None, None, Some((51001, 51001)), Some((1, 51002))]),
    };
    match rule.action {
        // Both have to come up.
        Action::Other if rule.ip_proto == 0 => Rule {
            action: Action::Drop,
            ..rule
        },
        _ => rule,
    }
}

/// A rule of others that takes a device to its VRF, so that ours need only close it.
fn random_steering_rule(random: &mut Random) -> Rule {
    Rule {
        mark: random.pick(&[default_mark(1023), default_mark(7), 0x77]),
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(random.pick(&[1023, 7])),
        ..Rule::default()
    }
}

fn random_fwmark(random: &mut Random) -> Change<u32> {
    match random.below(6) {
        0 => Change::Set(random_mark(random)),
        1 | 2 => Change::Set(0x77),
        3 => Change::Clear,
        _ => Change::Keep,
    }
}

fn random_port(random: &mut Random) -> Change<u16> {
    match random.below(6) {
        0 => Change::Clear,
        1 | 2 => Change::Set(random.pick(&[51001, 51002, 51009])),
        _ => Change::Keep,
    }
}

fn random_event(random: &mut Random) -> Event {
    let device = random.pick(&[0, 0, 0, 1, 1, 2]);
    let vrf = random.below(2) as usize;
    match random.below(16) {
        0..=7 => Event::Command(Command {
            device,
            what: match random.below(8) {
                0 => What::Unbind {
                    fwmark: random_fwmark(random),
                },
                1 => What::Mark(random_fwmark(random)),
                2 => What::Port(match random_port(random) {
                    Change::Keep => Change::Set(51009),
                    port => port,
                }),
                _ => What::Bind {
                    vrf,
                    fwmark: random_fwmark(random),
                    port: random_port(random),
                    mode: match random.below(6) {
                        0 => BindMode::Fwmark,
                        1 | 2 => BindMode::Port,
                        _ => BindMode::Auto,
                    },
                },
            },
            reuse: random.once_in(4).then(|| random.below(4) as usize),
            crash: random.once_in(3).then(|| random.below(10) as usize),
        }),
        8 | 9 => {
            let families = random.pick(&[&[0, 1][..], &[0], &[1]]).to_vec();
            let rule = match random.once_in(4) {
                true => random_steering_rule(random),
                false => random_rule(random),
            };
            let pref = match random.below(10) {
                0 => Some(random.below(20) as u32),
                7 => Some(1),
                1 => Some(90 + random.below(12) as u32),
                2 => Some(998 + random.below(4) as u32),
                3 => Some(u32::MAX - random.below(2) as u32),
                4 => Some(random.below(33_000) as u32),
                // Often several rules at one priority.
                8 | 9 => Some(50),
                _ => None,
            };
            Event::AddForeign(families, pref, rule)
        }
        10 | 11 => Event::DeleteForeign(random.below(2) as usize, random.below(8) as usize),
        12 => Event::VrfGone(vrf),
        13 => Event::VrfBack(vrf, random.pick(&TABLES)),
        14 if random.once_in(2) => Event::Move(device),
        14 => Event::MoveBack(device),
        15 if random.once_in(4) => Event::Hide(random.once_in(2)),
        _ => Event::DeleteAndMake(device),
    }
}

fn random_history(random: &mut Random) -> (World, Vec<Event>) {
    let world = World::new(random);
    let length = 2 + random.below(EVENTS - 1);
    let mut history = Vec::new();
    for _ in 0..length {
        let event = random_event(random);
        let rivals = add_rival(random, &event);
        history.push(event);
        history.extend(rivals);
    }
    (world, history)
}

/// After a rule of others that steers: often one that takes the same packets at the same priority,
/// and a device that is bound by the mark of both.
fn add_rival(random: &mut Random, event: &Event) -> Vec<Event> {
    let Event::AddForeign(families, pref, rule) = event else {
        return Vec::new();
    };
    let vrf = match rule.action {
        Action::Table(1023) => 0,
        Action::Table(7) => 1,
        _ => return Vec::new(),
    };
    if rule.mask != u32::MAX || pref.is_none() || random.once_in(2) {
        return Vec::new();
    }
    let rival = Rule {
        action: random.pick(&[Action::Unreachable, Action::Table(MAIN), Action::Other]),
        ..*rule
    };
    let bind = Command {
        device: 0,
        what: What::Bind {
            vrf,
            fwmark: Change::Set(rule.mark),
            port: Change::Keep,
            mode: BindMode::Auto,
        },
        reuse: None,
        crash: None,
    };
    vec![
        Event::AddForeign(families.clone(), *pref, rival),
        Event::Command(bind),
    ]
}

/// The history that a fuzzer chooses.
#[cfg(fuzzing)]
pub fn run_bytes(bytes: &[u8]) {
    let (world, history) = random_history(&mut Random::Chosen(bytes));
    if run(&world, &history, &mut Counts::default()).is_err() {
        let history = shorten(&world, history);
        let why = run(&world, &history, &mut Counts::default()).unwrap_err();
        panic!("{history:#?}\n{why}");
    }
}

fn run(world: &World, history: &[Event], counts: &mut Counts) -> Outcome {
    let mut world = world.clone();
    for event in history {
        world.happen(event, counts)?;
    }
    world.end(counts)
}

/// Leaves out each event that the failure does not need.
fn shorten(world: &World, mut history: Vec<Event>) -> Vec<Event> {
    let mut at = 0;
    while at < history.len() {
        let mut shorter = history.clone();
        shorter.remove(at);
        if run(world, &shorter, &mut Counts::default()).is_err() {
            history = shorter;
            at = 0;
        } else {
            at += 1;
        }
    }
    history
}

/// `HISTORIES=50000 SEED=991` runs others.
fn read_number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_history_makes_it_leak() {
    let seed = read_number("SEED").unwrap_or(0x2545_f491_4f6c_dd1d);
    let histories = read_number("HISTORIES").unwrap_or(HISTORIES);
    let mut random = Random::Seed(seed);
    let mut counts = Counts::default();
    for number in 0..histories {
        let (world, history) = random_history(&mut random);
        if run(&world, &history, &mut counts).is_err() {
            let history = shorten(&world, history);
            let why = run(&world, &history, &mut Counts::default()).unwrap_err();
            panic!("history {number}: {history:#?}\n{why}");
        }
    }
    println!("{histories} histories: {counts:?}");
    assert!(counts.bound > histories, "{counts:?}");
    assert!(counts.crashed > histories / 4, "{counts:?}");
}

/// What wg-quick with `Table = auto` adds, in its order.
fn wg_quick_rules(world: &mut World, mark: u32, add: bool) {
    let not_marked = Rule {
        mark,
        mask: u32::MAX,
        protocol: 3,
        invert: true,
        action: Action::Table(mark),
        ..Rule::default()
    };
    let suppress = Rule {
        protocol: 3,
        suppress: true,
        action: Action::Table(MAIN),
        ..Rule::default()
    };
    for rules in world.rules.iter_mut().flatten() {
        for rule in [not_marked, suppress] {
            if add {
                let pref = default_pref(rules);
                insert(rules, Rule { pref, ..rule });
            } else {
                let same = |r: &Rule| Rule { pref: 0, ..*r } == rule;
                let at = rules.iter().position(same).expect("wg-quick's rule");
                rules.remove(at);
            }
        }
    }
}

/// Both families are on, with the kernel's own rules.
fn stock_world() -> World {
    World {
        rules: [Some(stock()), Some(stock())],
        ..World::new(&mut Random::Seed(2))
    }
}

fn bind_first(world: &mut World, counts: &mut Counts) {
    let command = Command {
        device: 0,
        what: What::Bind {
            vrf: 0,
            fwmark: Change::Keep,
            port: Change::Keep,
            mode: BindMode::Auto,
        },
        reuse: None,
        crash: None,
    };
    let refused = counts.refused;
    world.command(&command, counts).unwrap();
    assert_eq!(counts.refused, refused, "refused: {}", world.shown());
}

#[test]
fn restarts_of_wg_quick_do_not_wear_it_out() {
    let mut world = stock_world();
    let mut counts = Counts::default();
    let mut first = None;
    for restart in 0..100 {
        // Up: wg-quick calls setconf, adds its rules, and calls PostUp.
        bind_first(&mut world, &mut counts);
        let mark = world.devices[0].mark;
        wg_quick_rules(&mut world, mark, true);
        bind_first(&mut world, &mut counts);
        let now = world.shown();
        assert_eq!(first.get_or_insert(now.clone()), &now, "restart {restart}");
        // Down: it deletes the device and its own rules, and ours stay.
        world.happen(&Event::DeleteAndMake(0), &mut counts).unwrap();
        wg_quick_rules(&mut world, mark, false);
    }
}

#[test]
fn rules_without_a_priority_do_not_wear_it_out() {
    let mut world = stock_world();
    let mut counts = Counts::default();
    bind_first(&mut world, &mut counts);
    let rule = Rule {
        protocol: 3,
        narrowed: true,
        action: Action::Table(FOREIGN),
        ..Rule::default()
    };
    for _ in 0..300 {
        let add = Event::AddForeign(vec![0, 1], None, rule);
        world.happen(&add, &mut counts).unwrap();
        bind_first(&mut world, &mut counts);
        for family in [0, 1] {
            let delete = Event::DeleteForeign(family, 0);
            world.happen(&delete, &mut counts).unwrap();
        }
    }
    bind_first(&mut world, &mut counts);
    assert!(
        world.shown().starts_with("  0: from all lookup 255\n  97:"),
        "not where it began: {}",
        world.shown()
    );
}

/// A rule that comes before all, then another VRF: the closing rule stays behind the lookup.
#[test]
fn the_closing_rule_never_comes_first() {
    for pref in 0..4 {
        let mut world = stock_world();
        let foreign = Rule {
            protocol: 3,
            narrowed: true,
            action: Action::Table(FOREIGN),
            ..Rule::default()
        };
        let mut counts = Counts::default();
        let add = Event::AddForeign(vec![0, 1], Some(pref), foreign);
        world.happen(&add, &mut counts).unwrap();
        for vrf in [0, 1, 0, 1] {
            let command = Command {
                device: 0,
                what: What::Bind {
                    vrf,
                    fwmark: Change::Set(0x77),
                    port: Change::Keep,
                    mode: BindMode::Auto,
                },
                reuse: None,
                crash: None,
            };
            world.command(&command, &mut counts).unwrap();
        }
        assert_eq!(
            counts.bound,
            if pref == 0 { 0 } else { 4 },
            "priority {pref}"
        );
    }
}

/// Found by the fuzzer: the pair had to go to priority 0, and the administrator's own lookup came
/// behind it at the same priority. The closing rule belongs behind that one.
#[test]
fn a_lookup_behind_the_pair_at_one_priority_is_adopted() {
    let mut world = stock_world();
    let everything = Rule {
        protocol: 3,
        action: Action::Goto,
        ..Rule::default()
    };
    let lookup = Rule {
        mark: 0x77,
        mask: u32::MAX,
        action: Action::Table(7),
        ..everything
    };
    let bind = Event::Command(Command {
        device: 0,
        what: What::Bind {
            vrf: 1,
            fwmark: Change::Set(0x77),
            port: Change::Keep,
            mode: BindMode::Auto,
        },
        reuse: None,
        crash: None,
    });
    let mut counts = Counts::default();
    for event in [
        Event::AddForeign(vec![0, 1], Some(1), everything),
        bind.clone(),
        Event::AddForeign(vec![0, 1], Some(0), lookup),
        bind,
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!(counts.bound, 2);
}

/// Found by the fuzzer: the rules for a port took the packets of a moved device with that port,
/// whose own VRF was gone.
#[test]
fn a_port_of_a_moved_device_is_not_taken() {
    let mut world = stock_world();
    let mut counts = Counts::default();
    bind_first(&mut world, &mut counts);
    world.devices[2].port = world.devices[0].port;
    let by_port = Event::Command(Command {
        device: 2,
        what: What::Bind {
            vrf: 1,
            fwmark: Change::Keep,
            port: Change::Keep,
            mode: BindMode::Port,
        },
        reuse: None,
        crash: None,
    });
    // Another one with that port has moved, too, is bound by nothing and comes first.
    world.devices[1].port = world.devices[0].port;
    world.devices.swap(0, 1);
    for event in [Event::Move(1), Event::Move(0), Event::VrfGone(0), by_port] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!(counts.refused, 1);
}

/// Found by the fuzzer: as above, but the lookup for the moved device's mark is an administrator's.
#[test]
fn a_port_of_a_moved_device_with_an_adopted_lookup_is_not_taken() {
    let mut world = stock_world();
    let bind = |device, vrf, mode| {
        Event::Command(Command {
            device,
            what: What::Bind {
                vrf,
                fwmark: Change::Keep,
                port: Change::Set(51009),
                mode,
            },
            reuse: None,
            crash: None,
        })
    };
    let lookup = Rule {
        mark: 0x77,
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(7),
        ..Rule::default()
    };
    let mut counts = Counts::default();
    for event in [
        Event::AddForeign(vec![0, 1], Some(999), lookup),
        bind(1, 1, BindMode::Fwmark),
        Event::Move(1),
        bind(0, 0, BindMode::Port),
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.refused), (1, 1));
}

/// Found by the fuzzer: a device got the port by which a moved one is bound, and its pair went to
/// another place, behind a foreign rule that takes only the moved one's packets.
#[test]
fn a_port_that_binds_a_moved_device_is_not_taken() {
    let mut world = stock_world();
    let port = 51009;
    let bind = |device, fwmark| {
        Event::Command(Command {
            device,
            what: What::Bind {
                vrf: 0,
                fwmark,
                port: Change::Set(port),
                mode: BindMode::Port,
            },
            reuse: None,
            crash: None,
        })
    };
    let not_marked = Rule {
        mark: 66,
        mask: u32::MAX,
        invert: true,
        protocol: 3,
        action: Action::Table(MAIN),
        ..Rule::default()
    };
    let mut counts = Counts::default();
    for event in [
        Event::AddForeign(vec![0, 1], Some(1), not_marked),
        bind(1, Change::Clear),
        Event::Move(1),
        bind(0, Change::Set(66)),
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.refused), (1, 1));
}

/// A moved device is bound by a port. One that got the port, or had it while it was away itself, would
/// move its pair behind a rule that takes only the moved one's packets.
#[test]
fn rules_of_a_moved_device_are_not_taken_for_ones_own() {
    let port = 51009;
    let bind = |device, fwmark, mode| {
        let what = What::Bind {
            vrf: 1,
            fwmark,
            port: Change::Keep,
            mode,
        };
        (device, what)
    };
    let theirs = Rule {
        mark: 0x77,
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(MAIN),
        ..Rule::default()
    };
    let get_port = |device| (device, What::Port(Change::Set(port)));
    let by_port = bind(1, Change::Set(0x77), BindMode::Port);
    let again = bind(0, Change::Set(66), BindMode::Auto);
    let moved_one = || [get_port(1), by_port.clone()];
    for (first, away, second) in [
        (None, moved_one(), vec![get_port(0), again.clone()]),
        (Some(get_port(0)), moved_one(), vec![again]),
    ] {
        let mut world = stock_world();
        let mut counts = Counts::default();
        let run = |world: &mut World, counts: &mut Counts, (device, what)| {
            let command = Command {
                device,
                what,
                reuse: None,
                crash: None,
            };
            world.command(&command, counts).unwrap();
        };
        let add = Event::AddForeign(vec![0, 1], Some(50), theirs);
        world.happen(&add, &mut counts).unwrap();
        if let Some(command) = first {
            run(&mut world, &mut counts, command);
            world.happen(&Event::Move(0), &mut counts).unwrap();
        }
        for command in away {
            run(&mut world, &mut counts, command);
        }
        world.happen(&Event::Move(1), &mut counts).unwrap();
        world.happen(&Event::MoveBack(0), &mut counts).unwrap();
        for command in second {
            run(&mut world, &mut counts, command);
        }
        assert_eq!(counts.refused, 1);
    }
}

/// Found by the fuzzer: an earlier device left IPv6 rules for a mark, which a device then got while
/// they were there.
#[test]
fn the_mark_of_rules_that_are_left_is_not_taken_before_they_go() {
    let mark = default_mark(7);
    let command = |device, vrf, fwmark, crash| {
        let what = What::Bind {
            vrf,
            fwmark,
            port: Change::Keep,
            mode: BindMode::Port,
        };
        Event::Command(Command {
            device,
            what,
            reuse: None,
            crash,
        })
    };
    let by_mark = Event::Command(Command {
        device: 1,
        what: What::Bind {
            vrf: 1,
            fwmark: Change::Set(mark),
            port: Change::Keep,
            mode: BindMode::Fwmark,
        },
        reuse: None,
        crash: None,
    });
    // Its rules of IPv4 are gone when the second command ends early.
    let history = |crash| {
        [
            by_mark.clone(),
            command(0, 0, Change::Keep, None),
            command(1, 1, Change::Set(0x77), Some(7)),
            command(0, 0, Change::Set(mark), Some(crash)),
        ]
    };
    for crash in 0..8 {
        let world = stock_world();
        let mut counts = Counts::default();
        run(&world, &history(crash), &mut counts).unwrap();
        assert!(counts.crashed >= 1, "{counts:?}");
    }
}

/// Found by the fuzzer: a device is bound by an administrator's lookup, and a second one of his takes
/// the same mark to main, in front. The mark that the device gets next goes to the VRF all the same.
#[test]
fn a_lookup_that_came_later_is_not_taken_for_the_binding() {
    let lookup = |table| Rule {
        mark: 0x77,
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(table),
        ..Rule::default()
    };
    let bind = Event::Command(Command {
        device: 1,
        what: What::Bind {
            vrf: 1,
            fwmark: Change::Set(0x77),
            port: Change::Keep,
            mode: BindMode::Auto,
        },
        reuse: None,
        crash: None,
    });
    let unmark = Event::Command(Command {
        device: 1,
        what: What::Mark(Change::Clear),
        reuse: None,
        crash: None,
    });
    for table in [MAIN, 1023] {
        let world = stock_world();
        let mut counts = Counts::default();
        let history = [
            Event::AddForeign(vec![0, 1], Some(999), lookup(7)),
            bind.clone(),
            Event::AddForeign(vec![0], Some(50), lookup(table)),
            unmark.clone(),
        ];
        run(&world, &history, &mut counts).unwrap();
        assert_eq!((counts.bound, counts.refused), (1, 0), "{counts:?}");
    }
}

/// Found by the fuzzer: a command ended while it took a device from its port to the mark that an
/// administrator steers to another VRF. The mark's rules come first, so that VRF is kept.
#[test]
fn of_two_bindings_that_counts_which_comes_first() {
    let command = |what, crash| {
        Event::Command(Command {
            device: 0,
            what,
            reuse: None,
            crash,
        })
    };
    let bind = |vrf, fwmark, mode, crash| {
        let what = What::Bind {
            vrf,
            fwmark,
            port: Change::Keep,
            mode,
        };
        command(what, crash)
    };
    let lookup = Rule {
        mark: default_mark(1023),
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(1023),
        ..Rule::default()
    };
    for crash in 0..10 {
        let world = stock_world();
        let history = [
            bind(1, Change::Set(66), BindMode::Port, None),
            Event::Hide(true),
            Event::AddForeign(vec![0, 1], Some(0), lookup),
            bind(0, Change::Clear, BindMode::Fwmark, Some(crash)),
            command(What::Mark(Change::Clear), None),
        ];
        run(&world, &history, &mut Counts::default()).unwrap();
    }
}

/// Found by the fuzzer: somebody took the lookup by which a device was bound, and another device
/// brought one to another table for the same mark. The closing rule of the first held nothing then.
#[test]
fn a_device_whose_lookup_is_gone_is_not_led_elsewhere() {
    let lookup = Rule {
        mark: 0x77,
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(7),
        ..Rule::default()
    };
    let bind = |device, vrf, fwmark| {
        Event::Command(Command {
            device,
            what: What::Bind {
                vrf,
                fwmark,
                port: Change::Keep,
                mode: BindMode::Auto,
            },
            reuse: None,
            crash: None,
        })
    };
    let gone = || {
        let mut world = stock_world();
        let mut counts = Counts::default();
        for event in [
            Event::AddForeign(vec![0, 1], Some(999), lookup),
            bind(1, 1, Change::Set(0x77)),
            Event::DeleteForeign(0, 0),
            Event::DeleteForeign(1, 0),
        ] {
            world.happen(&event, &mut counts).unwrap();
        }
        (world, counts)
    };
    let joining = bind(0, 0, Change::Set(0x77));
    for moved in [false, true] {
        let (mut world, mut counts) = gone();
        if moved {
            world.happen(&Event::Move(1), &mut counts).unwrap();
        }
        world.happen(&joining, &mut counts).unwrap();
        assert_eq!((counts.bound, counts.refused), (1, 1), "moved {moved}");
    }
    // It is not to be seen, and might be there.
    let (mut world, mut counts) = gone();
    for event in [Event::Move(1), Event::Hide(true), joining] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.refused), (1, 1));

    // What had the mark before may bring the lookup back for both.
    let (mut world, mut counts) = gone();
    world.devices[0].mark = 0x77;
    world
        .happen(&bind(0, 1, Change::Keep), &mut counts)
        .unwrap();
    assert_eq!((counts.bound, counts.refused), (2, 0));

    // It leads the other one to where it goes: no entry at the hooks says here that they differ.
    let (mut world, mut counts) = gone();
    world.devices[0].mark = 0x77;
    world.devices[0].bound = Some(7);
    let mark = Command {
        device: 0,
        what: What::Mark(Change::Set(default_mark(1023))),
        reuse: None,
        crash: None,
    };
    for event in [bind(1, 0, Change::Keep), Event::Command(mark)] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.refused), (2, 0));

    // Alone it is bound again.
    let (mut world, mut counts) = gone();
    let again = bind(1, 0, Change::Keep);
    world.happen(&again, &mut counts).unwrap();
    assert_eq!((counts.bound, counts.refused), (2, 0));

    // The entry at the bind hooks names its VRF.
    let (world, _) = gone();
    let mut facts = world.facts(0, Some(1));
    facts.hooked[0].1.vrf = VRFS[1].to_owned();
    for mark in [0, 0x77] {
        facts.mark = mark;
        let joins = |table| find_closed(&facts, Flow::marked(0x77), table);
        assert_eq!(joins(7), None);
        assert_eq!(joins(1023).as_deref(), Some("wg1"));
    }
}

/// Found by the fuzzer: a foreign rule takes the new port before the pair does, and an administrator's
/// lookup for another mark leads to the same VRF. The pair was thought to stand for that one.
#[test]
fn the_pair_comes_before_a_rule_for_the_new_port() {
    let mut world = stock_world();
    let bind = |device, fwmark, port, mode| {
        Event::Command(Command {
            device,
            what: What::Bind {
                vrf: 1,
                fwmark,
                port,
                mode,
            },
            reuse: None,
            crash: None,
        })
    };
    let lookup = Rule {
        mark: 0x77,
        mask: u32::MAX,
        protocol: 3,
        action: Action::Table(7),
        ..Rule::default()
    };
    let of_port = Rule {
        protocol: 3,
        source_ports: Some((51001, 51001)),
        action: Action::Goto,
        ..Rule::default()
    };
    let mut counts = Counts::default();
    for event in [
        Event::AddForeign(vec![1], Some(50), lookup),
        bind(
            1,
            Change::Set(0x770000ff),
            Change::Set(51002),
            BindMode::Auto,
        ),
        Event::AddForeign(vec![0], None, of_port),
        bind(2, Change::Keep, Change::Keep, BindMode::Fwmark),
        Event::Command(Command {
            device: 1,
            what: What::Port(Change::Set(51001)),
            reuse: None,
            crash: None,
        }),
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.done, counts.refused), (3, 0));
}

/// Found by the fuzzer: at priority 0 a killed command left a closing rule behind a foreign rule, and
/// taking it away would have taken its twin in front of that.
#[test]
fn a_twin_behind_a_foreign_rule_stays() {
    let mut world = stock_world();
    let bind = |vrf, crash| {
        Event::Command(Command {
            device: 1,
            what: What::Bind {
                vrf,
                fwmark: Change::Keep,
                port: Change::Set(51002),
                mode: BindMode::Port,
            },
            reuse: None,
            crash,
        })
    };
    let narrow = Rule {
        protocol: 3,
        narrowed: true,
        action: Action::Table(FOREIGN),
        ..Rule::default()
    };
    let everything = Rule {
        narrowed: false,
        action: Action::Table(7),
        ..narrow
    };
    let mut counts = Counts::default();
    for event in [
        Event::AddForeign(vec![0, 1], Some(1), narrow),
        bind(0, None),
        Event::AddForeign(vec![0, 1], Some(0), everything),
        bind(1, Some(5)),
        bind(0, None),
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.refused), (2, 0), "{}", world.shown());
    world.end(&mut counts).unwrap();
}

/// Found by the fuzzer: a command that took the device to another VRF by its port ended half way, and its
/// lookup had to stay while the device was bound by a mark, as nothing told who needs it. Its port
/// is asked again: the lookup goes before the mark does.
#[test]
fn what_leads_elsewhere_goes_before_the_device_goes_by_it() {
    let bind = |vrf, fwmark, mode, crash| {
        Event::Command(Command {
            device: 1,
            what: What::Bind {
                vrf,
                fwmark,
                port: Change::Keep,
                mode,
            },
            reuse: None,
            crash,
        })
    };
    // It takes no packet without a mark, so that the rules for the port may stand behind it.
    let marked = Rule {
        mark: 0x7800_0000,
        mask: 0xff,
        invert: true,
        protocol: 3,
        local_output: true,
        action: Action::Table(FOREIGN),
        ..Rule::default()
    };
    for ends in 0..4 {
        let mut world = stock_world();
        let mut counts = Counts::default();
        for event in [
            Event::AddForeign(vec![0, 1], Some(93), marked),
            bind(1, Change::Clear, BindMode::Port, None),
            Event::Hide(true),
            bind(0, Change::Keep, BindMode::Auto, Some(1)),
            bind(1, Change::Keep, BindMode::Fwmark, None),
            bind(1, Change::Clear, BindMode::Port, Some(ends)),
        ] {
            world.happen(&event, &mut counts).unwrap();
        }
        assert_eq!((counts.bound + counts.crashed, counts.refused), (4, 0));
        world.end(&mut counts).unwrap();
    }
}

/// Found by the fuzzer: of two equal closing rules the first had to stay, as the rules for the port stood in
/// front of the second. They went in the same command, and the next one removed the twin.
#[test]
fn a_twin_goes_with_what_stood_in_between() {
    let mut world = stock_world();
    let mut counts = Counts::default();
    let bind = |device, vrf, fwmark, port, mode, reuse, crash| {
        Event::Command(Command {
            device,
            what: What::Bind {
                vrf,
                fwmark,
                port,
                mode,
            },
            reuse,
            crash,
        })
    };
    let foreign = Rule {
        mark: 2013265920,
        mask: 0,
        protocol: 3,
        action: Action::Table(254),
        local_output: true,
        ip_proto: 17,
        ..Rule::default()
    };
    for event in [
        Event::AddForeign(vec![0, 1], Some(1), foreign),
        bind(
            1,
            1,
            Change::Clear,
            Change::Set(51002),
            BindMode::Port,
            None,
            None,
        ),
        bind(
            0,
            1,
            Change::Set(119),
            Change::Clear,
            BindMode::Auto,
            None,
            None,
        ),
        bind(
            0,
            0,
            Change::Clear,
            Change::Keep,
            BindMode::Port,
            None,
            Some(4),
        ),
        bind(
            0,
            0,
            Change::Set(1996488912),
            Change::Keep,
            BindMode::Auto,
            Some(1),
            Some(6),
        ),
        bind(
            0,
            1,
            Change::Keep,
            Change::Clear,
            BindMode::Auto,
            None,
            None,
        ),
    ] {
        world.happen(&event, &mut counts).unwrap();
    }
    assert_eq!((counts.bound, counts.crashed), (3, 2), "{}", world.shown());
}
