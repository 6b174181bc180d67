//! The OneBot backend, for today's network. The account is logged in elsewhere, in a program that speaks OneBot
//! v11 (NapCat, LLBot, …); this is a client of that program, "the implementation".
//!
//! Pure modules: `wire` reads and writes OneBot's JSON, `translation` turns its messages into the API's.
//! `transport` has the ways to the implementation, `state` what is known of the account. `handle` serves
//! callers, `session` logs in and keeps the connection, `event_worker` reports what happens.

// Pure: OneBot's JSON, and what it means to the API.
mod translation;
mod wire;

// WebSockets either way round, and HTTP.
mod transport;

// What is known of the account.
mod state;

// The three that act: for callers, for the login, for events.
mod event_worker;
mod handle;
mod session;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::warn;

use self::event_worker::EventWorker;
use self::handle::OneBot;
use self::session::login_code::LoginCodeFile;
use self::session::{LoginProgress, Sessions, Transport};
use self::state::OneBotState;
use self::transport::SessionEnd;
use self::transport::calls::Calls;
use self::transport::inbox;
use self::transport::listener::{self, Acceptor, AcceptorMode};
use super::account::binding::AccountBinding;
use super::backend::BackendEvent;
use super::process::unix_seconds;
use super::settings::{ClientSettings, ConnectionMode, OneBotSettings};
use crate::peers::PeerPolicy;

/// Why the backend cannot start.
#[derive(Debug, thiserror::Error)]
#[error("onebot_listen: the client cannot listen on {0}")]
pub(crate) struct OneBotListenError(SocketAddr, #[source] io::Error);

/// The driver: logs in, and reports what happens.
pub(crate) struct OneBotDriver {
    state: Arc<OneBotState>,
    sessions: Sessions,
    worker: EventWorker,
    listening: Option<(Arc<Acceptor>, TcpListener)>,
    news: mpsc::Sender<BackendEvent>,
}

/// Opens the backend. The driver reports to `news`.
///
/// # Errors
/// `onebot_listen` cannot be listened on.
pub(crate) fn open(
    settings: &ClientSettings,
    own: &OneBotSettings,
    news: mpsc::Sender<BackendEvent>,
) -> Result<(OneBot, OneBotDriver), OneBotListenError> {
    let calls = Arc::new(Calls::new(own.call_time));
    let binding = Arc::new(AccountBinding::open(&own.binding, own.uin, own.registration.clone()));
    let (inbox, events) = inbox::open(calls.clone(), binding.clone());
    let inbox = Arc::new(inbox);
    // Ids continue beyond those of an earlier run: no account sends a thousand messages a second.
    let first_id = unix_seconds() * 1000;
    let account = settings.account.to_string();
    let state =
        OneBotState::new(account, calls, inbox.clone(), binding, own.refresh, own.message_sync, first_id);
    let state = Arc::new(state);
    let listen = |address: SocketAddr, purpose| {
        let listener = listener::bind(address).map_err(|error| OneBotListenError(address, error))?;
        let (acceptor, sockets) = Acceptor::new(purpose, address, inbox.clone());
        Ok((acceptor, listener, sockets))
    };
    let (transport, listening) = match &own.connection_mode {
        ConnectionMode::Forward { url, host, port } => {
            (Transport::Forward { url: url.clone(), host: host.clone(), port: *port }, None)
        }
        ConnectionMode::Reverse(address) => {
            let (acceptor, listener, sockets) = listen(*address, AcceptorMode::Reverse)?;
            (
                Transport::Reverse { acceptor: acceptor.clone(), sockets, next: None },
                Some((acceptor, listener)),
            )
        }
        ConnectionMode::Http { url, listen: address } => {
            let (acceptor, listener, _) = listen(*address, AcceptorMode::Posts)?;
            (Transport::Http { url: url.clone(), acceptor: acceptor.clone() }, Some((acceptor, listener)))
        }
    };
    let code = LoginCodeFile::new(own.qrcode.as_deref());
    let sessions = Sessions {
        state: state.clone(),
        events: news.clone(),
        transport,
        token: own.token_file.clone(),
        policy: policy(),
        code,
        call_time: own.call_time,
        progress: LoginProgress::default(),
    };
    let worker = EventWorker::new(state.clone(), events, news.clone());
    Ok((OneBot::new(state.clone()), OneBotDriver { state, sessions, worker, listening, news }))
}

/// Tells whose the port of the implementation is. None where that can't be told, or where all clients have the same user.
fn policy() -> Option<Arc<PeerPolicy>> {
    let policy = PeerPolicy::of_client().inspect_err(|error| {
        warn!(%error, "cannot tell who listens at the port of the OneBot implementation ({error}); using it anyway");
    });
    policy.ok().flatten().map(Arc::new)
}

impl OneBotDriver {
    /// Logs in, and again whenever a login ends. Returns when the receiver of the events is dropped.
    pub(crate) async fn run(self) {
        let mut offline = self.state.inbox.offline();
        let listen = async {
            match self.listening {
                Some((acceptor, listener)) => acceptor.run(listener).await,
                None => std::future::pending().await,
            }
        };
        // The first three end only with the client: `run` returns nothing but `Closed`. Any other value would only disable its
        // branch.
        let why = tokio::select! {
            SessionEnd::Closed = self.sessions.run() => return,
            SessionEnd::Closed = self.worker.run() => return,
            () = listen => return,
            why = offline.wait_for(Option::is_some) => why.ok().and_then(|why| why.clone()).unwrap_or_default(),
        };
        // The account was logged out elsewhere. Logging in again would log out that other login, so an operator
        // has to decide.
        if self.news.send(BackendEvent::Offline(why)).await.is_ok() {
            // The lifecycle ends the client now. A driver that returned would be taken for a task that failed.
            std::future::pending::<()>().await;
        }
    }
}
