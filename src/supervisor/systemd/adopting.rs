//! How the units of an earlier controller are found and taken up again.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::error::BusError;
use super::launch::LaunchFile;
use super::told::{OfService, OfUnit};
use super::{JOB_PATIENCE, Shared, unit};
use crate::locks::locked;
use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::model::saved::{Found, SavedClient};
use crate::supervisor::Event;

impl Shared {
    pub(super) async fn adopt(
        self: Arc<Self>,
        saved: &[SavedClient],
    ) -> Result<Vec<(SavedClient, Found)>, BusError> {
        // First taken up, then looked for: so nothing is missed in between.
        let take_up = |client: &SavedClient| {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            self.bus.table().prepare(&self.unit_of(client), launch);
        };
        saved.iter().for_each(take_up);
        let listed = self.bus.list().await?;
        let known: HashSet<String> =
            saved.iter().map(|client| client.spec.name.unit_id().to_string()).collect();
        let alive = listed.iter().filter(|(_, found)| found.alive);
        let running: HashSet<String> = alive.map(|(unit, _)| unit.clone()).collect();
        self.clone().sweep(known, running);
        let mut looks = JoinSet::new();
        for client in saved {
            let (shared, unit) = (self.clone(), self.unit_of(client));
            let (client, listed) = (client.clone(), listed.get(&*unit).cloned());
            looks.spawn(async move {
                let found = shared.find(&unit, &client, listed).await;
                if !matches!(found, Ok(Found::Running(_))) {
                    let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
                    shared.bus.table().put_aside(&unit, launch);
                }
                found.map(|found| (client, found))
            });
        }
        let found = looks.join_all().await.into_iter().collect();
        // Now it is known which are ours. Listed anew, as what appeared in the meantime was passed over.
        self.bus.adopted.store(true, Ordering::Release);
        let listed = self.bus.list().await?;
        for unit in self.bus.newcomers(&listed) {
            self.bus.clone().meet(unit).await;
        }
        found
    }

    /// Removes the launch files of clients that are neither in the registry nor units that run: a controller was killed before
    /// it did so.
    fn sweep(self: Arc<Self>, known: HashSet<String>, running: HashSet<String>) {
        tokio::task::spawn_blocking(move || {
            let kind = self.settings.unit;
            let is_needed = |id: &str| known.contains(id) || running.contains(&*unit::name_of(kind, id));
            let _held = locked(&self.launch_files);
            for entry in fs::read_dir(&self.bus.launches).into_iter().flatten().flatten() {
                if !entry.file_name().to_str().is_some_and(is_needed) {
                    debug!(file = %entry.path().display(), "a launch file is left over, it is removed");
                    // It is tried again at the next start.
                    let _ = fs::remove_file(entry.path());
                }
            }
        });
    }

    fn unit_of(&self, client: &SavedClient) -> Arc<str> {
        match &client.handle {
            Some(Handle::Unit { name, .. }) => name.clone(),
            _ => unit::name_of(self.settings.unit, client.spec.name.unit_id().as_str()),
        }
    }

    /// Looks for one client. `listed` is what the list said about its unit; where that is nothing it is not loaded.
    async fn find(
        &self,
        unit: &Arc<str>,
        client: &SavedClient,
        listed: Option<OfUnit>,
    ) -> Result<Found, BusError> {
        let gone = match &client.handle {
            Some(Handle::Unit { .. }) => Found::Ended(Exit::Clean),
            _ => Found::Gone { rebooted: false },
        };
        let Some(listed) = listed else { return Ok(gone) };
        let known = match &client.handle {
            Some(Handle::Unit { invocation_id, pid, .. }) => Some((invocation_id, *pid)),
            _ => None,
        };
        if listed.state == "active" && !listed.has_job {
            let found = self.bus.complete(unit, listed).await?;
            if let (Some((known, pid)), Some(invocation)) = (known, found.invocation.clone())
                && *known == invocation
            {
                self.bus.table().learn(unit, Some(found), None);
                return Ok(self.taken_up(unit, invocation, pid));
            }
        }
        let (of_unit, of_service) = self.bus.ask(unit).await?;
        let (Some(mut said), Some(mut service)) = (of_unit, of_service) else { return Ok(gone) };
        if said.has_job && !said.alive || said.state == "activating" {
            // An earlier controller was killed while it started this one, or an operator is at it.
            (said, service) = self.wait_for_job(unit).await?;
        }
        self.bus.table().learn(unit, Some(said.clone()), Some(service.clone()));
        let Some(invocation) = said.invocation.clone() else { return Ok(gone) };
        let same = known.is_some_and(|(known, _)| *known == invocation);
        match (said.alive, same) {
            (true, true) => Ok(self.taken_up(unit, invocation, service.main_pid)),
            (false, true) if said.state == "failed" => Ok(Found::Ended(service.exit())),
            (false, true) => Ok(Found::Ended(Exit::Clean)),
            // Another run, of which nothing was written down: ours if its environment is that of this launch.
            (alive, false) => {
                let (folder, id) = (self.bus.launches.clone(), client.spec.name.unit_id());
                let generation =
                    tokio::task::spawn_blocking(move || LaunchFile::generation_in(&folder, &id)).await;
                let ours = generation.ok().flatten() == Some(client.generation);
                match (alive, ours) {
                    (true, true) => Ok(self.taken_up(unit, invocation, service.main_pid)),
                    (true, false) => {
                        warn!(unit = %unit, client = %client.spec.name, "this unit runs, but not by this registry; it is left alone");
                        Ok(gone)
                    }
                    (false, true) if said.state == "failed" => Ok(Found::Ended(service.exit())),
                    (false, _) => Ok(gone),
                }
            }
        }
    }

    /// The process is there and watched, unless it ended in this moment.
    fn taken_up(&self, unit: &Arc<str>, invocation: Arc<str>, pid: u32) -> Found {
        self.bus.watch_freezing(unit);
        let events = self.bus.table().confirm(unit, invocation.clone());
        for event in events {
            if let Event::Ended(_, exit) = event {
                return Found::Ended(exit);
            }
            self.bus.tell_later(event);
        }
        Found::Running(Handle::Unit { name: unit.clone(), invocation_id: invocation, pid })
    }

    /// Waits until no job is queued or under way for a unit.
    async fn wait_for_job(&self, unit: &Arc<str>) -> Result<(OfUnit, OfService), BusError> {
        let deadline = Instant::now() + JOB_PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            let (of_unit, of_service) = self.bus.ask(unit).await?;
            let said = (of_unit.unwrap_or_default(), of_service.unwrap_or_default());
            if !said.0.has_job && said.0.state != "activating" || Instant::now() > deadline {
                return Ok(said);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}
