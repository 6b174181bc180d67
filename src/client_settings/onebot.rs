//! The settings of the OneBot backend.

use std::net::SocketAddr;
use std::path::Path;

use url::Url;

use super::remote::{RemoteSettings, RemoteVariables};
use super::{SettingsError, Vars};
use crate::config::host_of;
use crate::model::name::ClientName;

/// The settings of the OneBot backend.
pub struct OneBotSettings {
    /// How the client and the implementation connect.
    pub connection_mode: ConnectionMode,
    /// What each protocol has.
    pub remote: RemoteSettings,
}

/// How the client and the implementation connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionMode {
    /// The client opens a WebSocket.
    Forward {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The implementation opens a WebSocket to this address of the client.
    Reverse(SocketAddr),
    /// Each sends HTTP requests to the other.
    Http {
        /// The URL of its API.
        url: String,
        /// The address to which it posts events.
        listen: SocketAddr,
    },
}

const URL: &str = "ws://HOST:PORT/ or wss://HOST:PORT/, or http://HOST:PORT/ together with onebot_listen";
const LISTEN: &str = "an IP address with a port, such as 127.0.0.1:6000; other machines reach it only where the \
                      controller's configuration names it";

const VARIABLES: RemoteVariables = RemoteVariables {
    token_file: "ONEBOT_TOKEN_FILE",
    qrcode_path: "ONEBOT_QRCODE_PATH",
    timeout: "ONEBOT_TIMEOUT",
    refresh: "ONEBOT_REFRESH",
};

impl OneBotSettings {
    pub(super) fn from_vars(vars: &Vars, account: &ClientName, tmpdir: &Path) -> Result<Self, SettingsError> {
        let address = |text: &str| text.parse::<SocketAddr>().ok();
        let listen = vars.checked("ONEBOT_LISTEN", LISTEN, address)?;
        let connection_mode = match (vars.text("ONEBOT_URL")?, listen) {
            (None, None) => return Err(SettingsError::Needed("ONEBOT_URL", URL)),
            (None, Some(listen)) => ConnectionMode::Reverse(listen),
            (Some(url), listen) => {
                connection_mode(&url, listen).ok_or(SettingsError::Invalid("ONEBOT_URL", URL))?
            }
        };
        Ok(Self { connection_mode, remote: RemoteSettings::from_vars(vars, &VARIABLES, account, tmpdir)? })
    }
}

fn connection_mode(text: &str, listen: Option<SocketAddr>) -> Option<ConnectionMode> {
    let url = Url::parse(text).ok()?;
    let host = host_of(&url)?;
    match (url.scheme(), listen) {
        ("ws" | "wss", None) => {
            Some(ConnectionMode::Forward { url: url.to_string(), host, port: url.port_or_known_default()? })
        }
        // The name of each call is appended to the URL, which a query would swallow.
        ("http" | "https", Some(listen)) if url.query().is_none() => {
            Some(ConnectionMode::Http { url: url.to_string(), listen })
        }
        // Over HTTP alone no event would arrive; a WebSocket carries events itself, so a second address contradicts it.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_mode_follows_url_and_listen() {
        let listen = Some("127.0.0.1:6000".parse().unwrap());
        assert_eq!(
            connection_mode("ws://127.0.0.1:3001/", None),
            Some(ConnectionMode::Forward {
                url: "ws://127.0.0.1:3001/".into(),
                host: "127.0.0.1".into(),
                port: 3001
            })
        );
        assert_eq!(
            connection_mode("ws://[::1]/x", None),
            Some(ConnectionMode::Forward { url: "ws://[::1]/x".into(), host: "::1".into(), port: 80 })
        );
        assert_eq!(
            connection_mode("wss://bot.example", None),
            Some(ConnectionMode::Forward {
                url: "wss://bot.example/".into(),
                host: "bot.example".into(),
                port: 443
            })
        );
        assert!(matches!(connection_mode("http://h:3000", listen), Some(ConnectionMode::Http { .. })));
        for (url, listen) in [
            ("ws://h/", listen),
            ("http://h/", None),
            ("http://h/?a", listen),
            ("x", None),
            ("file:///x", None),
        ] {
            assert_eq!(connection_mode(url, listen), None, "{url}");
        }
    }
}
