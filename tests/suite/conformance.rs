//! What every supervisor must do, whatever it runs processes as.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use wqcontroller::config::LimitSettings;
use wqcontroller::model::client::{ClientFiles, ClientSpec, Exit, Generation, Handle, RestartHistory};
use wqcontroller::model::fleet::{Input, Launch, ProcessEvent};
use wqcontroller::model::name::ClientName;
use wqcontroller::model::persisted::{Desired, PersistedClient, ProcessStatus};
use wqcontroller::supervisor::{AnySupervisor, EventSender, LaunchPlan, Output, Program, Supervisor};

/// Nothing that is waited for takes as long; it only bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

const LONG: Duration = Duration::from_secs(600);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Exit(i32),
    /// Runs, with a child of its own, until SIGTERM.
    Run,
    IgnoreTerm,
    CannotBeExecuted,
}

/// A kind of supervisor, and the machine it works on.
pub trait Kind {
    /// A supervisor as a controller has it that has just started.
    fn supervisor(&self, events: EventSender) -> impl Future<Output = AnySupervisor>;

    /// What to execute, and its variables.
    fn program(&self, launch: &Launch, script: Script) -> (Program, Vec<(&'static str, String)>);

    /// Returns when a process that runs is ready for whatever comes.
    fn wait_until_ready(&self, launch: &Launch);

    /// What the next controller finds of a process that failed with status 1.
    fn found_failed(&self) -> ProcessStatus;

    /// Handles that are nearly that of a living process, and what is found of them.
    fn impostors(&self, handle: &Handle) -> Vec<(Handle, ProcessStatus)>;

    /// How a process ended that the next controller has stopped: what that is told, and what the earlier one is.
    fn stopped_by_the_next(&self) -> (Exit, Exit);
}

/// One supervisor at work.
struct Bench<'a, K> {
    kind: &'a K,
    supervisor: Arc<AnySupervisor>,
    events: mpsc::Receiver<Input>,
}

impl<'a, K: Kind> Bench<'a, K> {
    async fn new(kind: &'a K) -> Self {
        // Room for all that a test lets end before it looks.
        let (sender, events) = mpsc::channel(64);
        Self { kind, supervisor: Arc::new(kind.supervisor(EventSender::new(sender)).await), events }
    }

    fn plan(&self, generation: u64, script: Script) -> LaunchPlan {
        let launch = launch(generation);
        let (program, variables) = self.kind.program(&launch, script);
        let mut env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("MOJO_WEBQQ_ACCOUNT".into(), launch.name.as_str().into()),
        ];
        env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        LaunchPlan {
            id: wqcontroller::model::name::UnitId::of(&launch.name),
            launch,
            program,
            env,
            output: Output::Log,
            limits: LimitSettings::default(),
        }
    }

    async fn start(&self, generation: u64, script: Script) -> Handle {
        let handle = self.supervisor.start(self.plan(generation, script)).await.unwrap();
        if matches!(script, Script::Run | Script::IgnoreTerm) {
            self.kind.wait_until_ready(&launch(generation));
        }
        handle
    }

    /// The next end that is told.
    async fn next(&mut self) -> (u64, Exit) {
        loop {
            match timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap() {
                Input::Process(ProcessEvent::Exited(launch, exit)) => return (launch.generation.0, exit),
                Input::Process(ProcessEvent::LastWords(..)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn adopt(&self, generation: u64, handle: Handle) -> ProcessStatus {
        let (_, found) = self.supervisor.adopt(vec![saved(generation, handle)]).await.remove(0);
        found
    }
}

/// Every launch is of an account of its own.
fn launch(generation: u64) -> Launch {
    let name = ClientName::new(format!("小明{generation}")).unwrap();
    Launch { name, generation: Generation(generation) }
}

fn saved(generation: u64, handle: Handle) -> PersistedClient {
    let Launch { name, generation } = launch(generation);
    let files = ClientFiles::in_folder("/nonexistent".into(), &name);
    let spec = Arc::new(ClientSpec {
        id: wqcontroller::model::name::UnitId::of(&name),
        name,
        params: [].into(),
        files,
    });
    let history = RestartHistory::default();
    PersistedClient { spec, port: 5000, generation, desired: Desired::Running, handle: Some(handle), history }
}

/// The suite. Each step stands for a promise of the trait.
pub async fn conforms(kind: impl Kind) {
    let mut bench = Bench::new(&kind).await;

    // What ends by itself is told once, with its status.
    bench.start(1, Script::Exit(7)).await;
    assert_eq!(bench.next().await, (1, Exit::Code(7)));
    bench.start(2, Script::Exit(0)).await;
    assert_eq!(bench.next().await, (2, Exit::Code(0)));

    // What cannot be executed is an error, and no end is told of it.
    let refused = bench.supervisor.start(bench.plan(3, Script::CannotBeExecuted)).await;
    assert!(refused.is_err());

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

    // A name is used again, after whatever end.
    for (generation, script) in [(1, Script::Exit(3)), (2, Script::Exit(0)), (5, Script::Exit(4))] {
        bench.start(generation, script).await;
        let Script::Exit(status) = script else { unreachable!() };
        assert_eq!(bench.next().await, (generation, Exit::Code(status)));
    }

    // Many at once do not get into each other's way.
    let starts = (100..120).map(|generation| {
        let (supervisor, plan) = (bench.supervisor.clone(), bench.plan(generation, Script::Run));
        tokio::spawn(async move { supervisor.start(plan).await })
    });
    let mut handles = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        handles.push(timeout(PATIENCE, start).await.unwrap().unwrap().unwrap());
    }
    for generation in 100..120 {
        kind.wait_until_ready(&launch(generation));
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
    for (impostor, found) in kind.impostors(&lives) {
        assert_eq!(Bench::new(&kind).await.adopt(9, impostor).await, found);
    }
    let mut next = Bench::new(&kind).await;
    assert_eq!(next.adopt(7, lives.clone()).await, ProcessStatus::Running(lives.clone()));
    assert_eq!(next.adopt(8, ends).await, kind.found_failed());
    next.supervisor.stop(&lives, LONG).await.unwrap();
    let (by_next, by_first) = kind.stopped_by_the_next();
    assert_eq!(next.next().await, (7, by_next));

    // Nothing was told twice or too much.
    assert_eq!(bench.next().await, (7, by_first));
    assert!(bench.events.try_recv().is_err() && next.events.try_recv().is_err());
}
