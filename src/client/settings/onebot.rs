//! What can be set on the OneBot backend.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{SettingsError, Vars};

/// What can be set on the OneBot backend.
pub(in crate::client) struct OneBotSettings {
    /// How the implementation is reached.
    pub reach: Reach,
    /// The file with its token.
    pub token_file: Option<PathBuf>,
    /// Where it writes the image of its login code.
    pub qrcode: Option<PathBuf>,
    /// How long a call may take.
    pub call_time: Duration,
    /// The pause between two loads of the lists.
    pub refresh: Duration,
    /// Whether what the account says elsewhere is told.
    pub message_sync: bool,
}

/// How an implementation is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) enum Reach {
    /// By a WebSocket to it.
    Forward {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// By a WebSocket that it opens to this address of ours.
    Reverse(SocketAddr),
    /// By HTTP both ways.
    Http {
        /// The URL of its API.
        url: String,
        /// Where it posts events to.
        listen: SocketAddr,
    },
}

const URL: &str = "ws://HOST:PORT/ or wss://HOST:PORT/, or http://HOST:PORT/ together with onebot_listen";
const LISTEN: &str = "an IP address with a port, such as 127.0.0.1:6000; other machines reach it only where the \
                      controller's configuration names it";

impl OneBotSettings {
    pub(super) fn from_vars(vars: &Vars) -> Result<Self, SettingsError> {
        let token_file = vars.text("ONEBOT_TOKEN_FILE")?.map(PathBuf::from);
        let address = |text: &str| text.parse::<SocketAddr>().ok();
        let listen = vars.checked("ONEBOT_LISTEN", LISTEN, address)?;
        let reach = match (vars.text("ONEBOT_URL")?, listen) {
            (None, None) => return Err(SettingsError::Missing("ONEBOT_URL")),
            (None, Some(listen)) => Reach::Reverse(listen),
            (Some(url), listen) => reach(&url, listen).ok_or(SettingsError::Invalid("ONEBOT_URL", URL))?,
        };
        let call_time = vars.seconds("ONEBOT_TIMEOUT")?.unwrap_or(Duration::from_secs(30));
        Ok(Self {
            reach,
            token_file,
            qrcode: vars.text("ONEBOT_QRCODE_PATH")?.map(PathBuf::from),
            call_time: call_time.max(Duration::from_millis(10)),
            refresh: vars
                .seconds("ONEBOT_REFRESH")?
                .unwrap_or(Duration::from_secs(600))
                .max(Duration::from_millis(10)),
            message_sync: vars.flag("ALLOW_MESSAGE_SYNC")?.unwrap_or(false),
        })
    }
}

fn reach(text: &str, listen: Option<SocketAddr>) -> Option<Reach> {
    let url = Url::parse(text).ok()?;
    let host = match url.host()? {
        url::Host::Domain(name) => name.to_owned(),
        url::Host::Ipv4(address) => IpAddr::V4(address).to_string(),
        url::Host::Ipv6(address) => IpAddr::V6(address).to_string(),
    };
    match (url.scheme(), listen) {
        ("ws" | "wss", None) => {
            Some(Reach::Forward { url: url.to_string(), host, port: url.port_or_known_default()? })
        }
        ("http" | "https", Some(listen)) if url.query().is_none() => {
            Some(Reach::Http { url: url.to_string(), listen })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        let listen = Some("127.0.0.1:6000".parse().unwrap());
        assert_eq!(
            reach("ws://127.0.0.1:3001/", None),
            Some(Reach::Forward { url: "ws://127.0.0.1:3001/".into(), host: "127.0.0.1".into(), port: 3001 })
        );
        assert_eq!(
            reach("ws://[::1]/x", None),
            Some(Reach::Forward { url: "ws://[::1]/x".into(), host: "::1".into(), port: 80 })
        );
        assert_eq!(
            reach("wss://bot.example", None),
            Some(Reach::Forward { url: "wss://bot.example/".into(), host: "bot.example".into(), port: 443 })
        );
        assert!(matches!(reach("http://h:3000", listen), Some(Reach::Http { .. })));
        for (url, listen) in [
            ("ws://h/", listen),
            ("http://h/", None),
            ("http://h/?a", listen),
            ("x", None),
            ("file:///x", None),
        ] {
            assert_eq!(reach(url, listen), None, "{url}");
        }
    }
}
