use super::*;
use crate::client_dirs::ClientDirs;
use crate::config::Settings;
use crate::model::client::{ClientFiles, ClientSpec, Exit, Generation, RestartHistory};
use crate::model::fleet::Rules;
use crate::model::persisted::Desired;
use crate::model::restart::RestartPolicy;
use crate::registry::{ClientLauncher, Endpoints, Launcher};
use crate::statefile::StateFiles;
use crate::supervisor::sim::{Sim, SimMachine};
use crate::supervisor::{AnySupervisor, EventSender};

fn rules() -> Rules {
    Rules {
        max_clients: 3,
        first_port: 5000,
        ports_each: 1,
        keeps_port: false,
        restart: RestartPolicy::OnFailure,
        restart_limit: 3,
        start_interval: Duration::from_secs(1),
        restore: true,
        clients_outlive_controller: true,
    }
}

/// An actor on this machine.
fn actor(machine: &SimMachine) -> Actor {
    let supervisor = AnySupervisor::Sim(Sim::new(machine.clone(), EventSender::new(mpsc::channel(1).0)));
    let client_dirs =
        Arc::new(ClientDirs::Shared { tmpdir: "/run/wq".into(), lasting: "/var/lib/wq".into() });
    let any: Arc<std::path::Path> = std::path::Path::new("/no/such/program").into();
    let context = WorkerContext {
        supervisor: Arc::new(supervisor),
        settings: watch::channel(Arc::new(Settings::default())).1,
        launcher: Launcher::Client(ClientLauncher {
            client_dirs: client_dirs.clone(),
            default_template: any.clone(),
            executable: any.clone(),
            endpoints: Endpoints {
                snapshot: watch::channel(Arc::default()).1,
                refusals: watch::channel(Arc::default()).1,
                folder: any,
            },
        }),
        client_dirs,
        boot_id: "boot".into(),
        state_files: StateFiles::open(),
        metrics: Arc::default(),
    };
    Actor::new(
        Fleet::new(rules(), Generation(9)),
        context,
        watch::channel(Arc::default()).0,
        mpsc::channel(1).0,
    )
}

fn spec(name: &str) -> Arc<ClientSpec> {
    let name = ClientName::new(name).unwrap();
    let files = ClientFiles::in_folder("/run/wq".into(), &name);
    Arc::new(ClientSpec { id: UnitId::of(&name), name, params: Default::default(), files })
}

#[tokio::test]
async fn launch_of_a_stopped_client_is_discarded_at_restore() {
    let machine = SimMachine::default();
    let saved = |name: &str, generation, desired| {
        let (spec, generation) = (spec(name), Generation(generation));
        let (handle, history) = (None, RestartHistory::default());
        PersistedClient { spec, port: 5000, generation, desired, handle, history }
    };
    let mut actor = actor(&machine);
    let clients = vec![
        (saved("stopped", 1, Desired::Stopped), ProcessStatus::Gone { rebooted: false }),
        (saved("asked", 2, Desired::Running), ProcessStatus::Ended(Exit::Code(193))),
        (saved("wanted", 3, Desired::Running), ProcessStatus::Ended(Exit::Code(1))),
    ];
    actor.restore(clients, Vec::new());
    while actor.tasks.join_next().await.is_some() {}
    let mut discarded: Vec<_> = machine.discarded().into_iter().map(|launch| launch.generation.0).collect();
    discarded.sort_unstable();
    assert_eq!(discarded, [1, 2]);
}

/// Has the actor hear of the ends of tasks, up to that of this one.
async fn hear_of(actor: &mut Actor, task: Id) {
    while let Some(ended) = actor.tasks.join_next_with_id().await {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        actor.task_ended(ended);
        if id == task {
            return;
        }
    }
    panic!("the task has no end");
}

#[tokio::test]
async fn worker_that_was_replaced_fails_no_launch_of_the_next_one() {
    let mut actor = actor(&SimMachine::default());
    let name = spec("a").name.clone();
    // A worker that has panicked, which the actor has not heard of.
    let task = actor.tasks.spawn(async { panic!("a test") }).id();
    actor.task_names.insert(task, name.clone());
    actor.workers.insert(name.clone(), Worker { task, jobs: mpsc::channel(1).0 });
    actor.apply(Input::Start(RequestId(1), spec("a")));
    hear_of(&mut actor, task).await;
    assert_eq!(actor.fleet.get(&name).map(|record| record.phase), Some(Phase::Reserved));
    assert!(actor.workers.get(&name).is_some_and(|worker| worker.task != task));
    // The one that has the job now fails it.
    let task = actor.tasks.spawn(async { panic!("a test") }).id();
    actor.task_names.insert(task, name.clone());
    actor.workers.insert(name.clone(), Worker { task, jobs: mpsc::channel(1).0 });
    hear_of(&mut actor, task).await;
    assert!(actor.fleet.get(&name).is_none_or(|record| record.phase != Phase::Reserved));
}
