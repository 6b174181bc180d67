//! One client's worker: probes ports, launches and stops, one job after the other. Results go to the actor. In between it keeps
//! the secrets of a unit up to date.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::launcher::{Launcher, NotPrepared};
use super::secret_renewal::SecretRenewal;
use crate::client_dirs::ClientDirs;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::model::client::{ClientSpec, Handle};
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::{Input, Launch, PortState, ProcessEvent};
use crate::model::name::UnitId;
use crate::statefile::{StateFileWatch, StateFiles};
use crate::supervisor::{AnySupervisor, Program, Supervisor};

/// What all workers share.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// Runs the processes.
    pub supervisor: Arc<AnySupervisor>,
    /// The current settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Finds the program of a client.
    pub launcher: Launcher,
    /// Where clients keep their files.
    pub client_dirs: Arc<ClientDirs>,
    /// The ID of this boot.
    pub boot_id: Arc<str>,
    /// Watches the clients' state files.
    pub state_files: StateFiles,
    /// Counts starts and ends.
    pub metrics: Arc<Metrics>,
}

#[derive(Debug)]
pub(super) enum WorkerJob {
    Watch(Launch, Arc<ClientSpec>),
    /// With the client's ID, if it is known.
    Probe(Launch, u16, Option<UnitId>),
    Launch(Launch, u16, Arc<ClientSpec>),
    Terminate(Launch, Handle),
}

impl WorkerJob {
    pub(super) fn launch(&self) -> &Launch {
        match self {
            Self::Watch(launch, _)
            | Self::Probe(launch, ..)
            | Self::Launch(launch, ..)
            | Self::Terminate(launch, _) => launch,
        }
    }
}

pub(super) struct ClientWorker {
    context: WorkerContext,
    found: mpsc::Sender<Input>,
    /// The watch on the state file of the last launch.
    watch: Option<StateFileWatch>,
    /// Keeps the secrets of the last launch up to date, where the client is a unit.
    renewal: Option<Box<SecretRenewal>>,
}

impl ClientWorker {
    pub(super) fn new(context: WorkerContext, found: mpsc::Sender<Input>) -> Self {
        Self { context, found, watch: None, renewal: None }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Box<WorkerJob>>) {
        while let Some(job) = self.next_job(&mut jobs).await {
            let mut id = None;
            let found = match *job {
                WorkerJob::Watch(launch, spec) => {
                    self.watch_running(launch.clone(), &spec);
                    if self.context.client_dirs.are_units() {
                        self.renewal = Some(Box::new(SecretRenewal::new(launch, spec, true)));
                    }
                    None
                }
                WorkerJob::Probe(launch, port, of) => {
                    if let Some(id) = &of {
                        // Under way during the probe and the write of the registry file, so the launch need not wait for it.
                        self.context.supervisor.prefetch(&launch, id);
                    }
                    id = of;
                    // Thousands of ports may be taken, and each probe is a system call.
                    let probed = tokio::task::spawn_blocking({
                        let launch = launch.clone();
                        move || probe(launch, port)
                    });
                    Some(probed.await.unwrap_or_else(|error| Input::LaunchFailed(launch, error.to_string())))
                }
                // Boxed: an idle worker needs no room for these futures, and there is one a client.
                WorkerJob::Launch(launch, port, spec) => {
                    id = Some(spec.id.clone());
                    Some(Box::pin(self.launch(launch, port, &spec)).await)
                }
                WorkerJob::Terminate(launch, handle) => Box::pin(self.terminate(launch, &handle)).await,
            };
            let running = match (&found, id) {
                (Some(found), Some(id)) => still_running(found, self.context.supervisor.running_unit(&id)),
                _ => None,
            };
            for found in found.into_iter().chain(running) {
                // Only once the actor is gone.
                if self.found.send(found).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for the next job. A renewal of secrets is no job of the queue, because it must not delay a stop.
    async fn next_job(&mut self, jobs: &mut mpsc::Receiver<Box<WorkerJob>>) -> Option<Box<WorkerJob>> {
        let Some(renewal) = &mut self.renewal else { return jobs.recv().await };
        tokio::select! {
            // A job first: a stop must not wait for another look at files. What the renewal had begun counts as failed, and is
            // tried again.
            biased;
            job = jobs.recv() => job,
            // Boxed, as above.
            never = Box::pin(renewal.run(&mut self.context)) => match never {},
        }
    }

    async fn launch(&mut self, launch: Launch, port: u16, spec: &Arc<ClientSpec>) -> Input {
        // The launch writes the secrets into a new launch file, and the earlier process is gone.
        self.renewal = None;
        let settings = self.context.settings.borrow().clone();
        let supervisor = &self.context.supervisor;
        let manager = (supervisor.manager(), supervisor.is_unit_active(&spec.id));
        let prepared = self.context.launcher.prepare(&launch, port, spec, settings, manager).await;
        let plan = match prepared {
            Ok(plan) => plan,
            Err(NotPrepared::Refused(error)) => {
                return Input::LaunchRefused(launch, ErrorChain(&error).to_string());
            }
            Err(NotPrepared::Failed(error)) => {
                return Input::LaunchFailed(launch, ErrorChain(&error).to_string());
            }
        };
        if let Program::Command(_) = plan.program {
            // Before the launch, so that what an earlier process left is known as such.
            let owner = self.context.client_dirs.owner(&spec.id);
            self.watch = Some(self.context.state_files.watch(launch.clone(), &spec.files.state, owner));
        }
        match self.context.supervisor.start(plan).await {
            Ok(handle) => {
                if let ClientDirs::Units { .. } = &*self.context.client_dirs {
                    // systemd makes the folder at the start, so what is in it is the new process's.
                    self.watch_running(launch.clone(), spec);
                    self.renewal = Some(Box::new(SecretRenewal::new(launch.clone(), spec.clone(), false)));
                }
                Input::Launched(launch, handle)
            }
            Err(error) if error.is_temporary() => {
                Input::LaunchPostponed(launch, ErrorChain(&error).to_string())
            }
            Err(error) => Input::LaunchFailed(launch, ErrorChain(&error).to_string()),
        }
    }

    fn watch_running(&mut self, launch: Launch, spec: &ClientSpec) {
        if !self.context.launcher.has_state_files() {
            return;
        }
        let owner = self.context.client_dirs.owner(&spec.id);
        // Dropped first: the earlier watch may be for the same launch, whose process was replaced.
        self.watch = None;
        self.watch = Some(self.context.state_files.watch_running(launch, &spec.files.state, owner));
    }

    /// Stops the process. Success arrives as an exit event from the supervisor.
    async fn terminate(&mut self, launch: Launch, handle: &Handle) -> Option<Input> {
        let grace = self.context.settings.borrow().supervisor.stop_timeout;
        let stopped = self.context.supervisor.stop(handle, grace).await;
        stopped.err().map(|error| Input::StopFailed(launch, ErrorChain(&error).to_string()))
    }
}

/// An event to send after a failed launch. An operator may have started the unit with the environment of an earlier launch
/// meanwhile. The fleet ignored that process, because the launch would have replaced it.
fn still_running(found: &Input, running: Option<(Launch, Handle)>) -> Option<Input> {
    let (Input::LaunchFailed(launch, _)
    | Input::LaunchPostponed(launch, _)
    | Input::LaunchRefused(launch, _)) = found
    else {
        return None;
    };
    let (earlier, handle) = running.filter(|(earlier, _)| earlier.generation < launch.generation)?;
    Some(ProcessEvent::Replaced(earlier, handle).into())
}

/// Probes whether a program listens on the port, on 127.0.0.1 or everywhere. If so the ports after it are tried as well, so that
/// thousands of taken ones cost one round trip.
fn probe(launch: Launch, first: u16) -> Input {
    let mut last_taken = None;
    for port in first..=u16::MAX {
        // The standard library sets SO_REUSEADDR, so connections of the last client in TIME_WAIT do not take the port. A
        // listener on 0.0.0.0 does.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => break,
            // Permission denied: a port below ip_unprivileged_port_start.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) =>
            {
                last_taken = Some(port);
            }
            Err(error) => return Input::LaunchFailed(launch, format!("can't look at port {port}: {error}")),
        }
    }
    Input::Probed(launch, last_taken.map_or(PortState::Free, PortState::TakenUpTo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::Generation;
    use crate::model::name::ClientName;

    #[test]
    fn unit_started_by_operator_is_reported_after_failed_launch() {
        let launch =
            |generation| Launch { name: ClientName::new("a").unwrap(), generation: Generation(generation) };
        let handle =
            Handle::Unit { name: "wqclient@a.service".into(), invocation_id: "1".repeat(32).into(), pid: 7 };
        let running = |generation| Some((launch(generation), handle.clone()));
        let failed: [fn(Launch, String) -> Input; 3] =
            [Input::LaunchFailed, Input::LaunchPostponed, Input::LaunchRefused];
        for failed in failed {
            let failed = failed(launch(2), "no token".into());
            let told = still_running(&failed, running(1));
            assert!(
                matches!(told, Some(Input::Process(ProcessEvent::Replaced(earlier, _))) if earlier == launch(1))
            );
            assert!(still_running(&failed, running(2)).is_none() && still_running(&failed, None).is_none());
        }
        let launched = Input::Launched(launch(2), handle.clone());
        assert!(still_running(&launched, running(1)).is_none());
    }

    #[test]
    fn probe_skips_taken_ports() {
        let launch = Launch { name: ClientName::new("a").unwrap(), generation: Generation(1) };
        let probed = |first| match probe(launch.clone(), first) {
            Input::Probed(_, state) => state,
            other => panic!("{other:?}"),
        };
        let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        // Other tests may take a port at any time, so three free ones in a row are searched for.
        let (first, _held) = std::iter::repeat_with(|| {
            let one = listen(0).unwrap();
            let port = one.local_addr().unwrap().port();
            Some((port, [one, listen(port.checked_add(1)?).ok()?, listen(port.checked_add(2)?).ok()?]))
        })
        .flatten()
        .next()
        .unwrap();
        let PortState::TakenUpTo(last) = probed(first) else { panic!("three listen") };
        assert!(last >= first + 2, "{first} {last}");
    }
}
