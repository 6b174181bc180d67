//! [`PersistedState`]: the content of the registry file. It has every client that should run, so that the next controller can go
//! on where an earlier one was killed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::boot::{Boot, Started};
use super::client::{ClientSpec, Exit, Generation, Handle, ManagerKind, RestartHistory};
use super::name::{ClientName, UnitId};
use super::storable::is_storable;

/// The version of the format. Version 1 knew only child processes. Versions 1 and 2, which 0.1.0 wrote, had no `id` in `spec`,
/// since it followed from the name. All other keys mean the same.
pub const VERSION: u32 = 3;
/// The last version without IDs.
const WITHOUT_IDS: u32 = 2;

/// The content of the registry file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistedState {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The generation of the last launch.
    pub last_generation: Generation,
    /// The boot in which it was written, if known: `/proc/sys/kernel/random/boot_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<Arc<str>>,
    /// What started the machine or container when it was written, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// Whose units the clients are, if they are units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<ManagerKind>,
    /// Every client.
    pub clients: Vec<PersistedClient>,
}

/// One client in the registry file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistedClient {
    /// Its parameters.
    pub spec: Arc<ClientSpec>,
    /// Its port.
    pub port: u16,
    /// Its last launch.
    pub generation: Generation,
    /// What callers want of it.
    pub desired: Desired,
    /// Its process, if it had one. There may be a process without a handle: the controller may have been killed between launch
    /// and writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<Handle>,
    /// What became of its earlier processes.
    #[serde(default)]
    pub history: RestartHistory,
}

#[cfg(test)]
impl PersistedClient {
    /// A client without parameters that was launched once and should run, for tests.
    pub(crate) fn example(spec: Arc<ClientSpec>, handle: Option<Handle>) -> Self {
        let (desired, history) = (Desired::Running, RestartHistory::default());
        Self { spec, port: 5000, generation: Generation(1), desired, handle, history }
    }
}

/// What a client should do, by the last word of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Run.
    Running,
    /// Be gone.
    Stopped,
}

/// What became of the process of a persisted client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It still runs.
    Running(Handle),
    /// It is gone.
    Gone {
        /// Whether the machine rebooted since, so that the exit is no failure of the client.
        rebooted: bool,
    },
    /// It exited like this while no controller ran.
    Ended(Exit),
}

/// Why the content of a registry file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PersistedStateError {
    /// Damaged or cut off.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Written by a later version of this program.
    #[error(
        "it is of version {0}, and this version of wqcontroller reads up to {VERSION}; install a newer wqcontroller again"
    )]
    Newer(u32),
    /// Written by Mojo::Webqq's controller, which has a file of the same name.
    #[error("it was written by the Perl controller of Mojo::Webqq")]
    Perl,
}

impl PersistedState {
    /// The boot in which it was written.
    pub fn boot(&self) -> Boot {
        Boot { id: self.boot_id.clone(), started: self.started.clone() }
    }

    /// Parses the content of a registry file.
    pub fn parse(content: &[u8]) -> Result<Self, PersistedStateError> {
        /// The key of every version.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // Before JSON, for which it would only be damaged.
        if is_storable(content) {
            return Err(PersistedStateError::Perl);
        }
        // The version by itself, as a later version may mean something else by everything else.
        let Versioned { version } = serde_json::from_slice(content).map_err(PersistedStateError::Damaged)?;
        if version > VERSION {
            return Err(PersistedStateError::Newer(version));
        }
        if version > WITHOUT_IDS {
            return serde_json::from_slice(content).map_err(PersistedStateError::Damaged);
        }
        let mut content: Value = serde_json::from_slice(content).map_err(PersistedStateError::Damaged)?;
        add_ids(&mut content);
        Ok(Self {
            version: VERSION,
            ..serde_json::from_value(content).map_err(PersistedStateError::Damaged)?
        })
    }
}

/// Adds the IDs of 0.1.0, so that accounts keep their units, folders and users. Missing or damaged values are left for the
/// parser to report.
fn add_ids(registry: &mut Value) {
    let clients = registry.get_mut("clients").and_then(Value::as_array_mut);
    for client in clients.into_iter().flatten() {
        let Some(spec) = client.get_mut("spec").and_then(Value::as_object_mut) else { continue };
        let name = spec.get("name").and_then(Value::as_str).map(ClientName::new);
        if let Some(Ok(name)) = name {
            spec.insert("id".to_owned(), String::from(UnitId::of_version_0_1(&name)).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persisted_state_refuses_other_content() {
        assert!(matches!(PersistedState::parse(b""), Err(PersistedStateError::Damaged(_))));
        assert!(matches!(
            PersistedState::parse(br#"{"version":1,"last_gen"#),
            Err(PersistedStateError::Damaged(_))
        ));
        assert!(matches!(PersistedState::parse(br#"{"version":1}"#), Err(PersistedStateError::Damaged(_))));
        assert!(matches!(
            PersistedState::parse(br#"{"version":4,"anything":[]}"#),
            Err(PersistedStateError::Newer(4))
        ));
        assert!(matches!(PersistedState::parse(b"pst0\x04\x0b"), Err(PersistedStateError::Perl)));
        let empty = br#"{"version":1,"last_generation":7,"clients":[]}"#;
        assert_eq!(PersistedState::parse(empty).unwrap().last_generation, Generation(7));
    }

    #[test]
    fn persisted_state_reads_version_1() {
        let old = br#"{"version":1,"last_generation":7,"clients":[{"spec":{"name":"a","params":{},"files":{
            "tmpdir":"/t","state":"/t/s","qrcode":"/t/q","pid":"/t/p"}},"port":5000,"generation":7,"desired":"running",
            "handle":{"direct":{"pid":77,"start_ticks":1,"boot_id":"b"}},
            "history":{"exits":1,"failures":1,"last_exit":{"code":1}}}]}"#;
        let saved = PersistedState::parse(old).unwrap();
        assert_eq!((saved.boot_id, saved.clients[0].handle.as_ref().unwrap().pid()), (None, 77));
        assert_eq!(saved.clients[0].history.last_exit, Some(Exit::Code(1)));
    }

    #[test]
    fn persisted_state_keeps_ids_of_version_2() {
        let client = |name: &str| {
            format!(
                r#"{{"spec":{{"name":"{name}","params":{{}},"files":{{"tmpdir":"/t","state":"/t/s","qrcode":"/t/q",
                "pid":"/t/p"}}}},"port":5000,"generation":7,"desired":"running","history":{{"exits":0,"failures":0}}}}"#
            )
        };
        let names = ["bob-2", "小明", "alice"];
        let clients = names.map(client).join(",");
        let old = format!(r#"{{"version":2,"last_generation":7,"manager":"system","clients":[{clients}]}}"#);
        let saved = PersistedState::parse(old.as_bytes()).unwrap();
        let ids: Vec<_> = saved.clients.iter().map(|client| client.spec.id.as_str()).collect();
        // printf '%s' 'bob-2' | sha256sum
        assert_eq!(ids, ["bob2-a9137698d8d3fdbf", "-df3ea25a4369305a", "alice"]);
        let new = serde_json::to_vec(&saved).unwrap();
        assert_eq!(PersistedState::parse(&new).unwrap(), saved, "and they are written down");
        assert_eq!(saved.version, VERSION);
        let without = old.replace("\"version\":2", "\"version\":3");
        assert!(matches!(PersistedState::parse(without.as_bytes()), Err(PersistedStateError::Damaged(_))));
    }
}
