//! A scripted supervisor for tests: processes that exist only on paper, in a world that outlives the supervisor as real
//! processes outlive a controller.
//!
//! The program of a plan is the script: `exit:STATUS` ends at once, `run` runs until it is stopped, `ignore-term` until it
//! is killed; anything else cannot be executed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{Event, LaunchPlan, Program, StartError, StopError, Supervisor};
use crate::locks::locked;
use crate::model::client::{Exit, Handle};
use crate::model::fleet::Launch;
use crate::model::saved::{Found, SavedClient};

/// A machine on paper.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    boots: u32,
    last_pid: u32,
    processes: BTreeMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    heeds_term: bool,
    end: watch::Sender<Option<Exit>>,
}

/// Runs processes on paper.
#[derive(Debug)]
pub struct Sim {
    world: World,
    ended: mpsc::Sender<Event>,
}

impl World {
    /// Starts the machine anew: no process survives.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.boots += 1;
        state.processes.clear();
    }

    /// Ends a process from outside, as kill(1) does.
    pub fn kill(&self, pid: u32, signal: i32) {
        self.end(pid, Exit::Signal(signal));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }

    fn end(&self, pid: u32, exit: Exit) {
        if let Some(process) = self.state().processes.remove(&pid) {
            process.end.send_replace(Some(exit));
        }
    }
}

impl Sim {
    /// A supervisor in `world` that tells every end through `ended`.
    pub fn new(world: World, ended: mpsc::Sender<Event>) -> Self {
        Self { world, ended }
    }

    /// Tells the end of a process when it comes.
    fn watch(&self, launch: Launch, mut end: watch::Receiver<Option<Exit>>, is_child: bool) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let exit = match end.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::Unknown),
                // The machine went down.
                Err(_) => return,
            };
            let exit = if is_child { exit } else { Exit::Unknown };
            // Nobody listens any more when the test is over.
            let _ = ended.send(Event::Ended(launch, exit)).await;
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
            let mut state = self.world.state();
            state.last_pid += 1;
            let (pid, boot) = (state.last_pid, state.boots);
            state.processes.insert(pid, Process { heeds_term: script != "ignore-term", end });
            (pid, boot.to_string().into())
        };
        self.watch(plan.launch, ended, true);
        if let Some(exit) = ends_with {
            self.world.end(pid, exit);
        }
        Ok(Handle::Direct { pid, start_ticks: u64::from(pid), boot_id })
    }

    async fn adopt(&self, saved: Vec<SavedClient>) -> Vec<(SavedClient, Found)> {
        let adopt = |client: SavedClient| {
            let state = self.world.state();
            let Some(Handle::Direct { pid, start_ticks, boot_id }) = &client.handle else {
                return (client, Found::Gone { rebooted: false });
            };
            let found = match state.processes.get(pid) {
                _ if **boot_id != *state.boots.to_string() => Found::Gone { rebooted: true },
                Some(process) if *start_ticks == u64::from(*pid) => {
                    let launch = Launch { name: client.spec.name.clone(), generation: client.generation };
                    self.watch(launch, process.end.subscribe(), false);
                    Found::Running(Handle::Direct {
                        pid: *pid,
                        start_ticks: *start_ticks,
                        boot_id: boot_id.clone(),
                    })
                }
                _ => Found::Gone { rebooted: false },
            };
            (client, found)
        };
        saved.into_iter().map(adopt).collect()
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), StopError> {
        let Handle::Direct { pid, .. } = handle else { return Ok(()) };
        let end = self
            .world
            .state()
            .processes
            .get(pid)
            .map(|process| (process.heeds_term, process.end.subscribe()));
        let Some((heeds_term, mut end)) = end else { return Ok(()) };
        if heeds_term {
            self.world.end(*pid, Exit::Signal(15));
        }
        if timeout(grace, end.wait_for(Option::is_some)).await.is_err() {
            self.world.end(*pid, Exit::Signal(9));
        }
        Ok(())
    }
}
