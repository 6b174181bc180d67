//! Takes up what an earlier controller left: the registry file, and the processes that are still there.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use crate::client_dirs::ClientDirs;
use crate::model::boot::{Boot, Since};
use crate::model::client::{ClientSpec, Exit};
use crate::model::fleet::Launch;
use crate::model::persisted::{PersistedClient, PersistedState, ProcessStatus};
use crate::registry::Restored;
use crate::statefile::{self, Reported};
use crate::supervisor::{AnySupervisor, Supervisor};

/// Corrects what the supervisor found by what is known of the boot.
fn after(since: Since, found: ProcessStatus) -> ProcessStatus {
    match (since, found) {
        // However it ended: what is gone after a boot is started anew.
        (Since::Reboot, _) => ProcessStatus::Gone { rebooted: true },
        // A unit that an operator stopped looks like one that a reboot ended.
        (Since::Unknown, ProcessStatus::Ended(Exit::Clean)) => ProcessStatus::Gone { rebooted: false },
        (Since::Unknown | Since::SameBoot, found) => found,
    }
}

/// Looks for the processes of a registry file, and reads their state files. `what` they are is for the log; `resettled` puts the
/// files of those that are gone where they are now.
pub(super) async fn restore(
    saved: PersistedState,
    (supervisor, what): (&AnySupervisor, &str),
    client_dirs: &ClientDirs,
    resettled: impl Fn(&ClientSpec) -> ClientSpec,
    boot_id: &Arc<str>,
    run_id: Arc<str>,
) -> Restored {
    let now = Boot { id: Some(boot_id.clone()), started: supervisor.started() };
    let since = now.since(&saved.boot());
    let found = supervisor.adopt(saved.clients).await;
    if !found.is_empty() {
        let there = found.iter().filter(|(_, found)| matches!(found, ProcessStatus::Running(_))).count();
        info!("{what} of the registry: {there} running, {} gone", found.len() - there);
    }
    let settle = |(client, found): (PersistedClient, ProcessStatus)| match found {
        ProcessStatus::Running(_) => (client, found),
        // The next process keeps its files where clients do now: the mode may have changed.
        ProcessStatus::Gone { .. } | ProcessStatus::Ended(_) => {
            let spec = Arc::new(resettled(&client.spec));
            let found = after(since, found);
            (PersistedClient { spec, ..client }, found)
        }
    };
    let clients: Vec<_> = found.into_iter().map(settle).collect();
    let files: Vec<_> = clients
        .iter()
        .filter(|(_, found)| matches!(found, ProcessStatus::Running(_)))
        .map(|(client, _)| {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            (client_dirs.owner(&client.spec.id), client.spec.files.state.clone(), launch)
        })
        .collect();
    let read = move || {
        let report = |(owner, path, launch): (_, PathBuf, _)| {
            Some(Reported { launch, report: statefile::read(&path, &owner)? })
        };
        files.into_iter().filter_map(report).collect()
    };
    // Only a panic loses the result; the watch on state files then reads them a moment later.
    let reports = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    Restored { run_id, last_generation: saved.last_generation, clients, reports }
}
