// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The host: sysctls, packet filters, what a gone device left, and what is installed.

use super::codes::Code;
use super::device::View;
use super::facts::{Facts, Gap};
use super::{Gets, Remedy, Report, Sends, advise, filter, list, quote, run};

pub fn examine(facts: &Facts, views: &[View], report: &mut Report) {
    if views.iter().any(|view| view.sends != Sends::Unbound) {
        report_unread(facts, report);
        report_accept(facts, views, report);
        report_filter(facts, views, report);
    }
    // Also where the last bound device is gone.
    report_hooks(facts, views, report);
    report_modules(facts, report);
    report_wg_quick(facts, report);
}

/// What the judgement of each device would have taken.
fn report_unread(facts: &Facts, report: &mut Report) {
    if let Err(why) = &facts.addresses {
        report.unseen(None, "addresses", why, super::NEEDS_ROOT);
    }
    if let Err(why) = &facts.rp_filter {
        report.unseen(
            None,
            "the reverse path filter",
            why,
            "mount /proc with its sysctls",
        );
    }
    let has_kernel_device = facts.nics.iter().any(|nic| nic.link.kind == "wireguard");
    if let Err(why) = facts.attribute.as_ref().map_err(|why| why.as_str()) {
        if has_kernel_device {
            report.unseen(None, "whether the kernel binds", why, super::NEEDS_ROOT);
        }
    }
}

/// The sysctl that lets packets of all VRFs into sockets that are bound to none.
fn report_accept(facts: &Facts, views: &[View], report: &mut Report) {
    let accept = match &facts.l3mdev_accept {
        Ok(accept) => *accept,
        Err(why) => {
            report.unseen(
                None,
                "net.ipv4.udp_l3mdev_accept",
                why,
                "mount /proc with its sysctls",
            );
            return;
        }
    };
    let needs_it = |view: &View| match (&view.sends, &view.gets) {
        (Sends::Rules { .. }, Some(Gets::BoundByHook)) => false,
        (Sends::Rules { .. }, Some(Gets::Down)) => {
            view.hooks_fault().is_some() || !view.has_entry_on_port()
        }
        (Sends::Rules { .. }, _) | (Sends::Unknown, _) => true,
        _ => false,
    };
    let (Ok(sockets), false) = (&facts.sockets, views.iter().any(needs_it)) else {
        return;
    };
    if !accept {
        return;
    }
    let is_own = |port: u16| views.iter().any(|view| view.device().listen_port == port);
    let mut ports: Vec<u16> = sockets
        .iter()
        .filter(|one| one.wildcard && one.device == 0 && !is_own(one.port))
        .map(|one| one.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let opens = if ports.is_empty() {
        "no socket is open to them now, but the next one will be".to_owned()
    } else {
        format!("UDP port {} can be reached from each of them", list(&ports))
    };
    report.add(
        Code::L3mdevAcceptOpen,
        None,
        format!(
            "net.ipv4.udp_l3mdev_accept is 1 and no tunnel here needs it: it opens every unbound \
             UDP socket to every VRF; {opens}"
        ),
        run("sysctl -w net.ipv4.udp_l3mdev_accept=0".to_owned()),
    );
}

fn report_hooks(facts: &Facts, views: &[View], report: &mut Report) {
    let by_rules = |view: &View| matches!(view.sends, Sends::Rules { .. } | Sends::Unknown);
    if let Err(why) = &facts.hooks.entries {
        if views.iter().any(by_rules) {
            report.unseen(
                None,
                "the bind hooks of the cgroup root",
                why,
                super::NEEDS_ROOT,
            );
        }
        return;
    }
    for port in &facts.hooks.stale {
        // Any change of a device makes `wg' remove it. One that is half bound takes none but of its
        // binding.
        let view = views.iter().find(|view| !view.is_half_bound());
        report.add(
            Code::StaleEntry,
            None,
            format!(
                "the bind hooks still have an entry for port {port}, whose device is gone: the \
                 next socket of the kernel on that port is bound by it"
            ),
            match view.map(|view| (view.name(), view.device().listen_port)) {
                Some((name, port)) if port != 0 => {
                    run(format!("wg set {} listen-port {port}", quote(name)))
                }
                _ => advise("any command of wg that changes an interface removes it"),
            },
        );
    }
}

/// Rules of a packet filter for what arrives that name an interface of a VRF: they see the VRF.
fn report_filter(facts: &Facts, views: &[View], report: &mut Report) {
    let mut slaves: Vec<filter::Slave> = Vec::new();
    for view in views {
        let Some(vrf) = view.vrf() else {
            continue;
        };
        for nic in facts.members(vrf.link.index) {
            slaves.push(filter::Slave {
                nic: nic.link.name.clone(),
                vrf: vrf.link.name.clone(),
                port: view.device().listen_port,
            });
        }
    }
    let rulesets = match &facts.filter {
        Ok(rulesets) => rulesets,
        Err(why) => {
            report.unseen(
                None,
                "the packet filter",
                why,
                "compare `nft list ruleset' by hand: what arrives in a VRF has the VRF for iifname",
            );
            return;
        }
    };
    for found in filter::find_blind_rules(rulesets, &slaves) {
        let filter::Blind {
            place,
            rule,
            nic,
            vrf,
            mend,
        } = found;
        report.add(
            Code::FilterNamesSlave,
            None,
            format!(
                "a rule in {place} names {nic}, but what arrives there is seen with {vrf} for its \
                 interface: {rule}"
            ),
            match mend {
                Some(command) => run(command),
                None => Remedy::Do(format!("name {vrf} in that rule as well")),
            },
        );
    }
}

/// Who else uses bits of the packet mark on this host, and which.
pub fn find_mark_users(facts: &Facts) -> Vec<(&'static str, u32)> {
    let has_link = |prefix: &str| {
        facts
            .nics
            .iter()
            .any(|nic| nic.link.name.starts_with(prefix))
    };
    let has_mask = |mask: u32| {
        let rules = facts.rules.iter().flat_map(|rules| rules.iter_rules());
        rules.into_iter().any(|(_, rule)| rule.mask == mask)
    };
    let text = |words: &[&str]| {
        let filter = facts.filter.as_ref();
        filter.is_ok_and(|all| words.iter().any(|word| all.mentions(word)))
    };
    let users = [
        (
            "kube-proxy",
            0xc000,
            has_link("kube-ipvs") || text(&["KUBE-", "kube-proxy"]),
        ),
        (
            "Cilium",
            0x0f00,
            has_link("cilium_") || has_mask(0x0f00) || text(&["CILIUM_"]),
        ),
        ("Calico", 0xffff_0000, has_link("cali") || text(&["cali-"])),
        ("mwan3", 0x3f00, has_mask(0x3f00) || text(&["mwan3"])),
        (
            "Tailscale",
            0x00ff_0000,
            has_link("tailscale") || has_mask(0x00ff_0000) || text(&["ts-input", "ts-forward"]),
        ),
    ];
    users
        .into_iter()
        .filter(|(_, _, seen)| *seen)
        .map(|(who, bits, _)| (who, bits))
        .collect()
}

/// A module with the attribute is on the disk, and the running one has none.
fn report_modules(facts: &Facts, report: &mut Report) {
    if facts.attribute != Ok(false) {
        return;
    }
    let modules = &facts.modules;
    match modules.find_gap() {
        Some(Gap::NotLoaded) => report.add(
            Code::ModuleNotLoaded,
            None,
            format!(
                "a wireguard module with WGDEVICE_A_BIND_DEV is installed for this kernel ({}), \
                 but the one that is loaded has none",
                modules.release
            ),
            // Devices go with the module, so this is no command to run without a thought.
            advise(
                "reboot; or take the tunnels down, `modprobe -r wireguard && modprobe wireguard', \
                 and bring them up again",
            ),
        ),
        Some(Gap::OtherKernel(release)) => report.add(
            Code::ModuleOfOtherKernel,
            None,
            format!(
                "the wireguard module of kernel {release} has WGDEVICE_A_BIND_DEV, that of the \
                 running kernel {} has not",
                modules.release
            ),
            Remedy::Do(format!(
                "build and install the module for {} as well, or boot {release}",
                modules.release
            )),
        ),
        None => {}
    }
}

fn report_wg_quick(facts: &Facts, report: &mut Report) {
    let Some(found) = facts.wg_quick.as_ref().filter(|found| !found.same) else {
        return;
    };
    let (runs, this) = (found.runs.display(), found.this.display());
    let install = format!(
        "install -m755 {} {}",
        quote(&this.to_string()),
        quote(&runs.to_string())
    );
    let divert = format!(
        "dpkg-divert --local --rename --add {}",
        quote(&runs.to_string())
    );
    report.add(
        Code::WgQuickRunsOther,
        None,
        format!(
            "{} runs {runs} and not {this}: it puts its own folder in front of PATH",
            found.script.display()
        ),
        Remedy::Run(if found.diverts {
            vec![divert, install]
        } else {
            vec![install]
        }),
    );
}
