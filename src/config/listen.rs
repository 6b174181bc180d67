//! [`ListenAddress`]: where callers reach the controller. Opening the sockets is not done here.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address to listen on. As text `host:port`, an IPv6 address in brackets, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP port of one host.
    Tcp {
        /// An IPv4 address, an IPv6 address without brackets, or a name that the resolver knows.
        host: String,
        /// The port; 0 leaves the choice to the kernel.
        port: u16,
    },
    /// A Unix socket.
    Unix(UnixSocket),
}

/// A Unix socket, and who may use it. Two of the same path are the same address, so only the path is displayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixSocket {
    /// Its path; absolute.
    pub path: PathBuf,
    /// The permissions of its file. Who may write it may connect.
    pub mode: u32,
    /// The group of its file: a name, or a number. Without one it is that of the daemon.
    pub group: Option<String>,
    /// Whether the permissions of its file are not enough, and callers show a token as on a TCP address.
    pub require_token: bool,
}

impl UnixSocket {
    /// Only the daemon's own user and root.
    pub const DEFAULT_MODE: u32 = 0o600;
}

/// Why something is no [`ListenAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Neither of the two forms.
    #[error("must be \"host:port\", with an IPv6 address as in \"[::1]:4000\", or \"unix:/path\"")]
    Form,
    /// The host.
    #[error("its host must be an IPv4 or IPv6 address or a host name")]
    Host,
    /// The port.
    #[error("its port must be a whole number from 0 to 65535")]
    Port,
    /// The path of the socket.
    #[error(
        "its socket path must be absolute, without NUL and at most {} bytes",
        ListenAddress::MAX_SOCKET_PATH
    )]
    SocketPath,
}

impl ListenAddress {
    /// The host where none is given: nothing outside of the machine is let in unasked.
    pub const DEFAULT_HOST: &str = "127.0.0.1";
    /// The port where none is given.
    pub const DEFAULT_PORT: u16 = 4000;
    /// The longest path of a Unix socket, in bytes: the kernel's 108 less the NUL at the end.
    pub const MAX_SOCKET_PATH: usize = 107;

    /// A TCP address. `host` may be an IPv6 address with or without brackets.
    pub fn tcp(host: &str, port: u16) -> Result<Self, ListenError> {
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(ListenError::Host),
            None if host.parse::<Ipv6Addr>().is_ok() || is_v4_or_name(host) => host,
            None => return Err(ListenError::Host),
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// A Unix socket of the daemon's own user.
    pub fn unix(path: &str) -> Result<Self, ListenError> {
        if Path::new(path).is_absolute() && path.len() <= Self::MAX_SOCKET_PATH && !path.contains('\0') {
            let mode = UnixSocket::DEFAULT_MODE;
            Ok(Self::Unix(UnixSocket { path: PathBuf::from(path), mode, group: None, require_token: false }))
        } else {
            Err(ListenError::SocketPath)
        }
    }
}

/// An IPv4 address or a host name. Digits and dots alone are never a name, so that a mistyped address is told
/// at once and not by a resolver that was asked for it.
fn is_v4_or_name(host: &str) -> bool {
    // The lengths are those of RFC 1035, 2.3.4.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(label)
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self::Tcp { host: Self::DEFAULT_HOST.to_owned(), port: Self::DEFAULT_PORT }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        // From the right, as an IPv6 address has colons of its own.
        let (host, port) = text.rsplit_once(':').ok_or(ListenError::Form)?;
        // Without brackets it is not clear where an IPv6 address ends and the port begins.
        if host.contains(':') && !host.starts_with('[') {
            return Err(ListenError::Form);
        }
        // `u16::from_str` also takes a `+`.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ListenError::Port);
        }
        Self::tcp(host, port.parse().map_err(|_| ListenError::Port)?)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_back() {
        for good in
            ["127.0.0.1:4000", "[::1]:4000", "localhost:0", "my-host.example.org:65535", "unix:/run/w q.sock"]
        {
            assert_eq!(good.parse::<ListenAddress>().unwrap().to_string(), good);
        }
        assert_eq!("[::1]:1".parse(), Ok(ListenAddress::Tcp { host: "::1".into(), port: 1 }));
        assert_eq!(ListenAddress::default().to_string(), "127.0.0.1:4000");
    }

    #[test]
    fn refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (bad, why) in [
            ("", ListenError::Form),
            ("localhost", ListenError::Form),
            ("::1:4000", ListenError::Form),
            ("http://localhost:4000", ListenError::Form),
            ("h:", ListenError::Port),
            ("h:+1", ListenError::Port),
            ("h:65536", ListenError::Port),
            ("[::1]", ListenError::Port),
            (":4000", ListenError::Host),
            ("*:4000", ListenError::Host),
            ("127.0.0.300:1", ListenError::Host),
            ("a..b:1", ListenError::Host),
            ("[localhost]:1", ListenError::Host),
            ("[::1:1", ListenError::Host),
            ("小明:1", ListenError::Host),
            ("unix:", ListenError::SocketPath),
            ("unix:run/x", ListenError::SocketPath),
            ("unix:/a\0b", ListenError::SocketPath),
            (&long, ListenError::SocketPath),
        ] {
            assert_eq!(bad.parse::<ListenAddress>(), Err(why), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_comes_back(text in r"([a-z0-9.:\[\]-]{0,12}:[0-9]{1,5}|unix:/\PC{0,12}|\PC{0,12})") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
