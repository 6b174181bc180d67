//! [`Controller`]: the running parts, made and joined together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::implementations::{Given, Implementations};
use super::notifications::Notifications;
use super::own_files::OwnFiles;
use super::restore::restore;
use super::setup::{gate, limits, peer_policy, rules, user_runtime};
use super::start_timeout::extend_start_timeout;
use super::status::Status;
use super::watchdog;
use crate::accounts::{Accounts, ChangeWatch, Changes, KeptFolders, Reconciler, ScanLinks};
use crate::client_dirs::ClientDirs;
use crate::config::{OpenListener, Settings};
use crate::environ::resettled;
use crate::http::auth::{Guard, RejectionLog};
use crate::http::control::ApiService;
use crate::http::metrics::Scraping;
use crate::http::proxy::{Proxy, Upstreams};
use crate::http::server::{Gate, Limits};
use crate::http::v1::V1;
use crate::http_client::heartbeat;
use crate::login::{ClientNews, LoginWatch, Logins, WatchContext};
use crate::machines::{self, Machines, Remembered};
use crate::metrics::Metrics;
use crate::model::client::ClientSpec;
use crate::model::persisted::PersistedState;
use crate::moves::Moves;
use crate::paths::Paths;
use crate::registry::{
    ClientLauncher, Endpoints, Forgetting, ImplementationLauncher, Launcher, Refusals, Registry,
    WorkerContext,
};
use crate::service::log::ReadableLog;
use crate::service::notify::{self, Notifier};
use crate::statefile::StateFiles;
use crate::store::Store;
use crate::supervisor::detect::{DetectError, Detected, DetectionInput, detect};
use crate::supervisor::{AnySupervisor, EventSender, boot_id, random_id};
use crate::tasks::{on_blocking_thread, spawn_supervised};

/// How many inputs of processes, state files and workers may wait for the registry.
pub(super) const INPUTS: usize = 1024;

/// How many changes of logins may wait to be told.
const NEWS: usize = 1024;

/// The sockets that are served, and who may call there.
pub(super) struct ServedSockets {
    pub(super) open: Vec<OpenListener>,
    pub(super) require_token: Arc<[bool]>,
    pub(super) guard: Guard,
}

/// The running parts.
pub(super) struct Controller {
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) guard: watch::Sender<Arc<Guard>>,
    /// Of the HTTP server.
    pub(super) limits: watch::Sender<Limits>,
    /// What stays open whatever a new configuration says.
    pub(super) open: Vec<OpenListener>,
    pub(super) registry: Registry,
    pub(super) implementations: Implementations,
    pub(super) supervisor: Arc<AnySupervisor>,
    pub(super) service: ApiService,
    pub(super) gate: Gate,
    pub(super) status: Status,
    pub(super) notifier: Notifier,
    pub(super) files: OwnFiles,
    pub(super) notifications: Notifications,
    /// Is cancelled when the controller begins to end.
    pub(super) ending: CancellationToken,
    pub(super) actor: AbortOnDropHandle<()>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Controller {
    /// Whether clients go on when it ends. A reload does not change this.
    pub(super) fn is_outlived(&self) -> bool {
        let asked_for = self.settings.borrow().supervisor.clients_outlive_controller;
        asked_for || self.supervisor.always_outlived()
    }

    pub(super) async fn start(
        (settings, explicit): (Settings, Option<PathBuf>),
        paths: &Arc<Paths>,
        (store, saved): (Arc<Store>, PersistedState),
        saved_implementations: (Arc<Store>, PersistedState),
        served: ServedSockets,
        (notifier, log): (Notifier, ReadableLog),
    ) -> anyhow::Result<Self> {
        let (inputs, queued_inputs) = mpsc::channel(INPUTS);
        let state_files = StateFiles::open();
        let (settings, current) = watch::channel(Arc::new(settings));
        // Before any supervisor is there: exits wait until state files are read.
        let state_file_watcher = spawn_supervised("the watch on state files", {
            let (state_files, inputs, current) = (state_files.clone(), inputs.clone(), current.clone());
            move || state_files.clone().run(inputs.clone(), current.clone())
        });
        let events = EventSender::new(inputs.clone()).after_state_files(state_files.clone());
        let configured = current.borrow().clone();
        let executable = std::env::current_exe().context("can't find out where this program is")?;
        let user_runtime = user_runtime();
        let environment = DetectionInput {
            saved: saved.clone(),
            user_runtime: &user_runtime,
            executable: executable.clone(),
        };
        let boot_id = boot_id().context("can't find out which boot this is")?;
        let run_id = random_id().context("cannot read a random ID from the kernel")?;
        // One future for all that waits for systemd or the disk, so that the start timeout is extended meanwhile.
        let take_up = async {
            let Detected { supervisor, reason, is_second_best } =
                detect(&configured, environment, events).await?;
            info!("clients run as {}: {reason}", supervisor.describe());
            let client_dirs = match supervisor.manager() {
                Some(manager) => ClientDirs::of_units(manager, &user_runtime, |name| std::env::var_os(name)),
                None => {
                    ClientDirs::Shared { tmpdir: paths.tmpdir.clone(), lasting: paths.client_state.clone() }
                }
            };
            let resettled = |spec: &ClientSpec| resettled(spec, &client_dirs);
            let restored =
                restore(saved, (&supervisor, "clients"), &client_dirs, resettled, &boot_id, run_id.clone())
                    .await;
            Ok::<_, DetectError>((
                supervisor,
                // What the operator prefers anyway needs no place in the status line.
                is_second_best.then_some(reason),
                Arc::new(client_dirs),
                restored,
            ))
        };
        let (supervisor, why_so, client_dirs, restored) =
            extend_start_timeout(take_up, |time| notifier.extend(time)).await?;
        let rules = rules(&configured, &supervisor);
        let supervisor = Arc::new(supervisor);
        let executable: Arc<Path> = executable.into();
        let forgetting = Forgetting::default();
        let metrics = Arc::new(Metrics::default());
        let given = Given {
            settings: current.clone(),
            paths,
            user_runtime: &user_runtime,
            launcher: ImplementationLauncher {
                executable: executable.clone(),
                config: explicit,
                folder: paths.implementation_state.as_path().into(),
                forgetting: forgetting.clone(),
            },
            clients: &supervisor,
            client_dirs: client_dirs.clone(),
            boot_id: boot_id.clone(),
            run_id,
            metrics: metrics.clone(),
        };
        // After the clients' supervisor, since implementations run in the same way as clients.
        let (implementations, implementation_actor) =
            Implementations::start(given, saved_implementations).await?;
        let (refusals, refused) = watch::channel(Refusals::default());
        let context = WorkerContext {
            supervisor: supervisor.clone(),
            settings: current.clone(),
            launcher: Launcher::Client(ClientLauncher {
                client_dirs: client_dirs.clone(),
                default_template: paths.template.as_path().into(),
                executable,
                endpoints: Endpoints {
                    snapshot: implementations.registry.changes(),
                    refusals: refused,
                    folder: paths.implementation_state.as_path().into(),
                },
            }),
            client_dirs: client_dirs.clone(),
            boot_id,
            state_files,
            metrics: metrics.clone(),
        };
        let files = OwnFiles {
            paths: paths.clone(),
            stores: [store.clone(), implementations.store.clone()],
            supervisors: [supervisor.clone(), implementations.supervisor.clone()],
            is_over: Arc::default(),
        };
        let (registry, actor) = Registry::new(rules, context, store, restored, (inputs, queued_inputs));
        let (publish, logins) = watch::channel(Logins::default());
        let logins_of_status = logins.clone();
        let ending = CancellationToken::new();
        let (for_clients, news_of_clients) = mpsc::channel(NEWS);
        let (for_people, news_of_people) = mpsc::channel(NEWS);
        let policy = peer_policy(&supervisor);
        let client_news = ClientNews::new(registry.clone(), policy.clone());
        let (accounts, woken) = Accounts::new(
            registry.clone(),
            implementations.registry.clone(),
            logins,
            forgetting.clone(),
            (client_dirs.clone(), kept_folders(paths, &implementations)),
            Arc::new(ScanLinks::new().map_err(|_| anyhow!("the kernel gives no random bytes"))?),
        );
        let notifications = Notifications::start(
            current.clone(),
            news_of_people,
            paths.notifications.clone(),
            accounts.clone(),
        )?;
        let login_watch = LoginWatch::new(
            WatchContext {
                clients: registry.clone(),
                implementations: implementations.registry.clone(),
                settings: current.clone(),
                tokens: paths.implementation_state.as_path().into(),
                policy,
                forgetting: forgetting.clone(),
                news: [for_clients, for_people],
                ending: ending.clone(),
            },
            publish,
        );
        let folders = (implementations.runtime.clone(), paths.implementation_state.as_path().into());
        let reconciler = Reconciler::new(accounts.clone(), woken, refusals, folders);
        let changes = Changes::new(random_id().context("cannot read a random ID from the kernel")?);
        let (for_outside, outside) = mpsc::channel(machines::NEWS);
        let change_watch = ChangeWatch::new(accounts.clone(), current.clone(), changes.clone(), outside);
        let remembered = Remembered::new(paths.machines.clone());
        let known = remembered.clone();
        let known = on_blocking_thread(move || known.read()).await;
        let machines = Machines::new(&configured, &known, for_outside);
        // Each of them lasts as long as the controller. The first one to end ends it.
        let supervisors = [supervisor.clone(), implementations.supervisor.clone()];
        let parts = async move {
            tokio::select! {
                () = actor => {}
                () = implementation_actor => {}
                () = reconciler.run() => {}
                () = change_watch.run() => {}
                () = supervisors[0].broken() => {}
                () = supervisors[1].broken() => {}
                () = login_watch.run() => {}
                () = client_news.run(news_of_clients) => {}
            }
        };
        let gate = gate(&supervisor);
        let upstreams = Upstreams::new(gate.clone(), metrics.clone());
        let status = Status::new(
            (registry.clone(), implementations.registry.clone()),
            logins_of_status,
            supervisor.clone(),
            why_so,
            notifier.clone(),
        );
        let mut tasks = vec![
            state_file_watcher,
            spawn_supervised("the connections to other machines", {
                let (machines, current) = (machines.clone(), current.clone());
                let folder: Arc<Path> = paths.tunnels.as_path().into();
                move || machines.clone().run(current.clone(), folder.clone())
            }),
            spawn_supervised("what is remembered of other machines", {
                let machines = machines.clone();
                move || remembered.clone().follow(machines.clone())
            }),
            spawn_supervised("the proxy's idle connections", {
                let (upstreams, current) = (upstreams.clone(), current.clone());
                move || {
                    let current = current.clone();
                    // Asked in each round, so that a reload changes it.
                    upstreams.clone().reap_idle(move || current.borrow().http.idle_timeout)
                }
            }),
            spawn_supervised("the watch on the controller's own files", {
                let files = files.clone();
                move || files.clone().watch()
            }),
            spawn_supervised("the samples of what accounts use", {
                let accounts = accounts.clone();
                move || accounts.clone().sample_usage()
            }),
            spawn_supervised("the heartbeat", {
                let current = current.clone();
                move || heartbeat(current.clone())
            }),
            spawn_supervised("what the service manager is told", {
                let status = status.clone();
                move || status.clone().follow()
            }),
        ];
        tasks.push(spawn_supervised("the watchdog's beat", {
            let registries = [registry.clone(), implementations.registry.clone()];
            let (notifier, metrics) = (notifier.clone(), metrics.clone());
            // None where the unit has no WatchdogSec=.
            let pause = notify::beat_interval();
            move || watchdog::beat(registries.clone(), notifier.clone(), metrics.clone(), pause)
        }));
        let (guard, current_guard) = watch::channel(Arc::new(served.guard));
        let moves = {
            let (accounts, machines, current) = (accounts.clone(), machines.clone(), current.clone());
            let path = paths.moves.clone();
            on_blocking_thread(move || Moves::new(accounts, machines, current, path)).await
        };
        tasks.push(spawn_supervised("the moves of accounts between machines", {
            let moves = moves.clone();
            move || moves.clone().resume()
        }));
        let v1 = V1::new(
            (accounts.clone(), changes, log),
            (machines.clone(), moves),
            current.clone(),
            current_guard.clone(),
            ending.clone(),
        );
        let scraping = Scraping::new(accounts.clone(), machines.clone(), metrics);
        let service = ApiService {
            accounts,
            v1: Arc::new(v1),
            proxy: Proxy { registry: registry.clone(), settings: current, upstreams, machines },
            guard: current_guard,
            require_token: served.require_token,
            rejections: RejectionLog::default(),
            scraping,
        };
        Ok(Self {
            settings,
            guard,
            limits: watch::Sender::new(limits(&configured)),
            open: served.open,
            registry,
            implementations,
            supervisor,
            service,
            gate,
            status,
            notifier,
            files,
            notifications,
            ending,
            actor: AbortOnDropHandle::new(tokio::spawn(parts)),
            _tasks: tasks,
        })
    }
}

/// Where the files of accounts are that the controller keeps itself.
fn kept_folders(paths: &Paths, implementations: &Implementations) -> KeptFolders {
    let own = [&paths.pid, &paths.template, &paths.registry, &paths.implementations];
    KeptFolders {
        implementations_runtime: implementations.runtime.clone(),
        implementation_state: paths.implementation_state.as_path().into(),
        own: own.into_iter().cloned().collect(),
    }
}
