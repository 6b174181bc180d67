//! The composition root: makes the parts of a controller, lets them run, and ends them in order.

mod patience;
mod reload;
mod restoring;
mod status;
mod terminal;
mod turned_away;
mod watchdog;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_core::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::signal_name;
use signal_hook_tokio::Signals;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::config::{ConfigError, ListenAddress, Loaded, OpenListener, Settings};
use crate::homes::Homes;
use crate::http::auth::{Complaints, Guard, TokenError, Tokens};
use crate::http::listener::Listener;
use crate::http::serve::{Limits, serve};
use crate::http::{Door, proxy};
use crate::model::chain::Chain;
use crate::model::fleet::{Rules, Shutdown};
use crate::model::saved::Saved;
use crate::outbound::heartbeat;
use crate::places::{PidFile, Places};
use crate::registry::{Registry, Tools};
use crate::service::activation::Activated;
use crate::service::log::Log;
use crate::service::notify;
use crate::service::sockets::{Socket, SocketFile, bind, take_over};
use crate::statefile::StateFiles;
use crate::store::Store;
use crate::supervisor::choose::{Choice, ChooseError, Circumstances, choose};
use crate::supervisor::{AnySupervisor, boot_id};
use patience::patiently;
use reload::reload;
use restoring::restore;
use status::{Remark, Status};
use terminal::Terminal;

pub use turned_away::answer_callers;

/// How many events of processes and state files may wait for the registry.
const EVENTS: usize = 1024;
/// How long the end may take beyond the times that the configuration gives to requests and clients.
const END_MARGIN: Duration = Duration::from_secs(15);

/// A controller that had started can't go on. The next one can, most likely.
#[derive(Debug, thiserror::Error)]
#[error("a part of the controller broke down; the log says which")]
pub struct BrokeDown;

/// Runs a controller until a signal ends it. `load` reads the configuration again, at each SIGHUP.
/// What the service manager handed over is listened on in the place of the configured addresses.
pub async fn run(
    loaded: Loaded,
    activated: Vec<Activated>,
    load: impl Fn() -> Result<Loaded, ConfigError>,
) -> anyhow::Result<()> {
    let Loaded { settings, files } = loaded;
    let log = Log::start(settings.log_level, settings.log_path.as_deref()).with_context(|| {
        format!("can't open the log file {:?}", settings.log_path.clone().unwrap_or_default())
    })?;
    let has_log_file = settings.log_path.is_some();
    let ended = operate(&load, settings, files, activated, &log).await;
    if let Err(error) = &ended {
        let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        notify::failed(&Chain(error.as_ref()).to_string(), errno);
    }
    // Without a file the log goes to standard error, and there our caller says it.
    if let (true, Err(error)) = (has_log_file, &ended) {
        error!(error = %Chain(error.as_ref()), "wqcontroller can't go on");
    }
    ended
}

async fn operate(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    settings: Settings,
    files: Vec<PathBuf>,
    activated: Vec<Activated>,
    log: &Log,
) -> anyhow::Result<()> {
    let terminal = Terminal::now();
    // Before anything is there that a signal could hurt.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("can't wait for signals")?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), configuration = ?files, "wqcontroller starts");

    raise_file_limit();
    let uid = rustix::process::geteuid().as_raw();
    let places = Places::choose(&settings, |name| std::env::var_os(name), uid);
    places.prepare().context("can't use the folder for temporary files; set tmpdir to another one")?;
    let tokens = tokens(&settings)?;
    let sockets = sockets(activated, &settings.listen).await?;
    let open: Vec<_> = sockets.iter().filter_map(Socket::open_listener).collect();
    let guard = guard(&settings, tokens, &open)?;
    let (store, saved) = Store::open(&places.registry)?;
    let pid_file = PidFile::write(&places.pid).context("can't write the pid file")?;
    let require_token = sockets.iter().map(Socket::requires_token).collect();
    let doors = Doors { open, require_token, guard };
    let mut controller = Controller::start(settings, &places, store, saved, doors).await?;

    let (listeners, socket_files): (Vec<_>, Vec<_>) = sockets.into_iter().map(listener).unzip();
    let stop = CancellationToken::new();
    let mut server = {
        let (door, limits) = (Arc::new(controller.door.clone()), limits(&controller.settings.borrow()));
        let answer = move |request, caller| door.clone().answer(request, caller);
        tokio::spawn(serve(listeners, limits, stop.clone(), answer))
    };
    info!(tmpdir = %places.tmpdir.display(), "ready");
    notify::ready(controller.status.line()).await;

    let broken = loop {
        tokio::select! {
            signal = next(&mut signals) => match signal {
                Some(SIGHUP) if !terminal.hung_up() => reload(load, &controller, log).await,
                Some(signal) => {
                    let signal = signal_name(signal).unwrap_or("a signal");
                    let clients = if controller.is_outlived() { "clients go on" } else { "then the clients" };
                    info!("{signal} came, ending: open requests first, {clients}");
                    break false;
                }
                None => break true,
            },
            ended = &mut controller.actor => {
                error!(error = ?ended.err(), "the registry broke down");
                break true;
            }
            ended = &mut server => {
                error!(error = ?ended.err(), "the HTTP server broke down");
                break true;
            }
        }
    };
    stop.cancel();
    controller.status.remark(Remark::Ending);
    notify::stopping(time_to_end(&controller.settings.borrow())).await;
    let shutdown = match controller.is_outlived() {
        true => Shutdown::KeepClients,
        false => Shutdown::EndClients,
    };
    let (registry, upstreams) = (controller.registry.clone(), controller.door.upstreams.clone());
    let end = async {
        if !server.is_finished() {
            // Its own drain timeout bounds this.
            let _ = server.await;
        }
        upstreams.let_all_go();
        registry.shutdown(shutdown).await
    };
    let mut end = std::pin::pin!(end);
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            // Only this one: whoever sends SIGTERM to us may send it to our parent, who passes it on.
            Some(SIGINT) = next(&mut signals) => {
                warn!("interrupted again: clients get no more time");
                // Fails only when the registry is gone, which `end` will say.
                let _ = registry.hurry().await;
            }
        }
    };
    drop((socket_files, pid_file));
    if broken || ended.is_err() {
        return Err(BrokeDown.into());
    }
    info!("wqcontroller ends");
    Ok(())
}

/// What is listened on, and who is let in there.
struct Doors {
    open: Vec<OpenListener>,
    require_token: Arc<[bool]>,
    guard: Guard,
}

/// The running parts.
struct Controller {
    settings: watch::Sender<Arc<Settings>>,
    guard: watch::Sender<Arc<Guard>>,
    /// What stays open whatever a new configuration says.
    open: Vec<OpenListener>,
    registry: Registry,
    supervisor: Arc<AnySupervisor>,
    door: Door,
    status: Status,
    actor: AbortOnDropHandle<()>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Controller {
    /// Whether clients go on when it ends.
    fn is_outlived(&self) -> bool {
        let asked_for = self.settings.borrow().supervisor.clients_outlive_controller;
        asked_for || self.supervisor.always_outlived()
    }

    async fn start(
        settings: Settings,
        places: &Places,
        store: Store,
        saved: Saved,
        doors: Doors,
    ) -> anyhow::Result<Self> {
        let (supervisors, events) = mpsc::channel(EVENTS);
        let (told, news) = mpsc::channel(EVENTS);
        let state_files = StateFiles::open();
        let executable = std::env::current_exe().context("can't find out where this program is")?;
        let user_runtime = user_runtime();
        let circumstances = Circumstances {
            saved: saved.clone(),
            user_runtime: &user_runtime,
            executable: executable.clone(),
        };
        let boot_id = boot_id().context("can't find out which boot this is")?;
        let take_up = async {
            let Choice { supervisor, reason, is_second_best } =
                choose(&settings, circumstances, supervisors).await?;
            info!("clients are {}: {reason}", supervisor.way());
            let homes = match supervisor.manager() {
                Some(manager) => Homes::of_units(manager, &user_runtime),
                None => Homes::Shared { tmpdir: places.tmpdir.clone(), lasting: places.client_state.clone() },
            };
            let restored = restore(saved, &supervisor, &homes, &boot_id).await;
            Ok::<_, ChooseError>((supervisor, is_second_best.then_some(reason), Arc::new(homes), restored))
        };
        let (supervisor, why_so, homes, restored) = patiently(take_up, notify::extend).await?;
        let rules = rules(&settings, &supervisor);
        let supervisor = Arc::new(supervisor);
        let (settings, current) = watch::channel(Arc::new(settings));
        let tools = Tools {
            supervisor: supervisor.clone(),
            settings: current.clone(),
            default_template: places.template.as_path().into(),
            homes: homes.clone(),
            boot_id,
            executable: executable.into(),
            state_files: state_files.clone(),
        };
        let (registry, actor) = Registry::new(rules, tools, store, restored, events, (told.clone(), news));
        let upstreams = proxy::Upstreams::default();
        let status = Status::new(registry.clone(), supervisor.clone(), why_so);
        let mut tasks = vec![
            kept("the proxy's idle connections", {
                let (upstreams, current) = (upstreams.clone(), current.clone());
                move || {
                    let current = current.clone();
                    upstreams.clone().close_idle(move || current.borrow().http.idle_timeout)
                }
            }),
            kept("the watch on state files", {
                let current = current.clone();
                move || state_files.clone().run(told.clone(), current.clone())
            }),
            kept("the heartbeat", {
                let current = current.clone();
                move || heartbeat(current.clone())
            }),
            kept("what the service manager is told", {
                let status = status.clone();
                move || status.clone().follow()
            }),
        ];
        tasks.extend(notify::beat_interval().map(|pause| {
            let registry = registry.clone();
            kept("the watchdog's beat", move || watchdog::beat(registry.clone(), pause))
        }));
        let (guard, current_guard) = watch::channel(Arc::new(doors.guard));
        let door = Door {
            registry: registry.clone(),
            settings: current,
            homes,
            upstreams,
            guard: current_guard,
            require_token: doors.require_token,
            complaints: Complaints::default(),
        };
        Ok(Self {
            settings,
            guard,
            open: doors.open,
            registry,
            supervisor,
            door,
            status,
            actor: AbortOnDropHandle::new(tokio::spawn(actor)),
            _tasks: tasks,
        })
    }
}

/// The longest that the end may take.
fn time_to_end(settings: &Settings) -> Duration {
    settings.http.drain_timeout + settings.supervisor.stop_timeout + END_MARGIN
}

/// Where our user's own programs keep what lasts as long as its login: pam_systemd(8).
fn user_runtime() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into())
}

/// Each client takes a few file descriptors, and the soft limit is often 1,024: as much is taken as is allowed.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        warn!(%error, "the limit of open files can't be raised, so there can't be many clients");
    }
}

fn rules(settings: &Settings, chosen: &AnySupervisor) -> Rules {
    let supervisor = &settings.supervisor;
    Rules {
        max_clients: settings.max_clients,
        first_port: settings.backend_start_port,
        restart: supervisor.restart,
        restart_limit: supervisor.restart_limit,
        start_interval: supervisor.start_interval,
        restore: supervisor.restore,
        clients_outlive_controller: supervisor.clients_outlive_controller || chosen.always_outlived(),
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        request_header_timeout: settings.http.request_header_timeout,
        write_timeout: settings.http.inactivity_timeout,
        max_connections: settings.http.max_connections,
        drain_timeout: settings.http.drain_timeout,
        max_request_header: settings.http.max_request_header,
    }
}

fn tokens(settings: &Settings) -> Result<Tokens, TokenError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    Tokens::load(&settings.auth.tokens, credentials.as_deref())
}

async fn sockets(activated: Vec<Activated>, configured: &[ListenAddress]) -> anyhow::Result<Vec<Socket>> {
    if activated.is_empty() {
        return Ok(bind(configured).await?);
    }
    if configured != [ListenAddress::default()] {
        warn!(
            "`listen` does not count, for systemd hands over the sockets: change them with `systemctl edit \
             wqcontroller.socket`, or disable and stop that unit"
        );
    }
    take_over(activated, configured).context("can't use the sockets that the service manager handed over")
}

/// Who is let in, unless that would open what must not be open.
fn guard(settings: &Settings, tokens: Tokens, open: &[OpenListener]) -> Result<Guard, ConfigError> {
    match open.iter().find(|open| settings.auth.refuses(open)) {
        Some(open) => Err(ConfigError::Open(open.clone())),
        None => Ok(Guard::new(settings, tokens)),
    }
}

fn listener(socket: Socket) -> (Listener, Option<SocketFile>) {
    info!("listening on {socket}");
    match socket {
        Socket::Tcp(listener) => (Listener::Tcp(listener), None),
        Socket::Unix { listener, file, .. } => (Listener::Unix(listener), file),
    }
}

/// Runs a task that must go on as long as the controller: one that breaks down is started again.
fn kept<F>(what: &'static str, start: impl Fn() -> F + Send + 'static) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Err(broken) = AbortOnDropHandle::new(tokio::spawn(start())).await {
            error!(error = %broken, "{what} broke down and is started again");
            sleep(Duration::from_secs(1)).await;
        }
    }))
}

/// The next signal; none when signals can't be received any more.
async fn next(signals: &mut Signals) -> Option<i32> {
    poll_fn(|context| Pin::new(&mut *signals).poll_next(context)).await
}
