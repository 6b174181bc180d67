//! The settings of the Milky backend.

use std::path::Path;

use url::Url;

use super::remote::{RemoteSettings, RemoteVariables};
use super::{SettingsError, Vars};
use crate::config::host_of;
use crate::model::name::ClientName;

/// The settings of the Milky backend.
pub struct MilkySettings {
    /// The URL below which the calls are.
    pub calls: String,
    /// Where events come from.
    pub events: EventAddress,
    /// What each protocol has.
    pub remote: RemoteSettings,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventAddress {
    /// The URL of a WebSocket.
    pub web_socket: String,
    /// The same for SSE.
    pub sse: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

const VARIABLES: RemoteVariables = RemoteVariables {
    token_file: "MILKY_TOKEN_FILE",
    qrcode_path: "MILKY_QRCODE_PATH",
    timeout: "MILKY_TIMEOUT",
    refresh: "MILKY_REFRESH",
};

const URL: &str =
    "http://HOST:PORT/ or https://HOST:PORT/, with the prefix of the implementation where it has one";

impl MilkySettings {
    pub(super) fn from_vars(vars: &Vars, account: &ClientName, tmpdir: &Path) -> Result<Self, SettingsError> {
        let url = vars.text("MILKY_URL")?.ok_or(SettingsError::Needed("MILKY_URL", URL))?;
        let (calls, events) = addresses(&url).ok_or(SettingsError::Invalid("MILKY_URL", URL))?;
        Ok(Self { calls, events, remote: RemoteSettings::from_vars(vars, &VARIABLES, account, tmpdir)? })
    }
}

fn addresses(text: &str) -> Option<(String, EventAddress)> {
    let url = Url::parse(text).ok()?;
    // The name of each call is appended, which a query would swallow.
    let scheme = match url.scheme() {
        "http" => "ws",
        "https" => "wss",
        _ => return None,
    };
    if url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let base = url.as_str().trim_end_matches('/').to_owned();
    let sse = format!("{base}/event");
    let web_socket = format!("{scheme}{}", sse.strip_prefix(url.scheme())?);
    let (host, port) = (host_of(&url)?, url.port_or_known_default()?);
    Some((format!("{base}/api"), EventAddress { web_socket, sse, host, port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_below_the_url() {
        for (url, calls, web_socket, host, port) in [
            (
                "http://127.0.0.1:3000",
                "http://127.0.0.1:3000/api",
                "ws://127.0.0.1:3000/event",
                "127.0.0.1",
                3000,
            ),
            (
                "http://[::1]:3000/milky/",
                "http://[::1]:3000/milky/api",
                "ws://[::1]:3000/milky/event",
                "::1",
                3000,
            ),
            ("https://bot.example", "https://bot.example/api", "wss://bot.example/event", "bot.example", 443),
        ] {
            let (found, events) = addresses(url).unwrap();
            assert_eq!(
                (&*found, &*events.web_socket, &*events.host, events.port),
                (calls, web_socket, host, port)
            );
        }
        for url in ["ws://h/", "http://h/?a", "http://h/#a", "x", "file:///x"] {
            assert_eq!(addresses(url), None, "{url}");
        }
    }
}
