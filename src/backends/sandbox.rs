//! The contract of the sandbox: a made-up world on this machine, without accounts, secrets and rules.

use std::ffi::OsString;

use super::contract::{BackendContract, Start};
use crate::client_dirs::ClientDirs;

/// The sandbox.
pub struct Sandbox;

impl BackendContract for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    /// Units have no folder in common by themselves, so they are told one in which to meet.
    fn variables(&self, start: &Start<'_>) -> Vec<(String, OsString)> {
        match start.client_dirs {
            ClientDirs::Units { meeting, .. } if start.param("sandbox_network").is_none() => {
                vec![("SANDBOX_NETWORK".to_owned(), meeting.into())]
            }
            ClientDirs::Units { .. } | ClientDirs::Shared { .. } => Vec::new(),
        }
    }
}
