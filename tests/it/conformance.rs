//! The suite of all supervisors, over child processes and processes on paper. `tests/systemd` runs it over units.

use std::path::PathBuf;

use wqcontroller::model::client::{Exit, Handle};
use wqcontroller::model::fleet::Launch;
use wqcontroller::model::persisted::ProcessStatus;
use wqcontroller::supervisor::direct::Direct;
use wqcontroller::supervisor::sim::{Sim, SimMachine};
use wqcontroller::supervisor::{AnySupervisor, EventSender, Program};
use wqcontroller::template::TemplateCommand;

use crate::fixture::wait_until;
use crate::suite::{Kind, Script, conforms};

/// In this folder a process leaves a file when it is ready.
struct Children(tempfile::TempDir);

impl Children {
    fn ready_file(&self, launch: &Launch) -> PathBuf {
        self.0.path().join(launch.generation.to_string())
    }
}

fn command(program: &str, args: &[&str]) -> Program {
    let args = args.iter().map(Into::into).collect();
    Program::Command(TemplateCommand { program: program.into(), arg0: None, args })
}

/// Handles of a process with the same pid: of another time, and of another boot.
fn recycled(handle: &Handle) -> Vec<(Handle, ProcessStatus)> {
    let Handle::Direct { pid, start_ticks, boot_id } = handle.clone() else { panic!("{handle:?}") };
    let later = Handle::Direct { pid, start_ticks: start_ticks + 1, boot_id };
    let of_another_boot = Handle::Direct { pid, start_ticks, boot_id: "another".into() };
    vec![
        (later, ProcessStatus::Gone { rebooted: false }),
        (of_another_boot, ProcessStatus::Gone { rebooted: true }),
    ]
}

impl Kind for Children {
    async fn supervisor(&self, events: EventSender) -> AnySupervisor {
        AnySupervisor::Direct(Direct::new(events).unwrap())
    }

    fn program(&self, launch: &Launch, script: Script) -> (Program, Vec<(&'static str, String)>) {
        // A shell that waits for a child of its own: SIGTERM ends it, and what it leaves behind must be ended, too.
        let shell = |text: &str| command("/bin/sh", &["-c", text]);
        let program = match script {
            Script::Exit(status) => shell(&format!("exit {status}")),
            Script::Run => shell("sleep 600 & echo > $READY; wait"),
            Script::IgnoreTerm => shell("trap '' TERM; echo > $READY; while :; do sleep 600; done"),
            Script::CannotBeExecuted => command("/no/such/program", &[]),
        };
        (program, vec![("READY", self.ready_file(launch).to_str().unwrap().to_owned())])
    }

    fn wait_until_ready(&self, launch: &Launch) {
        wait_until("the process is ready", || self.ready_file(launch).exists());
    }

    fn found_failed(&self) -> ProcessStatus {
        ProcessStatus::Gone { rebooted: false }
    }

    fn impostors(&self, handle: &Handle) -> Vec<(Handle, ProcessStatus)> {
        recycled(handle)
    }

    fn stopped_by_the_next(&self) -> (Exit, Exit) {
        // Whose child it was knows more.
        (Exit::Unknown, Exit::Signal(15))
    }
}

impl Kind for SimMachine {
    async fn supervisor(&self, events: EventSender) -> AnySupervisor {
        AnySupervisor::Sim(Sim::new(self.clone(), events))
    }

    fn program(&self, _: &Launch, script: Script) -> (Program, Vec<(&'static str, String)>) {
        let program = match script {
            Script::Exit(status) => command(&format!("exit:{status}"), &[]),
            Script::Run => command("run", &[]),
            Script::IgnoreTerm => command("ignore-term", &[]),
            Script::CannotBeExecuted => command("/no/such/program", &[]),
        };
        (program, Vec::new())
    }

    fn wait_until_ready(&self, _: &Launch) {}

    fn found_failed(&self) -> ProcessStatus {
        ProcessStatus::Gone { rebooted: false }
    }

    fn impostors(&self, handle: &Handle) -> Vec<(Handle, ProcessStatus)> {
        recycled(handle)
    }

    fn stopped_by_the_next(&self) -> (Exit, Exit) {
        (Exit::Unknown, Exit::Signal(15))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_conforms() {
    conforms(Children(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn sim_conforms() {
    conforms(SimMachine::default()).await;
}
