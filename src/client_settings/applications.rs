//! The settings of the applications that speak OneBot v11 to the client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::remote::host_of;
use super::{SettingsError, Vars};
use crate::config::Endpoint;

/// How long an application may be away before what waits for it is dropped.
const HOLD: Duration = Duration::from_secs(30);
/// The longest of these.
const MAX_HOLD: Duration = Duration::from_secs(3600);
/// The time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The most tokens that open an account.
const MAX_TOKENS: usize = 16;
/// The most URLs to connect to, and to post to.
const MAX_URLS: usize = 16;

const TOKENS: &str = "tokens of visible ASCII with commas between them, each a word or NAME=WORD, at most 16";
const CONNECT: &str = "ws or wss URLs with commas between them, each a URL or NAME=URL with the NAME of a token of \
                       onebot_server_token, at most 16; a comma in a URL is written %2C";
const POST: &str = "http or https URLs with commas between them, at most 16; a comma in a URL is written %2C";
const SECRET: &str = "a word of visible ASCII";
const TIME: &str = "seconds from 0 to 3600";

/// The settings of applications.
pub struct ApplicationSettings {
    /// The tokens that open the account; none: whoever reaches the port does.
    pub tokens: Arc<[ApplicationToken]>,
    /// The applications to which the client opens WebSockets.
    pub connect: Arc<[SocketUrl]>,
    /// The applications to which the client posts events.
    pub post: Arc<[Endpoint]>,
    /// What signs these posts.
    pub secret: Option<PostSecret>,
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

/// The URL of an application that waits for a WebSocket. `Debug` shows what [`SocketUrl::shown`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketUrl {
    url: Url,
    /// Its host, as the system's look-up takes it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What the application is shown; none: nothing.
    pub token: Option<ApplicationToken>,
}

impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketUrl").field(&self.shown()).finish_non_exhaustive()
    }
}

impl SocketUrl {
    /// The URL with its secrets, as a request needs it.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Whether it is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// The path alone, for people.
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// The URL for people: without user, password and query, any of which may be a secret.
    pub fn shown(&self) -> String {
        let mut shown = self.url.clone();
        // They fail for a URL that can have neither, which one with a host is not.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        shown.into()
    }

    /// Reads `URL`, which has the first token, or `NAME=URL`.
    fn read(text: &str, tokens: &[ApplicationToken]) -> Option<Self> {
        // A URL has a colon before any `=`.
        let named = text.split_once('=').filter(|(name, _)| !name.contains(':'));
        let (token, text) = match named {
            Some((name, url)) => (Some(tokens.iter().find(|token| token.name == name.trim())?), url.trim()),
            None => (tokens.first(), text),
        };
        let url = Url::parse(text).ok()?;
        // A WebSocket's URL has no fragment (RFC 6455, 3).
        let is_socket = matches!(url.scheme(), "ws" | "wss") && url.fragment().is_none();
        let (host, port) = (host_of(&url)?, url.port_or_known_default()?);
        is_socket.then(|| Self { url, host, port, token: token.cloned() })
    }
}

/// What signs posts. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostSecret(String);

impl fmt::Debug for PostSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostSecret")
    }
}

impl PostSecret {
    /// The secret itself.
    pub fn as_str(&self) -> &str {
        &self.0
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
        let tokens = vars.checked("ONEBOT_SERVER_TOKEN", TOKENS, tokens)?.unwrap_or_default();
        let sockets = |text: &str| all_of(text, |one| SocketUrl::read(one, &tokens));
        Ok(Self {
            connect: vars.checked("ONEBOT_SERVER_CONNECT", CONNECT, sockets)?.unwrap_or_default(),
            post: vars
                .checked("ONEBOT_SERVER_POST", POST, |text| all_of(text, Endpoint::new))?
                .unwrap_or_default(),
            secret: vars.checked("ONEBOT_SERVER_SECRET", SECRET, |text| {
                text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| PostSecret(text.to_owned()))
            })?,
            tokens,
            hold: time("ONEBOT_SERVER_HOLD", HOLD)?,
            heartbeat: time("ONEBOT_SERVER_HEARTBEAT", HEARTBEAT)?,
        })
    }
}

/// Reads URLs with commas between them; none if one can't be used, or is there twice.
fn all_of<T: PartialEq>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Arc<[T]>> {
    let all: Option<Vec<T>> = text.split(',').map(|one| read(one.trim())).collect();
    // One that is there twice would be told each event twice.
    let differ = |all: &Vec<T>| all.iter().enumerate().all(|(place, one)| !all[..place].contains(one));
    all.filter(|all| all.len() <= MAX_URLS && differ(all)).map(Arc::from)
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
    #[test]
    fn urls_are_shown_their_tokens_and_show_no_secrets() {
        let tokens = [ApplicationToken::of("nonebot", "a"), ApplicationToken::of("koishi", "b")];
        let read = |text: &str| all_of(text, |one| SocketUrl::read(one, &tokens));
        let all =
            read("ws://h:8080/onebot/v11/ws, koishi=wss://me:hunter2@[::1]/x?access_token=hunter2").unwrap();
        let found: Vec<_> = all
            .iter()
            .map(|one| (one.host.as_str(), one.port, one.is_secure(), one.token.as_ref().unwrap().secret()))
            .collect();
        assert_eq!(found, [("h", 8080, false, "a"), ("::1", 443, true, "b")]);
        assert!(all[1].as_str().contains("hunter2"));
        assert_eq!((all[1].shown().as_str(), all[1].path()), ("wss://[::1]/x", "/x"));
        assert!(!format!("{all:?}").contains("hunter2"));
        assert!(SocketUrl::read("ws://h/?a=b", &[]).is_some_and(|url| url.token.is_none()));
        let many = (0..17).map(|count| format!("ws://h/{count}")).collect::<Vec<_>>().join(",");
        for wrong in ["", "h", "http://h/", "ws://h/,", "ws://h/#a", "zhin=ws://h/", "ws://h/,ws://h/", &many]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(!format!("{:?}", PostSecret("hush".into())).contains("hush"));
    }
}
