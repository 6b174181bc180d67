//! Events that an operator acts on. Each has a name, and in the journal an ID: `journalctl MESSAGE_ID=…` finds all of one
//! kind, and `journalctl --catalog` explains it (`systemd/wqcontroller.catalog`).
//!
//! The log macro has the name, as in `info!(name: events::CLIENT_STARTED, …)`. Only the journal shows it.

use tracing::{Level, Metadata};

/// A client has a process.
pub const CLIENT_STARTED: &str = "client-started";
/// A client is logged in.
pub const CLIENT_RUNNING: &str = "client-running";
/// A client ended though no caller asked for it, or can't be started.
pub const CLIENT_FAILED: &str = "client-failed";
/// A client is held: it is not started again by itself.
pub const CLIENT_HELD: &str = "client-held";
/// A client is no longer logged in, while its process keeps running.
pub const CLIENT_OFFLINE: &str = "client-offline";
/// A client waits for a person to scan its login code.
pub const CLIENT_NEEDS_SCAN: &str = "client-needs-scan";
/// An implementation has a process.
pub const IMPLEMENTATION_STARTED: &str = "implementation-started";
/// An implementation ended though no caller asked for it, or can't be started.
pub const IMPLEMENTATION_FAILED: &str = "implementation-failed";
/// An implementation is held: it is not started again by itself.
pub const IMPLEMENTATION_HELD: &str = "implementation-held";
/// The network ended the login of an account.
pub const LOGIN_ENDED: &str = "login-ended";
/// The registry file is refused, or can't be written.
pub const REGISTRY_REFUSED: &str = "registry-refused";
/// The configuration has mistakes.
pub const CONFIGURATION_REFUSED: &str = "configuration-refused";
/// The service manager can't be reached on its bus.
pub const BUS_LOST: &str = "bus-lost";

/// A kind of events in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// Its `MESSAGE_ID`, which never changes.
    pub id: &'static str,
    /// The phase of the client after such an event, if it is about a client.
    pub phase: Option<&'static str>,
}

/// All of them.
pub const ALL: [Event; 13] = [
    event(CLIENT_STARTED, "5a1c8e0f3c0b4b9f9a5d0c3b4a8f2e01", Some("up")),
    event(CLIENT_RUNNING, "d6f0f2f4b0e7481c8d3d7e0c4f6a9b12", Some("up")),
    event(CLIENT_FAILED, "0b9f3a77c2d84e63b1e4a9d05c7f8e23", Some("gone")),
    event(CLIENT_HELD, "7e4d1b6a95c34f0e8a2b6c9d3f1e5a34", Some("gone")),
    event(CLIENT_OFFLINE, "c38a5f1e7b2d4069a4f7d8b1e60c9d45", Some("up")),
    event(CLIENT_NEEDS_SCAN, "91e2d7c4f8a64b35b0c1e3f5a7d98b56", Some("up")),
    event(IMPLEMENTATION_STARTED, "93569fbc95b6434d87e1221273786670", None),
    event(IMPLEMENTATION_FAILED, "48dbbba132e1436b8c4f055303bb8bb3", None),
    event(IMPLEMENTATION_HELD, "4d6602ff87164efe81dd39ca6f62df62", None),
    event(LOGIN_ENDED, "80ff74ec8b44427a9633d13bd1474b16", None),
    event(REGISTRY_REFUSED, "2fd5b8a1c6e94703a9d2f4b7c8e1a067", None),
    event(CONFIGURATION_REFUSED, "e87c4a2b9d1f4e56831a5c7f0b3d6978", None),
    event(BUS_LOST, "46b1d9e3f7a84c208c5e2d6f9a0b7e89", None),
];

const fn event(name: &'static str, id: &'static str, phase: Option<&'static str>) -> Event {
    Event { name, id, phase }
}

/// The priority of an event, by the numbers of syslog(3). Notice is for normal events that a person has to act on.
pub fn priority(metadata: &Metadata<'_>) -> u8 {
    match *metadata.level() {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO if metadata.name() == CLIENT_NEEDS_SCAN => 5,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Finds an event by its name.
pub fn find(name: &str) -> Option<Event> {
    ALL.into_iter().find(|event| event.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_an_entry_in_the_catalog_and_nothing_else_has() {
        let catalog = include_str!("../../systemd/wqcontroller.catalog");
        let explained: Vec<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let ids: Vec<&str> = ALL.iter().map(|event| event.id).collect();
        assert_eq!(explained, ids);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        let hexadecimal = |id: &&str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(ids.iter().all(hexadecimal));
    }
}
