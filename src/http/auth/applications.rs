//! Who is let in below `/onebot/v11`: a token of the controller opens every account, one of an account that account alone. The
//! controller does not know the latter, so it lets the account's client decide, and says what it has found out itself.

use http::header::{AUTHORIZATION, REFERER};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request};

use super::lease::OpenedBy;
use super::{Guard, Lease, ListenerKind, Refusal, TOKEN, bearer, has_body};
use crate::config::Access;
use crate::http::request::params::{ParamError, take};
use crate::wire::door::Said;
use crate::wire::onebot::{self, Vouch};

/// The query parameter with the token, as OneBot v11 names it (onebot-11, `communication/authorization.md`).
const ACCESS_TOKEN: &str = "access_token";

impl Guard {
    /// Decides about a request of an application, and removes a token of ours from it. None: no tokens are asked for, and the account
    /// may still ask for its own. With by what it is let in.
    ///
    /// # Errors
    /// It is not let in.
    pub fn admit_application<B>(
        &self,
        request: &mut Request<B>,
        listener_kind: ListenerKind,
    ) -> Result<(Option<Vouch>, Lease), Refusal> {
        if listener_kind == ListenerKind::Tcp {
            self.sites.check_host(request.uri(), request.headers())?;
        }
        self.sites.check_site(request.headers())?;
        let said = self.said(request.headers())?;
        let (vouch, lease) = self.vouch(request, listener_kind, said.is_some())?;
        Ok((said.map_or(vouch, |said| lowered(vouch, said)), lease))
    }

    fn vouch<B>(
        &self,
        request: &mut Request<B>,
        listener_kind: ListenerKind,
        by_door: bool,
    ) -> Result<(Option<Vouch>, Lease), Refusal> {
        if self.tokens.is_empty() {
            return Ok((None, Lease(listener_kind.opens())));
        }
        // It may repeat the query.
        request.headers_mut().remove(REFERER);
        let by_standard = in_query(request, ACCESS_TOKEN)?;
        let all = [authorization(request.headers())?, by_standard, in_query(request, TOKEN)?];
        let known = all.into_iter().flatten().find_map(|shown| self.tokens.find(&shown));
        if known.is_some() {
            // Ours, so no client may have it.
            request.headers_mut().remove(AUTHORIZATION);
            // A door shows its own token in the header, and that of the account in the query.
            if !by_door {
                remove_from_query(request, ACCESS_TOKEN);
            }
        }
        // It is ours alone, known or not.
        remove_from_query(request, TOKEN);
        if matches!(listener_kind, ListenerKind::Unix { require_token: false }) {
            return Ok((Some(Vouch::Full), Lease(OpenedBy::Listener)));
        }
        let Some(known) = known else {
            return Ok((Some(Vouch::Account), Lease(OpenedBy::Account)));
        };
        let (access, name, lease) = (known.access, known.name.clone(), Lease::of_token(known));
        match access {
            Access::ReadWrite => Ok((Some(Vouch::Full), lease)),
            Access::ReadOnly => {
                let only_reads = onebot::only_reads(request.method(), request.uri().path());
                match only_reads && !has_body(request.headers()) {
                    true => Ok((Some(Vouch::ReadOnly), lease)),
                    false => Err(Refusal::ReadOnly(name)),
                }
            }
        }
    }
}

/// What a door's caller may do, where the door itself may do this.
fn lowered(vouch: Option<Vouch>, said: Said) -> Option<Vouch> {
    match (vouch, said) {
        (vouch, Said::Full) => vouch,
        // As where the account lives, if no tokens are asked for there.
        (Some(Vouch::Full) | None, Said::Unasked) => None,
        (Some(Vouch::ReadOnly), Said::Unasked) => Some(Vouch::ReadOnly),
        (_, Said::Account) | (Some(Vouch::Account), _) => Some(Vouch::Account),
        (_, Said::ReadOnly) => Some(Vouch::ReadOnly),
    }
}

/// The token of a header. Some frameworks write `Token` where the standard has `Bearer`.
fn authorization(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    if let Some(token) = bearer(headers)? {
        return Ok(Some(token));
    }
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).unwrap_or_default();
    Ok(scheme.eq_ignore_ascii_case("token").then(|| token.trim().to_owned()))
}

fn in_query<B>(request: &Request<B>, name: &str) -> Result<Option<String>, Refusal> {
    let is_standard = name == ACCESS_TOKEN;
    match take(request.uri().query().unwrap_or_default().as_bytes(), name) {
        Ok((token, _)) => Ok(token.filter(|token| !token.is_empty())),
        Err(ParamError::Twice(_)) if is_standard => {
            Err(Refusal::MalformedToken("the parameter access_token is given twice"))
        }
        Err(_) if is_standard => Err(Refusal::MalformedToken("the parameter access_token is not text")),
        Err(ParamError::Twice(_)) => Err(Refusal::MalformedToken("the parameter token is given twice")),
        Err(_) => Err(Refusal::MalformedToken("the parameter token is not text")),
    }
}

fn remove_from_query<B>(request: &mut Request<B>, name: &str) {
    let uri = request.uri();
    let Ok((Some(_), rest)) = take(uri.query().unwrap_or_default().as_bytes(), name) else { return };
    let mut target = uri.path().as_bytes().to_vec();
    if !rest.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&rest);
    }
    // Path and query are parts of a URI, and still are without one parameter.
    let target = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target));
    *request.uri_mut() = target.map(http::Uri::from).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::super::Tokens;
    use super::*;
    use crate::config::Settings;
    use std::sync::Arc;

    const KEY: &str = "0123456789abcdef";
    const EYE: &str = "fedcba9876543210";

    #[test]
    fn token_of_the_controller_never_reaches_a_client_and_one_of_an_account_does() {
        let tokens = Tokens::of([("key", KEY, Access::ReadWrite), ("eye", EYE, Access::ReadOnly)]);
        let guard = Guard::new(&Settings::default(), tokens, Arc::default(), false);
        let own = "of-the-account";
        let header = |scheme: &str, token: &str| format!("{scheme} {token}");
        for (query, authorization, vouch) in [
            ("", header("Bearer", KEY), Vouch::Full),
            ("", header("Token", KEY), Vouch::Full),
            ("", header("tOkEn", EYE), Vouch::ReadOnly),
            ("", header("Token", own), Vouch::Account),
            ("", header("Bearer", own), Vouch::Account),
            (&format!("?access_token={KEY}"), header("Bearer", own), Vouch::Full),
            (&format!("?access_token={own}&token={KEY}"), header("Token", own), Vouch::Full),
            (&format!("?token={EYE}&x=1"), header("Basic", "bWU6bWU="), Vouch::ReadOnly),
            (&format!("?access_token={own}"), header("Basic", "bWU6bWU="), Vouch::Account),
        ] {
            for kind in [ListenerKind::Tcp, ListenerKind::Unix { require_token: false }] {
                let mut request = Request::get(format!("http://localhost/onebot/v11/get_status{query}"))
                    .header(AUTHORIZATION, &authorization)
                    .header(REFERER, format!("http://localhost/{query}"))
                    .body(())
                    .unwrap();
                let (found, _) = guard.admit_application(&mut request, kind).unwrap();
                let wanted = if kind == ListenerKind::Tcp { vouch } else { Vouch::Full };
                assert_eq!(found, Some(wanted), "{query} {authorization}");
                let left = format!("{} {:?}", request.uri(), request.headers());
                assert!(!left.contains(KEY) && !left.contains(EYE), "{left}");
                assert_eq!(left.contains(own), vouch == Vouch::Account, "{left}");
            }
        }
    }
}
