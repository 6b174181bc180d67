//! How a unit is stopped.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, warn};

use super::UnitsInner;
use super::connection::SystemdConnection;
use super::error::BusError;
use super::properties::is_alive;
use crate::model::error_chain::ErrorChain;
use crate::supervisor::StopError;

/// How long a unit may take to end after SIGKILL before the stop fails.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a unit that stands for no account may take to end before it is killed.
const STRAY_GRACE: Duration = Duration::from_secs(10);

impl UnitsInner {
    pub(super) async fn stop(
        &self,
        unit: &Arc<str>,
        invocation: &str,
        pid: u32,
        grace: Duration,
    ) -> Result<(), StopError> {
        let Some(mut end) = self.bus.table().ask_stop(unit, invocation) else { return Ok(()) };
        let kill_at = Instant::now() + grace;
        let mut failure = None;
        // A lost connection does not tell whether systemd received the call, so it is repeated.
        for _ in 0..3 {
            // `replace`: the stop takes the place of a pending job, such as a start.
            let stop =
                self.bus.call("StopUnit", async |link| link.manager.stop_unit(unit, "replace").await).await;
            match stop {
                Ok(_) => failure = None,
                Err(error) if error.is_no_unit() => failure = None,
                // The call has waited for the connection already.
                Err(error @ BusError::Unreachable(_)) => failure = Some(error),
                Err(error) if error.is_lost() => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => failure = Some(error),
            }
            break;
        }
        if let Some(error) = failure {
            // Else a later stop by an operator would count as the controller's.
            self.bus.table().cancel_stop(unit);
            return Err(StopError::Bus(unit.clone(), error));
        }
        let in_time = tokio::select! {
            // An exit counts first: without a grace both are ready, and SIGKILL would go to a unit that has ended.
            biased;
            failed = ended(&mut end) => Some(failed),
            () = sleep_until(kill_at) => None,
        };
        let failed = match in_time {
            Some(failed) => failed,
            None => {
                if !grace.is_zero() {
                    let signal = self.bus.role.stop_signal();
                    let client = self.bus.table().running(unit).map(|(launch, _)| launch.name.to_string());
                    warn!(client, unit = %unit, pid, "{unit} did not end within {grace:?} of {signal}; sending SIGKILL");
                }
                self.kill(unit).await;
                match timeout_at(kill_at.max(Instant::now()) + KILL_TIMEOUT, ended(&mut end)).await {
                    Ok(failed) => failed,
                    Err(_) => {
                        self.bus.table().cancel_stop(unit);
                        return Err(StopError::Immortal { pid });
                    }
                }
            }
        };
        if failed {
            // The end was requested, so `systemctl --failed` must not list the unit.
            self.reset_or_log(unit).await;
        }
        Ok(())
    }

    /// Ends a unit that stands for no account: a start that takes too long, or what an operator started of an account that is
    /// forgotten. Waits for systemd, however long it is away.
    pub(super) async fn end_stray(&self, unit: &Arc<str>) {
        let stop = async |link: SystemdConnection| link.manager.stop_unit(unit, "replace").await;
        let (mut kill_at, mut pause) = (None, Duration::from_millis(5));
        let why = loop {
            let step = match kill_at {
                // Only until systemd has taken it; then the state is asked for.
                None => self.bus.call("StopUnit", stop).await.map(drop),
                Some(_) => Ok(()),
            };
            let state = match step {
                Ok(()) => self.bus.before_start(unit).await.map(|(state, _)| state),
                Err(error) => Err(error),
            };
            match state {
                Ok(state) if !is_alive(&state) => break None,
                Ok(_) => {}
                Err(error) if error.is_no_unit() => break None,
                Err(error) if error.is_lost() => {
                    self.bus.wait().await;
                    continue;
                }
                Err(error) => break Some(ErrorChain(&error).to_string()),
            }
            let kill_at = *kill_at.get_or_insert_with(|| Instant::now() + STRAY_GRACE);
            if Instant::now() > kill_at + KILL_TIMEOUT {
                break Some("it does not end, not even by SIGKILL".to_owned());
            }
            if Instant::now() > kill_at {
                self.kill(unit).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        };
        if let Some(error) = why {
            return warn!(unit = %unit, error, "cannot stop {unit}: {error}; stop it with systemctl");
        }
        self.reset_or_log(unit).await;
    }

    /// Sends SIGKILL to all processes of a unit.
    async fn kill(&self, unit: &str) {
        let kill = self
            .bus
            .call("KillUnit", async |link| link.manager.kill_unit(unit, "all", Signal::KILL.as_raw()).await);
        if let Err(error) = kill.await {
            let error = ErrorChain(&error);
            debug!(unit = %unit, %error, "cannot kill {unit}: {error}");
        }
    }

    /// Resets the failed state of a unit: its end was asked for, or is of no interest any more.
    pub(super) async fn reset_or_log(&self, unit: &str) {
        if let Err(error) = self.reset(unit).await {
            let error = ErrorChain(&error);
            debug!(unit = %unit, %error, "cannot reset the failed state of {unit}: {error}");
        }
    }

    /// Resets the failed state of a unit.
    pub(super) async fn reset(&self, unit: &str) -> Result<(), BusError> {
        let reset =
            || self.bus.call("ResetFailedUnit", async |link| link.manager.reset_failed_unit(unit).await);
        match self.bus.retry(reset).await {
            Err(error) if !error.is_no_unit() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Waits for the exit of a process. Returns whether its unit is in the state `failed` then.
async fn ended(end: &mut tokio::sync::watch::Receiver<Option<bool>>) -> bool {
    // The sender is dropped when the unit leaves the table, which also means that the process is gone.
    end.wait_for(Option::is_some).await.map(|failed| failed.unwrap_or(false)).unwrap_or(false)
}
