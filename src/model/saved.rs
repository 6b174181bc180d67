//! What the registry file holds: every client that somebody wants, so that a controller that was killed at any moment
//! can go on where it was.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::client::{ClientSpec, Exit, Generation, Handle, History, ManagerKind};

/// The version of the format that is written. Version 1 knew only child processes; all that it could say means the same.
pub const VERSION: u32 = 2;

/// The content of the registry file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The last generation that was given.
    pub last_generation: Generation,
    /// The boot in which it was written, where that is known: `/proc/sys/kernel/random/boot_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<Arc<str>>,
    /// Whose units the clients are, where they are units and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<ManagerKind>,
    /// Every client.
    pub clients: Vec<SavedClient>,
}

/// One client in the registry file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedClient {
    /// What was asked for.
    pub spec: Arc<ClientSpec>,
    /// Its port.
    pub port: u16,
    /// Its last launch.
    pub generation: Generation,
    /// What it should do.
    pub desired: Desired,
    /// Its process, where there was one. Without one there may be a process all the same: the controller may have been
    /// killed between the launch and the writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<Handle>,
    /// What became of its earlier processes.
    #[serde(default)]
    pub history: History,
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

/// What was found of a saved client's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is still there.
    Running(Handle),
    /// It is not.
    Gone {
        /// Whether the machine was started anew since: then nobody can be blamed for the end of the process.
        rebooted: bool,
    },
    /// It ended while no controller was there, and this is how.
    Ended(Exit),
}

/// Why a text is no registry.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Broken or cut off.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Written by a later version of this program.
    #[error("it is of version {0}, and this program knows only versions up to {VERSION}")]
    Newer(u32),
    /// What Mojo::Webqq's controller wrote under the same name.
    #[error("it was written by the Perl controller of Mojo::Webqq, whose accounts can't be taken over")]
    Perl,
}

impl Saved {
    /// Reads the content of a registry file.
    pub fn parse(content: &[u8]) -> Result<Self, SavedError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // What Perl's Storable begins with.
        if content.starts_with(b"pst0") {
            return Err(SavedError::Perl);
        }
        let Versioned { version } = serde_json::from_slice(content).map_err(SavedError::Damaged)?;
        if version > VERSION {
            return Err(SavedError::Newer(version));
        }
        serde_json::from_slice(content).map_err(SavedError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_registry_is_refused() {
        assert!(matches!(Saved::parse(b""), Err(SavedError::Damaged(_))));
        assert!(matches!(Saved::parse(br#"{"version":1,"last_gen"#), Err(SavedError::Damaged(_))));
        assert!(matches!(Saved::parse(br#"{"version":1}"#), Err(SavedError::Damaged(_))));
        assert!(matches!(Saved::parse(br#"{"version":3,"anything":[]}"#), Err(SavedError::Newer(3))));
        assert!(matches!(Saved::parse(b"pst0\x04\x0b"), Err(SavedError::Perl)));
        let empty = br#"{"version":1,"last_generation":7,"clients":[]}"#;
        assert_eq!(Saved::parse(empty).unwrap().last_generation, Generation(7));
    }

    #[test]
    fn what_version_1_wrote_is_read() {
        let old = br#"{"version":1,"last_generation":7,"clients":[{"spec":{"name":"a","params":{},"files":{
            "tmpdir":"/t","state":"/t/s","qrcode":"/t/q","pid":"/t/p"}},"port":5000,"generation":7,"desired":"running",
            "handle":{"direct":{"pid":77,"start_ticks":1,"boot_id":"b"}},
            "history":{"exits":1,"failures":1,"last_exit":{"code":1}}}]}"#;
        let saved = Saved::parse(old).unwrap();
        assert_eq!((saved.boot_id, saved.clients[0].handle.as_ref().unwrap().pid()), (None, 77));
        assert_eq!(saved.clients[0].history.last_exit, Some(Exit::Code(1)));
    }
}
