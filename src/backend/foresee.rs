// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What [`super::set`] would do that an update does not say. Nothing is changed.

use super::{
    Backend, Routing, find_bound_elsewhere, find_hooks_fault, find_link, find_standing,
    name_of_vrf, read_facts, read_links, receive,
};
use crate::error::{Error, Result, Task};
use crate::model::{Bind, Change, Device, Receives, Update};
use crate::plan::changes::Means;
use crate::plan::receive::ReceiveMode;
use crate::plan::{self, BindMode, Strategy};

/// By what means an update of this device would be carried out.
///
/// # Errors
/// The device could not be bound as the mode says, or the kernel did not answer.
pub fn foresee_update(
    now: &Device,
    update: &Update,
    mode: BindMode,
    receive: ReceiveMode,
) -> Result<Means> {
    let mut backend = Backend::open(&update.interface)?;
    let mut bind = Update {
        interface: update.interface.clone(),
        fwmark: update.fwmark.clone(),
        bind_dev: update.bind_dev.clone(),
        bind_dev_omitted: update.bind_dev_omitted,
        ..Update::default()
    };
    if let Change::Set(name) = &mut bind.bind_dev {
        *name = find_real_name(name_of_vrf(name)?);
    }
    let support = backend.probe_support(&bind)?;
    let strategy = Strategy::choose(support, &bind, mode)?;
    // Without rules there is nothing to ask the hooks about.
    let by_rules = matches!(strategy, Strategy::Fallback { .. })
        && matches!(now.bind, Bind::Rules { .. })
        && receive != ReceiveMode::Any
        && (update.listen_port == Change::Clear || now.receives != Some(Receives::Bound));
    let bound_elsewhere = match strategy {
        Strategy::Keep | Strategy::Unbind => {
            let standing = find_standing(&mut backend, &bind)?;
            let facts = standing.map(|it| find_bound_elsewhere(&bind, &it, support));
            facts
                .transpose()?
                .flatten()
                .and_then(|it| it.bound_elsewhere)
        }
        Strategy::Attribute { .. } | Strategy::Fallback { .. } => None,
    };
    let rules_stay =
        matches!(strategy, Strategy::Fallback { .. }) && matches!(now.bind, Bind::Rules { .. });
    let mark = match rules_stay {
        true => find_mark(&mut backend, update, &bind, &strategy)?,
        false => None,
    };
    Ok(Means {
        mark,
        strategy,
        // Who accepted it for this device need not say so at each change.
        binds_sockets: by_rules
            && find_hooks_fault(
                receive == ReceiveMode::Bound
                    || now.receives == Some(Receives::Bound)
                    || receive::has_entry(&update.interface),
            )
            .is_none(),
        bound_elsewhere,
    })
}

/// The mark that the plan has for the binding. What would be refused has none.
fn find_mark(
    backend: &mut Backend,
    update: &Update,
    bind: &Update,
    strategy: &Strategy,
) -> Result<Option<u32>> {
    let wanted = Update {
        listen_port: update.listen_port.clone(),
        ..bind.clone()
    };
    let links = read_links(Task::modify(&update.interface))?;
    let mut routing =
        Routing::open().map_err(|err| Error::io(Task::modify(&update.interface), &err))?;
    let support = backend.probe_support(bind)?;
    let facts = read_facts(backend, &mut routing, &links, &wanted, support)?;
    let plan = plan::plan(&facts, wanted, strategy).ok();
    Ok(plan.map(|plan| facts.mark_after(&plan.update.fwmark)))
}

/// The kernel takes a device by each of its names, and tells of one.
pub(super) fn find_real_name(name: String) -> String {
    let links = Routing::open().ok().and_then(|mut r| r.read_links().ok());
    let link = links.as_deref().and_then(|links| find_link(links, &name));
    link.map_or(name, |link| link.name.clone())
}
