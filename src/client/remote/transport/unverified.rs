//! [`UnverifiedSocket`]: a WebSocket that the implementation opened, before it carries the login. One without
//! `X-Self-ID` must not end the login of the right account, so it is first asked for its account.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::inbox::Inbox;
use crate::client::account::binding::AccountBinding;
use crate::client::remote::dialect::Dialect;
use crate::client::remote::frame::RemoteFrame;
use crate::client::remote::reply::ActionResponse;

/// How long the implementation may take to name its account.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// How many bytes of events it may send meanwhile.
const MAX_HELD: usize = 1024 * 1024;

/// Identifies the answer. No other call uses it.
const ECHO: &str = "wq-whose";

/// A WebSocket that the implementation opened.
pub(crate) struct UnverifiedSocket<S> {
    dialect: &'static dyn Dialect,
    socket: WebSocketStream<S>,
    /// Whether its header named our account (`X-Self-ID`).
    is_named: bool,
    /// The events that came before the answer.
    held: Vec<Vec<u8>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> UnverifiedSocket<S> {
    pub(crate) fn new(dialect: &'static dyn Dialect, socket: WebSocketStream<S>, is_named: bool) -> Self {
        Self { dialect, socket, is_named, held: Vec::new() }
    }

    /// Waits until it is verified to be of the account of `binding`.
    ///
    /// # Errors
    /// It is of another account, or did not say in time: why.
    pub(crate) async fn verify(&mut self, binding: &AccountBinding) -> Result<(), String> {
        // Without an account the next login decides.
        if self.is_named || binding.uin().is_none() {
            return Ok(());
        }
        let late = |_| format!("it did not say within {} s whose it is", PROOF_TIME.as_secs());
        timeout(PROOF_TIME, self.ask(binding)).await.map_err(late)?
    }

    async fn ask(&mut self, binding: &AccountBinding) -> Result<(), String> {
        let (action, params) = self.dialect.login_info();
        let call = json!({ "action": action, "params": params, "echo": ECHO });
        self.socket.send(Message::text(call.to_string())).await.map_err(|error| error.to_string())?;
        loop {
            let bytes = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
                Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("it was closed".into()),
            };
            match self.dialect.read_frame(&bytes).map(|read| read.what) {
                Ok(RemoteFrame::Reply(echo, reply)) if echo == ECHO => {
                    let ActionResponse::Done(data) = reply else {
                        return Err("it does not say whose it is".into());
                    };
                    let uid = self.dialect.own_uid(&data).ok_or("it is not logged in yet")?;
                    return binding.check(uid).map_err(|other| other.to_string());
                }
                Ok(RemoteFrame::Event(_, envelope)) => {
                    if let Some(Err(other)) = envelope.self_id.map(|account| binding.check(account)) {
                        return Err(other.to_string());
                    }
                    let held: usize = self.held.iter().map(Vec::len).sum();
                    if held + bytes.len() > MAX_HELD {
                        return Err("too much came before it said whose it is".into());
                    }
                    self.held.push(bytes);
                }
                // Other frames come too early to mean anything.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Returns the WebSocket. Events that came meanwhile go to `inbox`.
    pub(crate) async fn take(self, inbox: &Inbox) -> WebSocketStream<S> {
        let source = inbox.connection();
        for frame in &self.held {
            // The signal is not needed: the account of each was checked when it came.
            inbox.take(frame, source).await;
        }
        self.socket
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::client::remote::transport::calls::Calls;
    use crate::client::remote::transport::inbox;

    #[tokio::test(start_paused = true)]
    async fn unnamed_socket_is_asked_for_its_account() {
        let binding =
            Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), Some(1), None));
        let event = |account: u64| json!({ "post_type": "notice", "notice_type": "friend_add", "user_id": 7, "self_id": account });
        let info = |account: u64| json!({ "status": "ok", "retcode": 0, "data": { "user_id": account }, "echo": ECHO });
        let refused = json!({ "status": "failed", "retcode": 1200, "echo": ECHO });
        for (says, named, right, told) in [
            (vec![event(1), info(1)], false, true, 1),
            (vec![info(2)], false, false, 0),
            (vec![event(2)], false, false, 0),
            (vec![refused], false, false, 0),
            (vec![], false, false, 0),
            (vec![], true, true, 0),
        ] {
            let (inbox, mut events) = inbox::open(
                &crate::client::onebot::OneBot11,
                Arc::new(Calls::new(PROOF_TIME)),
                binding.clone(),
            );
            let (one, two) = tokio::io::duplex(64 * 1024);
            let ours = WebSocketStream::from_raw_socket(one, Role::Server, None).await;
            let mut theirs = WebSocketStream::from_raw_socket(two, Role::Client, None).await;
            for frame in &says {
                theirs.send(Message::text(frame.to_string())).await.unwrap();
            }
            let mut newcomer = UnverifiedSocket::new(&crate::client::onebot::OneBot11, ours, named);
            let proved = newcomer.verify(&binding).await;
            assert_eq!(proved.is_ok(), right, "{says:?} {proved:?}");
            if right {
                newcomer.take(&inbox).await;
            }
            drop(inbox);
            let mut count = 0;
            while events.next().await.is_some() {
                count += 1;
            }
            assert_eq!(count, told, "{says:?}");
        }
    }
}
