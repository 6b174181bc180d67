//! What every supervisor must do, run over all of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use wqcontroller::model::client::{ClientFiles, ClientSpec, Exit, Generation, Handle, History};
use wqcontroller::model::fleet::Launch;
use wqcontroller::model::name::ClientName;
use wqcontroller::model::saved::{Desired, Found, SavedClient};
use wqcontroller::supervisor::direct::Direct;
use wqcontroller::supervisor::sim::{Sim, World};
use wqcontroller::supervisor::{AnySupervisor, Ended, LaunchPlan, Output, StartError, Supervisor};

use crate::fixture::{PATIENCE, wait_until};

const LONG: Duration = Duration::from_secs(600);

/// What a process does.
#[derive(Clone, Copy)]
enum Script {
    Exit(i32),
    Run,
    IgnoreTerm,
    CannotBeExecuted,
}

/// A kind of supervisor, and the machine it works on.
enum Kind {
    /// In this folder a process leaves a file when it is ready for whatever comes.
    Direct(tempfile::TempDir),
    Sim(World),
}

/// One supervisor at work.
struct Bench<'a> {
    kind: &'a Kind,
    supervisor: Arc<AnySupervisor>,
    ended: mpsc::Receiver<Ended>,
}

impl Kind {
    /// A supervisor as a controller has it that has just started.
    fn bench(&self) -> Bench<'_> {
        // Room for all that a test lets end before it looks.
        let (sender, ended) = mpsc::channel(64);
        let supervisor = match self {
            Self::Direct(_) => AnySupervisor::Direct(Direct::new(sender).unwrap()),
            Self::Sim(world) => AnySupervisor::Sim(Sim::new(world.clone(), sender)),
        };
        Bench { kind: self, supervisor: Arc::new(supervisor), ended }
    }

    fn ready_file(&self, generation: u64) -> PathBuf {
        match self {
            Self::Direct(folder) => folder.path().join(generation.to_string()),
            Self::Sim(_) => PathBuf::new(),
        }
    }

    fn plan(&self, generation: u64, script: Script) -> LaunchPlan {
        // A shell that waits for a child of its own: SIGTERM ends it, and what it leaves behind must be ended, too.
        let shell = |text: &str| (PathBuf::from("/bin/sh"), vec!["-c".into(), text.into()]);
        let (program, args) = match (self, script) {
            (Self::Direct(_), Script::Exit(status)) => shell(&format!("exit {status}")),
            (Self::Direct(_), Script::Run) => shell("sleep 600 & echo > $READY; wait"),
            (Self::Direct(_), Script::IgnoreTerm) => {
                shell("trap '' TERM; echo > $READY; while :; do sleep 600; done")
            }
            (Self::Sim(_), Script::Exit(status)) => (format!("exit:{status}").into(), vec![]),
            (Self::Sim(_), Script::Run) => ("run".into(), vec![]),
            (Self::Sim(_), Script::IgnoreTerm) => ("ignore-term".into(), vec![]),
            (_, Script::CannotBeExecuted) => ("/no/such/program".into(), vec![]),
        };
        let env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("READY".into(), self.ready_file(generation).into()),
        ];
        LaunchPlan { launch: launch(generation), program, arg0: None, args, env, output: Output::Log }
    }
}

impl Bench<'_> {
    async fn start(&self, generation: u64, script: Script) -> Handle {
        let handle = self.supervisor.start(self.kind.plan(generation, script)).await.unwrap();
        if matches!((self.kind, script), (Kind::Direct(_), Script::Run | Script::IgnoreTerm)) {
            wait_until("the process is ready", || self.kind.ready_file(generation).exists());
        }
        handle
    }

    /// The next end that is told.
    async fn next(&mut self) -> (u64, Exit) {
        let ended = timeout(PATIENCE, self.ended.recv()).await.unwrap().unwrap();
        (ended.launch.generation.0, ended.exit)
    }

    async fn adopt(&self, generation: u64, handle: Handle) -> Found {
        let (_, found) = self.supervisor.adopt(vec![saved(generation, handle)]).await.remove(0);
        found
    }
}

fn launch(generation: u64) -> Launch {
    Launch { name: ClientName::new("小明").unwrap(), generation: Generation(generation) }
}

fn saved(generation: u64, handle: Handle) -> SavedClient {
    let Launch { name, generation } = launch(generation);
    let files = ClientFiles::in_folder("/nonexistent".into(), &name);
    let spec = Arc::new(ClientSpec { name, params: [].into(), files });
    let history = History::default();
    SavedClient { spec, port: 5000, generation, desired: Desired::Running, handle: Some(handle), history }
}

/// The suite. Each step stands for a promise of the trait.
async fn conforms(kind: Kind) {
    let mut bench = kind.bench();

    // What ends by itself is told once, with its status.
    bench.start(1, Script::Exit(7)).await;
    assert_eq!(bench.next().await, (1, Exit::Code(7)));
    bench.start(2, Script::Exit(0)).await;
    assert_eq!(bench.next().await, (2, Exit::Code(0)));

    // What cannot be executed is an error, and no end is told of it.
    let refused = bench.supervisor.start(kind.plan(3, Script::CannotBeExecuted)).await;
    assert!(matches!(refused, Err(StartError::Execute { .. })));

    // A stop asks, and returns when the process is gone. Then it is told as any end.
    let handle = bench.start(4, Script::Run).await;
    bench.supervisor.stop(&handle, LONG).await.unwrap();
    assert_eq!(bench.next().await, (4, Exit::Signal(15)));
    bench.supervisor.stop(&handle, LONG).await.unwrap();

    // It insists when the grace is over; a second stop can shorten that, and both return.
    let handle = bench.start(5, Script::IgnoreTerm).await;
    bench.supervisor.stop(&handle, Duration::from_millis(50)).await.unwrap();
    assert_eq!(bench.next().await, (5, Exit::Signal(9)));
    let handle = bench.start(6, Script::IgnoreTerm).await;
    let (patient, supervisor) = (handle.clone(), bench.supervisor.clone());
    let patient = tokio::spawn(async move { supervisor.stop(&patient, LONG).await });
    bench.supervisor.stop(&handle, Duration::ZERO).await.unwrap();
    assert_eq!(bench.next().await, (6, Exit::Signal(9)));
    timeout(PATIENCE, patient).await.unwrap().unwrap().unwrap();

    // Many at once do not get into each other's way.
    let mut handles = Vec::new();
    for generation in 100..120 {
        handles.push(bench.start(generation, Script::Run).await);
    }
    let stops = handles.iter().map(|handle| {
        let (supervisor, handle) = (bench.supervisor.clone(), handle.clone());
        tokio::spawn(async move { supervisor.stop(&handle, LONG).await })
    });
    for stop in stops.collect::<Vec<_>>() {
        timeout(PATIENCE, stop).await.unwrap().unwrap().unwrap();
    }
    let mut told = Vec::new();
    for _ in 100..120 {
        told.push(bench.next().await.0);
    }
    told.sort_unstable();
    assert_eq!(told, (100..120).collect::<Vec<_>>());

    // The next controller finds what lives, and only that.
    let lives = bench.start(7, Script::Run).await;
    let ends = bench.start(8, Script::Exit(1)).await;
    assert_eq!(bench.next().await, (8, Exit::Code(1)));
    let mut next = kind.bench();
    assert_eq!(next.adopt(7, lives.clone()).await, Found::Running(lives.clone()));
    assert_eq!(next.adopt(8, ends).await, Found::Gone { rebooted: false });
    let Handle::Direct { pid, start_ticks, boot_id } = lives.clone();
    let recycled = Handle::Direct { pid, start_ticks: start_ticks + 1, boot_id };
    assert_eq!(next.adopt(9, recycled).await, Found::Gone { rebooted: false });
    let of_another_boot = Handle::Direct { pid, start_ticks, boot_id: "another".into() };
    assert_eq!(next.adopt(9, of_another_boot).await, Found::Gone { rebooted: true });
    next.supervisor.stop(&lives, LONG).await.unwrap();
    assert_eq!(next.next().await, (7, Exit::Unknown), "whose child it was knows more");

    // Nothing was told twice or too much.
    assert_eq!(bench.next().await, (7, Exit::Signal(15)));
    assert!(bench.ended.try_recv().is_err() && next.ended.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_conforms() {
    conforms(Kind::Direct(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn sim_conforms() {
    conforms(Kind::Sim(World::default())).await;
}
