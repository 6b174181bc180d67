//! An account that is logged in in another program, "the implementation": all that its protocol does not decide. What a
//! protocol decides is a [`Dialect`] in a folder of its own, such as `onebot`.
//!
//! `transport` has the ways to the implementation, `state` what is known of the account. `handle` serves callers, `session`
//! logs in and keeps the connection, `event_worker` reports what happens.

// Pure: what comes, in the words of no protocol, and what it means to the API.
mod dedup;
pub(super) mod dialect;
pub(super) mod event;
pub(super) mod frame;
mod lists;
pub(super) mod plan;
pub(super) mod reply;
pub(super) mod segment;
mod translation;
pub(super) use self::translation::content;
pub(super) mod value;

// WebSockets either way round, and HTTP.
mod transport;

// What is known of the account, and of its messages.
pub(super) mod message_ids;
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

use self::dialect::Dialect;
use self::event_worker::EventWorker;
pub(crate) use self::handle::RemoteAccount;
use self::message_ids::MessageIds;
use self::session::login_code::LoginCodeFile;
use self::session::{LoginProgress, Sessions, Transport};
use self::state::RemoteState;
use self::transport::SessionEnd;
use self::transport::calls::Calls;
use self::transport::inbox::{self, EventQueue};
use self::transport::listener::{self, Acceptor, AcceptorMode};
use super::account::binding::AccountBinding;
use super::applications::hub::Hub;
use super::backend::BackendEvent;
use super::process::unix_seconds;
use super::settings::{EventAddress, RemoteSettings};
use crate::peers::PeerPolicy;

/// Why the client cannot listen for the implementation.
#[derive(Debug, thiserror::Error)]
#[error("{0}_listen: the client cannot listen on {1}")]
pub(crate) struct ListenError(&'static str, SocketAddr, #[source] io::Error);

/// The driver: logs in, and reports what happens.
pub(crate) struct RemoteDriver {
    state: Arc<RemoteState>,
    sessions: Sessions,
    worker: EventWorker,
    listening: Option<(Arc<Acceptor>, TcpListener)>,
    news: mpsc::Sender<BackendEvent>,
}

/// An account without a way to its implementation yet.
pub(super) struct Remote<'a> {
    own: &'a RemoteSettings,
    state: Arc<RemoteState>,
    events: EventQueue,
    news: mpsc::Sender<BackendEvent>,
}

/// Makes an account. The driver will report to `news`.
pub(super) fn open<'a>(
    dialect: &'static dyn Dialect,
    account: String,
    own: &'a RemoteSettings,
    news: mpsc::Sender<BackendEvent>,
    applications: Hub,
) -> Remote<'a> {
    let calls = Arc::new(Calls::new(own.call_time));
    let binding = Arc::new(AccountBinding::open(&own.binding, own.uin, own.registration.clone()));
    let (inbox, events) = inbox::open(dialect, calls.clone(), binding.clone());
    // Ids continue beyond those of an earlier run: no account sends a thousand messages a second.
    let first_id = unix_seconds() * 1000;
    // Where events pass as they are, so do the numbers in them.
    let ids = match dialect.passes_actions() {
        true => MessageIds::in_memory(),
        false => MessageIds::open(&own.message_ids),
    };
    let inbox = Arc::new(inbox.publishing_to(applications, Arc::new(ids)));
    let state = RemoteState::new(account, calls, inbox, binding, own.refresh, own.message_sync, first_id);
    Remote { own, state: Arc::new(state), events, news }
}

impl Remote<'_> {
    /// Over a WebSocket that the client opens.
    pub(super) fn forward(self, url: String, host: String, port: u16) -> (RemoteAccount, RemoteDriver) {
        self.over(Transport::Forward { url, host, port }, None)
    }

    /// Over a WebSocket that the implementation opens to `address`.
    ///
    /// # Errors
    /// The client cannot listen there.
    pub(super) fn reverse(self, address: SocketAddr) -> Result<(RemoteAccount, RemoteDriver), ListenError> {
        let (acceptor, listener, sockets) = self.listen(address, AcceptorMode::Reverse)?;
        let transport = Transport::Reverse { acceptor: acceptor.clone(), sockets, next: None };
        Ok(self.over(transport, Some((acceptor, listener))))
    }

    /// By HTTP requests to `url`; events are posted to `address`.
    ///
    /// # Errors
    /// The client cannot listen there.
    pub(super) fn http(
        self,
        url: String,
        address: SocketAddr,
    ) -> Result<(RemoteAccount, RemoteDriver), ListenError> {
        let (acceptor, listener, _) = self.listen(address, AcceptorMode::Posts)?;
        Ok(self.over(Transport::Http { url, acceptor: acceptor.clone() }, Some((acceptor, listener))))
    }

    /// By HTTP requests to `url`; events come by a stream.
    pub(super) fn calls_and_stream(self, url: String, events: EventAddress) -> (RemoteAccount, RemoteDriver) {
        self.over(Transport::Stream { url, events }, None)
    }

    fn listen(
        &self,
        address: SocketAddr,
        mode: AcceptorMode,
    ) -> Result<(Arc<Acceptor>, TcpListener, mpsc::Receiver<listener::AcceptedSocket>), ListenError> {
        let table = self.state.dialect.table();
        let listener = listener::bind(address).map_err(|error| ListenError(table, address, error))?;
        let (acceptor, sockets) = Acceptor::new(mode, address, self.state.inbox.clone());
        Ok((acceptor, listener, sockets))
    }

    fn over(
        self,
        transport: Transport,
        listening: Option<(Arc<Acceptor>, TcpListener)>,
    ) -> (RemoteAccount, RemoteDriver) {
        let Self { own, state, events, news } = self;
        let sessions = Sessions {
            state: state.clone(),
            events: news.clone(),
            transport,
            token: own.token_file.clone(),
            policy: policy(state.dialect),
            code: LoginCodeFile::new(own.qrcode.as_deref()),
            call_time: own.call_time,
            progress: LoginProgress::default(),
        };
        let worker = EventWorker::new(state.clone(), events, news.clone());
        (RemoteAccount::new(state.clone()), RemoteDriver { state, sessions, worker, listening, news })
    }
}

/// Tells whose the port of the implementation is. None where that can't be told, or where all clients have the same user.
fn policy(dialect: &dyn Dialect) -> Option<Arc<PeerPolicy>> {
    let policy = PeerPolicy::of_client().inspect_err(|error| {
        let name = dialect.name();
        warn!(%error, "cannot tell who listens at the port of the {name} implementation ({error}); using it anyway");
    });
    policy.ok().flatten().map(Arc::new)
}

impl RemoteDriver {
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
            () = self.state.inbox.ids().keep() => return,
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
