//! Checks that the socket units of the controller's service hand over all sockets that they configure.
//!
//! `systemctl edit` of an active socket unit closes the sockets whose address changed and opens none in their place ("not
//! functional until restarted", says systemd's log). A service that is started after that gets none of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::time::timeout;
use tracing::debug;
use zbus::Connection;

use super::connection::{QUICK_TIMEOUT, builder, bus_name, properties};
use super::error::BusError;
use super::manager::{ManagerProxy, SERVICE, SOCKET, UNIT, path_of};
use crate::config::ManagerKind;
use crate::model::error_chain::ErrorChain;
use crate::service::activation::Activated;

/// A socket unit that does not hand over its sockets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketsError {
    /// Its addresses were changed after it was started.
    #[error(
        "{0} was changed while it was active and no longer listens: run `systemctl restart {0}`, then `systemctl start \
         wqcontroller`"
    )]
    Changed(String),
    /// It is enabled and not active.
    #[error(
        "{0} is enabled but {1}, so its address would refuse connections: see `systemctl status {0}`, then start it or run \
         `systemctl disable {0}`"
    )]
    Inactive(String, String),
}

impl SocketsError {
    /// Whether the next start of the service may succeed by itself, because it starts the socket unit, too.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Inactive(..))
    }
}

/// The properties of a socket unit.
#[derive(Debug)]
struct SocketUnit {
    name: String,
    /// `ActiveState`.
    state: String,
    /// `UnitFileState`.
    file_state: String,
    /// `Listen`, as systemd writes addresses.
    listen: Vec<String>,
}

/// Fails where a socket unit of the controller's service has not handed over all its sockets. `activated` are those that were.
/// Succeeds where the controller is no service of systemd, or systemd cannot be reached.
pub async fn check_sockets(activated: &[Activated]) -> Result<(), SocketsError> {
    // systemd sets it for every service.
    if std::env::var_os("INVOCATION_ID").is_none() || !super::is_booted() {
        return Ok(());
    }
    // Which manager the service belongs to is not known here: each is asked whether it has this process.
    let units = async {
        for kind in [ManagerKind::System, ManagerKind::User] {
            match ask(kind).await {
                Ok(Some(units)) => return units,
                Ok(None) => {}
                Err(error) => {
                    let error = ErrorChain(&error);
                    debug!(%error, "cannot ask systemd for the controller's socket units: {error}");
                }
            }
        }
        vec![]
    };
    let opened: Vec<_> = activated.iter().filter_map(Opened::of).collect();
    match units.await.iter().find_map(|unit| fault(unit, &opened)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Where a socket listens.
#[derive(Debug, PartialEq, Eq)]
enum Opened {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Opened {
    /// None for a Unix socket without a file.
    fn of(activated: &Activated) -> Option<Self> {
        match activated {
            Activated::Tcp(listener) => listener.local_addr().ok().map(Self::Tcp),
            Activated::Unix(listener) => {
                listener.local_addr().ok()?.as_pathname().map(|path| Self::Unix(path.to_owned()))
            }
        }
    }

    /// Whether the socket has the address `listen`.
    fn is(&self, listen: &str) -> bool {
        match (self, listen.parse::<SocketAddr>()) {
            (Self::Tcp(opened), Ok(wanted)) => {
                // Port 0 lets the kernel choose, so any port is right.
                opened.ip() == wanted.ip() && (wanted.port() == 0 || opened.port() == wanted.port())
            }
            (Self::Unix(opened), Err(_)) => opened.as_os_str() == listen,
            _ => false,
        }
    }
}

fn fault(unit: &SocketUnit, opened: &[Opened]) -> Option<SocketsError> {
    // Other kinds of addresses are rare, and not compared.
    let is_comparable = |listen: &&String| listen.starts_with('/') || listen.parse::<SocketAddr>().is_ok();
    let is_missing = |listen: &String| !opened.iter().any(|opened| opened.is(listen));
    match unit.state.as_str() {
        "active" if unit.listen.iter().filter(is_comparable).any(is_missing) => {
            Some(SocketsError::Changed(unit.name.clone()))
        }
        "failed" | "inactive" if unit.file_state.starts_with("enabled") => {
            Some(SocketsError::Inactive(unit.name.clone(), unit.state.clone()))
        }
        _ => None,
    }
}

/// The socket units of the controller's service; None where it is no service of this manager.
async fn ask(kind: ManagerKind) -> Result<Option<Vec<SocketUnit>>, BusError> {
    let asking = async {
        let connection = builder(kind)?.build().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let Ok(service) = manager.get_unit_by_pid(std::process::id()).await else { return Ok(None) };
        let service = properties(&connection, service.as_str().to_owned()).await?;
        // A session's scope has no such property: a person has started the controller there.
        let Ok(main_pid) = service.get(SERVICE, "MainPID").await else { return Ok(None) };
        if u32::try_from(&main_pid) != Ok(std::process::id()) {
            return Ok(None);
        }
        let triggers = Vec::<String>::try_from(service.get(UNIT, "TriggeredBy").await?)?;
        let mut units = vec![];
        for name in triggers.into_iter().filter(|name| name.ends_with(".socket")) {
            units.push(socket_unit(&connection, name).await?);
        }
        Ok(Some(units))
    };
    match timeout(QUICK_TIMEOUT, asking).await {
        Ok(asked) => asked.map_err(|error| BusError::Connect(bus_name(kind), error)),
        Err(_) => Err(BusError::Unreachable(bus_name(kind))),
    }
}

async fn socket_unit(connection: &Connection, name: String) -> zbus::Result<SocketUnit> {
    let unit = properties(connection, path_of(&name)).await?;
    let text = async |property| Ok::<_, zbus::Error>(String::try_from(unit.get(UNIT, property).await?)?);
    let (state, file_state) = (text("ActiveState").await?, text("UnitFileState").await?);
    let listen = Vec::<(String, String)>::try_from(unit.get(SOCKET, "Listen").await?)?;
    Ok(SocketUnit {
        name,
        state,
        file_state,
        listen: listen.into_iter().map(|(_, address)| address).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: &str, file_state: &str, listen: &[&str], opened: &[Opened]) -> Option<SocketsError> {
        let listen = listen.iter().map(|address| (*address).to_owned()).collect();
        let unit = SocketUnit {
            name: "x.socket".into(),
            state: state.into(),
            file_state: file_state.into(),
            listen,
        };
        fault(&unit, opened)
    }

    #[test]
    fn active_socket_unit_must_hand_over_all_addresses() {
        let opened = [
            Opened::Tcp("127.0.0.1:4000".parse().unwrap()),
            Opened::Tcp("[::]:4001".parse().unwrap()),
            Opened::Unix("/run/x.sock".into()),
        ];
        let changed = Some(SocketsError::Changed("x.socket".into()));
        for (listen, fault) in [
            (&["127.0.0.1:4000", "/run/x.sock"][..], None),
            (&["[::]:4001"], None),
            (&["127.0.0.1:0"], None),
            (&[], None),
            (&["@abstract", "vsock:2:1234", "[fe80::1%eth0]:4000"], None),
            (&["127.0.0.1:4002"], changed),
        ] {
            assert_eq!(found("active", "enabled", listen, &opened), fault, "{listen:?}");
        }
        for listen in ["127.0.0.1:4001", "127.0.0.2:4000", "[::]:4000", "/run/y.sock"] {
            // Enabled or not.
            assert!(found("active", "disabled", &["/run/x.sock", listen], &opened).is_some(), "{listen}");
        }
    }

    #[test]
    fn enabled_socket_unit_must_be_active() {
        let found = |state, file_state| found(state, file_state, &["127.0.0.1:4000"], &[]);
        for file_state in ["enabled", "enabled-runtime"] {
            for state in ["inactive", "failed"] {
                let error = found(state, file_state).unwrap();
                assert_eq!(error, SocketsError::Inactive("x.socket".into(), state.into()));
                assert!(error.may_pass());
            }
            assert_eq!(found("activating", file_state), None, "it will be");
        }
        for file_state in ["disabled", "static", "masked", ""] {
            assert_eq!(found("inactive", file_state), None, "{file_state}");
        }
        assert!(!found("active", "enabled").unwrap().may_pass());
    }
}
