//! Whether a request is let in, decided before anything else is done with it. Pure, except that `tokens` reads
//! files.
//!
//! Three checks, in this order. The host has to be ours: a page whose own name was pointed at us (DNS rebinding)
//! learns nothing else. A browser must not send the request for another web site. The token has to open the
//! call.

mod applications;
mod lease;
mod sessions;
mod sites;
mod tokens;

use std::sync::Arc;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, REFERER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri};
use tracing::warn;
use url::Url;

use crate::config::{Access, Settings};
use crate::http::log_limit::LogRateLimiter;
use crate::http::request::params::{ParamError, take};
use crate::http::server::Peer;
use crate::wire::Reply;
use crate::wire::calls::only_reads;
use crate::wire::door::{DOOR, Refused, Said};
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::routes;
pub use lease::Lease;
use lease::OpenedBy;
pub use sessions::{NoRandom, Sessions};
pub use sites::{Sites, answer_preflight, is_preflight, open_to};
pub use tokens::{TokenError, Tokens};

/// The query parameter with the token, for programs that can't set headers.
const TOKEN: &str = "token";

/// How many refused requests are logged a minute.
const MAX_LOGGED: u32 = 10;

/// The kind of listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// TCP: a token is needed if there are any.
    Tcp,
    /// A Unix socket: the permissions of its file decide who may connect.
    Unix {
        /// Whether a token is needed as well.
        require_token: bool,
    },
}

impl ListenerKind {
    /// By what a request is let in while there are no tokens.
    fn opens(self) -> OpenedBy {
        match self {
            Self::Unix { require_token: false } => OpenedBy::Listener,
            _ => OpenedBy::NoTokens,
        }
    }
}

/// The configuration of who is let in.
#[derive(Debug, Default)]
pub struct Guard {
    tokens: Tokens,
    sites: Sites,
    sessions: Arc<Sessions>,
    has_page: bool,
    /// Whether the controllers of other machines may pass calls on to this one.
    doors: bool,
}

/// What a request that is let in may do.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// What its token opens; everything where it needs none.
    pub access: Access,
    /// Whether its token is that of a session.
    pub by_session: bool,
    /// How long it is let in.
    pub lease: Lease,
}

/// Why no session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInError {
    /// There is no such token.
    UnknownToken,
    /// The kernel gives no random bytes.
    NoRandom,
}

/// Why a request is not let in, for the log. It never shows a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The host is not ours; a part that is safe to show.
    #[error("the host {0:?} is not in hosts of [http]")]
    Host(String),
    /// A browser sends it for another web site, which is named if known.
    #[error("a browser sent it for another web site ({0})")]
    Site(String),
    /// There is no token.
    #[error("it has no token")]
    NoToken,
    /// The token is unknown.
    #[error("its token is unknown")]
    UnknownToken,
    /// There are several tokens, or one that can't be read.
    #[error("its token can't be read: {0}")]
    MalformedToken(&'static str),
    /// The token does not open this call; the name of the token.
    #[error("its token {0} is read-only")]
    ReadOnly(String),
    /// It comes through the controller of another machine.
    #[error("it comes through the controller of another machine, and auth.doors is false")]
    Door,
}

impl Refusal {
    /// The response to the caller.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Host(host) => Reply::foreign_host(host),
            Self::Site(_) => Reply::foreign_site(),
            Self::NoToken => Reply::token_needed(),
            Self::UnknownToken => Reply::token_unknown(),
            Self::MalformedToken(why) => Reply::bad_request(*why),
            Self::ReadOnly(_) => Reply::token_read_only(),
            Self::Door => Reply::from(&MachineRefusal::NoDoor),
        }
    }

    /// The same for a door, which has asked: none where it is not about the door.
    pub fn of_door(&self) -> Option<Refused> {
        match self {
            Self::Host(_) | Self::Site(_) => None,
            Self::NoToken | Self::UnknownToken | Self::MalformedToken(_) => Some(Refused::Token),
            Self::ReadOnly(_) => Some(Refused::ReadOnly),
            Self::Door => Some(Refused::Door),
        }
    }
}

impl Guard {
    /// From the settings and their tokens. `sessions` are those that an earlier guard knew. `is_open` says whether a listener lets
    /// callers of other machines in without a token: then there is no page, which would invite them.
    pub fn new(settings: &Settings, tokens: Tokens, sessions: Arc<Sessions>, is_open: bool) -> Self {
        let (mut hosts, origins) = (settings.http.hosts.clone(), settings.http.allowed_origins.clone());
        let public = settings.http.public_url.as_deref().and_then(|url| Url::parse(url).ok());
        hosts.extend(public.and_then(|url| Some(url.host_str()?.to_ascii_lowercase())));
        let doors = settings.auth.doors;
        Self { tokens, sites: Sites { hosts, origins }, sessions, has_page: !is_open, doors }
    }

    /// The sessions of the page.
    pub fn sessions(&self) -> Arc<Sessions> {
        self.sessions.clone()
    }

    /// Whether there is a page.
    pub fn has_page(&self) -> bool {
        self.has_page
    }

    /// Lets a request for a file of the page in. Its host has to be ours. Links from other sites may lead here, and no token is
    /// needed: the files are the same for everyone.
    ///
    /// # Errors
    /// The host is not ours.
    pub fn admit_to_page<B>(&self, request: &Request<B>, listener_kind: ListenerKind) -> Result<(), Refusal> {
        match listener_kind {
            ListenerKind::Tcp => self.sites.check_host(request.uri(), request.headers()),
            ListenerKind::Unix { .. } => Ok(()),
        }
    }

    /// Opens a session for a token; the value of `Set-Cookie`.
    ///
    /// # Errors
    /// The token is unknown, or there is no session to be had.
    pub fn sign_in(&self, token: &str, over_tls: bool) -> Result<String, SignInError> {
        let token = self.tokens.find(token).ok_or(SignInError::UnknownToken)?;
        self.sessions.open(token, over_tls, Instant::now()).map_err(|NoRandom| SignInError::NoRandom)
    }

    /// Our hosts and the allowed web sites.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Decides about a request, and removes our token from one that is let in. While there are tokens, the query
    /// parameter `token` and the header `Authorization` are ours, and `Referer` may repeat the query.
    ///
    /// # Errors
    /// It is not let in.
    pub fn admit<B>(
        &self,
        request: &mut Request<B>,
        listener_kind: ListenerKind,
    ) -> Result<Admission, Refusal> {
        // DNS rebinding leads a browser to a TCP port, never to a Unix socket.
        if listener_kind == ListenerKind::Tcp {
            self.sites.check_host(request.uri(), request.headers())?;
        }
        self.sites.check_site(request.headers())?;
        if self.said(request.headers())?.is_some_and(|said| !matches!(said, Said::Full | Said::Unasked))
            && !only_reads(request.method(), request.uri().path())
        {
            return Err(Refusal::ReadOnly("of a door".to_owned()));
        }
        let all =
            |opened_by| Admission { access: Access::ReadWrite, by_session: false, lease: Lease(opened_by) };
        if self.tokens.is_empty() {
            return Ok(all(listener_kind.opens()));
        }
        // Before the exception below: also where no token is needed, none may reach a client.
        let shown = take_token(request)?;
        if matches!(listener_kind, ListenerKind::Unix { require_token: false }) {
            return Ok(all(OpenedBy::Listener));
        }
        let (method, path) = (request.method(), request.uri().path());
        // A caller who signs in or out has no token yet, or none any more.
        if routes::is_sign_in_or_out(method, path) {
            let lease = Lease(OpenedBy::NoTokens);
            return Ok(Admission { access: Access::ReadOnly, by_session: false, lease });
        }
        let (known, by_session, lease) = match shown {
            Some(shown) => {
                let known = self.tokens.find(&shown).ok_or(Refusal::UnknownToken)?;
                (known, false, Lease::of_token(known))
            }
            None if routes::is_own(path) => {
                let headers = request.headers();
                let session = self.sessions.find(headers, &self.tokens, Instant::now());
                let cookie = Sessions::shown(headers).ok_or(Refusal::NoToken)?;
                (session.ok_or(Refusal::NoToken)?, true, Lease(OpenedBy::Session(cookie)))
            }
            None => return Err(Refusal::NoToken),
        };
        let may = match known.access {
            Access::ReadWrite => true,
            Access::ReadOnly => only_reads(method, path) && !has_body(request.headers()),
        };
        match may {
            true => Ok(Admission { access: known.access, by_session, lease }),
            false => Err(Refusal::ReadOnly(known.name.clone())),
        }
    }
}

impl Guard {
    /// What a door says of its caller; none where the request comes from no door.
    ///
    /// # Errors
    /// Doors are not let in.
    pub(super) fn said(&self, headers: &HeaderMap) -> Result<Option<Said>, Refusal> {
        let Some(word) = headers.get(DOOR) else { return Ok(None) };
        match self.doors {
            true => Ok(Some(Said::of(word.to_str().unwrap_or_default()))),
            false => Err(Refusal::Door),
        }
    }
}

/// Logs refused requests, at most [`MAX_LOGGED`] a minute.
#[derive(Clone, Debug)]
pub struct RejectionLog(Arc<LogRateLimiter>);

impl Default for RejectionLog {
    fn default() -> Self {
        Self(Arc::new(LogRateLimiter::new(MAX_LOGGED)))
    }
}

impl RejectionLog {
    /// Logs a refusal, or counts it.
    pub(super) fn log(&self, peer: Peer, refusal: &Refusal) {
        if let Some(suppressed) = self.0.allow() {
            warn!(%peer, "request from {peer} refused: {refusal}{suppressed}");
        }
    }
}

/// Whether a body follows. A client may expect none with a call that reads, and take the body for another
/// request, which was not checked.
fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0")
}

/// Takes the token out of query and headers.
fn take_token<B>(request: &mut Request<B>) -> Result<Option<String>, Refusal> {
    let of_query = take_from_query(request.uri_mut());
    let of_header = bearer(request.headers());
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(REFERER);
    match (of_query?, of_header?) {
        (Some(one), Some(other)) if one != other => {
            Err(Refusal::MalformedToken("the token in the query is not the one in the header"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Takes the token out of the query, even if it can't be used. An empty one counts as none.
fn take_from_query(uri: &mut Uri) -> Result<Option<String>, Refusal> {
    let query = uri.query().unwrap_or_default();
    let (token, rest) = match take(query.as_bytes(), TOKEN) {
        Ok((None, _)) => return Ok(None),
        Ok((Some(token), rest)) => (Ok(Some(token).filter(|token| !token.is_empty())), rest.into_owned()),
        // Which part is the token is not known, so nothing of the query is kept.
        Err(ParamError::Twice(_)) => {
            (Err(Refusal::MalformedToken("the parameter token is given twice")), vec![])
        }
        Err(_) => (Err(Refusal::MalformedToken("the parameter token is not text")), vec![]),
    };
    let mut target = uri.path().as_bytes().to_vec();
    if !rest.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&rest);
    }
    // Path and query are parts of a URI, and still are without one parameter. Scheme and host are not needed any
    // more.
    *uri = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map(Uri::from).unwrap_or_default();
    token
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1). The scheme is case-insensitive (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Refusal::MalformedToken("there are two Authorization headers"));
    }
    let token = |value: &HeaderValue| {
        // Tokens are visible ASCII, which `tokens` checks, so what is not text holds none.
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
    };
    // Another scheme has no token of ours.
    Ok(token(value))
}

#[cfg(test)]
mod tests;
