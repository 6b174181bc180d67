//! [`Gate`]: which users of this machine may connect. Refused connections get a response and are logged.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::listener::Peer;
use crate::http::log_limit::LogRateLimiter;
use crate::peers::{ListenerRefusal, OwnersUnavailable, PeerPolicy, PeerRefusal};
use crate::wire::Reply;

/// How many refusals of each kind are logged a minute.
const MAX_LOGGED: u32 = 5;

/// Admits connections; without a policy, all of them. Clones share the policy.
#[derive(Clone, Debug, Default)]
pub struct Gate(Option<Arc<PolicyGate>>);

#[derive(Debug)]
struct PolicyGate {
    policy: PeerPolicy,
    /// A limit for each kind, so that neither hides the other.
    other_accounts: LogRateLimiter,
    unknown: LogRateLimiter,
}

/// The connection is refused.
pub(super) struct ConnectionRefused {
    /// The response, unless the peer is gone already.
    pub(super) answer: Option<Vec<u8>>,
}

impl Gate {
    /// Admits those that `policy` allows.
    fn new(policy: PeerPolicy) -> Self {
        let (other_accounts, unknown) = (LogRateLimiter::new(MAX_LOGGED), LogRateLimiter::new(MAX_LOGGED));
        Self(Some(Arc::new(PolicyGate { policy, other_accounts, unknown })))
    }

    /// The controller's, where clients are system units and have users of their own.
    pub fn of_controller() -> Self {
        Self::open(PeerPolicy::of_controller().map(Some))
    }

    /// A client's: admits everybody if the client has no user of its own.
    pub fn of_client() -> Self {
        Self::open(PeerPolicy::of_client())
    }

    /// Checks that a connection to the client `unit` was accepted by a process of that unit.
    ///
    /// # Errors
    /// Another account accepted it, or its other end is gone.
    pub(in crate::http) async fn check_upstream(
        &self,
        stream: &TcpStream,
        unit: &str,
    ) -> Result<(), ListenerRefusal> {
        match &self.0 {
            Some(guarded) => guarded.policy.check_upstream(stream, unit).await,
            None => Ok(()),
        }
    }

    fn open(policy: Result<Option<PeerPolicy>, OwnersUnavailable>) -> Self {
        match policy {
            Ok(None) => Self::default(),
            Ok(Some(policy)) => {
                debug!("callers' users are known from {}", policy.source());
                Self::new(policy)
            }
            Err(error) => {
                warn!(%error, "cannot tell callers' users ({error}); the clients of other accounts are let in");
                Self::default()
            }
        }
    }

    /// Decides about an accepted connection.
    ///
    /// # Errors
    /// It is refused, which is logged.
    pub(super) async fn check(&self, stream: &impl AsFd, peer: Peer) -> Result<(), ConnectionRefused> {
        let Some(guarded) = &self.0 else { return Ok(()) };
        let checked = match peer {
            Peer::Tcp { remote, local } => guarded.policy.check_tcp(stream, remote, local).await,
            Peer::Unix { .. } => guarded.policy.check_unix(stream).await,
        };
        checked.map_err(|refusal| guarded.refuse(stream, peer, &refusal))
    }
}

impl PolicyGate {
    fn refuse(&self, stream: &impl AsFd, peer: Peer, refusal: &PeerRefusal) -> ConnectionRefused {
        let (log, reply) = match refusal {
            PeerRefusal::OtherAccount(_) => (&self.other_accounts, Reply::other_account()),
            PeerRefusal::Unknown if is_abandoned(stream) => {
                debug!(%peer, "connection from {peer} was closed before it was accepted");
                return ConnectionRefused { answer: None };
            }
            PeerRefusal::Unknown => (&self.unknown, Reply::user_unknown()),
            PeerRefusal::Busy => (&self.unknown, Reply::busy()),
        };
        if let Some(suppressed) = log.allow() {
            warn!(%peer, "connection from {peer} refused: {refusal}{suppressed}");
        }
        ConnectionRefused { answer: Some(raw_response(&reply)) }
    }
}

/// Whether the peer sent nothing and has closed, as port scanners and health checks do.
fn is_abandoned(stream: &impl AsFd) -> bool {
    match recv(stream, &mut [0u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((length, _)) => length == 0,
        // EAGAIN: it is open, and nothing has come yet. With any other error the connection is dead.
        Err(error) => error != Errno::AGAIN,
    }
}

/// A reply as the only response of a connection, whose request was not read.
fn raw_response(reply: &Reply) -> Vec<u8> {
    let text = serde_json::Value::from(reply.body.clone()).to_string();
    let retry_after = reply.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
        reply.http_status,
        // `refuse` uses no other status.
        if reply.http_status == 503 { "Service Unavailable" } else { "Forbidden" },
        text.len(),
        retry_after.unwrap_or_default()
    );
    (head + &text).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_when_to_retry_where_that_helps() {
        let said = |reply| String::from_utf8(raw_response(&reply)).unwrap();
        let busy = said(Reply::busy());
        assert!(busy.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{busy}");
        assert!(busy.contains("\r\nRetry-After: 1\r\n"), "{busy}");
        let other = said(Reply::other_account());
        assert!(other.starts_with("HTTP/1.1 403 Forbidden\r\n") && !other.contains("Retry-After"), "{other}");
    }
}
