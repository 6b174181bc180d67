//! Starts, and what is left of them, while the bus is away.

use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::config::{ManagerKind, SystemdSettings, UnitKind};
use crate::model::client::Generation;
use crate::supervisor::systemd::bus::{Bus, Incoming};
use crate::supervisor::systemd::fake_bus::{FakeSystemd, connect};
use crate::supervisor::systemd::launch_file;
use crate::supervisor::systemd::unit::UnitRole;
use crate::supervisor::{Output, Program};

const UNIT: &str = "wqclient@a.service";

/// A supervisor with a systemd in memory.
struct Bench {
    folder: tempfile::TempDir,
    systemd: Arc<Mutex<FakeSystemd>>,
    shared: Arc<UnitsInner>,
    /// Kept open; the tests do not read the signals of the bus.
    incoming: Vec<zbus::MessageStream>,
    gone: mpsc::Receiver<()>,
    _rest: (mpsc::Receiver<Arc<str>>, mpsc::Receiver<crate::model::fleet::ProcessEvent>),
}

fn launch() -> Launch {
    Launch { name: ClientName::new("a").unwrap(), generation: Generation(7) }
}

fn id() -> UnitId {
    UnitId::of(&launch().name)
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        launch: launch(),
        id: id(),
        program: Program::Template(None),
        env: vec![("MOJO_WEBQQ_ACCOUNT".into(), "a".into())],
        output: Output::Log,
        limits: LimitSettings { memory_max: None, memory_high: None, cpu_quota: None, tasks_max: None },
    }
}

impl Bench {
    async fn new(state: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let systemd = Arc::new(Mutex::new(FakeSystemd { state: state.into(), ..FakeSystemd::default() }));
        let (link, messages, gone) = connect(&systemd).await;
        let launches = folder.path().join("launch");
        let (bus, Incoming { messages, to_watch, events }) =
            Bus::over((ManagerKind::System, UnitRole::Client), launches, (link, messages));
        let settings = SystemdSettings {
            manager: ManagerKind::System,
            unit: UnitKind::Template,
            slice: "wqclient.slice".into(),
        };
        let shared = UnitsInner {
            cgroups: Mutex::default(),
            bus,
            settings,
            launch_files: Mutex::default(),
            executable: "/usr/sbin/wqcontroller".into(),
            config: None,
            starts: tokio::sync::Semaphore::new(1),
            prefetched: Mutex::default(),
            unknown: Mutex::default(),
        };
        let (shared, incoming) = (Arc::new(shared), vec![messages]);
        Self { folder, systemd, shared, incoming, gone, _rest: (to_watch, events) }
    }

    fn start(&self) -> tokio::task::JoinHandle<Result<Handle, StartError>> {
        tokio::spawn(self.shared.clone().start(UNIT.into(), plan()))
    }

    fn set(&self, state: &str, pid: u32, has_job: bool) {
        let mut systemd = locked(&self.systemd);
        (systemd.state, systemd.pid, systemd.has_job) = (state.into(), pid, has_job);
    }

    fn calls(&self) -> Vec<String> {
        locked(&self.systemd).calls.clone()
    }

    /// Waits until the fake systemd cuts the connection, at the call that it was told to fail.
    async fn is_cut(&mut self) {
        let cut = tokio::time::timeout(JOB_TIMEOUT * 3, self.gone.recv()).await;
        assert_eq!(cut, Ok(None), "the call does not come");
    }

    /// The bus is away. As the task does that reads from it.
    fn lose(&self) {
        self.shared.bus.link.send_replace(None);
    }

    /// The bus is back.
    async fn reconnect(&mut self) {
        let (link, messages, gone) = connect(&self.systemd).await;
        self.incoming.push(messages);
        self.gone = gone;
        self.shared.bus.table().invalidate();
        self.shared.bus.link.send_replace(Some(link));
    }

    fn launch_file(&self) -> std::path::PathBuf {
        self.folder.path().join("launch").join(id().as_str())
    }
}

#[tokio::test(start_paused = true)]
async fn start_whose_reply_is_lost_waits_for_the_bus_and_finds_the_client() {
    let mut bench = Bench::new("inactive").await;
    locked(&bench.systemd).lost_at = Some("StartUnit");
    let starting = bench.start();
    bench.is_cut().await;
    bench.lose();
    // Much longer than a start may take.
    sleep(JOB_TIMEOUT * 3).await;
    assert!(!starting.is_finished(), "its outcome is not known");
    // Meanwhile systemd has started it.
    bench.set("active", 77, false);
    bench.reconnect().await;
    let handle = starting.await.unwrap().unwrap();
    assert_eq!((handle.pid(), handle.unit()), (77, Some(UNIT)));
    assert_eq!(bench.calls(), ["StartUnit"], "and not a second time");
    assert!(bench.launch_file().exists() && bench.shared.bus.table().contains(UNIT));
}

#[tokio::test(start_paused = true)]
async fn start_whose_reply_is_lost_again_and_again_has_an_outcome_all_the_same() {
    let mut bench = Bench::new("inactive").await;
    locked(&bench.systemd).lost_at = Some("StartUnit");
    let starting = bench.start();
    bench.is_cut().await;
    bench.set("active", 77, false);
    // The bus comes back, and is lost before it answers.
    for _ in 0..20 {
        locked(&bench.systemd).lost_at = Some("GetAll");
        bench.reconnect().await;
        bench.is_cut().await;
    }
    bench.reconnect().await;
    assert_eq!(starting.await.unwrap().unwrap().pid(), 77);
    assert_eq!(bench.calls(), ["StartUnit"]);
}

#[tokio::test(start_paused = true)]
async fn start_that_takes_too_long_is_ended() {
    let bench = Bench::new("inactive").await;
    let starting = bench.start();
    while bench.calls().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    bench.set("activating", 0, true);
    let error = starting.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("was not up within 180s"), "{error}");
    assert!(!error.is_temporary());
    assert_eq!(bench.calls(), ["StartUnit", "StopUnit"]);
    assert!(!bench.launch_file().exists() && !bench.shared.bus.table().contains(UNIT));
}

#[tokio::test(start_paused = true)]
async fn unit_that_was_started_without_bus_ends_when_its_account_is_forgotten() {
    for (has_file, calls) in [(true, &["StopUnit"][..]), (false, &[])] {
        let mut bench = Bench::new("inactive").await;
        bench.lose();
        if has_file {
            launch_file::write(Path::new(&bench.folder.path().join("launch")), &id(), b"GENERATION=7\0")
                .unwrap();
        }
        let forgetting = tokio::spawn(bench.shared.clone().forget_client(launch(), id()));
        bench.set("active", 77, false);
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(forgetting.is_finished(), !has_file, "without a launch file it can't have been started");
        bench.reconnect().await;
        forgetting.await.unwrap();
        assert_eq!(bench.calls(), calls);
    }
}

#[tokio::test]
async fn launch_file_of_a_start_is_not_stale() {
    let bench = Bench::new("inactive").await;
    let folder = bench.folder.path().join("launch");
    let [stale, known, running] = ["b", "c", "d"].map(|name| UnitId::of(&ClientName::new(name).unwrap()));
    for id in [&stale, &known, &running] {
        launch_file::write(&folder, id, b"GENERATION=1\0").unwrap();
    }
    // The registry was read, and systemd asked, before this start.
    let lists = ([known.to_string()].into(), ["wqclient@d.service".to_owned()].into());
    let shared = bench.shared.clone();
    tokio::task::spawn_blocking(move || shared.write_launch_file(plan())).await.unwrap().unwrap();
    bench.shared.clone().remove_stale_launch_files(lists.0, lists.1).await.unwrap();
    assert!(bench.launch_file().exists());
    let exists = [stale, known, running].map(|id| folder.join(id.as_str()).exists());
    assert_eq!(exists, [false, true, true]);
}
