//! [`Admission`]: who an application is, and what it may do.

use std::sync::{Arc, Mutex};

use http::header::AUTHORIZATION;
use http::request::Parts;
use subtle::ConstantTimeEq;
use tracing::warn;

use super::hub::ApplicationKey;
use super::secrets::Tokens;
use crate::client::settings::ApplicationToken;
use crate::locks::locked;
use crate::wire::onebot::{DOOR, Vouch};

/// The longest name of an application, in bytes.
const MAX_NAME: usize = 64;

/// What an application may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppAccess {
    /// All.
    Full,
    /// Actions that only read, by GET.
    ReadOnly,
}

/// An application that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) access: AppAccess,
    /// None where nothing tells it from others.
    pub(super) key: Option<ApplicationKey>,
}

/// Why an application is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// It shows no token.
    TokenNeeded,
    /// It shows one that is not known.
    TokenWrong,
    /// Its name is too long, or empty.
    BadName,
    /// The file with the tokens can't be used.
    NoTokens,
}

/// The tokens that open this account.
pub(super) struct AppGuard {
    tokens: Tokens,
    /// What is wrong with their file, as it was logged: once, not at each request.
    trouble: Mutex<Option<String>>,
}

impl AppGuard {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self { tokens, trouble: Mutex::new(None) }
    }

    /// The tokens as they are now. While their file can't be used, none opens the account.
    fn tokens(&self) -> Result<Arc<[ApplicationToken]>, NotAdmitted> {
        let tokens = self.tokens.now();
        let mut trouble = locked(&self.trouble);
        match &tokens {
            Ok(_) => *trouble = None,
            Err(why) if trouble.as_ref() == Some(why) => {}
            Err(why) => {
                warn!("token_file of [onebot_server]: {why}; until it is right no token opens this account");
                *trouble = Some(why.clone());
            }
        }
        tokens.map_err(|_| NotAdmitted::NoTokens)
    }

    /// Decides on a request. Without tokens all programs that reach the port are let in, as to the rest of the API.
    pub(super) fn admit(&self, request: &Parts) -> Result<Admission, NotAdmitted> {
        let query = request.uri.query().unwrap_or_default();
        let of_query = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let named = match of_query("app") {
            Some(name) if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) => {
                return Err(NotAdmitted::BadName);
            }
            name => name.map(ApplicationKey::Name),
        };
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        // A program of this machine that writes this header itself could call the port without it.
        let vouch = header(DOOR).map(Vouch::of);
        match vouch {
            Some(Vouch::Full) => return Ok(Admission { access: AppAccess::Full, key: named }),
            Some(Vouch::ReadOnly) => return Ok(Admission { access: AppAccess::ReadOnly, key: named }),
            Some(Vouch::Account) | None => {}
        }
        let tokens = self.tokens()?;
        if vouch.is_none() && tokens.is_empty() {
            return Ok(Admission { access: AppAccess::Full, key: named });
        }
        let of_header = header(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, shown) = value.split_once(' ')?;
            // Some frameworks write `Token`.
            let is_known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
            is_known.then(|| shown.trim().to_owned())
        });
        let shown = of_header.or_else(|| of_query("access_token")).ok_or(NotAdmitted::TokenNeeded)?;
        // All are compared, in constant time, so that the time does not show how much of a guess is right.
        let found = tokens.iter().fold(None, |found, own| {
            let is_it = bool::from(own.secret().as_bytes().ct_eq(shown.as_bytes()));
            if is_it { Some(own) } else { found }
        });
        let own = found.ok_or(NotAdmitted::TokenWrong)?;
        let key = named.unwrap_or_else(|| ApplicationKey::Token(own.name.clone()));
        Ok(Admission { access: AppAccess::Full, key: Some(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::settings::TokenSource;
    use crate::files::replace;
    use http::Request;

    fn admit(guard: &AppGuard, query: &str, headers: &[(&str, &str)]) -> Result<Admission, NotAdmitted> {
        let request = Request::get(format!("/onebot/v11/ws?{query}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        guard.admit(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn token_opens_the_account_and_names_the_application() {
        let tokens = [ApplicationToken::of("bot", "word"), ApplicationToken::of("b", "w2")];
        let guard = AppGuard::new(Tokens::Given(tokens.into()));
        let bot = |key| Ok(Admission { access: AppAccess::Full, key: Some(key) });
        let token = || ApplicationKey::Token("bot".into());
        assert_eq!(admit(&guard, "", &[("authorization", "Bearer word")]), bot(token()));
        assert_eq!(admit(&guard, "", &[("authorization", "Token word")]), bot(token()));
        assert_eq!(admit(&guard, "access_token=word", &[]), bot(token()));
        let named = ApplicationKey::Name("x".into());
        assert_eq!(admit(&guard, "access_token=word&app=x", &[]), bot(named.clone()));
        assert_eq!(admit(&guard, "", &[]), Err(NotAdmitted::TokenNeeded));
        for wrong in ["Bearer wor", "Bearer words", "Basic word"] {
            let refused = admit(&guard, "", &[("authorization", wrong)]);
            assert!(matches!(refused, Err(NotAdmitted::TokenWrong | NotAdmitted::TokenNeeded)), "{wrong}");
        }
        let long = format!("app={}", "x".repeat(65));
        for name in ["app=", "app=%0a", &long] {
            assert_eq!(admit(&guard, name, &[]), Err(NotAdmitted::BadName));
        }
        // What the controller has let in needs no token of the account.
        let read_only = Admission { access: AppAccess::ReadOnly, key: Some(named) };
        assert_eq!(admit(&guard, "app=x", &[(DOOR, "read-only")]), Ok(read_only));
        let open = AppGuard::new(Tokens::Given([].into()));
        assert_eq!(admit(&open, "", &[(DOOR, "account")]), Err(NotAdmitted::TokenNeeded));
        assert_eq!(admit(&open, "", &[]), Ok(Admission { access: AppAccess::Full, key: None }));
    }

    #[test]
    fn account_is_closed_while_the_file_of_its_tokens_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let guard = AppGuard::new(Tokens::from(&TokenSource::File(path.clone())));
        let shown = [("authorization", "Bearer word")];
        for headers in [&[][..], &shown] {
            assert_eq!(admit(&guard, "", headers), Err(NotAdmitted::NoTokens));
        }
        assert!(admit(&guard, "", &[(DOOR, "full")]).is_ok());
        replace(&path, b"word", 0o600).unwrap();
        assert_eq!(admit(&guard, "", &[]), Err(NotAdmitted::TokenNeeded));
        assert!(admit(&guard, "", &shown).is_ok());
        replace(&path, b"renewed", 0o600).unwrap();
        assert_eq!(admit(&guard, "", &shown), Err(NotAdmitted::TokenWrong));
        replace(&path, b"word", 0o644).unwrap();
        assert_eq!(admit(&guard, "", &shown), Err(NotAdmitted::NoTokens));
    }
}
