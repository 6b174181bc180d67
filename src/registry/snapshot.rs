//! What readers see: every client as it was at one moment.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::client::ClientRecord;
use crate::model::name::ClientName;
use crate::model::reply;

/// Every client, by name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) clients: BTreeMap<ClientName, Arc<ClientView>>,
}

impl Snapshot {
    /// One client.
    pub fn get(&self, name: &ClientName) -> Option<&Arc<ClientView>> {
        self.clients.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClientView>> {
        self.clients.values()
    }
}

/// One client.
#[derive(Debug)]
pub struct ClientView {
    /// What is known about it.
    pub record: ClientRecord,
    /// When it is started again, in Unix seconds.
    pub next_start: Option<u64>,
    json: OnceLock<Bytes>,
}

impl ClientView {
    pub(super) fn new(record: ClientRecord, next_start: Option<u64>) -> Self {
        Self { record, next_start, json: OnceLock::new() }
    }

    /// Its object in the list of `check_client`, written once however often it is read.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| reply::client_object(&self.record, self.next_start).to_string().into())
    }
}
