//! Who is let in: the decision about a request before anything else is done with it. Pure, but for the token files, which
//! `tokens` reads.
//!
//! Three questions, in this order. Is the name that we are called by ours? A page whose own name was pointed at us (DNS
//! rebinding) is not asked for anything else. Does a browser say that another web site wants it? And who is it: does the
//! token open what is asked for?

mod complaints;
mod sites;
mod tokens;

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, REFERER, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};

use super::ROOT;
use super::params::{ParamError, take};
use crate::config::{Access, Settings};
use crate::model::reply::Reply;
pub use complaints::Complaints;
pub use sites::{Sites, answer_preflight, is_preflight, open_to};
pub use tokens::{TokenError, Tokens};

/// The parameter of the query in which programs that can't set headers show their token.
const TOKEN: &str = "token";

/// Reads of the single-account API: what a read-only token opens besides our own. `check_event` is one of them, although
/// an event that was fetched is not shown to the next who asks.
const READS: [&str; 11] = [
    "check_client",
    "get_qrcode",
    "get_user_info",
    "get_friend_info",
    "get_group_info",
    "get_group_basic_info",
    "get_discuss_info",
    "get_client_info",
    "search_friend",
    "search_group",
    "check_event",
];

/// By which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// TCP: a token is needed where there is one.
    Tcp {
        /// The address of ours that was called.
        local: IpAddr,
    },
    /// A Unix socket: its file says who may connect.
    Unix {
        /// Whether that is not enough.
        require_token: bool,
    },
}

/// What the configuration says about who is let in.
#[derive(Debug, Default)]
pub struct Guard {
    tokens: Tokens,
    sites: Sites,
}

/// Why a request is not let in. Displayed for the log: never with a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It calls us by a name that is not ours; as much of it as can be shown.
    #[error("it is for the host {0:?}, which is not in hosts of [http]")]
    Host(String),
    /// A browser sends it for another web site; which, where it says so.
    #[error("a browser sent it for another web site ({0})")]
    Site(String),
    /// It shows no token.
    #[error("it shows no token")]
    NoToken,
    /// It shows one that is not known.
    #[error("its token is not known")]
    UnknownToken,
    /// It shows several, or one that can't be read; why.
    #[error("its token can't be read: {0}")]
    Unclear(&'static str),
    /// Its token does not open this; the name of the token.
    #[error("its token {0} is read-only")]
    ReadOnly(String),
}

impl Refusal {
    /// What the caller is told.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Host(host) => Reply::foreign_host(host),
            Self::Site(_) => Reply::foreign_site(),
            Self::NoToken => Reply::token_needed(),
            Self::UnknownToken => Reply::token_unknown(),
            Self::Unclear(why) => Reply::bad_request(*why),
            Self::ReadOnly(_) => Reply::token_read_only(),
        }
    }
}

impl Guard {
    /// For `settings`, whose tokens were loaded.
    pub fn new(settings: &Settings, tokens: Tokens) -> Self {
        let (hosts, origins) = (settings.http.hosts.clone(), settings.http.allowed_origins.clone());
        Self { tokens, sites: Sites { hosts, origins } }
    }

    /// The names and web sites that are ours.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Decides about a request. What is let in has nothing left of our own token: while there are tokens at all, `token`
    /// of the query and `Authorization` are ours, and `Referer` may repeat the query.
    pub fn admit<B>(&self, request: &mut Request<B>, entrance: Entrance) -> Result<(), Refusal> {
        if let Entrance::Tcp { local } = entrance {
            self.sites.check_host(request.uri(), request.headers(), local)?;
        }
        self.sites.check_site(request.headers())?;
        if self.tokens.is_empty() {
            return Ok(());
        }
        let shown = take_token(request)?;
        if matches!(entrance, Entrance::Unix { require_token: false }) {
            return Ok(());
        }
        let shown = shown.ok_or(Refusal::NoToken)?;
        let known = self.tokens.find(&shown).ok_or(Refusal::UnknownToken)?;
        match known.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly
                if allowed_to_read(request.method(), request.uri()) && !has_body(request.headers()) =>
            {
                Ok(())
            }
            Access::ReadOnly => Err(Refusal::ReadOnly(known.name.clone())),
        }
    }
}

/// Whether a read-only token opens this: it changes nothing. A path that is written in another way than usual is not known.
pub fn allowed_to_read(method: &Method, uri: &Uri) -> bool {
    let call = uri.path().strip_prefix(ROOT);
    matches!(*method, Method::GET | Method::HEAD) && call.is_some_and(|call| READS.contains(&call))
}

/// Whether a body comes with a request. A client that expects none with a call that reads may take it for a request of its
/// own, at which nobody has looked.
fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0")
}

/// Takes the token out of the query and the headers.
fn take_token<B>(request: &mut Request<B>) -> Result<Option<String>, Refusal> {
    let of_query = take_from_query(request.uri_mut());
    let of_header = bearer(request.headers());
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(REFERER);
    match (of_query?, of_header?) {
        (Some(one), Some(other)) if one != other => {
            Err(Refusal::Unclear("the token in the query is not the one in the header"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The token of the query, which is gone from it even when it can't be used. An empty one is none.
fn take_from_query(uri: &mut Uri) -> Result<Option<String>, Refusal> {
    let query = uri.query().unwrap_or_default();
    let (token, rest) = match take(query.as_bytes(), TOKEN) {
        Ok((None, _)) => return Ok(None),
        Ok((Some(token), rest)) => (Ok(Some(token).filter(|token| !token.is_empty())), rest.into_owned()),
        Err(ParamError::Twice(_)) => (Err(Refusal::Unclear("the parameter token is given twice")), vec![]),
        Err(_) => (Err(Refusal::Unclear("the parameter token is not text")), vec![]),
    };
    let mut target = uri.path().as_bytes().to_vec();
    if !rest.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&rest);
    }
    // Path and query are parts of a URI, and so is what they make without one parameter. Scheme and host are no longer
    // needed.
    *uri = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map(Uri::from).unwrap_or_default();
    token
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1; the scheme in upper or lower case, RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Refusal::Unclear("there are two Authorization headers"));
    }
    let token = |value: &HeaderValue| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
    };
    // Of another scheme it is no token.
    Ok(token(value))
}

#[cfg(test)]
mod tests;
