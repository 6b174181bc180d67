//! The job that starts a unit: how it is queued, and how its result is learned even where the connection is lost meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use zbus::OwnedObjectPath;

use super::bus::CurrentProps;
use super::connection::{SystemdConnection, bus_name};
use super::error::BusError;
use super::manager::Properties;
use super::properties::{CachedProps, UnitProps};
use super::unit_table::JobEvent;
use super::{UnitsInner, start_timeout, unit};
use crate::config::{LimitSettings, UnitKind};
use crate::locks::locked;
use crate::model::name::{ClientName, UnitId};

impl UnitsInner {
    /// Asks systemd to start the unit. Returns the job.
    pub(super) async fn queue(
        &self,
        unit: &Arc<str>,
        (id, name): (&UnitId, &ClientName),
        limits: LimitSettings,
        has: &CurrentProps,
    ) -> Result<OwnedObjectPath, BusError> {
        match self.settings.unit {
            UnitKind::Template => {
                let limits = unit::limits(limits);
                // Setting properties costs a call, and most often the unit has them already.
                if !limits.iter().all(|limit| has.has(limit)) {
                    self.bus.retry(|| self.set(unit, Setting::Limits, limits.clone())).await?;
                }
                // `fail`: a pending job of an operator has the last word.
                self.bus.call("StartUnit", async |link| link.manager.start_unit(unit, "fail").await).await
            }
            UnitKind::Transient => {
                let transient = unit::Transient {
                    role: self.bus.role,
                    config: self.config.as_deref(),
                    id,
                    name,
                    manager: self.settings.manager,
                    slice: &self.settings.slice,
                    executable: &self.executable,
                    launch_file: &self.bus.launches.join(id.as_str()),
                };
                self.set(unit, Setting::All, transient.properties(limits)).await
            }
        }
    }

    /// Waits for the end of the job that starts a unit, also where the connection is lost meanwhile, and then without a limit. `ran`
    /// tells whether the unit had a process.
    pub(super) async fn job_result(
        &self,
        unit: &Arc<str>,
        (job, mut lost): (Option<OwnedObjectPath>, Option<BusError>),
        ran: impl Fn() -> bool,
        news: &mut mpsc::Receiver<JobEvent>,
    ) -> Result<StartJob, BusError> {
        let (mut heard, mut is_late) = (job.is_some(), false);
        let deadline = Instant::now() + start_timeout();
        loop {
            if let Some(error) = lost.take() {
                let (unit_props, service_props) = self.bus.ask_until_answered(unit).await?;
                let said = unit_props.clone().unwrap_or_default();
                let has_run = service_props.as_ref().is_some_and(|said| said.last_pid != 0);
                self.bus.table().on_reply(unit, unit_props, service_props);
                heard |= said.has_job;
                match StartProgress::of(&said, has_run, heard || ran()) {
                    StartProgress::InProgress if is_late => return Ok(StartJob::TooLong),
                    StartProgress::InProgress => {}
                    StartProgress::Ended(result) => return Ok(StartJob::Ended(result.to_owned())),
                    StartProgress::NeverStarted => return Ok(StartJob::NeverStarted(error)),
                }
            }
            match timeout_at(deadline, news.recv()).await {
                Ok(Some(JobEvent::Removed(path, result)))
                    if job.as_ref().is_none_or(|job| job.as_str() == path) =>
                {
                    return Ok(StartJob::Ended(result));
                }
                // The job of an earlier stop or start of the unit.
                Ok(Some(JobEvent::Removed(..))) => {}
                Ok(Some(JobEvent::Missed) | None) => {
                    lost = Some(BusError::Unreachable(bus_name(self.bus.kind)));
                }
                // Its end may not have been heard of, with systemd away or hanging.
                Err(_) => (lost, is_late) = (Some(BusError::NoReply("StartUnit")), true),
            }
        }
    }

    /// The properties of a unit that tell its main process; requested where the signals did not have them all.
    pub(super) async fn main_process_props(&self, unit: &Arc<str>) -> Result<CachedProps, BusError> {
        let props = self.bus.table().known(unit);
        let complete = props.unit.as_ref().is_some_and(|said| said.invocation.is_some())
            && props.service.as_ref().is_some_and(|said| said.main_pid != 0 || said.code != 0);
        if complete {
            return Ok(props);
        }
        let (unit_props, service_props) = self.bus.ask_until_answered(unit).await?;
        self.bus.table().on_reply(unit, unit_props.clone(), service_props.clone());
        Ok(CachedProps { unit: unit_props, service: service_props })
    }

    /// Sets properties. Returns the job, where a transient unit is started. Properties that this systemd does not know are left
    /// out, which is logged once.
    async fn set(
        &self,
        unit: &Arc<str>,
        setting: Setting,
        mut properties: Properties<'static>,
    ) -> Result<OwnedObjectPath, BusError> {
        loop {
            {
                // In a block of its own, as the lock must not be held during the call.
                let unknown = locked(&self.unknown);
                properties.retain(|(name, _)| !unknown.contains(*name));
            }
            let (unit, all) = (unit.clone(), properties.clone());
            let called = match setting {
                Setting::Limits => {
                    let call = async move |link: SystemdConnection| {
                        // `true`: until the next boot only. What the operator configured stays in its files.
                        link.manager.set_unit_properties(&unit, true, &all).await?;
                        Ok(OwnedObjectPath::default())
                    };
                    self.bus.call("SetUnitProperties", call).await
                }
                Setting::All => {
                    let call = async move |link: SystemdConnection| {
                        link.manager.start_transient_unit(&unit, "fail", &all, &[]).await
                    };
                    self.bus.call("StartTransientUnit", call).await
                }
            };
            let error = match called {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // Each round leaves out one more property, so this ends.
            let Some(name) =
                error.unknown_property().filter(|name| properties.iter().any(|(set, _)| set == name))
            else {
                return Err(error);
            };
            let mut unknown = locked(&self.unknown);
            if unknown.insert(name.clone()) {
                warn!(
                    property = name,
                    "this version of systemd does not know {name}; clients run without it"
                );
            }
        }
    }
}

/// How far the job that starts a unit is, where its end may have been missed.
#[derive(Debug, PartialEq, Eq)]
enum StartProgress {
    /// It is queued or running, and its end will be signalled.
    InProgress,
    /// It ended, with this result.
    Ended(&'static str),
    /// There was none.
    NeverStarted,
}

impl StartProgress {
    /// `has_run`: the unit, as it is loaded, has or had a main process. `begun`: systemd is known to have had a job for it, or the
    /// unit had a process.
    fn of(said: &UnitProps, has_run: bool, begun: bool) -> Self {
        match (said.has_job, said.state.as_str()) {
            (false, "active") => Self::Ended("done"),
            // It is ending already, and no signal about the job will come.
            (false, "deactivating") if has_run => Self::Ended("done"),
            (false, "failed" | "deactivating") => Self::Ended("failed"),
            // It is over. Another start would run the client twice, or override an operator who has stopped it.
            (false, "inactive") if begun => Self::Ended("done"),
            (false, "inactive") => Self::NeverStarted,
            _ => Self::InProgress,
        }
    }
}

/// How a job ended.
pub(super) enum StartJob {
    /// It ended, with this result.
    Ended(String),
    /// There was none: the connection was lost before systemd had read the call.
    NeverStarted(BusError),
    /// It takes longer than [`start_timeout`], and is still there.
    TooLong,
}

/// How properties are set.
#[derive(Clone, Copy)]
enum Setting {
    /// `SetUnitProperties`: the limits of a template unit.
    Limits,
    /// `StartTransientUnit`: all properties, and the unit is started.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, has_job: bool, has_run: bool, begun: bool) -> StartProgress {
        StartProgress::of(&UnitProps { state: state.into(), has_job, ..UnitProps::default() }, has_run, begun)
    }

    #[test]
    fn only_never_started_job_is_retried() {
        // Of a unit that was forgotten it is not known that it ran.
        assert_eq!(seen("inactive", false, false, false), StartProgress::NeverStarted);
        assert_eq!(seen("inactive", false, false, true), StartProgress::Ended("done"), "it would run twice");
        for state in ["active", "activating", "deactivating", "failed", "inactive"] {
            for begun in [false, true] {
                let asked_again = seen(state, false, true, begun) == StartProgress::NeverStarted;
                assert_eq!(asked_again, state == "inactive" && !begun, "{state}");
                assert_eq!(seen(state, true, false, begun), StartProgress::InProgress, "{state}");
            }
        }
    }

    #[test]
    fn finished_job_is_not_awaited() {
        for begun in [false, true] {
            assert_eq!(seen("active", false, true, begun), StartProgress::Ended("done"));
            assert_eq!(seen("failed", false, true, begun), StartProgress::Ended("failed"));
            assert_eq!(seen("deactivating", false, true, begun), StartProgress::Ended("done"));
            assert_eq!(
                seen("deactivating", false, false, begun),
                StartProgress::Ended("failed"),
                "in ExecStartPre="
            );
            assert_eq!(seen("activating", false, false, begun), StartProgress::InProgress);
        }
    }
}
