//! [`Sessions`]: one login after another. Each connects, finds out the account, loads the lists, and lasts
//! until the connection ends.

mod login;
pub(super) mod login_code;
mod reconnect_backoff;
mod waiting;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::state::RemoteState;
use super::transport::SessionEnd;
use super::transport::event_stream::EventStream;
use super::transport::http_calls::HttpCalls;
use super::transport::listener::{AcceptedSocket, Acceptor};
use super::transport::token::{AccessToken, token_stamp};
use super::transport::websocket;
use crate::client::backend::BackendEvent;
use crate::client::settings::EventAddress;
use crate::model::error_chain::ErrorChain;
use crate::peers::PeerPolicy;
use login_code::LoginCodeFile;
use reconnect_backoff::ReconnectBackoff;
use waiting::wait_for_replacement;

/// How the implementation is reached.
pub(crate) enum Transport {
    /// A WebSocket to this URL.
    Forward {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A WebSocket that the implementation opens to `onebot_listen`.
    Reverse {
        /// Accepts the WebSockets.
        acceptor: Arc<Acceptor>,
        /// The accepted WebSockets.
        sockets: mpsc::Receiver<AcceptedSocket>,
        /// A WebSocket that replaces the current one.
        next: Option<Box<AcceptedSocket>>,
    },
    /// HTTP calls to this URL; events come by a stream.
    Stream {
        /// The URL.
        url: String,
        /// The stream.
        events: EventAddress,
    },
    /// HTTP calls to this URL; the implementation posts events to `onebot_listen`.
    Http {
        /// The URL.
        url: String,
        /// Accepts the events.
        acceptor: Arc<Acceptor>,
    },
}

/// One login after another.
pub(crate) struct Sessions {
    pub(crate) state: Arc<RemoteState>,
    pub(crate) events: mpsc::Sender<BackendEvent>,
    pub(crate) transport: Transport,
    /// The token file.
    pub(crate) token: Option<PathBuf>,
    /// Tells whether the port of the implementation is another account's. None where the client has no user of its own.
    pub(crate) policy: Option<Arc<PeerPolicy>>,
    pub(crate) code: LoginCodeFile,
    pub(crate) call_time: Duration,
    pub(crate) progress: LoginProgress,
}

/// How often calls are checked where nothing but a call tells of a lost login.
const LOOK: Duration = Duration::from_secs(4);

/// How long an implementation may take to start, or to be logged in to, until it is worth a warning that it can't be used.
const STARTING: Duration = Duration::from_secs(60);

/// What was reported of the logins so far.
#[derive(Default)]
pub(crate) struct LoginProgress {
    /// The last reported reason why there is no login.
    pub(crate) last_reason: String,
    /// Whether `Blocked` was reported and still holds.
    pub(crate) is_blocked: bool,
    /// Whether another account is the reason, which lasts until the right one logs in.
    is_other_account: bool,
    /// What the client waits for while the implementation has not connected.
    waiting: String,
    /// Whether this login was reported as ready.
    pub(crate) was_ready: bool,
    /// When the first attempt failed. An implementation that starts with its client takes a moment.
    first_failure: Option<Instant>,
    /// Whether a warning was logged since then.
    was_warned: bool,
    /// The version of the token file that was read.
    token: Option<(u64, u64, i64, i64)>,
}

impl Sessions {
    pub(crate) async fn report(&mut self, events: BackendEvent) -> Result<(), SessionEnd> {
        self.events.send(events).await.map_err(|_| SessionEnd::Closed)
    }

    /// Logs in, and again whenever a login ends, until the receiver of the events is dropped.
    pub(crate) async fn run(mut self) -> SessionEnd {
        let mut pauses = ReconnectBackoff::default();
        if self.report(BackendEvent::Loading).await.is_err() {
            return SessionEnd::Closed;
        }
        loop {
            self.progress.was_ready = false;
            let Err(mut ended) = self.session().await;
            if let SessionEnd::Lost(why) = &mut ended
                && self.progress.was_ready
            {
                *why = format!("the connection was lost: {why}");
            }
            // Before `disconnect`: a send whose call fails then waits for the next login instead of using up its attempts.
            self.state.set_ready(false);
            self.state.calls.disconnect();
            if self.progress.was_ready {
                pauses.reset();
                // Before `close`, which waits for queued events: the state must not stay `running` meanwhile.
                let events = match &ended {
                    SessionEnd::Relogin | SessionEnd::Closed => BackendEvent::Loading,
                    ended => BackendEvent::Delayed(ended.to_string()),
                };
                if self.report(events).await.is_err() {
                    return SessionEnd::Closed;
                }
            }
            if let SessionEnd::Unreachable(_) | SessionEnd::LoggedOut = &ended {
                self.state.note_unreachable();
            }
            // Events of this connection are reported before the next one, which may bring as many.
            self.state.inbox.close().await;
            let told = match &ended {
                SessionEnd::Closed => return ended,
                SessionEnd::Relogin => {
                    info!("logging in again");
                    continue;
                }
                SessionEnd::TokenRefused(_) | SessionEnd::OtherAccount(_) => {
                    self.report_blocked(&ended).await
                }
                SessionEnd::Unreachable(_)
                | SessionEnd::NoWebSocket(_)
                | SessionEnd::LoggedOut
                | SessionEnd::Lost(_) => self.report_failure(&ended).await,
            };
            if told.is_err() {
                return SessionEnd::Closed;
            }
            match (&ended, &self.transport) {
                // Also for `Reverse`, where the client's own token file is unreadable.
                (SessionEnd::TokenRefused(_), _) => self.wait_for_operator(pauses.after_refusal()).await,
                // The implementation reconnects when it likes.
                (_, Transport::Reverse { .. }) => {}
                (SessionEnd::LoggedOut, _) => {
                    if self.wait_to_reconnect(LOOK).await.is_err() {
                        return SessionEnd::Closed;
                    }
                }
                (SessionEnd::OtherAccount(_), _) => self.wait_for_operator(pauses.after_refusal()).await,
                _ => {
                    if self.wait_to_reconnect(pauses.next()).await.is_err() {
                        return SessionEnd::Closed;
                    }
                }
            }
        }
    }

    /// Reports that the operator has to fix the token or the account. Once for each reason: that may take days.
    async fn report_blocked(&mut self, ended: &SessionEnd) -> Result<(), SessionEnd> {
        let why = match &self.token {
            None if matches!(ended, SessionEnd::TokenRefused(_)) => {
                format!(
                    "{ended}; none is named in [{}] of the controller's configuration",
                    self.state.dialect.table()
                )
            }
            _ => ended.to_string(),
        };
        if !self.progress.is_blocked || self.progress.last_reason != why {
            self.report(BackendEvent::Blocked(why.clone())).await?;
        }
        (self.progress.is_blocked, self.progress.last_reason) = (true, why);
        self.progress.is_other_account = matches!(ended, SessionEnd::OtherAccount(_));
        // `Blocked` also removes the image; it is shown again if the code is still valid then.
        self.code.forget();
        Ok(())
    }

    /// Reports and logs why there is no connection. Once for each reason: an implementation may be away for
    /// days.
    async fn report_failure(&mut self, ended: &SessionEnd) -> Result<(), SessionEnd> {
        let (why, name) = (ended.to_string(), self.state.dialect.name());
        let since = *self.progress.first_failure.get_or_insert_with(Instant::now);
        // The controller says that a person has to scan.
        let is_early = match ended {
            SessionEnd::Unreachable(_) => since.elapsed() < STARTING,
            ended => *ended == SessionEnd::LoggedOut,
        };
        if self.progress.was_ready {
            warn!("lost the connection to the {name} implementation: {why}; reconnecting");
        } else if self.progress.last_reason != why || !is_early && !self.progress.was_warned {
            match is_early {
                true => info!("cannot use the {name} implementation yet: {why}; retrying"),
                false => warn!("cannot use the {name} implementation yet: {why}; retrying"),
            }
            self.progress.was_warned |= !is_early;
        }
        self.progress.is_blocked = false;
        self.progress.last_reason = why;
        self.report_delay().await
    }

    /// Reports why there is no login, unless a code is shown, which matters more to the operator.
    async fn report_delay(&mut self) -> Result<(), SessionEnd> {
        if self.code.is_shown() {
            return Ok(());
        }
        let parts = [self.progress.last_reason.as_str(), &self.progress.waiting];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let last_reason = parts.join("; ");
        self.report(if last_reason.is_empty() {
            BackendEvent::Loading
        } else {
            BackendEvent::Delayed(last_reason)
        })
        .await
    }

    /// Runs one login; returns why it ended.
    async fn session(&mut self) -> Result<Infallible, SessionEnd> {
        // Before the file is read, so that a change in between is seen later.
        self.progress.token = self.token.as_deref().and_then(token_stamp);
        let token = match self.token.as_deref().map(AccessToken::read).transpose() {
            Ok(token) => token,
            Err(error) => {
                // The token before is valid no longer.
                if let Transport::Reverse { acceptor, .. } | Transport::Http { acceptor, .. } =
                    &self.transport
                {
                    acceptor.admit_none();
                }
                return Err(SessionEnd::TokenRefused(ErrorChain(&error).to_string()));
            }
        };
        // A clone, as `drive` needs all of `self`.
        let state = self.state.clone();
        state.begin();
        state.inbox.begin();
        if let Transport::Reverse { acceptor, .. } | Transport::Http { acceptor, .. } = &self.transport {
            acceptor.admit(token.clone());
        }
        let ended = match &mut self.transport {
            Transport::Forward { url, host, port } => {
                let socket = websocket::open(
                    state.dialect.table(),
                    url,
                    (host, *port),
                    token.as_ref(),
                    self.policy.as_deref(),
                )
                .await?;
                // Only once there is a socket: until then a call fails at once, and is known not to have been written.
                let outgoing = state.calls.connect();
                self.drive(websocket::run(socket, outgoing, &state.inbox)).await
            }
            Transport::Http { url, .. } => {
                let http = HttpCalls::new(url, token, self.call_time, self.policy.clone())?;
                let outgoing = state.calls.connect();
                self.drive(http.run(outgoing, &state.calls, &state.inbox)).await
            }
            Transport::Stream { url, events } => {
                let http = HttpCalls::new(url, token.clone(), self.call_time, self.policy.clone())?
                    .looking_each(LOOK);
                // Before the login, so that no event after the lists is missed.
                let stream =
                    EventStream::open(&state.inbox, events, &http, token.as_ref(), self.policy.as_deref())
                        .await?;
                let outgoing = state.calls.connect();
                let carry = async {
                    tokio::select! {
                        ended = http.run(outgoing, &state.calls, &state.inbox) => ended,
                        ended = stream.run(&state.inbox) => ended,
                    }
                };
                self.drive(carry).await
            }
            Transport::Reverse { .. } => {
                let socket = self.next_socket().await?.take(&state.inbox).await;
                let outgoing = state.calls.connect();
                let mut newer = None;
                let ended = {
                    // Always matches: a transport never becomes another kind.
                    let Transport::Reverse { sockets, .. } = &mut self.transport else {
                        return Err(SessionEnd::Closed);
                    };
                    // Taken out for the duration of the connection, since `drive` needs all of `self`.
                    let mut waiting = std::mem::replace(sockets, mpsc::channel(1).1);
                    let carry = websocket::run(socket, outgoing, &state.inbox);
                    let carry = async {
                        tokio::select! {
                            ended = carry => ended,
                            () = wait_for_replacement(&mut waiting, &mut newer, state.inbox.binding()) => {
                                SessionEnd::Lost("it connected anew".into())
                            }
                        }
                    };
                    let ended = self.drive(carry).await;
                    if let Transport::Reverse { sockets, .. } = &mut self.transport {
                        *sockets = waiting;
                    }
                    ended
                };
                // Also one that is not verified yet: its login checks the account.
                if let Transport::Reverse { next, .. } = &mut self.transport {
                    *next = newer;
                }
                ended
            }
        };
        Err(ended)
    }

    /// Runs the login on a connection while `carry` transfers its frames.
    async fn drive(&mut self, carry: impl Future<Output = SessionEnd>) -> SessionEnd {
        let state = self.state.clone();
        // A relogin that was requested while there was no login is served by this one.
        let _ = state.relogin.notified().now_or_never();
        tokio::select! {
            // Frames first: an implementation may say why it closes the connection.
            biased;
            ended = carry => ended,
            () = state.relogin.notified() => SessionEnd::Relogin,
            ended = self.stay_logged_in() => ended,
        }
    }
}

#[cfg(test)]
mod tests;
