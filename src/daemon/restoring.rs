//! What an earlier controller left, put together for the registry.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use crate::environ::resettled;
use crate::homes::Homes;
use crate::model::fleet::Launch;
use crate::model::saved::{Found, Saved, SavedClient};
use crate::registry::Restored;
use crate::statefile::{self, Reported};
use crate::supervisor::{AnySupervisor, Supervisor};

/// What the registry file holds, and what is found of it.
pub(super) async fn restore(
    saved: Saved,
    supervisor: &AnySupervisor,
    homes: &Homes,
    boot_id: &Arc<str>,
) -> Restored {
    let rebooted = saved.boot_id.as_ref().is_some_and(|boot| boot != boot_id);
    let found = supervisor.adopt(saved.clients).await;
    if !found.is_empty() {
        let there = found.iter().filter(|(_, found)| matches!(found, Found::Running(_))).count();
        info!(there, gone = found.len() - there, "the clients of the registry were looked for");
    }
    let settle = |(client, found): (SavedClient, Found)| match found {
        Found::Running(_) => (client, found),
        // Who runs next keeps its files where clients do now: the mode may be another one.
        Found::Gone { .. } | Found::Ended(_) => {
            let spec = Arc::new(resettled(&client.spec, homes));
            let found = if rebooted { Found::Gone { rebooted } } else { found };
            (SavedClient { spec, ..client }, found)
        }
    };
    let clients: Vec<_> = found.into_iter().map(settle).collect();
    let files: Vec<_> = clients
        .iter()
        .filter(|(_, found)| matches!(found, Found::Running(_)))
        .map(|(client, _)| {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            (homes.owner(&launch.name), client.spec.files.state.clone(), launch)
        })
        .collect();
    let read = move || {
        let report = |(owner, path, launch): (_, PathBuf, _)| {
            Some(Reported { launch, report: statefile::read(&path, &owner)? })
        };
        files.into_iter().filter_map(report).collect()
    };
    // It does not panic; what it misses is read a moment later.
    let reports = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    Restored { last_generation: saved.last_generation, clients, reports }
}
