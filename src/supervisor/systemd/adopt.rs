//! How the units of an earlier controller are found and adopted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::error::BusError;
use super::launch_file::LaunchFile;
use super::properties::{ServiceProps, UnitProps};
use super::{JOB_TIMEOUT, UnitsInner, unit};
use crate::model::client::{Exit, Handle};
use crate::model::fleet::{Launch, ProcessEvent};
use crate::model::persisted::{Desired, PersistedClient, ProcessStatus};
use crate::tasks::on_blocking_thread;

impl UnitsInner {
    pub(super) async fn adopt(
        self: Arc<Self>,
        saved: &[PersistedClient],
    ) -> Result<Vec<(PersistedClient, ProcessStatus)>, BusError> {
        let built_in = self.built_in(saved).await;
        // Added to the table before the units are listed, so that no signal in between is missed.
        let take_up = |client: &PersistedClient| {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            let (unit, built_in) = (self.unit_of(client), built_in.contains(client.spec.id.as_str()));
            let mut table = self.bus.table();
            // After an attempt that failed the units are in the table already.
            table.prepare(&unit, launch);
            table.set_built_in(&unit, built_in);
        };
        saved.iter().for_each(take_up);
        let listed = self.bus.list().await?;
        // A client that was being stopped needs no launch file.
        let wanted = saved.iter().filter(|client| client.desired == Desired::Running);
        let known: HashSet<String> = wanted.map(|client| client.spec.id.to_string()).collect();
        let alive = listed.iter().filter(|(_, found)| found.alive || found.has_job);
        let running: HashSet<String> = alive.map(|(unit, _)| unit.clone()).collect();
        // Not waited for. The next controller tries again where it fails.
        drop(self.clone().remove_stale_launch_files(known, running));
        let mut looks = JoinSet::new();
        for client in saved {
            let (shared, unit) = (self.clone(), self.unit_of(client));
            let (client, listed) = (client.clone(), listed.get(&*unit).cloned());
            let is_built_in = built_in.contains(client.spec.id.as_str());
            looks.spawn(async move {
                let found = shared.find(&unit, &client, listed).await;
                let found = found.map(|found| match found {
                    // The statuses of another program have meanings of their own.
                    ProcessStatus::Ended(exit) => ProcessStatus::Ended(exit.of(is_built_in)),
                    found => found,
                });
                if !matches!(found, Ok(ProcessStatus::Running(_))) {
                    let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
                    shared.bus.table().put_stopped(&unit, launch);
                }
                found.map(|found| (client, found))
            });
        }
        let found = looks.join_all().await.into_iter().collect();
        // From here on a unit that is not in the table is unknown. Listed again for those that appeared in the meantime.
        self.bus.adopted.store(true, Ordering::Release);
        let listed = self.bus.list().await?;
        for unit in self.bus.unknown_running(&listed) {
            self.bus.clone().inspect_unknown(unit).await;
        }
        found
    }

    /// The IDs of those that are the built-in client.
    async fn built_in(&self, saved: &[PersistedClient]) -> HashSet<String> {
        let ids: Vec<_> = saved.iter().map(|client| client.spec.id.clone()).collect();
        let launches = self.bus.launches.clone();
        let look = move || {
            let is_built_in = |id: &_| LaunchFile::read(&launches, id).is_some_and(|file| file.is_built_in());
            ids.iter().filter(|id| is_built_in(id)).map(ToString::to_string).collect()
        };
        on_blocking_thread(look).await
    }

    /// Reports the last status text of a client that has ended.
    fn send_last_words(&self, client: &PersistedClient, service: &ServiceProps) {
        if let Some(words) = &service.status_text {
            let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
            self.bus.tell_later(ProcessEvent::LastWords(launch, words.clone()));
        }
    }

    fn unit_of(&self, client: &PersistedClient) -> Arc<str> {
        match &client.handle {
            Some(Handle::Unit { name, .. }) => name.clone(),
            _ => unit::name_of(self.bus.role, self.settings.unit, client.spec.id.as_str()),
        }
    }

    /// Looks for the process of one client. `listed` is the entry of its unit in the list of units; None where it is not loaded.
    async fn find(
        &self,
        unit: &Arc<str>,
        client: &PersistedClient,
        listed: Option<UnitProps>,
    ) -> Result<ProcessStatus, BusError> {
        // systemd keeps nothing of a unit that ended well, so one that ran and is not loaded did not fail. Without a handle it
        // may never have run.
        let gone = match &client.handle {
            Some(Handle::Unit { .. }) => ProcessStatus::Ended(Exit::Clean),
            _ => ProcessStatus::Gone { rebooted: false },
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
                self.bus.table().on_reply(unit, Some(found), None);
                return Ok(self.watch_adopted(unit, invocation, pid));
            }
        }
        let (unit_props, service_props) = self.bus.ask(unit).await?;
        let (Some(mut said), Some(mut service)) = (unit_props, service_props) else { return Ok(gone) };
        if said.has_job && !said.alive || said.state == "activating" {
            // An earlier controller was killed while it started the unit, or an operator is starting or stopping it.
            (said, service) = self.wait_for_job(unit).await?;
        }
        self.bus.table().on_reply(unit, Some(said.clone()), Some(service.clone()));
        let Some(invocation) = said.invocation.clone() else { return Ok(gone) };
        let same = known.is_some_and(|(known, _)| *known == invocation);
        match (said.alive, same) {
            (true, true) => Ok(self.watch_adopted(unit, invocation, service.main_pid)),
            (false, true) if said.state == "failed" => {
                self.send_last_words(client, &service);
                Ok(ProcessStatus::Ended(service.exit()))
            }
            (false, true) => Ok(ProcessStatus::Ended(Exit::Clean)),
            // Another run than the registry has. It is the client if the launch file is that of this launch.
            (alive, false) => {
                let (folder, id) = (self.bus.launches.clone(), client.spec.id.clone());
                let generation =
                    tokio::task::spawn_blocking(move || LaunchFile::generation_in(&folder, &id)).await;
                let ours = generation.ok().flatten() == Some(client.generation);
                match (alive, ours) {
                    (true, true) => Ok(self.watch_adopted(unit, invocation, service.main_pid)),
                    (true, false) => {
                        warn!(
                            unit = %unit, client = %client.spec.name,
                            "{unit} runs, but this controller did not start it; left alone (stop it with systemctl if it is not needed)"
                        );
                        Ok(gone)
                    }
                    (false, true) if said.state == "failed" => {
                        self.send_last_words(client, &service);
                        Ok(ProcessStatus::Ended(service.exit()))
                    }
                    (false, _) => Ok(gone),
                }
            }
        }
    }

    /// Watches the process from now on, unless it has just ended.
    fn watch_adopted(&self, unit: &Arc<str>, invocation: Arc<str>, pid: u32) -> ProcessStatus {
        self.bus.watch_freezer(unit);
        let events = self.bus.table().confirm(unit, invocation.clone());
        for event in events {
            if let ProcessEvent::Exited(_, exit) = event {
                return ProcessStatus::Ended(exit);
            }
            self.bus.tell_later(event);
        }
        ProcessStatus::Running(Handle::Unit { name: unit.clone(), invocation_id: invocation, pid })
    }

    /// Waits until no job is queued or running for a unit.
    async fn wait_for_job(&self, unit: &Arc<str>) -> Result<(UnitProps, ServiceProps), BusError> {
        let deadline = Instant::now() + JOB_TIMEOUT;
        let mut pause = Duration::from_millis(5);
        loop {
            let (unit_props, service_props) = self.bus.ask(unit).await?;
            let said = (unit_props.unwrap_or_default(), service_props.unwrap_or_default());
            if !said.0.has_job && said.0.state != "activating" || Instant::now() > deadline {
                return Ok(said);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}
