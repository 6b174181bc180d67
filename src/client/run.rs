//! Starts the tasks of the client, watches them, and shuts them down in order.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use signal_hook::low_level::emulate_default_handler;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::account::lifecycle::{BeginError, Lifecycle};
use super::applications;
use super::applications::hub::Hub;
use super::backend::{Backend, BackendEvent};
use super::milky;
use super::onebot;
use super::openqq::polling::poll;
use super::openqq::{self, Api, ProcessInfo};
use super::outbox;
use super::outbox::replies;
use super::process::log::{self, LogError};
use super::process::pid_file::{LockedPidFile, PidFileError};
use super::process::shutdown::{RELOGIN_DELAY, ShutdownError, ShutdownReason, ShutdownTriggers};
use super::process::task_group::TaskGroup;
use super::process::title;
use super::process::unix_seconds;
use super::remote::ListenError;
use super::reports::{self, DelivererError, RecentEvents};
use super::sandbox::{self, WorldError};
use super::settings::{BackendSettings, ClientSettings, SettingsError};
use crate::http::server::{Gate, Limits, Listener, serve_behind};
use crate::model::client::{LOGGED_OUT_ELSEWHERE, STOP_ASKED, UNUSABLE};
use crate::model::error_chain::ErrorChain;
use crate::peers::PeerPolicy;
use crate::service::nonblocking_writer::Lines;
use crate::service::notify::{self, Notifier};

/// Limits of the API. Its callers are on this machine, and most requests come from the controller. A caller
/// that waits for the turn of its message holds its connection meanwhile.
const API_LIMITS: Limits = Limits {
    request_header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(120),
    max_connections: 256,
    // Below the 2 s after which `TaskGroup` aborts the API.
    drain_timeout: Duration::from_millis(1500),
    max_request_header: 16 * 1024,
    unreadable_code: openqq::BAD_REQUEST,
};

/// How often the client checks that its pid file, state file and login code still exist.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How many events of the backend may wait.
const MAX_QUEUED_EVENTS: usize = 64;

/// Exit status: the client cannot run, or one of its tasks failed.
const FAILED: u8 = 1;

/// Exit status: none of the login codes was scanned.
const UNSCANNED: u8 = 0;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessEnd {
    /// With this status.
    Status(u8),
    /// By this signal, as without a handler, so that the parent sees that no stop was requested.
    Signal(i32),
}

impl From<&ShutdownReason> for ProcessEnd {
    fn from(why: &ShutdownReason) -> Self {
        match why {
            ShutdownReason::Signal(signal) => Self::Signal(*signal),
            ShutdownReason::StopCalled => Self::Status(STOP_ASKED),
            ShutdownReason::Orphaned => Self::Status(FAILED),
            ShutdownReason::NotScanned => Self::Status(UNSCANNED),
            ShutdownReason::PutOut(_) => Self::Status(LOGGED_OUT_ELSEWHERE),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Endings(#[from] ShutdownError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("the API cannot listen on 127.0.0.1:{0}")]
    Bind(NonZeroU16, #[source] io::Error),
    #[error(transparent)]
    Deliverer(#[from] DelivererError),
    #[error(transparent)]
    World(#[from] WorldError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error("a task of the client failed: {0}")]
    Broken(String),
}

/// Whether arguments (the program's name first) ask for the client: `PROGRAM client`, or a program's name that
/// begins with `wqclient`.
pub fn is_invoked(args: impl IntoIterator<Item = OsString>) -> bool {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    // Cuts nothing off a title such as `wqclient(NAME)`, since an account's name has no slash.
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"wqclient") || args.next().is_some_and(|first| first == "client")
}

/// Runs the client until it is stopped. Settings come from the environment (`MOJO_WEBQQ_*`); arguments are
/// ignored.
///
/// Returns 193 after a call of `stop_client`, 0 if no login code was scanned, 77 if the account was logged out
/// elsewhere, 2 if the environment is unusable, and 1 after any other failure. The reason of a failure is
/// printed on standard error. A signal ends the process as it would end any other.
pub fn run() -> ExitCode {
    let error = match start() {
        Ok(ProcessEnd::Status(status)) => return ExitCode::from(status),
        Ok(ProcessEnd::Signal(signal)) => {
            // Returns only if the signal cannot be raised.
            let _ = emulate_default_handler(signal);
            return ExitCode::from(FAILED);
        }
        Err(error) => error,
    };
    let text = ErrorChain(&error).to_string();
    // `systemctl status` shows the reason if the client is a unit.
    notify::failed(&text, None);
    // The controller reads the pipe and takes the priority from this prefix (sd-daemon(3)).
    let priority = if io::stderr().is_terminal() { "" } else { "<3>" };
    // `eprintln` would panic if standard error is closed.
    let _ = writeln!(io::stderr(), "{priority}wqclient: {text}");
    ExitCode::from(if matches!(error, ClientError::Settings(_)) { UNUSABLE } else { FAILED })
}

fn start() -> Result<ProcessEnd, ClientError> {
    let settings = ClientSettings::from_vars(std::env::vars_os())?;
    // Before the threads of the log: it may execute the program again, which ends them with their lines. So there is no log
    // yet, and its failure is logged below.
    let titled = title::set_process_title(&settings.account);
    let mut log = log::start(&settings.log)?;
    let printed = settings.reports.print.then(|| log.print()).transpose()?;
    if let Err(error) = titled {
        warn!("cannot set the process title, so ps does not show the account: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ClientError::Runtime)?;
    let has_log_file = settings.log.path.is_some();
    let lived = runtime.block_on(live(settings, printed));
    // Dropping the runtime would wait for a pending DNS lookup.
    runtime.shutdown_background();
    lived.inspect_err(|error| {
        // Without a log file the log goes to standard error, where `run` prints the error anyway.
        if has_log_file {
            error!("stopping: {}", ErrorChain(error));
        }
    })
}

async fn live(settings: ClientSettings, printed: Option<Lines>) -> Result<ProcessEnd, ClientError> {
    let (event, events) = mpsc::channel(MAX_QUEUED_EVENTS);
    let applications = Hub::new(settings.applications.hold);
    // `open` is called once the pid file and the port are ours: a reverse connection binds one more port, and a second client
    // of the account should fail at the pid file, which says why.
    match &settings.backend {
        BackendSettings::OneBot(own) => {
            let hub = applications.clone();
            let open =
                || onebot::open(&settings, own, event, hub).map(|(backend, driver)| (backend, driver.run()));
            live_with(&settings, printed, events, applications, || Ok(open()?)).await
        }
        BackendSettings::Milky(own) => {
            let hub = applications.clone();
            let open = || {
                let (backend, driver) = milky::open(&settings, own, event, hub);
                Ok((backend, driver.run()))
            };
            live_with(&settings, printed, events, applications, open).await
        }
        BackendSettings::Sandbox(own) => {
            let hub = applications.clone();
            let open =
                || sandbox::open(&settings, own, event, hub).map(|(backend, driver)| (backend, driver.run()));
            live_with(&settings, printed, events, applications, || Ok(open()?)).await
        }
    }
}

async fn live_with<B: Backend, D: Future<Output = ()> + Send + 'static>(
    settings: &ClientSettings,
    printed: Option<Lines>,
    mut events: mpsc::Receiver<BackendEvent>,
    hub: Hub,
    open: impl FnOnce() -> Result<(B, D), ClientError>,
) -> Result<ProcessEnd, ClientError> {
    let start_time = unix_seconds();
    let stop_asked = CancellationToken::new();
    let endings = ShutdownTriggers::watch(settings.controller_pid, stop_asked.clone())?;
    // Dropped last: it keeps a second client of this account out.
    let mut pid_file = LockedPidFile::acquire(&settings.files.pid)?;
    // Before all that others notice: where the port is taken, there is no state file, no report and no login.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port.get())).await;
    let listener = listener.map_err(|error| ClientError::Bind(settings.port, error))?;
    let recent = RecentEvents::new(settings.reports.recent);
    let (reporter, deliverer) =
        reports::open(&settings.reports, printed, recent.clone(), PeerPolicy::of_client)?;
    let of_controller = reporter.clone();
    let (backend, driver) = open()?;
    let backend = Arc::new(backend);
    let account = backend.clone();
    let (outbox, dispatcher) = outbox::open(&settings.outbox, reporter.clone());
    let (notifier, _sending) = Notifier::start();
    let mut lifecycle = Lifecycle::begin(settings, start_time, (reporter, outbox.clone()), notifier.clone())?;
    info!("listening on 127.0.0.1:{}", settings.port);

    let mut tasks = TaskGroup::default();
    // A service, because the outbox finishes its sends over this connection when the client stops.
    tasks.spawn_service("the backend", driver);
    tasks.spawn_graceful("the outbox", dispatcher.run(backend.clone(), tasks.stopping()));
    if let Some(deliverer) = deliverer {
        let (mut replies, muter) = replies::open(backend.clone(), outbox.clone());
        tasks.spawn("the muter", muter.run(backend.clone()));
        // A service, because the last reports, such as `stop`, come when the client has begun to stop.
        let posting =
            deliverer.run(tasks.services_stopping(), move |source, answer| replies.handle(source, answer));
        tasks.spawn_graceful_service("the deliverer of reports", posting);
    }
    if let Some(endpoint) = settings.poll_api.clone() {
        tasks.spawn("the poller", poll(endpoint, settings.poll_interval, lifecycle.state()));
    }
    let relogin_asked = Arc::new(Notify::new());
    let again = backend.clone();
    tasks.spawn("the relogins", relogins(relogin_asked.clone(), move || again.relogin()));
    let (applications, actions) =
        applications::open(&settings.applications, backend.clone(), hub.clone(), tasks.stopping());
    tasks.spawn_graceful("the actions of applications", actions.run(tasks.stopping()));
    for outgoing in applications::outgoing(&settings.applications, &applications, PeerPolicy::of_client) {
        tasks.spawn_graceful("a connection to an application", outgoing);
    }
    let following = applications::follow_status(hub, backend.clone(), lifecycle.state());
    tasks.spawn("the applications' view of the account", following);
    let own = ProcessInfo::new(settings, start_time);
    let stopping = stop_asked.clone();
    let api = Arc::new(Api::new(
        own,
        backend,
        outbox,
        (recent, of_controller),
        lifecycle.state(),
        (stopping, relogin_asked),
        applications,
    ));
    let handler = move |request, _caller| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    let serving =
        serve_behind(Gate::of_client(), vec![Listener::Tcp(listener)], API_LIMITS, tasks.stopping(), handler);
    tasks.spawn_graceful("the API", serving);

    let mut first_ending = std::pin::pin!(endings.first());
    let mut file_checks = interval(FILE_CHECK_INTERVAL);
    // After a stop (SIGSTOP, a frozen unit) one check is enough; the default would make up for all that were missed.
    file_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing = false;
    let ended = loop {
        tokio::select! {
            why = &mut first_ending => {
                info!("stopping: {why}");
                break Ok(why);
            }
            // If the driver is gone, this arm is disabled, and `first_exit` says so.
            Some(event) = events.recv() => if let Some(why) = lifecycle.handle(event) {
                warn!("stopping: {why}");
                break Ok(why);
            },
            what = tasks.first_exit() => break Err(ClientError::Broken(what)),
            () = notifier.broken() => break Err(ClientError::Broken("the messages to systemd".to_owned())),
            () = lifecycle.retry_due() => lifecycle.retry_writes(),
            _ = file_checks.tick() => {
                missing = restore(&mut pid_file, missing);
                lifecycle.restore();
                lifecycle.count_queues();
            }
        }
    };

    let ended = after_the_answer(ended, stop_asked.is_cancelled());
    // A call gives the account up. After a signal, as at a shutdown, the next start belongs to the same QQ account.
    if matches!(ended, Ok(ShutdownReason::StopCalled)) {
        account.forget();
    }
    // Before the tasks end: the state `stop` answers long polls, and its report can still be delivered.
    lifecycle.end(ended.as_ref().map_or_else(|error| Some(error.to_string()), ShutdownReason::reason));
    // The backend's connection lasts as long as the tasks, and the network does not repeat what it has told.
    tasks.end(&mut events, |event| lifecycle.report(event)).await;
    // systemd can attribute a message to its unit only while the sender lives (sd_notify(3)).
    notifier.flush().await;
    ended.map(|why| ProcessEnd::from(&why))
}

/// Why the client ends. An answered `stop_client` decides: its caller relies on the account being given up, even if something else,
/// such as a signal, ends the client within the delay.
fn after_the_answer(
    ended: Result<ShutdownReason, ClientError>,
    is_stop_answered: bool,
) -> Result<ShutdownReason, ClientError> {
    if !is_stop_answered {
        return ended;
    }
    if let Err(error) = ended {
        error!("stopping at once after stop_client: {}", ErrorChain(&error));
    }
    Ok(ShutdownReason::StopCalled)
}

/// Creates the pid file again if it was removed. `missing` says whether that failed the last time and was
/// logged; the result says whether it fails now.
fn restore(pid_file: &mut LockedPidFile, missing: bool) -> bool {
    match pid_file.restore() {
        Ok(true) => warn!("the pid file was removed; created it again"),
        Err(error) => {
            if !missing {
                error!(
                    "the pid file was removed and cannot be created again: {}; retrying every second",
                    ErrorChain(&error)
                );
            }
            return true;
        }
        Ok(false) => {}
    }
    false
}

async fn relogins(asked: Arc<Notify>, relogin: impl Fn()) {
    loop {
        asked.notified().await;
        tokio::time::sleep(RELOGIN_DELAY).await;
        // Requests that arrived during the pause are served by this login.
        let _ = asked.notified().now_or_never();
        relogin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_invoked_by_name_or_argument() {
        let invoked = |args: &[&str]| is_invoked(args.iter().map(OsString::from));
        assert!(invoked(&["wqcontroller", "client"]));
        assert!(invoked(&["/usr/bin/wqclient"]));
        assert!(invoked(&["wqclient(小明)"]));
        assert!(!invoked(&["wqcontroller"]));
        assert!(!invoked(&["/opt/wqclient/wqcontroller", "--config", "client"]));
        assert!(!invoked(&[]));
    }

    #[test]
    fn answered_stop_client_outlasts_what_ends_the_client_sooner() {
        let broken = || Err(ClientError::Broken("x".into()));
        for ended in [Ok(ShutdownReason::Signal(15)), Ok(ShutdownReason::Orphaned), broken()] {
            let ended = after_the_answer(ended, true).unwrap();
            assert_eq!(ProcessEnd::from(&ended), ProcessEnd::Status(STOP_ASKED));
        }
        let signal = after_the_answer(Ok(ShutdownReason::Signal(15)), false).unwrap();
        assert_eq!(ProcessEnd::from(&signal), ProcessEnd::Signal(15));
        assert!(after_the_answer(broken(), false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn relogin_requests_during_the_delay_are_merged() {
        let (asked, count) = (Arc::new(Notify::new()), std::cell::Cell::new(0));
        let asking = async {
            for pause in [0, 1, 1, 60] {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                asked.notify_one();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        };
        let relogins = relogins(asked.clone(), || count.set(count.get() + 1));
        tokio::select! { () = relogins => {}, () = asking => {} }
        assert_eq!(count.get(), 2);
    }
}
