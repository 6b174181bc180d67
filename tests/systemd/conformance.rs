//! The suite of all supervisors, over units.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tokio::sync::mpsc;
use wqcontroller::client_dirs::ClientDirs;
use wqcontroller::config::{LimitSettings, ManagerKind, SystemdSettings, UnitKind};
use wqcontroller::model::client::{Exit, Generation, Handle};
use wqcontroller::model::fleet::{Input, Launch, ProcessEvent};
use wqcontroller::model::name::{ClientName, UnitId};
use wqcontroller::model::persisted::ProcessStatus;
use wqcontroller::supervisor::systemd::Units;
use wqcontroller::supervisor::{AnySupervisor, EventSender, LaunchPlan, Output, Program, Supervisor};

use crate::machine::{Machine, assert_inside, wait_until};
use crate::suite::{Kind, Script, conforms};

/// Units of one kind, on the machine that this runs on.
struct InUnits {
    settings: SystemdSettings,
    runtime: PathBuf,
    /// The folder of the templates.
    templates: PathBuf,
}

/// What a template does; `STATE_PATH` stands for the client's files.
const SCRIPTS: [(&str, &str); 6] = [
    ("exit0", "exit 0"),
    ("exit1", "exit 1"),
    ("exit3", "exit 3"),
    ("exit4", "exit 4"),
    ("exit7", "exit 7"),
    ("run", "sleep 600 & echo >$MOJO_WEBQQ_READY; wait"),
];
const IGNORE_TERM: &str = "trap '' TERM; echo >$MOJO_WEBQQ_READY; while :; do sleep 600; done";

impl InUnits {
    fn new(manager: ManagerKind, unit: UnitKind) -> Self {
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| "/nonexistent".into(), PathBuf::from);
        let templates = match manager {
            ManagerKind::System => PathBuf::from("/usr/libexec/conformance"),
            ManagerKind::User => runtime.join("conformance"),
        };
        fs::create_dir_all(&templates).unwrap();
        for (name, script) in SCRIPTS.into_iter().chain([("ignore-term", IGNORE_TERM)]) {
            let path = templates.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self {
            settings: SystemdSettings { manager, unit, slice: "wqclient.slice".into() },
            runtime,
            templates,
        }
    }

    fn ready_file(&self, launch: &Launch) -> PathBuf {
        ClientDirs::of_units(self.settings.manager, &self.runtime, |_| None)
            .folder(&UnitId::of(&launch.name))
            .join("ready")
    }
}

impl Kind for InUnits {
    async fn supervisor(&self, events: EventSender) -> AnySupervisor {
        let program = PathBuf::from("/usr/sbin/wqcontroller");
        let units = Units::connect(self.settings.clone(), &self.runtime, program, events).await.unwrap();
        units.check().await.unwrap();
        AnySupervisor::Units(units)
    }

    fn program(&self, launch: &Launch, script: Script) -> (Program, Vec<(&'static str, String)>) {
        let name = match script {
            Script::Exit(status) => format!("exit{status}"),
            Script::Run => "run".to_owned(),
            Script::IgnoreTerm => "ignore-term".to_owned(),
            Script::CannotBeExecuted => "no such template".to_owned(),
        };
        let ready = self.ready_file(launch).to_str().unwrap().to_owned();
        (Program::Template(Some(self.templates.join(name))), vec![("MOJO_WEBQQ_READY", ready)])
    }

    fn wait_until_ready(&self, launch: &Launch) {
        wait_until("the process is ready", || self.ready_file(launch).exists());
    }

    fn found_failed(&self) -> ProcessStatus {
        ProcessStatus::Ended(Exit::Code(1))
    }

    fn impostors(&self, handle: &Handle) -> Vec<(Handle, ProcessStatus)> {
        let Handle::Unit { name, pid, .. } = handle.clone() else { panic!("{handle:?}") };
        // The suite says that it is another client's launch, so its launch file does not make it ours.
        let other_run = Handle::Unit { name, invocation_id: "0".repeat(32).into(), pid };
        let none =
            Handle::Unit { name: "wqclient@gone.service".into(), invocation_id: "0".repeat(32).into(), pid };
        vec![(other_run, ProcessStatus::Ended(Exit::Clean)), (none, ProcessStatus::Ended(Exit::Clean))]
    }

    fn stopped_by_the_next(&self) -> (Exit, Exit) {
        // To the earlier controller it was the stop of another program.
        (Exit::Signal(15), Exit::Stopped)
    }
}

#[test]
fn units_conform_to_supervisor_suite() {
    let Some(machine) = Machine::boot() else { return };
    machine.run_test("conformance::inside_template_units");
    machine.run_test("conformance::inside_transient_units");
    machine.run_test("conformance::inside_forget_stops_leftover_unit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs inside of a machine"]
async fn inside_template_units() {
    assert_inside();
    conforms(InUnits::new(ManagerKind::System, UnitKind::Template)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs inside of a machine"]
async fn inside_transient_units() {
    assert_inside();
    conforms(InUnits::new(ManagerKind::System, UnitKind::Transient)).await;
}

/// An operator can start a unit with the environment of an earlier launch: systemd knows of it before the supervisor does, and
/// the supervisor stops watching it once its client is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs inside of a machine"]
async fn inside_forget_stops_leftover_unit() {
    assert_inside();
    let kind = InUnits::new(ManagerKind::System, UnitKind::Template);
    let (sender, mut events) = mpsc::channel(64);
    let supervisor = kind.supervisor(EventSender::new(sender)).await;
    let launch =
        |generation| Launch { name: ClientName::new("left").unwrap(), generation: Generation(generation) };
    let id = UnitId::of(&launch(1).name);
    assert!(!supervisor.is_unit_active(&id).await);
    let (program, variables) = kind.program(&launch(1), Script::Run);
    let mut env = vec![("MOJO_WEBQQ_ACCOUNT".into(), "left".into())];
    env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
    let plan = LaunchPlan {
        launch: launch(1),
        id: id.clone(),
        program,
        env,
        output: Output::Log,
        limits: LimitSettings::default(),
    };
    supervisor.start(plan).await.unwrap();
    kind.wait_until_ready(&launch(1));
    assert!(supervisor.is_unit_active(&id).await);
    // The launch after it was overtaken by a stop, so the client is forgotten.
    supervisor.discard(launch(2), id.clone()).await;
    assert!(!supervisor.is_unit_active(&id).await);
    let exited = ProcessEvent::Exited(launch(1), Exit::Signal(15));
    assert!(matches!(events.recv().await, Some(Input::Process(event)) if event == exited));
}
