//! The composition root: makes the parts of a controller, lets them run, and ends them in order.

mod controller;
mod implementations;
mod notifications;
mod own_files;
mod port_probe;
mod preflight;
mod reload;
mod removal;
mod restore;
mod service_user;
mod setup;
mod start_timeout;
mod status;
mod terminal;
mod unavailable_responder;
mod unix_sockets;
mod watchdog;

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use futures_core::Stream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::signal_name;
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{ConfigError, Loaded, Settings};
use crate::http::server::serve_behind;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::Shutdown;
use crate::paths::{Paths, PidFile, goes_before_us};
use crate::service::activation::Activated;
use crate::service::log::Log;
use crate::service::notify::{self, Notifier};
use crate::service::sockets::Socket;
use crate::store::Store;
use crate::supervisor::systemd::check_sockets;
use controller::{Controller, ServedSockets};
use reload::reload;
use setup::{guard, raise_file_limit, sockets, time_to_end, tokens};
use status::StatusNote;
use terminal::Terminal;

pub use preflight::Preflight;
pub use removal::note_removal;
pub use service_user::become_service_user;
pub use unavailable_responder::answer_callers;

/// A part of a running controller stopped. A new controller most likely works.
#[derive(Debug, thiserror::Error)]
#[error("a part of the controller stopped; the log says which")]
pub struct PartStopped;

/// Runs a controller until a signal ends it. `load` reads the configuration again, at each SIGHUP.
/// What the service manager handed over is listened on in the place of the configured addresses.
pub async fn run(
    loaded: Loaded,
    activated: Vec<Activated>,
    load: impl Fn() -> Result<Loaded, ConfigError>,
) -> anyhow::Result<()> {
    let Loaded { settings, explicit, files, .. } = loaded;
    let log = Log::start(settings.log_level, settings.log_path.as_deref()).with_context(|| {
        format!("can't open the log file {:?}", settings.log_path.clone().unwrap_or_default())
    })?;
    let has_log_file = settings.log_path.is_some();
    // `_sending` is kept to the end of this function, because dropping it aborts the task that sends.
    let (notifier, _sending) = Notifier::start();
    let ended = run_inner(&load, (settings, explicit), files, activated, &log, notifier.clone()).await;
    // `failed` has a socket of its own, so its message could overtake what is still queued.
    notifier.flush().await;
    if let Err(error) = &ended {
        // systemd shows it as the unit's StatusErrno (`ERRNO=`, sd_notify(3)).
        let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        notify::failed(&ErrorChain(error.as_ref()).to_string(), errno);
    }
    // Without a file the log goes to standard error, and there our caller says it.
    if let (true, Err(error)) = (has_log_file, &ended) {
        error!(error = %ErrorChain(error.as_ref()), "wqcontroller can't go on: {}", ErrorChain(error.as_ref()));
    }
    ended
}

async fn run_inner(
    load: &impl Fn() -> Result<Loaded, ConfigError>,
    (settings, explicit): (Settings, Option<PathBuf>),
    files: Vec<PathBuf>,
    activated: Vec<Activated>,
    log: &Log,
    notifier: Notifier,
) -> anyhow::Result<()> {
    let terminal = Terminal::now();
    // Before anything is there that a signal could hurt.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("can't wait for signals")?;
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    info!(version, pid, "wqcontroller starts (version {version}, pid {pid}), configured by {}", list(&files));

    raise_file_limit();
    let uid = rustix::process::geteuid().as_raw();
    // Without it the folder of a login is not used, which is safe in any case.
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let variable = |name: &str| {
        let value = std::env::var_os(name)?;
        // A controller that was started from a terminal can outlive the login, and with the login goes its runtime directory.
        let is_of_login = name == "XDG_RUNTIME_DIR" && goes_before_us(Path::new(&value), uid, &cgroup);
        (!is_of_login).then_some(value)
    };
    let paths = Arc::new(Paths::choose(&settings, variable, uid));
    paths.prepare().context("can't use the folder for temporary files; set tmpdir to another one")?;
    let tokens = tokens(&settings)?;
    check_sockets(&activated).await?;
    let sockets = sockets(activated, &settings.listen).await?;
    let open: Vec<_> = sockets.iter().filter_map(Socket::open_listener).collect();
    // By the sockets that are really open: systemd may have handed over others than `listen` names.
    let guard = guard(&settings, tokens, &open, Arc::default())?;
    let (store, saved) = Store::open(&paths.registry)?;
    let (implementations, saved_implementations) = Store::open(&paths.implementations)?;
    let clients = (Arc::new(store), saved);
    let implementations = (Arc::new(implementations), saved_implementations);
    // After the registry is locked: a second controller is refused there, and must not replace the first one's pid file.
    let pid_file = PidFile::write(&paths.pid).context("can't write the pid file")?;
    let require_token = sockets.iter().map(Socket::requires_token).collect();
    let served = ServedSockets { open, require_token, guard };
    let settings = (settings, explicit);
    let mut controller = Controller::start(
        settings,
        &paths,
        clients,
        implementations,
        served,
        (notifier.clone(), log.readable()),
    )
    .await?;

    // Callers that came earlier are in the backlog. Until here a call would have found a registry without clients.
    let (listeners, unix_sockets) = unix_sockets::open(sockets);
    let stop = CancellationToken::new();
    let mut server = {
        let (service, limits) = (Arc::new(controller.service.clone()), controller.limits.subscribe());
        let answer = move |request, caller| service.clone().answer(request, caller);
        let gate = controller.gate.clone();
        tokio::spawn(serve_behind(gate, listeners, limits, stop.clone(), answer))
    };
    info!("ready; temporary files are in {}", paths.tmpdir.display());
    notifier.ready(&controller.status.line());

    let broken = loop {
        tokio::select! {
            signal = next(&mut signals) => match signal {
                // After a hang-up it is an end like any other, as for a program that does not handle SIGHUP.
                Some(SIGHUP) if !terminal.hung_up() => reload(load, &controller, log).await,
                Some(signal) => {
                    let signal = signal_name(signal).unwrap_or("a signal");
                    let clients = if controller.is_outlived() { "clients keep running" } else { "then ending the clients" };
                    info!("received {signal}; finishing open requests, {clients}");
                    break false;
                }
                None => break true,
            },
            ended = &mut controller.actor => {
                error!(error = ?ended.as_ref().err(), "the registry stopped: {:?}", ended.as_ref().err());
                break true;
            }
            ended = &mut server => {
                error!(error = ?ended.as_ref().err(), "the HTTP server stopped: {:?}", ended.as_ref().err());
                break true;
            }
            () = notifier.broken() => {
                error!("the messages to the service manager stopped");
                break true;
            }
        }
    };
    // Before open requests are finished: clients may have got the same SIGTERM, and their ends are no failures from here on.
    if !controller.is_outlived() {
        controller.registry.shutdown_requested();
        controller.implementations.registry.shutdown_requested();
    }
    controller.ending.cancel();
    stop.cancel();
    controller.status.set_note(StatusNote::Ending);
    notifier.stopping(time_to_end(&controller.settings.borrow()));
    let shutdown = match controller.is_outlived() {
        true => Shutdown::KeepClients,
        false => Shutdown::EndClients,
    };
    let (registry, upstreams) = (controller.registry.clone(), controller.service.proxy.upstreams.clone());
    let implementations = controller.implementations.registry.clone();
    let end = async {
        if !server.is_finished() {
            // Its own drain timeout bounds this.
            let _ = server.await;
        }
        upstreams.close_all_idle();
        // Clients first, as in each stop of an account: an implementation that ends first is a lost login to its client.
        registry.shutdown(shutdown).await?;
        implementations.shutdown(shutdown).await
    };
    let mut end = std::pin::pin!(end);
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            // Only SIGINT: a SIGTERM may come twice, from its sender and from a parent that passes it on.
            () = interrupted(&mut signals) => {
                if controller.is_outlived() {
                    warn!("interrupted again; still finishing open requests, clients keep running");
                    continue;
                }
                warn!("interrupted again; killing clients without further wait");
                // Fails only when the registry is gone, which `end` will say.
                let _ = registry.force_stop().await;
                let _ = implementations.force_stop().await;
            }
        }
    };
    // Before the pid file is removed, which the watch on removed files would write again.
    controller.files.look_last().await;
    controller.notifications.end().await;
    unix_sockets.end().await;
    drop(pid_file);
    if broken || ended.is_err() {
        // An error, so that systemd starts a new controller: the unit has `Restart=on-failure`.
        return Err(PartStopped.into());
    }
    info!("wqcontroller ends");
    Ok(())
}

/// The next signal; none when signals can't be received any more.
async fn next(signals: &mut Signals) -> Option<i32> {
    poll_fn(|context| Pin::new(&mut *signals).poll_next(context)).await
}

/// Waits for SIGINT; other signals change nothing.
async fn interrupted(signals: &mut Signals) {
    // A loop, since `select!` polls a branch whose pattern did not match no more: a SIGTERM would take the next SIGINT with it.
    loop {
        match next(signals).await {
            Some(SIGINT) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The configuration files, for the log.
fn list(files: &[PathBuf]) -> String {
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    if files.is_empty() { "its defaults".to_owned() } else { files.join(", ") }
}
