//! Who is let in below `/onebot/v11`: a token of the controller opens every account, one of an account that account alone. The
//! controller does not know the latter, so it lets the account's client decide, and says what it has found out itself.

use http::Request;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;

use super::{Guard, ListenerKind, Refusal, bearer, has_body, take_token};
use crate::config::Access;
use crate::http::request::params::{ParamError, take};
use crate::wire::onebot::{self, Vouch};

/// The query parameter with the token, as OneBot v11 names it (onebot-11, `communication/authorization.md`).
const ACCESS_TOKEN: &str = "access_token";

impl Guard {
    /// Decides about a request of an application, and removes a token of ours from it. None: no tokens are asked for, and the account
    /// may still ask for its own.
    ///
    /// # Errors
    /// It is not let in.
    pub fn admit_application<B>(
        &self,
        request: &mut Request<B>,
        listener_kind: ListenerKind,
    ) -> Result<Option<Vouch>, Refusal> {
        if listener_kind == ListenerKind::Tcp {
            self.sites.check_host(request.uri(), request.headers())?;
        }
        self.sites.check_site(request.headers())?;
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let by_standard = access_token(request)?;
        let shown = match bearer(request.headers())?.or(by_standard.clone()) {
            Some(shown) => Some(shown),
            None => take_token(request)?,
        };
        if matches!(listener_kind, ListenerKind::Unix { require_token: false }) {
            return Ok(Some(Vouch::Full));
        }
        let Some(known) = shown.as_deref().and_then(|shown| self.tokens.find(shown)) else {
            return Ok(Some(Vouch::Account));
        };
        // Ours, so no client may have it.
        let (access, name) = (known.access, known.name.clone());
        request.headers_mut().remove(AUTHORIZATION);
        if by_standard.is_some() {
            remove_access_token(request);
        }
        match access {
            Access::ReadWrite => Ok(Some(Vouch::Full)),
            Access::ReadOnly => {
                let only_reads = onebot::only_reads(request.method(), request.uri().path());
                match only_reads && !has_body(request.headers()) {
                    true => Ok(Some(Vouch::ReadOnly)),
                    false => Err(Refusal::ReadOnly(name)),
                }
            }
        }
    }
}

fn access_token<B>(request: &Request<B>) -> Result<Option<String>, Refusal> {
    match take(request.uri().query().unwrap_or_default().as_bytes(), ACCESS_TOKEN) {
        Ok((token, _)) => Ok(token.filter(|token| !token.is_empty())),
        Err(ParamError::Twice(_)) => {
            Err(Refusal::MalformedToken("the parameter access_token is given twice"))
        }
        Err(_) => Err(Refusal::MalformedToken("the parameter access_token is not text")),
    }
}

fn remove_access_token<B>(request: &mut Request<B>) {
    let uri = request.uri();
    let Ok((_, rest)) = take(uri.query().unwrap_or_default().as_bytes(), ACCESS_TOKEN) else { return };
    let mut target = uri.path().as_bytes().to_vec();
    if !rest.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&rest);
    }
    // Path and query are parts of a URI, and still are without one parameter.
    let target = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target));
    *request.uri_mut() = target.map(http::Uri::from).unwrap_or_default();
}
