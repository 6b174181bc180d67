//! What the configuration and the system give the parts: rules, limits, tokens, sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::config::{ConfigError, ListenAddress, ManagerKind, OpenListener, Settings};
use crate::http::auth::{Guard, Sessions, TokenError, Tokens};
use crate::http::server::{Gate, Limits};
use crate::model::fleet::Rules;
use crate::model::restart::RestartPolicy;
use crate::peers::PeerPolicy;
use crate::service::activation::Activated;
use crate::service::sockets::{Socket, bind, take_over};
use crate::supervisor::AnySupervisor;
use crate::wire::INVALID;

/// How long the end may take beyond the times that the configuration gives to requests and clients.
const END_MARGIN: Duration = Duration::from_secs(15);

/// The longest that the end may take.
pub(super) fn time_to_end(settings: &Settings) -> Duration {
    // A sum, because clients are ended only after the last request.
    settings.http.drain_timeout + settings.supervisor.stop_timeout + END_MARGIN
}

/// Where our user's own programs keep what lasts as long as its login: pam_systemd(8).
pub(super) fn user_runtime() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into())
}

/// Each client takes a few file descriptors, and the soft limit is often 1,024: as much is taken as is allowed.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        warn!(%error, "can't raise the limit of open files ({error}), which limits the number of clients");
    }
}

pub(super) fn rules(settings: &Settings, chosen: &AnySupervisor) -> Rules {
    let supervisor = &settings.supervisor;
    Rules {
        max_clients: settings.max_clients,
        first_port: settings.backend_start_port,
        // A client is reached through the proxy, which has its port from the snapshot, so a new port disturbs no caller.
        ports_each: 1,
        keeps_port: false,
        restart: supervisor.restart,
        restart_limit: supervisor.restart_limit,
        start_interval: supervisor.start_interval,
        restore: supervisor.restore,
        clients_outlive_controller: supervisor.clients_outlive_controller || chosen.always_outlived(),
    }
}

/// The rules for implementations. An end that nothing asked for is a failure, whatever the status is.
pub(super) fn implementation_rules(settings: &Settings, chosen: &AnySupervisor) -> Rules {
    let of_clients = rules(settings, chosen);
    Rules {
        first_port: settings.implementation_start_port,
        // Its API and its web page.
        ports_each: 2,
        // Its client has the port in its environment, which can't be changed while it runs.
        keeps_port: true,
        restart: match of_clients.restart {
            RestartPolicy::Never => RestartPolicy::Never,
            RestartPolicy::OnFailure | RestartPolicy::Always => RestartPolicy::Always,
        },
        ..of_clients
    }
}

pub(super) fn limits(settings: &Settings) -> Limits {
    Limits {
        request_header_timeout: settings.http.request_header_timeout,
        write_timeout: settings.http.inactivity_timeout,
        max_connections: settings.http.max_connections,
        drain_timeout: settings.http.drain_timeout,
        max_request_header: settings.http.max_request_header,
        unreadable_code: INVALID,
    }
}

/// Clients may not call the controller, as far as they have users of their own.
pub(super) fn gate(supervisor: &AnySupervisor) -> Gate {
    // Only the system's manager gives each unit a user of its own (`DynamicUser=`).
    if supervisor.manager() == Some(ManagerKind::System) {
        return Gate::of_controller();
    }
    info!(
        "all clients have the same user, so each of them can call the controller and the others; wqcontroller(8) says more \
         in \"One account against another\""
    );
    Gate::default()
}

/// Tells whose ports are, where each implementation has a user of its own.
pub(super) fn peer_policy(supervisor: &AnySupervisor) -> Option<Arc<PeerPolicy>> {
    // Where the kernel does not tell, `gate` has said so.
    let policy = (supervisor.manager() == Some(ManagerKind::System)).then(PeerPolicy::of_controller);
    policy.and_then(Result::ok).map(Arc::new)
}

pub(super) fn tokens(settings: &Settings) -> Result<Tokens, TokenError> {
    // systemd sets it for `LoadCredential=` (systemd.exec(5)).
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    Tokens::load(&settings.auth.tokens, credentials.as_deref())
}

pub(super) async fn sockets(
    activated: Vec<Activated>,
    configured: &[ListenAddress],
) -> anyhow::Result<Vec<Socket>> {
    if activated.is_empty() {
        return Ok(bind(configured).await?);
    }
    // `Settings` does not say whether the default was written down. Only another value is surely a mistake.
    if configured != [ListenAddress::default()] {
        warn!(
            "`listen` has no effect, as systemd hands over the sockets: change them with `systemctl edit \
             wqcontroller.socket`, or disable and stop that unit"
        );
    }
    take_over(activated, configured).context("can't use the sockets that the service manager handed over")
}

/// Makes the guard.
///
/// # Errors
/// A network listener would be open to callers without a token.
pub(super) fn guard(
    settings: &Settings,
    tokens: Tokens,
    open: &[OpenListener],
    sessions: Arc<Sessions>,
) -> Result<Guard, ConfigError> {
    let is_open = tokens.is_empty() && !open.is_empty();
    match open.iter().find(|open| settings.auth.refuses(open)) {
        Some(open) => Err(ConfigError::Open(open.clone())),
        None => Ok(Guard::new(settings, tokens, sessions, is_open)),
    }
}
