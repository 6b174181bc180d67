//! [`Lease`]: by what a request was let in. An answer that goes on, such as a stream of events or a WebSocket, ends when that opens
//! nothing any more.

use std::fmt;
use std::sync::Arc;

use ring::digest::Digest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Guard;
use super::tokens::ApiToken;
use crate::config::Access;

/// By what a request was let in.
#[derive(Clone, Copy)]
pub struct Lease(pub(super) OpenedBy);

#[derive(Clone, Copy)]
pub(super) enum OpenedBy {
    /// The listener asks for no token.
    Listener,
    /// There were no tokens, or none is needed for this.
    NoTokens,
    /// A token, and what it opened.
    Token(Digest, Access),
    /// A session: the digest of its cookie.
    Session(Digest),
    /// Nothing of the controller's: the account's client decides by a token of its own.
    Account,
}

impl Lease {
    pub(super) fn of_token(token: &ApiToken) -> Self {
        Self(OpenedBy::Token(token.digest, token.access))
    }

    /// Returns when the caller would not be let in any more: it has signed out, its session is over, or the configuration was read
    /// again and its token is gone or opens something else. Cancel-safe.
    pub async fn over(&self, mut guard: watch::Receiver<Arc<Guard>>) {
        let sessions = guard.borrow_and_update().sessions();
        // Before the look: a session that ends between the two wakes the wait.
        let mut ended = sessions.ended();
        loop {
            let until = {
                let guard = guard.borrow_and_update();
                match guard.honours(self, Instant::now()) {
                    Honoured::No => return,
                    Honoured::Yes => None,
                    Honoured::Until(until) => Some(until),
                }
            };
            let expired = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Without a guard the controller ends.
                changed = guard.changed() => if changed.is_err() { return },
                _ = ended.changed() => {}
                () = expired => {}
            }
        }
    }
}

/// Whether a lease still opens what it did.
enum Honoured {
    No,
    Yes,
    /// Until then.
    Until(Instant),
}

impl Guard {
    fn honours(&self, lease: &Lease, now: Instant) -> Honoured {
        let is_so = match lease.0 {
            OpenedBy::Listener | OpenedBy::Account => true,
            OpenedBy::NoTokens => self.tokens.is_empty(),
            OpenedBy::Token(digest, access) => {
                self.tokens.by_digest(digest).is_some_and(|token| token.access == access)
            }
            OpenedBy::Session(cookie) => {
                let until = self.sessions.until(cookie, &self.tokens, now.into_std());
                return until.map_or(Honoured::No, |until| Honoured::Until(until.into()));
            }
        };
        if is_so { Honoured::Yes } else { Honoured::No }
    }
}

/// Without digests, which would allow guesses to be checked.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sessions, Tokens};
    use super::*;
    use crate::config::Settings;
    use futures_util::FutureExt;
    use http::HeaderMap;
    use http::header::{COOKIE, HeaderValue};

    const WORD: &str = "a-word-that-is-long";

    fn guard(access: Option<Access>, sessions: &Arc<Sessions>) -> Arc<Guard> {
        let tokens = access.map_or_else(Tokens::default, |access| Tokens::of([("one", WORD, access)]));
        Arc::new(Guard::new(&Settings::default(), tokens, sessions.clone(), false))
    }

    #[tokio::test]
    async fn lease_of_a_token_ends_when_the_token_opens_something_else() {
        let sessions = Arc::default();
        let all = guard(Some(Access::ReadWrite), &sessions);
        let (set, watched) = watch::channel(all.clone());
        let token = Lease::of_token(all.tokens.find(WORD).unwrap());
        let open = Lease(OpenedBy::NoTokens);
        assert!(open.over(watched.clone()).now_or_never().is_some());
        for after in [Some(Access::ReadOnly), None] {
            set.send_replace(all.clone());
            let mut over = Box::pin(token.over(watched.clone()));
            assert!(over.as_mut().now_or_never().is_none());
            set.send_replace(guard(Some(Access::ReadWrite), &sessions));
            assert!(over.as_mut().now_or_never().is_none(), "the token is the same");
            set.send_replace(guard(after, &sessions));
            over.await;
        }
        assert!(open.over(watched.clone()).now_or_never().is_none(), "there are no tokens any more");
        for lasting in [OpenedBy::Listener, OpenedBy::Account] {
            assert!(Lease(lasting).over(watched.clone()).now_or_never().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lease_of_a_session_ends_with_its_time_its_token_or_a_sign_out() {
        let sessions: Arc<Sessions> = Arc::default();
        let all = guard(Some(Access::ReadWrite), &sessions);
        let (set, watched) = watch::channel(all.clone());
        let open = || {
            let cookie = all.sign_in(WORD, false).unwrap();
            let pair = HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap();
            let headers: HeaderMap = [(COOKIE, pair)].into_iter().collect();
            let lease = Lease(OpenedBy::Session(Sessions::shown(&headers).unwrap()));
            (headers, lease)
        };
        let (headers, lease) = open();
        let (_, other) = open();
        let mut over = Box::pin(lease.over(watched.clone()));
        let mut stays = Box::pin(other.over(watched.clone()));
        assert!(over.as_mut().now_or_never().is_none() && stays.as_mut().now_or_never().is_none());
        sessions.close(&headers);
        over.await;
        assert!(stays.as_mut().now_or_never().is_none(), "the session of another browser goes on");
        let before = Instant::now();
        // The clock is advanced as soon as nothing else is left to do.
        stays.await;
        assert!(before.elapsed() >= super::super::sessions::LIFETIME - std::time::Duration::from_secs(60));
        let lease = Lease(OpenedBy::Session(Sessions::shown(&open().0).unwrap()));
        set.send_replace(guard(None, &sessions));
        assert!(lease.over(watched).now_or_never().is_some());
    }
}
