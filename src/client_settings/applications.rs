//! The settings of the applications that speak OneBot v11 to the client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{SettingsError, Vars};

/// How long an application may be away before what waits for it is dropped.
const HOLD: Duration = Duration::from_secs(30);
/// The longest of these.
const MAX_HOLD: Duration = Duration::from_secs(3600);
/// The time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The most tokens that open an account.
const MAX_TOKENS: usize = 16;

const TOKENS: &str = "tokens of visible ASCII with commas between them, each a word or NAME=WORD, at most 16";
const TIME: &str = "seconds from 0 to 3600";

/// The settings of applications.
pub struct ApplicationSettings {
    /// The tokens that open the account; none: whoever reaches the port does.
    pub tokens: Arc<[ApplicationToken]>,
    /// How long an application may be away before what waits for it is dropped; zero: no time.
    pub hold: Duration,
    /// The time between two heartbeats; zero: there are none.
    pub heartbeat: Duration,
}

/// A token that opens one account to an application. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplicationToken {
    /// The name of the application, which is shown.
    pub name: String,
    secret: String,
}

impl fmt::Debug for ApplicationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApplicationToken").field(&self.name).finish_non_exhaustive()
    }
}

impl ApplicationToken {
    /// The token itself.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: secret.to_owned() }
    }
}

impl ApplicationSettings {
    pub(super) fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let time = |name, usual| {
            let limited = |time: &Duration| *time <= MAX_HOLD;
            match vars.seconds(name)? {
                Some(time) => Some(time).filter(limited).ok_or(SettingsError::Invalid(name, TIME)),
                None => Ok(usual),
            }
        };
        Ok(Self {
            tokens: vars.checked("ONEBOT_SERVER_TOKEN", TOKENS, tokens)?.unwrap_or_default(),
            hold: time("ONEBOT_SERVER_HOLD", HOLD)?,
            heartbeat: time("ONEBOT_SERVER_HEARTBEAT", HEARTBEAT)?,
        })
    }
}

/// Reads tokens; none if one can't be sent in a header.
fn tokens(text: &str) -> Option<Arc<[ApplicationToken]>> {
    let all = text.split(',').enumerate().map(|(place, one)| {
        let (name, secret) = match one.trim().split_once('=') {
            // A token may end in `=`, as base64 does.
            Some((name, secret)) if !name.is_empty() && !secret.trim_matches('=').is_empty() => {
                (name.to_owned(), secret)
            }
            _ => (format!("number {}", place + 1), one.trim()),
        };
        let is_word = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        is_word.then(|| ApplicationToken { name, secret: secret.to_owned() })
    });
    let all: Option<Vec<_>> = all.collect();
    all.filter(|all| all.len() <= MAX_TOKENS).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_names() {
        let read = |text: &str| {
            let all = tokens(text)?;
            Some(all.iter().map(|token| (token.name.clone(), token.secret.clone())).collect::<Vec<_>>())
        };
        let pair = |name: &str, secret: &str| (name.to_owned(), secret.to_owned());
        assert_eq!(read("word"), Some(vec![pair("number 1", "word")]));
        assert_eq!(read("nonebot=a, koishi=b"), Some(vec![pair("nonebot", "a"), pair("koishi", "b")]));
        assert_eq!(read("YWI="), Some(vec![pair("number 1", "YWI=")]));
        for wrong in ["a,", "a b", "é", &["x"; 17].join(",")] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", ApplicationToken::of("a", "word")).contains("word"));
    }
}
