//! How a unit is started: from its state and its launch file to the process.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::bus::CurrentProps;
use super::connection::SystemdConnection;
use super::launch_file::LaunchFile;
use super::launch_file_watch::LaunchFileWatch;
use super::start_job::StartJob;
use super::unit_table::JobEvent;
use super::{JOB_TIMEOUT, UnitsInner, start_timeout, unit};
use crate::config::LimitSettings;
use crate::locks::locked;
use crate::model::client::Handle;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::Launch;
use crate::model::name::{ClientName, UnitId};
use crate::supervisor::{LaunchPlan, StartError};

/// How often a start is requested that systemd did not receive.
const ATTEMPTS: u32 = 3;
/// Why there is no process although systemd did all that it should.
const VANISHED: &str =
    "it ended before systemd could be asked about it, or a condition in its unit file does not hold";

impl UnitsInner {
    pub(super) async fn start(
        self: Arc<Self>,
        unit: Arc<str>,
        plan: LaunchPlan,
    ) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let id = plan.id.clone();
        let (launch, limits) = (plan.launch.clone(), plan.limits);
        let mut prefetched = locked(&self.prefetched).remove(&launch);
        let _turn = match self.starts.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                // The prefetched state may be outdated by the time of this start's turn.
                prefetched = None;
                self.starts.acquire().await
            }
        };
        let (state, has) = match prefetched {
            Some(asked) => asked.await.map_err(|error| internal(&unit, &error))?.map_err(refused)?,
            None => self.bus.before_start(&unit).await.map_err(refused)?,
        };
        let (state, has) = match state.as_str() {
            "inactive" | "failed" => (state, has),
            _ => self.wait_until_free(&unit, &id, state).await?,
        };
        if state == "failed" {
            // A failed transient unit stays loaded, and systemd refuses another one of its name.
            self.reset(&unit).await.map_err(refused)?;
        }
        let shared = self.clone();
        let written = tokio::task::spawn_blocking(move || shared.write_launch_file(plan));
        // Before the unit is in the table: a launch that fails here leaves nothing there.
        let (watch, built_in) = written.await.unwrap_or_else(|error| Err(internal(&unit, &error)))?;
        let Some(mut news) = self.bus.table().prepare(&unit, launch.clone()) else {
            return Err(StartError::NotOurs(unit, state));
        };
        self.bus.table().set_built_in(&unit, built_in);
        let started =
            self.bring_up(&unit, (&id, &launch.name), (limits, has), (watch.as_ref(), &mut news)).await;
        // Closing an inotify instance can take the kernel some milliseconds.
        tokio::task::spawn_blocking(move || drop(watch));
        match &started {
            Ok(_) => {}
            // systemd did not receive the call. Where the client stays in the list, an operator can start the unit, which needs its
            // launch file then.
            Err(error) if error.is_temporary() => self.bus.table().put_stopped(&unit, launch),
            Err(_) => {
                self.bus.table().forget(&unit);
                self.clone().discard(launch, id).await;
            }
        }
        started
    }

    /// Requests the properties of a unit that is about to be started.
    pub(super) fn prefetch(&self, launch: &Launch, id: &UnitId) {
        let unit = unit::name_of(self.bus.role, self.settings.unit, id.as_str());
        let bus = self.bus.clone();
        let question = tokio::spawn(async move { bus.before_start(&unit).await });
        let mut prefetched = locked(&self.prefetched);
        // A request for an earlier launch of the client, which did not come.
        prefetched.retain(|earlier, _| earlier.name != launch.name);
        prefetched.insert(launch.clone(), question);
    }

    /// Waits until a unit that is to be started has ended, and stops it where an operator started it with the launch file of an
    /// earlier launch. Returns its properties then.
    async fn wait_until_free(
        &self,
        unit: &Arc<str>,
        id: &UnitId,
        state: String,
    ) -> Result<(String, CurrentProps), StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        let (launches, id) = (self.bus.launches.clone(), id.clone());
        let launched = tokio::task::spawn_blocking(move || LaunchFile::read(&launches, &id).is_some()).await;
        if !launched.unwrap_or(false) {
            // It has no launch file of a client, so it is not ours to stop.
            return Err(StartError::NotOurs(unit.clone(), state));
        }
        let deadline = Instant::now() + JOB_TIMEOUT;
        let (mut state, mut pause, mut asked) = (state, Duration::from_millis(5), false);
        loop {
            // Once is enough, as systemd ends a unit within `TimeoutStopSec=`.
            if state != "deactivating" && !asked {
                asked = true;
                let stop = async |link: SystemdConnection| link.manager.stop_unit(unit, "replace").await;
                match self.bus.call("StopUnit", stop).await {
                    Err(error) if !error.is_no_unit() => return Err(refused(error)),
                    _ => {}
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
            let (now, has) = self.bus.before_start(unit).await.map_err(refused)?;
            // The signals about the earlier process have to be read as well, or they would count for the new one.
            if matches!(now.as_str(), "inactive" | "failed") && !self.bus.table().contains(unit) {
                return Ok((now, has));
            }
            if Instant::now() > deadline {
                return Err(StartError::NotOurs(unit.clone(), now));
            }
            state = now;
        }
    }

    /// Has systemd start the unit, and returns its process. Returns no earlier than the outcome is known, however long systemd is
    /// away: a start that is given up while systemd may carry it out would leave a unit that belongs to no account.
    async fn bring_up(
        &self,
        unit: &Arc<str>,
        account: (&UnitId, &ClientName),
        (limits, has): (LimitSettings, CurrentProps),
        (watch, news): (Option<&LaunchFileWatch>, &mut mpsc::Receiver<JobEvent>),
    ) -> Result<Handle, StartError> {
        let refused = |error| StartError::Bus(unit.clone(), error);
        // Without a watch it counts as having run: a second start could run the client twice.
        let ran = || watch.is_none_or(LaunchFileWatch::was_opened);
        let mut attempts = 0;
        let result = loop {
            attempts += 1;
            let (job, lost) = match self.queue(unit, account, limits, &has).await {
                Ok(job) => (Some(job), None),
                // The job may have been queued. Its state is requested once there is a connection.
                Err(error) if error.is_lost() => (None, Some(error)),
                Err(error) => return Err(refused(error)),
            };
            match self.job_result(unit, (job, lost), ran, news).await.map_err(refused)? {
                StartJob::Ended(result) => break result,
                StartJob::NeverStarted(error) if attempts < ATTEMPTS => {
                    let error = ErrorChain(&error);
                    debug!(unit = %unit, %error, "systemd did not receive the start of {unit}: {error}; trying again");
                }
                StartJob::NeverStarted(error) => return Err(refused(error)),
                StartJob::TooLong => {
                    self.end_stray(unit).await;
                    let why = format!("it was not up within {:?} and is stopped", start_timeout());
                    return Err(StartError::Job { unit: unit.clone(), why });
                }
            }
        };
        let props = self.main_process_props(unit).await.map_err(refused)?;
        let service_props = props.service.unwrap_or_default();
        let invocation = props.unit.and_then(|said| said.invocation);
        match invocation {
            // The job may have failed though the client ran, if it ended at once: then its exit says more.
            Some(invocation) if result == "done" || service_props.ran() => {
                let handle = Handle::Unit {
                    name: unit.clone(),
                    invocation_id: invocation.clone(),
                    pid: service_props.last_pid,
                };
                self.bus.watch_freezer(unit);
                let events = self.bus.table().confirm(unit, invocation);
                self.bus.tell(events).await;
                Ok(handle)
            }
            _ => {
                let why = match result.as_str() {
                    "failed" => service_props.failure(),
                    "done" => VANISHED.to_owned(),
                    other => format!("its job ended as {other}"),
                };
                Err(StartError::Job { unit: unit.clone(), why })
            }
        }
    }
}

fn internal(unit: &Arc<str>, error: &tokio::task::JoinError) -> StartError {
    StartError::Job { unit: unit.clone(), why: format!("an internal error: {error}") }
}

#[cfg(test)]
mod tests;
