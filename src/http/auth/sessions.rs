//! [`Sessions`]: who has shown a token on the page, and is known by a cookie since.
//!
//! A cookie knows no ports: a browser shows it to every server on this host, the clients' own among them. So it is bound to the
//! paths of the controller's API, opens nothing else, and is of no use once its token is gone.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::COOKIE;
use ring::digest::{Digest, SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::tokens::{ApiToken, Tokens};
use crate::locks::locked;
use crate::wire::v1::routes;

/// The name of the cookie.
const NAME: &str = "wqcontroller_session";

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// How many sessions there may be. The oldest one gives way.
const MOST: usize = 256;

/// How many random bytes a cookie has.
const BYTES: usize = 32;

/// All sessions. They end with the controller.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Mutex<VecDeque<Session>>,
    /// Changes when a session ends before its time.
    ended: watch::Sender<()>,
}

#[derive(Debug)]
struct Session {
    cookie: Digest,
    token: Digest,
    until: Instant,
}

/// The kernel gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gives no random bytes")]
pub struct NoRandom;

impl Sessions {
    /// Opens a session for a token; the value of `Set-Cookie`. `over_tls` says whether the browser reaches us by HTTPS.
    pub(super) fn open(&self, token: &ApiToken, over_tls: bool, now: Instant) -> Result<String, NoRandom> {
        let mut random = [0; BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| NoRandom)?;
        let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = Session {
            cookie: digest(&SHA256, cookie.as_bytes()),
            token: token.digest,
            until: now + LIFETIME,
        };
        let mut all = locked(&self.all);
        all.retain(|session| session.until > now);
        let gives_way = all.len() >= MOST;
        if gives_way {
            all.pop_front();
        }
        all.push_back(session);
        drop(all);
        if gives_way {
            self.ended.send_replace(());
        }
        Ok(set_cookie(&cookie, LIFETIME, over_tls))
    }

    /// The token of the session that a request shows.
    pub(super) fn find<'a>(
        &self,
        headers: &HeaderMap,
        tokens: &'a Tokens,
        now: Instant,
    ) -> Option<&'a ApiToken> {
        let shown = Self::shown(headers)?;
        let all = locked(&self.all);
        let session = all.iter().find(|session| is_same(session.cookie, shown) && session.until > now)?;
        // One whose token was taken out of the configuration opens nothing.
        tokens.by_digest(session.token)
    }

    /// The digest of the cookie that a request shows, if it shows one.
    pub(super) fn shown(headers: &HeaderMap) -> Option<Digest> {
        Some(digest(&SHA256, cookie(headers)?.as_bytes()))
    }

    /// Until when the session of a cookie lasts; none if it is over, or its token is gone.
    pub(super) fn until(&self, cookie: Digest, tokens: &Tokens, now: Instant) -> Option<Instant> {
        let all = locked(&self.all);
        let session = all.iter().find(|session| is_same(session.cookie, cookie) && session.until > now)?;
        tokens.by_digest(session.token).map(|_| session.until)
    }

    /// Changes when a session ends before its time.
    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// Ends the session that a request shows; the value of `Set-Cookie`.
    pub fn close(&self, headers: &HeaderMap) -> String {
        if let Some(shown) = Self::shown(headers) {
            locked(&self.all).retain(|session| !is_same(session.cookie, shown));
            self.ended.send_replace(());
        }
        set_cookie("", Duration::ZERO, false)
    }
}

fn is_same(one: Digest, other: Digest) -> bool {
    one.as_ref().ct_eq(other.as_ref()).into()
}

/// The cookie in a request (RFC 6265, 4.2).
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(COOKIE).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(';')).find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
}

fn set_cookie(value: &str, age: Duration, over_tls: bool) -> String {
    let path = routes::ROOT.trim_end_matches('/');
    let secure = if over_tls { "; Secure" } else { "" };
    format!("{NAME}={value}; Path={path}; Max-Age={}; HttpOnly; SameSite=Strict{secure}", age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Access;
    use http::HeaderValue;

    fn shown(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        [(COOKIE, HeaderValue::from_str(&format!("a=b; {pair}; c=d")).unwrap())].into_iter().collect()
    }

    #[test]
    fn session_ends_with_its_time_its_token_or_a_sign_out() {
        let tokens = Tokens::of([("one", "a-word-that-is-long", Access::ReadOnly)]);
        let token = tokens.find("a-word-that-is-long").unwrap();
        let (sessions, now) = (Sessions::default(), Instant::now());
        let cookie = sessions.open(token, true, now).unwrap();
        assert!(cookie.ends_with("; Path=/v1; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        let headers = shown(&cookie);
        assert_eq!(sessions.find(&headers, &tokens, now).unwrap().name, "one");
        assert!(sessions.find(&headers, &tokens, now + LIFETIME).is_none());
        assert!(sessions.find(&headers, &Tokens::default(), now).is_none());
        assert!(sessions.find(&shown("wqcontroller_session=x"), &tokens, now).is_none());
        assert!(sessions.close(&headers).contains("Max-Age=0;"));
        assert!(sessions.find(&headers, &tokens, now).is_none());
    }

    #[test]
    fn oldest_session_gives_way() {
        let tokens = Tokens::of([("one", "a-word-that-is-long", Access::ReadWrite)]);
        let token = tokens.find("a-word-that-is-long").unwrap();
        let (sessions, now) = (Sessions::default(), Instant::now());
        let all: Vec<_> = (0..=MOST).map(|_| shown(&sessions.open(token, false, now).unwrap())).collect();
        assert!(sessions.find(&all[0], &tokens, now).is_none());
        assert!(
            sessions.find(&all[1], &tokens, now).is_some()
                && sessions.find(&all[MOST], &tokens, now).is_some()
        );
    }
}
