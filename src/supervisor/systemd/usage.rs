//! What units use, from their cgroups.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use super::freezer::CGROUPS;
use super::manager::SERVICE;
use super::{Units, UnitsInner};
use crate::locks::locked;
use crate::model::client::Handle;
use crate::supervisor::usage::{ProcessUsage, of_cgroup};
use crate::tasks::on_blocking_thread;

/// How many units systemd is asked about at a time.
const QUESTIONS: usize = 16;

/// The cgroups of units, each with the InvocationID for which it was asked: an operator may have moved the unit since.
pub(super) type Cgroups = HashMap<Arc<str>, (Arc<str>, Arc<str>)>;

impl Units {
    /// What these units use, in their order; none where one is gone, or systemd can't be asked.
    pub(in crate::supervisor) async fn usage(&self, handles: Vec<Handle>) -> Vec<Option<ProcessUsage>> {
        let shared = self.shared.clone();
        let asked =
            stream::iter(handles).map(move |handle| cgroup(shared.clone(), handle)).buffered(QUESTIONS);
        let groups: Vec<Option<Arc<str>>> = asked.collect().await;
        let read = |group: Option<Arc<str>>| of_cgroup(CGROUPS, &group?);
        on_blocking_thread(move || groups.into_iter().map(read).collect()).await
    }
}

/// The cgroup of a unit. systemd is asked once for each of its processes.
async fn cgroup(units: Arc<UnitsInner>, handle: Handle) -> Option<Arc<str>> {
    let Handle::Unit { name, invocation_id, .. } = handle else { return None };
    let known = locked(&units.cgroups).get(&name).cloned();
    if let Some((_, group)) = known.filter(|(invocation, _)| *invocation == invocation_id) {
        return Some(group);
    }
    let group = units.bus.property(&name, SERVICE, "ControlGroup").await.ok()?;
    let group: Arc<str> = <&str>::try_from(&group).ok().filter(|group| group.len() > 1)?.into();
    locked(&units.cgroups).insert(name, (invocation_id, group.clone()));
    Some(group)
}
