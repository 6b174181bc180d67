//! [`SocketUrl`]: the address of an application that waits for a WebSocket, as `onebot_server_connect` and `[onebot_server]` have it.

use std::fmt;
use std::net::IpAddr;

use url::Url;

/// The longest that is read, in bytes, as of every URL that a start may have.
const MAX_BYTES: usize = 4096;

/// What a WebSocket is for (onebot-11, `communication/ws-reverse.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRole {
    /// Actions and events.
    Universal,
    /// Actions.
    Api,
    /// Events.
    Event,
}

impl SocketRole {
    /// What stands before the scheme of a URL with this role, without the `+`.
    const PREFIXES: [(&str, Self); 2] = [("api", Self::Api), ("event", Self::Event)];

    /// Whether actions are carried out that come on it.
    pub fn acts(self) -> bool {
        self != Self::Event
    }

    /// Whether events are sent on it.
    pub fn listens(self) -> bool {
        self != Self::Api
    }

    /// Its name, as the header `X-Client-Role` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Universal => "Universal",
            Self::Api => "API",
            Self::Event => "Event",
        }
    }

    fn prefix(self) -> String {
        let found = Self::PREFIXES.into_iter().find(|(_, role)| *role == self);
        found.map(|(word, _)| format!("{word}+")).unwrap_or_default()
    }

    /// Takes the role off a URL.
    fn split(text: &str) -> (Self, &str) {
        let found = Self::PREFIXES.into_iter().find_map(|(word, role)| {
            let is_word = text.get(..word.len())?.eq_ignore_ascii_case(word);
            // A `+` in the query of a start call is a blank.
            let rest = text.get(word.len()..)?.strip_prefix(['+', ' '])?;
            is_word.then_some((role, rest))
        });
        found.unwrap_or((Self::Universal, text))
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
    /// What the WebSocket is for.
    pub role: SocketRole,
    /// The name of the token that the application is shown; none: the first one.
    pub token_name: Option<String>,
}

impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketUrl").field(&self.shown()).finish_non_exhaustive()
    }
}

impl SocketUrl {
    /// Reads `URL` or `NAME=URL`, in which `api+` or `event+` may stand before the scheme.
    pub fn read(text: &str) -> Option<Self> {
        // A URL has a colon before any `=`.
        let named = text.split_once('=').filter(|(name, _)| !name.contains(':'));
        let (token_name, text) = match named {
            Some((name, url)) => {
                (Some(Some(name.trim()).filter(|name| !name.is_empty())?.to_owned()), url.trim())
            }
            None => (None, text),
        };
        let (role, text) = SocketRole::split(text);
        // The parser would take a list for one URL, and drop control characters.
        if text.len() > MAX_BYTES || text.contains(|c: char| c == ',' || c.is_control() || c.is_whitespace())
        {
            return None;
        }
        let url = Url::parse(text).ok()?;
        // A WebSocket's URL has no fragment (RFC 6455, 3).
        let is_socket = matches!(url.scheme(), "ws" | "wss") && url.fragment().is_none();
        let (host, port) = (host_of(&url)?, url.port_or_known_default()?);
        is_socket.then_some(Self { url, host, port, role, token_name })
    }

    /// The URL with its secrets, as a request needs it.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// What [`SocketUrl::read`] reads, with its secrets.
    pub fn written(&self) -> String {
        let name = self.token_name.as_ref().map(|name| format!("{name}=")).unwrap_or_default();
        // A parsed URL has no comma that was not there before.
        format!("{name}{}{}", self.role.prefix(), self.url)
    }

    /// Whether it is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// The path alone, for people.
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// The URL for people. User, password and query may be secrets, and are left out.
    pub fn shown(&self) -> String {
        let mut shown = self.url.clone();
        // They fail for a URL that can have neither, which one with a host is not.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        format!("{}{shown}", self.role.prefix())
    }
}

/// The host of a URL as a look-up takes it: `host_str` has brackets around an IPv6 address.
pub fn host_of(url: &Url) -> Option<String> {
    Some(match url.host()? {
        url::Host::Domain(name) => name.to_owned(),
        url::Host::Ipv4(address) => IpAddr::V4(address).to_string(),
        url::Host::Ipv6(address) => IpAddr::V6(address).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_read_with_name_and_role_and_shows_no_secret() {
        let read = |text: &str| SocketUrl::read(text).unwrap();
        let parts = |one: &SocketUrl| (one.host.clone(), one.port, one.is_secure(), one.token_name.clone());
        let plain = read("ws://h:8080/onebot/v11/ws");
        assert_eq!((parts(&plain), plain.role), (("h".into(), 8080, false, None), SocketRole::Universal));
        let full = read("koishi=event+wss://me:hunter2@[::1]/x?access_token=hunter2");
        let expected = ("::1".into(), 443, true, Some("koishi".into()));
        assert_eq!((parts(&full), full.role), (expected, SocketRole::Event));
        assert_eq!((full.shown().as_str(), full.path()), ("event+wss://[::1]/x", "/x"));
        assert!(full.as_str().starts_with("wss://me:hunter2@") && !format!("{full:?}").contains("hunter2"));
        for text in [plain.written(), full.written()] {
            assert_eq!(read(&text).written(), text);
        }
        for text in ["api+ws://h/", "API+ws://h/", "api ws://h/"] {
            assert_eq!(read(text).role, SocketRole::Api, "{text}");
        }
        for wrong in [
            "",
            "h",
            "http://h/",
            "ws://h/#a",
            "ws://h/a,b",
            "ws://h/ a",
            "ws://h/\u{7}",
            "=ws://h/",
            "api+h",
            "api+api+ws://h/",
            "universal+ws://h/",
            "koishi=",
            "ws:///",
            &format!("ws://h/{}", "x".repeat(4096)),
        ] {
            assert_eq!(SocketUrl::read(wrong), None, "{wrong}");
        }
    }
}
