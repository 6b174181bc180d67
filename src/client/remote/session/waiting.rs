//! What a client waits for between two logins: a pause, the operator, or a connection of the implementation.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};
use tracing::{info, warn};

use super::login_code::{CodeFileState, LoginCodeFile};
use super::{Sessions, Transport};
use crate::client::account::binding::AccountBinding;
use crate::client::backend::BackendEvent;
use crate::client::remote::transport::SessionEnd;
use crate::client::remote::transport::listener::AcceptedSocket;
use crate::client::remote::transport::token::token_stamp;

/// How often the token file and the login code are checked.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The longest pause while a code is shown: the person who scans it is waiting.
const SCAN_PAUSE: Duration = Duration::from_secs(2);

impl Sessions {
    /// Waits until the pause is over, the token file changes, or a relogin is requested.
    pub(super) async fn wait_for_operator(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        let state = self.state.clone();
        loop {
            let stamp = self.token.as_deref().and_then(token_stamp);
            let now = Instant::now();
            if now >= until || stamp != self.progress.token {
                return;
            }
            tokio::select! {
                () = sleep_until((now + LOOK).min(until)) => {}
                () = state.relogin.notified() => return,
            }
        }
    }

    /// Waits before the next attempt, unless a relogin is requested.
    pub(super) async fn wait_to_reconnect(&mut self, pause: Duration) -> Result<(), SessionEnd> {
        let (begin, state) = (Instant::now(), self.state.clone());
        loop {
            self.look().await?;
            // In each round, as a code may appear or expire during the pause.
            let pause = if self.code.is_shown() { pause.min(SCAN_PAUSE) } else { pause };
            let now = Instant::now();
            if now - begin >= pause {
                return Ok(());
            }
            tokio::select! {
                () = sleep_until((now + LOOK).min(begin + pause)) => {}
                () = state.relogin.notified() => return Ok(()),
            }
        }
    }

    /// Shows the implementation's login code while it is valid.
    async fn look(&mut self) -> Result<(), SessionEnd> {
        if !self.code.is_known() {
            return Ok(());
        }
        // Moved into the blocking task and back. Only the end of the client drops this future in between.
        let mut code = std::mem::replace(&mut self.code, LoginCodeFile::new(None));
        let looked = tokio::task::spawn_blocking(move || {
            let look = code.look(SystemTime::now());
            (code, look)
        });
        // Fails only if the task panics or the runtime ends. The login goes on without codes.
        let Ok((code, look)) = looked.await else { return Ok(()) };
        self.code = code;
        match look {
            CodeFileState::New(image) => self.report(BackendEvent::LoginImage(image)).await,
            CodeFileState::Nothing if self.code.is_shown() => {
                // First, as `report_delay` reports nothing while a code is shown.
                self.code.forget();
                self.report_delay().await
            }
            CodeFileState::Same | CodeFileState::Nothing => Ok(()),
        }
    }

    /// Waits for the next WebSocket of the implementation. A changed token file and a relogin end the wait, as
    /// the acceptor has to admit the new token.
    pub(super) async fn next_socket(&mut self) -> Result<AcceptedSocket, SessionEnd> {
        let socket = self.wait_for_socket().await;
        self.progress.waiting.clear();
        socket
    }

    async fn wait_for_socket(&mut self) -> Result<AcceptedSocket, SessionEnd> {
        let Transport::Reverse { acceptor, next, .. } = &mut self.transport else {
            return Err(SessionEnd::Closed);
        };
        if let Some(socket) = next.take() {
            return Ok(*socket);
        }
        let (acceptor, mut refused) = (acceptor.clone(), acceptor.refused());
        self.progress.waiting = format!(
            "waiting for the {} implementation to connect to {}",
            self.state.dialect.name(),
            acceptor.address()
        );
        if self.progress.is_blocked && !self.progress.is_other_account {
            // The token file is readable now.
            (self.progress.is_blocked, self.progress.last_reason) = (false, String::new());
        }
        if !self.progress.is_blocked {
            self.report_delay().await?;
        }
        let state = self.state.clone();
        // Not at once: `session` has just read the token.
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        loop {
            // Borrowed anew in each round, as the branches need all of `self`.
            let Transport::Reverse { sockets, .. } = &mut self.transport else {
                return Err(SessionEnd::Closed);
            };
            tokio::select! {
                socket = sockets.recv() => return socket.ok_or(SessionEnd::Closed),
                () = state.relogin.notified() => return Err(SessionEnd::Relogin),
                _ = looks.tick() => {
                    if self.token.as_deref().and_then(token_stamp) != self.progress.token {
                        info!("the token file changed; using the new token");
                        return Err(SessionEnd::Relogin);
                    }
                    // Here and not at each refusal: a new reason is written to the state file, and its caller may come as often
                    // as it likes.
                    if refused.has_changed().unwrap_or(false) {
                        let why = refused.borrow_and_update().clone();
                        self.progress.last_reason = format!("a connection to {} was refused: {why}", acceptor.address());
                        self.report_delay().await?;
                    }
                    self.look().await?;
                }
            }
        }
    }
}

/// Waits for a connection that may replace the current one, and puts it into `newer`. A connection that is
/// still being verified is in `newer`, too: it is used if the current one ends first.
pub(super) async fn wait_for_replacement(
    waiting: &mut mpsc::Receiver<AcceptedSocket>,
    newer: &mut Option<Box<AcceptedSocket>>,
    binding: &AccountBinding,
) {
    loop {
        // No further connection can come, which is no reason to end this one.
        let Some(arrival) = waiting.recv().await else { return std::future::pending().await };
        match newer.insert(Box::new(arrival)).verify(binding).await {
            Ok(()) => return,
            Err(why) => {
                *newer = None;
                warn!(
                    "refused a connection that does not prove which account it is of: {why}; the current one stays"
                );
            }
        }
    }
}
