// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Plans, carried out on a model of the kernel's rules.

use super::*;

const TABLE: u32 = 1023;
const MARK: u32 = 0x7700_00ff;
const MAIN: u32 = 254;

fn lookup(pref: u32, table: u32) -> Rule {
    Rule {
        pref,
        protocol: 2,
        action: Action::Table(table),
        ..Rule::default()
    }
}

fn marked(pref: u32, mark: u32, table: u32) -> Rule {
    Rule {
        mark,
        mask: u32::MAX,
        protocol: 3,
        ..lookup(pref, table)
    }
}

fn l3mdev() -> Rule {
    Rule {
        l3mdev: true,
        ..lookup(1000, 0)
    }
}

/// What a host with a VRF has.
fn stock() -> Vec<Rule> {
    vec![
        lookup(0, 255),
        l3mdev(),
        lookup(32766, MAIN),
        lookup(32767, 253),
    ]
}

/// As fib_nl_newrule() does it: behind all rules of the same priority.
fn insert(rules: &mut Vec<Rule>, rule: Rule) {
    let at = rules
        .iter()
        .position(|r| r.pref > rule.pref)
        .unwrap_or(rules.len());
    rules.insert(at, rule);
}

/// As fib_default_rule_pref() chooses for a rule without a priority.
fn default_pref(rules: &[Rule]) -> u32 {
    rules
        .get(1)
        .map_or(0, |second| second.pref.saturating_sub(1))
}

fn facts(rules: Vec<Rule>) -> Facts {
    Facts {
        target: Target::Vrf { table: TABLE },
        vrfs: vec![("vrf_external".into(), TABLE), ("vrf_b".into(), 7)],
        rules: Rules {
            v4: Some(rules.clone()),
            v6: Some(rules),
        },
        sockets: Sockets::Here,
        ..Facts::default()
    }
}

/// Found by a fuzzer: the device keeps a mark, and a rule of the administrator leads that mark to
/// the same table. The walk ends at the closing rule of another device with the mark.
#[test]
fn a_foreign_rule_for_the_mark_serves_a_device_bound_by_its_port() {
    let open = Rule::new_ours(97, Selector::Port(51002), Action::Table(7));
    let rules = vec![
        lookup(0, 255),
        Rule {
            mask: 0xff,
            ..marked(96, 0x42, 7)
        },
        Rule::new_ours(97, Selector::Mark(0x42), Action::Unreachable),
        open,
        Rule::new_ours(98, Selector::Port(51002), Action::Unreachable),
        l3mdev(),
        lookup(32766, MAIN),
    ];
    let flow = Flow {
        by: Selector::Port(51002),
        mark: 0x42,
        port: 51002,
    };
    assert_eq!(rules::find_fault(&rules, flow, 7), None);
    // Another table is none of the device's.
    assert!(rules::find_fault(&rules, flow, TABLE).is_some());
    let unmarked = Flow { mark: 0, ..flow };
    assert_eq!(rules::find_fault(&rules, unmarked, 7), None);
}

#[test]
fn a_device_gets_back_what_an_interrupted_command_took() {
    let wanted = |listen_port| Update {
        interface: "wg0".into(),
        listen_port,
        ..Update::default()
    };
    let bound = vec![
        lookup(0, 255),
        marked(999, MARK, TABLE),
        l3mdev(),
        lookup(32766, MAIN),
    ];
    for interrupted in [false, true] {
        let facts = Facts {
            mark: MARK,
            port: 51001,
            interrupted,
            ..facts(bound.clone())
        };
        let send = |update| plan(&facts, update, &Strategy::Keep).unwrap().update;
        let same = send(wanted(Change::Keep));
        let port = if interrupted {
            Change::Set(51001)
        } else {
            Change::Keep
        };
        let mark = if interrupted {
            Change::Set(MARK)
        } else {
            Change::Keep
        };
        assert_eq!((same.listen_port, &same.fwmark), (port, &mark));
        // What the user says counts more than what was there.
        let moved = send(wanted(Change::Set(7)));
        assert_eq!((moved.listen_port, moved.fwmark), (Change::Set(7), mark));
    }
}

fn other(name: &str, mark: u32) -> Other {
    Other {
        name: name.into(),
        mark,
        ..Other::default()
    }
}

fn bind() -> Update {
    Update {
        interface: "wg0".into(),
        bind_dev: Change::Set("vrf_external".into()),
        ..Update::default()
    }
}

fn unbind() -> Update {
    Update {
        bind_dev: Change::Clear,
        ..bind()
    }
}

fn decide(facts: &Facts, update: &Update, mode: BindMode) -> Result<Plan> {
    let strategy = Strategy::choose(facts.support, update, mode)?;
    plan(facts, update.clone(), &strategy)
}

fn auto(facts: &Facts, update: &Update) -> Plan {
    decide(facts, update, BindMode::Auto).unwrap()
}

/// Does what a plan says, as the kernel would.
fn apply(facts: &mut Facts, plan: &Plan) {
    let mut change = |family: Family, rule: &Rule, add: bool| {
        let rules = match family {
            Family::V4 => &mut facts.rules.v4,
            Family::V6 => &mut facts.rules.v6,
        };
        let rules = rules.as_mut().expect("a family that is on");
        let there = rules.iter().position(|r| r == rule);
        if add {
            assert!(there.is_none(), "added twice: {}", rule);
            insert(rules, *rule);
        } else {
            rules.remove(there.expect("removed a rule that is not there"));
        }
    };
    for (family, rule) in &plan.add {
        change(*family, rule, true);
    }
    for (family, rule) in plan.clear.iter().chain(&plan.remove) {
        assert!(rule.is_ours());
        change(*family, rule, false);
    }
    facts.mark = facts.mark_after(&plan.update.fwmark);
}

#[derive(Debug, PartialEq)]
enum Fate {
    Vrf,
    Closed,
    Leak(Rule),
}

/// Where a packet with this mark ends, evaluated rule by rule like fib_rules_lookup().
/// `narrow` is what rules with further selectors say about this packet.
fn fate(rules: &[Rule], mark: u32, table: u32, vrf_has_route: bool, narrow: bool) -> Fate {
    for rule in rules {
        let hit = (rule.mask == 0 || (rule.mark ^ mark) & rule.mask == 0)
            && !rule.forwarded_only
            && !rule.l3mdev
            && (!rule.narrowed || narrow);
        if hit == rule.invert {
            continue;
        }
        match rule.action {
            Action::Table(255) | Action::Nop => {}
            Action::Table(to) if to == table => {
                if vrf_has_route && !rule.suppress {
                    return Fate::Vrf;
                }
            }
            Action::Unreachable | Action::Drop => return Fate::Closed,
            _ => return Fate::Leak(*rule),
        }
    }
    Fate::Closed
}

fn assert_tight(facts: &Facts, mark: u32, table: u32) {
    for rules in [&facts.rules.v4, &facts.rules.v6].into_iter().flatten() {
        for narrow in [false, true] {
            assert_eq!(
                fate(rules, mark, table, true, narrow),
                Fate::Vrf,
                "{rules:#?}"
            );
            assert_eq!(
                fate(rules, mark, table, false, narrow),
                Fate::Closed,
                "{rules:#?}"
            );
        }
    }
}

#[test]
fn a_plain_host_gets_the_pair_in_both_families() {
    let mut facts = facts(stock());
    let plan = auto(&facts, &bind());
    assert_eq!(plan.update.fwmark, Change::Set(MARK));
    assert_eq!(plan.update.bind_dev, Change::Keep);
    let prefs: Vec<_> = plan.add.iter().map(|(_, rule)| rule.pref).collect();
    assert_eq!(prefs, [97, 98, 97, 98]);
    assert!(plan.remove.is_empty());
    assert_eq!(
        plan.notes,
        ["wg0: kernel lacks WGDEVICE_A_BIND_DEV, using fwmark 0x770000ff via table 1023"]
    );
    apply(&mut facts, &plan);
    assert_tight(&facts, MARK, TABLE);

    let again = auto(&facts, &bind());
    assert_eq!((again.add, again.remove), (vec![], vec![]));

    let plan = auto(&facts, &unbind());
    assert_eq!(plan.update.fwmark, Change::Clear);
    apply(&mut facts, &plan);
    assert_eq!(facts.rules.v4, Some(stock()));
    assert_eq!(facts.rules.v6, Some(stock()));
}

#[test]
fn without_the_closing_rule_it_would_leak() {
    // The evaluation itself is checked: it has to see the leak that the pair prevents.
    let mut rules = stock();
    insert(
        &mut rules,
        Rule::new_ours(97, Selector::Mark(MARK), Action::Table(TABLE)),
    );
    assert_eq!(
        fate(&rules, MARK, TABLE, false, false),
        Fate::Leak(lookup(32766, MAIN))
    );
}

#[test]
fn the_attribute_is_preferred_and_takes_over() {
    let mut facts = facts(stock());
    apply(&mut facts.clone(), &auto(&facts, &bind()));
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    facts.support.attribute = true;
    let plan = auto(&facts, &bind());
    assert_eq!(plan.update.bind_dev, Change::Set("vrf_external".into()));
    assert_eq!(plan.update.fwmark, Change::Clear);
    assert_eq!(plan.remove.len(), 4);
    apply(&mut facts, &plan);
    assert_eq!(facts.rules.v4, Some(stock()));
    let plan = auto(&facts, &bind());
    assert_eq!((plan.update.fwmark, plan.notes), (Change::Keep, vec![]));
}

#[test]
fn modes_force_one_way_or_the_other() {
    let mut facts = facts(stock());
    assert!(decide(&facts, &bind(), BindMode::Kernel).is_err());
    assert!(decide(&facts, &unbind(), BindMode::Kernel).is_ok());
    facts.support.attribute = true;
    let forced = decide(&facts, &bind(), BindMode::Fwmark).unwrap();
    assert_eq!(forced.update.bind_dev, Change::Clear);
    assert_eq!(forced.add.len(), 4);
}

#[test]
fn unbinding_what_was_never_bound_does_nothing() {
    let mut facts = facts(stock());
    facts.mark = 51820;
    let plan = auto(&facts, &unbind());
    let untouched = Update {
        bind_dev: Change::Keep,
        ..unbind()
    };
    assert_eq!(plan, Plan::send(untouched));
    facts.support.attribute = true;
    assert_eq!(auto(&facts, &unbind()).update.bind_dev, Change::Clear);
}

#[test]
fn only_a_vrf_can_be_bound_to() {
    for target in [
        Target::Missing,
        Target::Other { kind: "".into() },
        Target::Other {
            kind: "bridge".into(),
        },
    ] {
        let facts = Facts {
            target,
            ..facts(stock())
        };
        let text = decide(&facts, &bind(), BindMode::Auto)
            .unwrap_err()
            .to_string();
        assert!(text.contains("`vrf_external'"), "{text}");
    }
}

#[test]
fn an_administrators_rule_is_adopted_and_stays() {
    for (mask, local) in [(u32::MAX, false), (0xffff, true)] {
        let mut rules = stock();
        let theirs = Rule {
            mask,
            local_output: local,
            ..marked(999, 0x1023, TABLE)
        };
        insert(&mut rules, theirs);
        let mut facts = facts(rules.clone());
        let plan = auto(&facts, &bind());
        assert_eq!(plan.update.fwmark, Change::Set(0x1023));
        // No twin: only the closing rule, in the one place between 999 and l3mdev.
        assert!(
            plan.add
                .iter()
                .all(|(_, r)| r.action == Action::Unreachable)
        );
        assert_eq!(plan.add.len(), 2);
        apply(&mut facts, &plan);
        assert_tight(&facts, 0x1023, TABLE);
        let again = auto(&facts, &bind());
        assert_eq!((again.add, again.remove), (vec![], vec![]));
        let plan = auto(&facts, &unbind());
        // The mark was theirs, it stays, and that is said.
        assert_eq!(plan.update.fwmark, Change::Keep);
        assert!(plan.notes[0].contains("not ours"), "{:?}", plan.notes);
        apply(&mut facts, &plan);
        assert_eq!(facts.rules.v4, Some(rules));
    }
}

/// Without a word about the mark it was `wg` that took the administrator's: it is none for another VRF.
#[test]
fn an_adopted_mark_is_left_with_its_vrf() {
    let mut rules = stock();
    insert(&mut rules, marked(999, 0x1023, TABLE));
    let mut facts = facts(rules.clone());
    let plan = auto(&facts, &bind());
    apply(&mut facts, &plan);
    facts.mark = 0x1023;
    facts.target = Target::Vrf { table: 7 };
    let to_b = Update {
        bind_dev: Change::Set("vrf_b".to_owned()),
        ..bind()
    };
    let plan = auto(&facts, &to_b);
    assert_eq!(plan.update.fwmark, Change::Set(default_mark(7)));
    apply(&mut facts, &plan);
    assert_tight(&facts, default_mark(7), 7);
    let theirs: Vec<Rule> = facts.rules.v4.clone().unwrap_or_default();
    assert!(
        !theirs
            .iter()
            .any(|rule| rule.our_selector() == Some(Selector::Mark(0x1023)))
    );
    // Named in the command it is refused.
    facts.mark = 0x1023;
    let named = Update {
        fwmark: Change::Set(0x1023),
        ..to_b
    };
    assert!(decide(&facts, &named, BindMode::Auto).is_err());
}

/// A foreign rule for the mark behind the pair takes nothing from it: another port is none of its business.
#[test]
fn a_rule_behind_the_pair_does_not_hold_up_a_new_port() {
    let mut facts = facts(stock());
    let plan = auto(&facts, &bind());
    apply(&mut facts, &plan);
    (facts.mark, facts.port) = (MARK, 51001);
    insert(facts.rules.v4.as_mut().unwrap(), marked(200, MARK, 900));
    let moved = Update {
        interface: "wg0".to_owned(),
        listen_port: Change::Set(51009),
        ..Update::default()
    };
    let plan = decide(&facts, &moved, BindMode::Auto).unwrap();
    assert_eq!(plan.update.listen_port, Change::Set(51009));
    assert_eq!((plan.add, plan.remove), (vec![], vec![]));
    // In front of the pair it is named.
    insert(facts.rules.v4.as_mut().unwrap(), marked(1, MARK, 900));
    assert!(decide(&facts, &moved, BindMode::Auto).is_err());
}

/// The kernel could choose the port of another device's rules for one that may have any.
#[test]
fn a_device_that_may_have_any_port_gets_none_of_the_rules() {
    let mut facts = facts(stock());
    let plan = auto(&facts, &bind());
    apply(&mut facts, &plan);
    facts.mark = MARK;
    facts.port = 51001;
    facts.free_port = 40000;
    for (family, action) in [
        (Family::V4, Action::Table(7)),
        (Family::V6, Action::Table(7)),
    ] {
        let rule = Rule::new_ours(97, Selector::Port(51009), action);
        facts.rules.change_rule(family, &rule, true);
    }
    facts.others.push(Other {
        name: "wg1".to_owned(),
        port: 51009,
        ..Other::default()
    });
    let any = Update {
        interface: "wg0".to_owned(),
        listen_port: Change::Clear,
        ..Update::default()
    };
    let plan = decide(&facts, &any, BindMode::Auto).unwrap();
    assert_eq!(plan.update.listen_port, Change::Set(40000));
}

#[test]
fn a_family_that_the_administrator_forgot_is_completed() {
    let mut facts = facts(stock());
    insert(facts.rules.v4.as_mut().unwrap(), marked(999, 0x1023, TABLE));
    let plan = auto(&facts, &bind());
    let v4: Vec<_> = plan.add.iter().filter(|r| r.0 == Family::V4).collect();
    let v6: Vec<_> = plan.add.iter().filter(|r| r.0 == Family::V6).collect();
    assert_eq!((v4.len(), v6.len()), (1, 2));
    apply(&mut facts, &plan);
    assert_tight(&facts, 0x1023, TABLE);
}

#[test]
fn an_administrators_rule_that_comes_too_late_is_not_relied_on() {
    let mut rules = stock();
    insert(&mut rules, marked(5000, 0x1023, TABLE));
    insert(
        &mut rules,
        Rule {
            suppress: true,
            ..lookup(4000, MAIN)
        },
    );
    let mut facts = facts(rules);
    let plan = auto(&facts, &bind());
    apply(&mut facts, &plan);
    assert_tight(&facts, 0x1023, TABLE);
}

#[test]
fn rules_of_wg_quick_that_got_ahead_are_overtaken_again() {
    let mut facts = facts(stock());
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    for rules in [&mut facts.rules.v4, &mut facts.rules.v6] {
        let rules = rules.as_mut().unwrap();
        let not_ours = Rule {
            invert: true,
            ..marked(default_pref(rules), MARK, MARK)
        };
        insert(rules, not_ours);
        let suppress = Rule {
            suppress: true,
            ..lookup(default_pref(rules), MAIN)
        };
        insert(rules, suppress);
        assert!(matches!(
            fate(rules, MARK, TABLE, true, false),
            Fate::Leak(_)
        ));
    }
    let plan = auto(&facts, &bind());
    assert!(!plan.add.is_empty());
    apply(&mut facts, &plan);
    assert_tight(&facts, MARK, TABLE);
}

#[test]
fn a_mark_with_another_meaning_is_refused() {
    let given = |mark| Update {
        fwmark: Change::Set(mark),
        ..bind()
    };
    let mut rules = stock();
    insert(&mut rules, marked(500, 5, 77));
    insert(
        &mut rules,
        Rule {
            mask: 0xf00,
            ..marked(600, 0x300, 78)
        },
    );
    let facts = facts(rules);
    for mark in [5, 0x300, 0x30f] {
        let text = decide(&facts, &given(mark), BindMode::Auto)
            .unwrap_err()
            .to_string();
        assert!(text.contains("in use by the rule"), "{text}");
        // What it names serves.
        assert!(text.contains(&format!("({MARK:#x} is free)")), "{text}");
    }
    assert!(decide(&facts, &given(MARK), BindMode::Auto).is_ok());
    assert!(decide(&facts, &given(6), BindMode::Auto).is_ok());
}

#[test]
fn the_mark_is_chosen_in_the_documented_order() {
    let mut facts = facts(stock());
    assert_eq!(auto(&facts, &bind()).update.fwmark, Change::Set(MARK));
    for rules in [&mut facts.rules.v4, &mut facts.rules.v6] {
        insert(rules.as_mut().unwrap(), marked(999, 0x1023, TABLE));
    }
    assert_eq!(auto(&facts, &bind()).update.fwmark, Change::Set(0x1023));
    facts.mark = 51820;
    assert_eq!(auto(&facts, &bind()).update.fwmark, Change::Keep);
    let stated = Update {
        fwmark: Change::Set(9),
        ..bind()
    };
    assert_eq!(auto(&facts, &stated).update.fwmark, Change::Set(9));
    // A file without FwMark says that there is none.
    let file = Update {
        fwmark: Change::Clear,
        ..bind()
    };
    assert_eq!(auto(&facts, &file).update.fwmark, Change::Set(0x1023));
    // Rules for a port that the device gives up say nothing about the mark. (Found by a fuzzer.)
    facts.port = 51009;
    facts.others = vec![Other {
        port: 51009,
        ..other("wg1", 0)
    }];
    for rules in [&mut facts.rules.v4, &mut facts.rules.v6] {
        let open = Rule::new_ours(97, Selector::Port(51009), Action::Table(7));
        insert(rules.as_mut().unwrap(), open);
    }
    let moved = Update {
        listen_port: Change::Set(51001),
        ..file
    };
    let moved = decide(&facts, &moved, BindMode::Fwmark).unwrap();
    assert_eq!(moved.update.fwmark, Change::Set(0x1023));
}

#[test]
fn rules_follow_a_changed_mark_and_a_changed_vrf() {
    let mut facts = facts(stock());
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    let mark = Update {
        bind_dev: Change::Keep,
        fwmark: Change::Set(0x42),
        ..bind()
    };
    let moved = auto(&facts, &mark);
    apply(&mut facts, &moved);
    assert_tight(&facts, 0x42, TABLE);
    assert!(facts.rules.iter_ours().all(|(_, rule)| rule.mark == 0x42));

    let off = Update {
        bind_dev: Change::Keep,
        fwmark: Change::Clear,
        ..bind()
    };
    let plan = auto(&facts, &off);
    assert_eq!(plan.update.fwmark, Change::Set(MARK));
    assert!(plan.notes.iter().any(|n| n.contains("is not off")));
    apply(&mut facts, &plan);
    assert_tight(&facts, MARK, TABLE);

    facts.target = Target::Vrf { table: 7 };
    let plan = auto(&facts, &bind());
    assert_eq!(plan.update.fwmark, Change::Set(default_mark(7)));
    apply(&mut facts, &plan);
    assert_tight(&facts, default_mark(7), 7);
    assert_eq!(facts.rules.iter_ours().count(), 4);
}

#[test]
fn two_devices_share_rules_and_the_last_one_takes_them_away() {
    let mut facts = facts(stock());
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    facts.others = vec![other("wg1", MARK)];
    facts.mark = 0;
    let second = auto(&facts, &bind());
    assert_eq!((second.add, second.remove), (vec![], vec![]));
    facts.mark = MARK;
    let one_leaves = auto(&facts, &unbind());
    assert_eq!(one_leaves.update.fwmark, Change::Clear);
    assert_eq!(one_leaves.remove, vec![]);
    facts.others.clear();
    assert_eq!(auto(&facts, &unbind()).remove.len(), 4);
}

#[test]
fn a_shared_mark_of_the_users_own_holds_a_device_back() {
    let mut facts = facts(stock());
    facts.mark = 9;
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    facts.others = vec![other("wg1", 9)];
    let text = decide(&facts, &unbind(), BindMode::Auto)
        .unwrap_err()
        .to_string();
    assert!(text.contains("wg1"), "{text}");
    let with_mark = Update {
        fwmark: Change::Clear,
        ..unbind()
    };
    assert_eq!(auto(&facts, &with_mark).remove, vec![]);
    // Nor is a device unbound that is given a mark by which another one is bound.
    facts.mark = 0;
    let same_mark = Update {
        fwmark: Change::Set(9),
        ..unbind()
    };
    assert!(decide(&facts, &same_mark, BindMode::Auto).is_err());
    facts.mark = 9;
    // And it cannot go to another VRF under the same mark.
    facts.target = Target::Vrf { table: 7 };
    assert!(decide(&facts, &bind(), BindMode::Auto).is_err());
}

#[test]
fn leftovers_go_unless_somebody_elsewhere_lives_on_them() {
    let mut facts = facts(stock());
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    // The device was deleted; another one is made and bound elsewhere.
    facts.mark = 0;
    facts.target = Target::Vrf { table: 7 };
    assert_eq!(facts.unused_selectors(), [Selector::Mark(MARK)]);
    assert_eq!(auto(&facts, &bind()).remove.len(), 4);
    assert_eq!(auto(&facts, &unbind()).remove.len(), 4);
    let spared = |facts: &Facts, update: &Update| {
        let mut facts = facts.clone();
        facts.elsewhere.devices = vec![other("wg9", MARK)];
        auto(&facts, update)
    };
    let plan = spared(&facts, &bind());
    assert_eq!(plan.remove, vec![]);
    assert!(
        plan.notes
            .iter()
            .any(|n| n.contains("another network namespace"))
    );
    // The one that is bound here may share its rules with the one that was moved.
    let mut here = facts.clone();
    here.mark = MARK;
    here.target = Target::Vrf { table: TABLE };
    assert_eq!(spared(&here, &unbind()).remove, vec![]);
    assert_eq!(spared(&here, &unbind()).update.fwmark, Change::Clear);
    // The same device made again finds its rules in place.
    facts.target = Target::Vrf { table: TABLE };
    let again = spared(&facts, &bind());
    assert_eq!((again.add, again.remove), (vec![], vec![]));
}

/// The pair that a device bound to `vrf_b`, whose table is 7, left for a mark or port.
fn leave_pair(facts: &mut Facts, by: Selector) {
    for (family, action) in [
        (Family::V4, Action::Table(7)),
        (Family::V4, Action::Unreachable),
        (Family::V6, Action::Table(7)),
        (Family::V6, Action::Unreachable),
    ] {
        let pref = if action == Action::Unreachable {
            98
        } else {
            97
        };
        facts
            .rules
            .change_rule(family, &Rule::new_ours(pref, by, action), true);
    }
}

/// A device that gets a mark or port of which an earlier device left rules to another VRF: they
/// are gone before the device has it, whatever it is bound by, and when it is bound by nothing.
#[test]
fn rules_of_an_earlier_device_go_before_its_mark_or_port_is_taken() {
    let updates = |by: Selector| {
        let taking = |update: Update| match by {
            Selector::Mark(mark) => Update {
                fwmark: Change::Set(mark),
                ..update
            },
            Selector::Port(port) => Update {
                listen_port: Change::Set(port),
                ..update
            },
        };
        let keep = Update {
            bind_dev: Change::Keep,
            ..bind()
        };
        [taking(bind()), taking(unbind()), taking(keep)]
    };
    let mut cases = 0;
    for by in [
        Selector::Mark(0x77),
        Selector::Mark(MARK + 1),
        Selector::Port(51009),
    ] {
        for (bound, mode) in [
            (false, BindMode::Fwmark),
            (false, BindMode::Port),
            (true, BindMode::Fwmark),
            (true, BindMode::Port),
        ] {
            for update in updates(by) {
                let mut facts = facts(stock());
                facts.port = 51001;
                if bound {
                    let plan = decide(&facts, &bind(), mode).unwrap();
                    apply(&mut facts, &plan);
                }
                leave_pair(&mut facts, by);
                if !bound && update.bind_dev.is_keep() {
                    let notes = decide(&facts, &update, mode).unwrap().notes.join("\n");
                    assert!(notes.contains("rules of an earlier binding"), "{notes}");
                    continue;
                }
                let plan = decide(&facts, &update, mode).unwrap();
                let mut rules = facts.rules.clone();
                for (family, rule) in &plan.add {
                    rules.change_rule(*family, rule, true);
                }
                for (family, rule) in &plan.clear {
                    rules.change_rule(*family, rule, false);
                }
                let stays = rules.ours_for(by);
                assert!(
                    stays
                        .iter()
                        .all(|(_, rule)| rule.action != Action::Table(7)),
                    "{by}, bound: {bound}, {mode:?}, {update:?}: {stays:?}"
                );
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 3 * (2 * 2 + 2 * 3));
}

/// Where it cannot be told who needs the rules they stay, and a device that they would take is
/// not bound.
#[test]
fn rules_that_must_stay_are_not_run_into() {
    for (by, mode) in [
        (Selector::Port(51009), BindMode::Fwmark),
        (Selector::Mark(0x77), BindMode::Port),
    ] {
        let mut facts = facts(stock());
        (facts.mark, facts.port) = (0x77, 51009);
        leave_pair(&mut facts, by);
        facts.unknown = Some("wg9 is silent".into());
        let error = decide(&facts, &bind(), mode).unwrap_err().to_string();
        let said = error.contains("wg9 is silent") && error.contains("lookup 7");
        assert!(said, "{by}: {error}");
    }
}

#[test]
fn no_device_is_bound_by_the_mark_that_closes() {
    use super::receive::CLOSED_MARK;
    let facts = facts(stock());
    let stated = Update {
        fwmark: Change::Set(CLOSED_MARK),
        ..bind()
    };
    let has_it = Facts {
        mark: CLOSED_MARK,
        ..facts.clone()
    };
    for (facts, update) in [(&facts, &stated), (&has_it, &bind())] {
        for mode in [BindMode::Fwmark, BindMode::Port] {
            let error = decide(facts, update, mode).unwrap_err().to_string();
            assert!(error.contains("0x78000000"), "{error}");
        }
    }
    // An administrator's rule for it is not adopted.
    let mut rules = stock();
    rules.insert(1, marked(50, CLOSED_MARK, TABLE));
    let plan = auto(&self::facts(rules), &bind());
    assert_eq!(plan.update.fwmark, Change::Set(MARK));
}

#[test]
fn a_family_that_is_off_is_skipped() {
    let mut facts = facts(stock());
    facts.rules.v6 = None;
    let plan = auto(&facts, &bind());
    assert!(plan.add.iter().all(|(family, _)| *family == Family::V4));
    assert_eq!(plan.add.len(), 2);
    facts.rules.v4 = None;
    assert!(decide(&facts, &bind(), BindMode::Auto).is_err());
}

#[test]
fn what_the_fallback_cannot_do_is_said() {
    let mut facts = facts(stock());
    let stated = Update {
        fwmark: Change::Set(TABLE),
        ..bind()
    };
    let notes = auto(&facts, &stated).notes.join("\n");
    assert!(notes.contains("wg-quick"), "{notes}");
    facts.wg_quick = true;
    let notes = auto(&facts, &bind()).notes.join("\n");
    assert!(notes.contains("PostUp"), "{notes}");
    facts.sockets = Sockets::Elsewhere;
    assert!(decide(&facts, &bind(), BindMode::Auto).is_err());
}

/// Random rules of everyone else, then bind, rebind, unbind: nothing ever leaks, nothing of
/// theirs changes, nothing of ours stays.
#[test]
fn no_set_of_rules_makes_it_leak() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut bound = 0;
    for _ in 0..4_000 {
        let mut rules = stock();
        for _ in 0..random(6) {
            let pref = match random(5) {
                0 => default_pref(&rules),
                1 => random(4) as u32,
                2 => 95 + random(6) as u32,
                3 => 998 + random(4) as u32,
                _ => random(33_000) as u32,
            };
            let rule = Rule {
                pref,
                mark: [0, 1, 0x1023, MARK, 0x4000][random(5) as usize],
                mask: [0, u32::MAX, u32::MAX, 0xff, 0xffff][random(5) as usize],
                protocol: 3,
                action: [
                    Action::Table(TABLE),
                    Action::Table(MAIN),
                    Action::Table(TABLE),
                    Action::Unreachable,
                    Action::Nop,
                    Action::Goto,
                ][random(6) as usize],
                invert: random(5) == 0,
                l3mdev: random(6) == 0,
                local_output: random(6) == 0,
                forwarded_only: random(6) == 0,
                suppress: random(6) == 0,
                narrowed: random(4) == 0,
                ..Rule::default()
            };
            insert(&mut rules, rule);
        }
        let mut facts = facts(rules.clone());
        let Ok(plan) = decide(&facts, &bind(), BindMode::Auto) else {
            continue;
        };
        bound += 1;
        apply(&mut facts, &plan);
        let mark = facts.mark;
        assert_tight(&facts, mark, TABLE);
        let again = auto(&facts, &bind());
        assert_eq!((again.add, again.remove), (vec![], vec![]), "{facts:#?}");
        let off = auto(&facts, &unbind());
        apply(&mut facts, &off);
        assert_eq!(facts.rules.v4.as_ref(), Some(&rules));
    }
    assert!(bound > 2_000, "{bound}");
}

/// Back home from in front of a rule that is gone: what has a route is never refused meanwhile.
#[test]
fn a_pair_that_moves_refuses_nothing_between() {
    let flow = Flow::marked(7);
    let ours = |pref, action| Rule::new_ours(pref, flow.by, action);
    let mut rules = vec![
        lookup(0, 255),
        ours(48, Action::Table(1023)),
        ours(49, Action::Unreachable),
        lookup(32766, 254),
    ];
    let place = find_place(&rules, flow, 1023).map_err(|rule| rule.to_string());
    let (add, remove) = arrange_pair(&rules, &place.unwrap(), flow, 1023);
    assert_eq!((add.len(), remove.len()), (2, 2));
    rules.extend(add);
    rules.sort_by_key(|rule| rule.pref);
    for gone in remove {
        rules.retain(|rule| *rule != gone);
        let first = rules.iter().find(|rule| rule.is_ours()).unwrap();
        assert_eq!(first.action, Action::Table(1023), "without {gone}");
    }
}

#[test]
fn a_mark_that_is_closed_has_no_lookup() {
    let rules = [lookup(0, 255), lookup(32766, 254)];
    let closing = rules::find_closing_place(&rules, 7, &[]).unwrap().unwrap();
    assert_eq!(closing.action, Action::Unreachable);
    // The device may have a port that our rules know.
    let [local, main] = rules;
    let by_port = Rule::new_ours(97, Selector::Port(51001), Action::Table(900));
    let place = |pref, port| {
        let by_port = Rule { pref, ..by_port };
        let rules = [local, by_port, main];
        rules::find_closing_place(&rules, 7, &[port]).map(|rule| rule.unwrap().pref)
    };
    assert!(place(97, 51001).unwrap() < 97);
    // That of another device is none of its business.
    assert!(place(0, 51001).is_err());
    assert!(place(0, 51002).is_ok());
}

/// A device is closed while it learns of a change, where it would be led by nothing in between, or
/// call new peers by the VRF that it leaves, in one family or in both.
#[test]
fn a_device_is_closed_where_it_would_be_open() {
    let pair = |by, table, pref| {
        [Action::Table(table), Action::Unreachable]
            .into_iter()
            .zip(pref..)
            .map(move |(action, pref)| Rule::new_ours(pref, by, action))
    };
    let (old, new) = (Selector::Mark(0x42), Selector::Port(51002));
    let with = |rules: Vec<Rule>| {
        let mut all = stock();
        rules.into_iter().for_each(|rule| insert(&mut all, rule));
        all
    };
    let bound = with(pair(old, TABLE, 97).collect());
    let start = Facts {
        mark: 0x42,
        port: 51001,
        up: true,
        ..facts(bound.clone())
    };
    let switch = Plan {
        update: Update {
            fwmark: Change::Clear,
            listen_port: Change::Set(51002),
            ..Update::default()
        },
        add: Family::ALL
            .into_iter()
            .flat_map(|family| pair(new, TABLE, 97).map(move |rule| (family, rule)))
            .collect(),
        ..Plan::default()
    };
    assert!(switch.must_close(&start));
    assert!(!switch.must_close(&Facts {
        up: false,
        ..start.clone()
    }));
    // Its lookup is gone, and what is left stops it.
    let closed = with(pair(old, TABLE, 97).skip(1).collect());
    let stopped = Facts {
        rules: facts(closed).rules,
        ..start.clone()
    };
    assert!(switch.must_close(&stopped));
    // A program takes the port first, and is led by the old mark until it takes the new one.
    let support = Support {
        userspace: true,
        ..Support::default()
    };
    let program = Facts {
        support,
        ..start.clone()
    };
    assert!(!switch.must_close(&program));
    let same_port = Plan {
        update: Update {
            listen_port: Change::Keep,
            ..switch.update.clone()
        },
        add: Family::ALL
            .into_iter()
            .flat_map(|family| {
                pair(Selector::Port(51001), TABLE, 97).map(move |rule| (family, rule))
            })
            .collect(),
        ..Plan::default()
    };
    assert!(!same_port.must_close(&start));

    // To another VRF by the same mark; IPv4's old rules are gone already.
    let half = Facts {
        rules: Rules {
            v4: Some(stock()),
            v6: Some(bound),
        },
        ..start.clone()
    };
    let mut moved = Plan {
        add: Family::ALL
            .into_iter()
            .flat_map(|family| pair(old, 7, 97).map(move |rule| (family, rule)))
            .collect(),
        remove: pair(old, TABLE, 97)
            .map(|rule| (Family::V6, rule))
            .collect(),
        ..Plan::default()
    };
    assert!(!moved.must_close(&half));
    assert!(moved.must_close(&Facts {
        interrupted: true,
        ..half.clone()
    }));
    let peer = crate::model::PeerUpdate::new(crate::key::PublicKey::from_bytes([9; 32]));
    moved.update.peers.push(peer);
    assert!(moved.must_close(&half));
    moved.remove.clear();
    assert!(!moved.must_close(&half), "no rule goes");
}

/// `not fwmark 7 lookup 900`, as wg-quick adds it.
#[test]
fn an_inverted_rule_is_for_all_others() {
    let not = Rule {
        mark: 7,
        mask: u32::MAX,
        invert: true,
        ..lookup(50, 900)
    };
    assert!(!not.captures_flow(Flow::marked(7), 1023));
    assert!(not.captures_flow(Flow::marked(8), 1023));
}

/// A device that keeps its mark or port is not unbound by rules that have to stay.
#[test]
fn unbinding_fails_where_the_rules_would_bind_it_still() {
    let mut facts = facts(stock());
    facts.mark = 5;
    let first = auto(&facts, &bind());
    apply(&mut facts, &first);
    assert!(auto(&facts, &unbind()).remove.len() == 4);
    facts.unknown = Some("hidden".to_owned());
    let refused = decide(&facts, &unbind(), BindMode::Auto);
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("cannot be told") && said.contains("hidden"),
        "{said}"
    );
    let mut leaves = unbind();
    leaves.fwmark = Change::Clear;
    let plan = auto(&facts, &leaves);
    assert_eq!((plan.remove, plan.update.fwmark), (vec![], Change::Clear));
}

/// What a killed command left may be the closing rule alone.
#[test]
fn a_closing_rule_that_has_to_stay_is_named() {
    let mut facts = facts(stock());
    facts.port = 51001;
    facts.unknown = Some("hidden".to_owned());
    let closing = Rule::new_ours(0, Selector::Port(51009), Action::Unreachable);
    facts.rules.change_rule(Family::V4, &closing, true);
    let mut update = bind();
    update.listen_port = Change::Set(51009);
    let said = decide(&facts, &update, BindMode::Auto)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("unreachable") && said.contains("hidden"),
        "{said}"
    );
}

/// An entry of a kernel device leaves the sockets of processes alone, where it can tell them.
#[test]
fn a_program_gets_no_port_whose_entry_binds_all_sockets() {
    for (all_sockets, process, refused) in [
        (false, false, false),
        (false, true, true),
        (true, false, true),
    ] {
        let entry = HookEntry {
            vrf: "vrf_external".into(),
            process,
            owner: 12,
            ..HookEntry::default()
        };
        let facts = Facts {
            support: Support {
                attribute: false,
                userspace: true,
            },
            port: 51001,
            hooked: vec![(51009, entry)],
            all_sockets,
            ..facts(stock())
        };
        let update = Update {
            interface: "wg0".into(),
            listen_port: Change::Set(51009),
            ..Update::default()
        };
        let planned = decide(&facts, &update, BindMode::Auto);
        assert_eq!(planned.is_err(), refused, "{all_sockets} {process}");
    }
}

/// The rules for a mark stayed when the device lost it, as nothing told who needs them. With that mark
/// again it would be bound, and the command would say that it is not.
#[test]
fn an_unbind_to_a_mark_whose_rules_stay_is_refused() {
    let pair = |by| {
        [
            Rule::new_ours(97, by, Action::Table(TABLE)),
            Rule::new_ours(98, by, Action::Unreachable),
        ]
    };
    let both = [Selector::Mark(77), Selector::Mark(5)].map(pair);
    let mut rules = stock();
    rules.splice(1..1, both.into_iter().flatten());
    let unbind = |mark, unknown: Option<&str>| {
        let facts = Facts {
            mark,
            unknown: unknown.map(str::to_owned),
            ..facts(rules.clone())
        };
        let update = Update {
            interface: "wg0".into(),
            fwmark: Change::Set(77),
            bind_dev: Change::Clear,
            ..Update::default()
        };
        plan(&facts, update, &Strategy::Unbind)
    };
    for mark in [5, 77] {
        let said = unbind(mark, Some("why")).unwrap_err().to_string();
        let words = "Cannot unbind wg0: the rules for fwmark 0x4d stay: it cannot be told whether \
                     another device needs them (why), and they would bind it; give wg0 another \
                     fwmark (or off) in the same command";
        assert_eq!(said, words);
        let plan = unbind(mark, None).unwrap();
        assert_eq!(
            plan.rules_after(&facts(rules.clone()).rules),
            facts(stock()).rules
        );
    }
}
