//! Other machines with a controller: `[machines.NAME]`. Nothing is connected here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use url::{Host, Url};

use super::named_tables::NamedTables;
use super::options::Options;
use crate::backends::TableKey;
use crate::model::machine::MachineName;

/// The Unix socket of a controller that is installed as a package (wqcontroller-unix.socket).
const SOCKET: &str = "/run/wqcontroller.sock";

/// Another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSettings {
    /// Where its controller is reached.
    pub address: MachineAddress,
    /// The file with the token that it asks for.
    pub token_file: Option<PathBuf>,
}

/// The other machines, by name.
pub type Machines = BTreeMap<MachineName, MachineSettings>;

/// Where the controller of another machine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineAddress {
    /// Its Unix socket, through OpenSSH.
    Ssh {
        /// The user there; none: as the configuration of OpenSSH says.
        user: Option<String>,
        /// The machine, or a `Host` of that configuration.
        host: String,
        /// The port of sshd; none: as the configuration of OpenSSH says.
        port: Option<u16>,
        /// The socket there.
        socket: PathBuf,
    },
    /// HTTP, with TLS unless it is on this machine.
    Http {
        /// The machine; IPv6 in brackets.
        host: String,
        /// Its port.
        port: u16,
        /// Whether by TLS.
        tls: bool,
        /// What stands before every path, where another server is in front of it.
        prefix: String,
    },
}

impl fmt::Display for MachineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { user, host, port, .. } => {
                f.write_str("ssh://")?;
                user.iter().try_for_each(|user| write!(f, "{user}@"))?;
                f.write_str(host)?;
                port.iter().try_for_each(|port| write!(f, ":{port}"))
            }
            Self::Http { host, port, tls, prefix } => {
                write!(f, "{}://{host}:{port}{prefix}", if *tls { "https" } else { "http" })
            }
        }
    }
}

impl MachineAddress {
    const ALLOWED: &str = "ssh://USER@HOST, with /PATH of the socket there if it is not /run/wqcontroller.sock, or https://HOST:PORT; \
                           http:// is for 127.0.0.1 alone, and neither has a password or a query";

    /// Reads it.
    fn of(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let host = url.host_str()?.to_owned();
        if url.scheme() == "ssh" {
            // OpenSSH would take them for options.
            let is_plain = |text: &str| {
                !text.starts_with('-')
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            };
            let host = host.trim_matches(['[', ']']).to_owned();
            let is_host = is_plain(&host) || host.parse::<std::net::Ipv6Addr>().is_ok();
            if !is_host || !is_plain(url.username()) {
                return None;
            }
            let socket = match url.path() {
                "" | "/" => SOCKET,
                path if path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b'%')) => {
                    path
                }
                _ => return None,
            };
            let user = Some(url.username().to_owned()).filter(|user| !user.is_empty());
            return Some(Self::Ssh { user, host, port: url.port(), socket: socket.into() });
        }
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let is_here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        if !url.username().is_empty() || !(tls || is_here) {
            return None;
        }
        let (port, prefix) = (url.port_or_known_default()?, url.path().trim_end_matches('/').to_owned());
        Some(Self::Http { host, port, tls, prefix })
    }
}

const TABLES: NamedTables = NamedTables {
    option: "machines",
    noun: "machine",
    keys: &[
        TableKey {
            name: "url",
            allowed: MachineAddress::ALLOWED,
            is_valid: |text| MachineAddress::of(text).is_some(),
            // Someone may put a password into it.
            is_shown: false,
            is_parameter: false,
        },
        TableKey::path("token_file"),
    ],
    check_name: |name| MachineName::new(name).map(drop).map_err(|error| error.to_string()),
    list: None,
};

/// Reads them from every file.
pub(super) fn read(options: &mut Options<'_>) -> Machines {
    let mut machines = Machines::new();
    for (name, entry) in TABLES.read(options) {
        let origin = entry.origin;
        let keys: BTreeMap<_, _> = entry.split().1.into_iter().collect();
        // Both were checked.
        let (Ok(known), address) = (MachineName::new(&name), keys.get("url")) else { continue };
        match address.and_then(|text| MachineAddress::of(text)) {
            Some(address) => {
                let token_file = keys.get("token_file").map(PathBuf::from);
                machines.insert(known, MachineSettings { address, token_file });
            }
            None => options.object_at(&format!("{}.{name}", TABLES.option), origin, "must have a url"),
        }
    }
    machines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fragment::Fragment;
    use std::path::Path;

    fn read_one(text: &str) -> (Machines, String) {
        let fragments = [Fragment::parse(Path::new("0.toml"), text)];
        let mut options = Options::new(&fragments);
        let machines = read(&mut options);
        (machines, options.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn machines_have_an_address_and_a_token() {
        let (machines, problems) = read_one(
            "[machines.tokyo]\nurl = 'ssh://wq@tokyo'\n[machines.osaka]\nurl = 'https://osaka.example:4443/wq/'\n\
             token_file = '/etc/wqcontroller/osaka.token'\n[machines.near]\nurl = 'http://127.0.0.1:4001'\n\
             [machines.six]\nurl = 'ssh://[2001:db8::1]:2222/run/x.sock'",
        );
        assert_eq!(problems, "");
        let shown: Vec<_> =
            machines.iter().map(|(name, machine)| format!("{name} {}", machine.address)).collect();
        assert_eq!(
            shown,
            [
                "near http://127.0.0.1:4001",
                "osaka https://osaka.example:4443/wq",
                "six ssh://2001:db8::1:2222",
                "tokyo ssh://wq@tokyo"
            ]
        );
        let socket = |name: &str| match &machines[&MachineName::new(name).unwrap()].address {
            MachineAddress::Ssh { socket, .. } => socket.to_str().unwrap().to_owned(),
            MachineAddress::Http { .. } => String::new(),
        };
        assert_eq!((socket("tokyo").as_str(), socket("six").as_str()), (SOCKET, "/run/x.sock"));
        let osaka = &machines[&MachineName::new("osaka").unwrap()];
        assert_eq!(osaka.token_file.as_deref(), Some(Path::new("/etc/wqcontroller/osaka.token")));
    }

    #[test]
    fn mistakes_in_machines_are_reported() {
        for url in [
            "ssh://-oProxyCommand=x/",
            "ssh://-l@tokyo",
            "ssh://a%20b@tokyo",
            "ssh://wq:hush@tokyo",
            "ssh://tokyo/run/a b",
            "ssh://tokyo/run/a:b",
            "http://osaka.example",
            "https://me:hush@osaka",
            "https://osaka/?token=hush",
            "tokyo",
            "ftp://tokyo",
            "",
        ] {
            let problems = read_one(&format!("[machines.a]\nurl = '{url}'")).1;
            assert!(problems.contains("0.toml:") && !problems.contains("hush"), "{url}: {problems}");
        }
        assert!(read_one("[machines.a]\ntoken_file = '/x'").1.contains("`machines.a` must have a url"));
        assert!(read_one("[machines.local]\nurl = 'ssh://h'").1.contains("not local"));
    }
}
