//! A supervisor for tests: simulated processes on a simulated machine, which outlives the supervisor.
//!
//! The program of a plan is its script: `exit:STATUS` exits at once, `run` runs until it is stopped, `ignore-term` until it is
//! killed. Anything else cannot be executed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::{EventSender, LaunchPlan, Program, StartError, StopError, Supervisor};
use crate::locks::locked;
use crate::model::client::{Exit, Handle};
use crate::model::fleet::{Launch, ProcessEvent};
use crate::model::name::UnitId;
use crate::model::persisted::{PersistedClient, ProcessStatus};

/// A simulated machine.
#[derive(Clone, Debug, Default)]
pub struct SimMachine(Arc<Mutex<MachineState>>);

#[derive(Debug, Default)]
struct MachineState {
    boots: u32,
    last_pid: u32,
    processes: BTreeMap<u32, SimProcess>,
    discarded: Vec<Launch>,
}

#[derive(Debug)]
struct SimProcess {
    exits_on_term: bool,
    end: watch::Sender<Option<Exit>>,
}

/// Runs simulated processes.
#[derive(Debug)]
pub struct Sim {
    machine: SimMachine,
    events: EventSender,
}

impl SimMachine {
    /// Reboots the machine: no process survives.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.boots += 1;
        state.processes.clear();
    }

    /// Kills a process from outside, as kill(1) does.
    pub fn kill(&self, pid: u32, signal: i32) {
        self.end(pid, Exit::Signal(signal));
    }

    /// The launches that were discarded, in order.
    pub fn discarded(&self) -> Vec<Launch> {
        self.state().discarded.clone()
    }

    fn state(&self) -> MutexGuard<'_, MachineState> {
        locked(&self.0)
    }

    fn end(&self, pid: u32, exit: Exit) {
        if let Some(process) = self.state().processes.remove(&pid) {
            process.end.send_replace(Some(exit));
        }
    }
}

impl Sim {
    /// A supervisor in `machine` that reports every exit through `events`.
    pub fn new(machine: SimMachine, events: EventSender) -> Self {
        Self { machine, events }
    }

    /// Reports the exit of a process when it comes.
    fn watch(&self, launch: Launch, mut end: watch::Receiver<Option<Exit>>, is_child: bool) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let exit = match end.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::Unknown),
                // The machine was rebooted.
                Err(_) => return,
            };
            let exit = if is_child { exit } else { Exit::Unknown };
            events.send(vec![ProcessEvent::Exited(launch, exit)]).await;
        });
    }
}

impl Supervisor for Sim {
    async fn start(&self, plan: LaunchPlan) -> Result<Handle, StartError> {
        let Program::Command(program) = plan.program else { return Err(StartError::OtherSupervisor) };
        let script = program.program.to_string_lossy().into_owned();
        let ends_with = script.strip_prefix("exit:").and_then(|status| status.parse().ok()).map(Exit::Code);
        if ends_with.is_none() && !matches!(script.as_str(), "run" | "ignore-term") {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(StartError::Execute { program: program.program, source });
        }
        let (end, ended) = watch::channel(None);
        let (pid, boot_id) = {
            let mut state = self.machine.state();
            state.last_pid += 1;
            let (pid, boot) = (state.last_pid, state.boots);
            state.processes.insert(pid, SimProcess { exits_on_term: script != "ignore-term", end });
            (pid, boot.to_string().into())
        };
        self.watch(plan.launch, ended, true);
        if let Some(exit) = ends_with {
            self.machine.end(pid, exit);
        }
        Ok(Handle::Direct { pid, start_ticks: u64::from(pid), boot_id })
    }

    async fn adopt(&self, saved: Vec<PersistedClient>) -> Vec<(PersistedClient, ProcessStatus)> {
        let adopt = |client: PersistedClient| {
            let state = self.machine.state();
            let Some(Handle::Direct { pid, start_ticks, boot_id }) = &client.handle else {
                return (client, ProcessStatus::Gone { rebooted: false });
            };
            let found = match state.processes.get(pid) {
                // First, as a process of this boot may have the same pid.
                _ if **boot_id != *state.boots.to_string() => ProcessStatus::Gone { rebooted: true },
                Some(process) if *start_ticks == u64::from(*pid) => {
                    let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
                    self.watch(launch, process.end.subscribe(), false);
                    ProcessStatus::Running(Handle::Direct {
                        pid: *pid,
                        start_ticks: *start_ticks,
                        boot_id: boot_id.clone(),
                    })
                }
                _ => ProcessStatus::Gone { rebooted: false },
            };
            (client, found)
        };
        saved.into_iter().map(adopt).collect()
    }

    async fn discard(&self, launch: Launch, _id: UnitId) {
        self.machine.state().discarded.push(launch);
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Direct { pid, .. } = handle else { return Ok(()) };
        let end = self
            .machine
            .state()
            .processes
            .get(pid)
            .map(|process| (process.exits_on_term, process.end.subscribe()));
        let Some((exits_on_term, mut end)) = end else { return Ok(()) };
        if exits_on_term {
            self.machine.end(*pid, Exit::Signal(15));
        }
        if timeout(grace, end.wait_for(Option::is_some)).await.is_err() {
            self.machine.end(*pid, Exit::Signal(9));
        }
        Ok(())
    }
}
