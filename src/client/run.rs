//! Starts the client's parts, watches them, and ends them in order.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::backend::{Backend, News};
use super::endings::{Ending, Endings, EndingsError, RELOGIN_DELAY};
use super::events::unix_seconds;
use super::lifecycle::{BeginError, Lifecycle};
use super::log::{self, LogError};
use super::onebot::{self, ListenError};
use super::openqq::{Api, Own};
use super::outbox;
use super::parts::Parts;
use super::pidfile::{PidFile, PidFileError};
use super::polling::poll;
use super::replies;
use super::reports::{self, DelivererError, Recent};
use super::sandbox::{self, WorldError};
use super::settings::{Settings, SettingsError};
use super::title;
use crate::http::listener::Listener;
use crate::http::serve::{Limits, serve};
use crate::model::chain::Chain;
use crate::model::client::PUT_OUT;
use crate::service::lines::Lines;

/// What the API's callers may take. They are on this machine, and most of them are the controller: a caller that
/// waits for its message's turn holds its connection meanwhile.
const LIMITS: Limits = Limits {
    request_header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(120),
    max_connections: 256,
    drain_timeout: Duration::from_secs(1),
    max_request_header: 16 * 1024,
};

/// How many of the backend's news may wait.
const WAITING_NEWS: usize = 64;

/// Exit status: the client cannot run, or broke down.
const FAILED: u8 = 1;

/// Exit status: the environment is not usable, so another start would end the same way.
const MISUSED: u8 = 2;

#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the asynchronous runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Endings(#[from] EndingsError),
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
    #[error("a part of the client broke down: {0}")]
    Broken(String),
}

/// Whether arguments (the program's name first) ask for the client: `PROGRAM client`, or a program's name that
/// begins with `wqclient`.
pub fn is_invoked(args: impl IntoIterator<Item = OsString>) -> bool {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    // By hand, for `Path::file_name` would cut a title at a slash, and an account's name has none.
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"wqclient") || args.next().is_some_and(|first| first == "client")
}

/// Runs the client until it is stopped. Settings come from the environment, `MOJO_WEBQQ_*`; arguments are not
/// read.
///
/// Returns 0 after a stop that was asked for, 77 where the account was put out, 2 where the environment cannot be used,
/// and 1 after any other failure; what failed stands on standard error.
pub fn run() -> ExitCode {
    let error = match start() {
        Ok(status) => return status,
        Err(error) => error,
    };
    // Whoever reads our pipe tells by this that it is an error (sd-daemon(3)).
    let priority = if io::stderr().is_terminal() { "" } else { "<3>" };
    // Not eprintln, which panics where standard error is gone.
    let _ = writeln!(io::stderr(), "{priority}wqclient: {}", Chain(&error));
    ExitCode::from(if matches!(error, ClientError::Settings(_)) { MISUSED } else { FAILED })
}

fn start() -> Result<ExitCode, ClientError> {
    let settings = Settings::from_vars(std::env::vars_os())?;
    let titled = title::wear(&settings.account);
    let mut log = log::start(&settings.log)?;
    let printed = settings.reports.print.then(|| log.print()).transpose()?;
    if let Err(error) = titled {
        warn!(%error, "The list of processes does not show which account this is.");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ClientError::Runtime)?;
    let has_log_file = settings.log.path.is_some();
    let lived = runtime.block_on(live(settings, printed));
    // Not dropped, which would wait for a name that is being looked up.
    runtime.shutdown_background();
    lived.inspect_err(|error| {
        // Without a file the log goes where standard error goes, and that says it, too.
        if has_log_file {
            error!(error = %Chain(error), "The client ends.");
        }
    })
}

async fn live(settings: Settings, printed: Option<Lines>) -> Result<ExitCode, ClientError> {
    let (news, heard) = mpsc::channel(WAITING_NEWS);
    match &settings.onebot {
        Some(own) => {
            let open = || onebot::open(&settings, own, news).map(|(backend, driver)| (backend, driver.run()));
            live_with(&settings, printed, heard, || Ok(open()?)).await
        }
        None => {
            let open = || sandbox::open(&settings, news).map(|(backend, driver)| (backend, driver.run()));
            live_with(&settings, printed, heard, || Ok(open()?)).await
        }
    }
}

async fn live_with<B: Backend, D: Future<Output = ()> + Send + 'static>(
    settings: &Settings,
    printed: Option<Lines>,
    mut heard: mpsc::Receiver<News>,
    open: impl FnOnce() -> Result<(B, D), ClientError>,
) -> Result<ExitCode, ClientError> {
    let start_time = unix_seconds();
    let stop_asked = CancellationToken::new();
    let endings = Endings::watch(settings.controller_pid, stop_asked.clone())?;
    // Dropped last: until then a second client of this account must stay out.
    let _pid_file = PidFile::take(&settings.files.pid)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port.get())).await;
    let listener = listener.map_err(|error| ClientError::Bind(settings.port, error))?;
    let recent = Recent::new(settings.reports.recent);
    let (reporter, deliverer) = reports::open(&settings.reports, printed, recent.clone())?;
    let (backend, driver) = open()?;
    let backend = Arc::new(backend);
    let (outbox, dispatcher) = outbox::open();
    let mut lifecycle = Lifecycle::begin(settings, start_time, reporter.clone())?;
    info!(pid = std::process::id(), port = settings.port, "The client has started.");

    let mut parts = Parts::default();
    parts.spawn("the backend", driver);
    parts.spawn("the outbox", dispatcher.run(backend.clone(), settings.send_interval, reporter));
    if let Some(deliverer) = deliverer {
        let (replies, muter) = replies::open(outbox.clone());
        parts.spawn("the muter", muter.run(backend.clone()));
        let posting = deliverer.run(parts.ending(), move |source, answer| replies.act(source, answer));
        parts.spawn_ending("the deliverer of reports", posting);
    }
    if let Some(endpoint) = settings.poll_api.clone() {
        parts.spawn("the poller", poll(endpoint, settings.poll_interval, lifecycle.state()));
    }
    let relogin_asked = Arc::new(Notify::new());
    let again = backend.clone();
    parts.spawn("the relogins", relogins(relogin_asked.clone(), move || again.relogin()));
    let own = Own::new(settings, start_time);
    let api = Arc::new(Api::new(own, backend, outbox, recent, lifecycle.state(), stop_asked, relogin_asked));
    let handler = move |request, _caller| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    parts.spawn_ending("the API", serve(vec![Listener::Tcp(listener)], LIMITS, parts.ending(), handler));

    let mut first_ending = std::pin::pin!(endings.first());
    let mut status = ExitCode::SUCCESS;
    let broken = loop {
        tokio::select! {
            why = &mut first_ending => {
                info!("The client stops: {why}.");
                break None;
            }
            Some(news) = heard.recv() => if let Some(why) = lifecycle.take(news) {
                warn!("The client stops: {why}.");
                if let Ending::Offline(_) = why {
                    status = ExitCode::from(PUT_OUT);
                }
                break None;
            },
            what = parts.broken() => break Some(what),
            () = lifecycle.write_due() => lifecycle.write_again(),
        }
    };

    lifecycle.end();
    parts.end().await;
    broken.map_or(Ok(status), |what| Err(ClientError::Broken(what)))
}

async fn relogins(asked: Arc<Notify>, relogin: impl Fn()) {
    loop {
        asked.notified().await;
        tokio::time::sleep(RELOGIN_DELAY).await;
        // Whoever asked meanwhile means this one, too.
        let _ = asked.notified().now_or_never();
        relogin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_client_is_meant() {
        let invoked = |args: &[&str]| is_invoked(args.iter().map(OsString::from));
        assert!(invoked(&["wqcontroller", "client"]));
        assert!(invoked(&["/usr/bin/wqclient"]));
        assert!(invoked(&["wqclient(小明)"]));
        assert!(!invoked(&["wqcontroller"]));
        assert!(!invoked(&["/opt/wqclient/wqcontroller", "--config", "client"]));
        assert!(!invoked(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_before_the_login_is_given_up_means_the_same_one() {
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
