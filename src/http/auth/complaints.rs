//! Refused requests in the log.

use std::sync::Arc;

use tracing::warn;

use super::Refusal;
use crate::http::listener::Peer;
use crate::http::sparing::Sparing;

/// How many are logged in a minute.
const MOST: u32 = 10;

/// Logs who is not let in.
#[derive(Clone, Debug)]
pub struct Complaints(Arc<Sparing>);

impl Default for Complaints {
    fn default() -> Self {
        Self(Arc::new(Sparing::new(MOST)))
    }
}

impl Complaints {
    /// Logs a refusal, or counts it.
    pub fn note(&self, peer: Peer, refusal: &Refusal) {
        match self.0.note() {
            None => {}
            Some(0) => warn!(%peer, "a request was refused: {refusal}"),
            Some(left_out) => warn!(%peer, left_out, "a request was refused: {refusal}"),
        }
    }
}
