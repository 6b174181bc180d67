//! [`Snapshot`]: what readers see, all clients at one moment.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::client::ClientRecord;
use crate::model::name::ClientName;
use crate::wire::client_list::client_object;

/// Every client, by name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) clients: BTreeMap<ClientName, Arc<ClientView>>,
    pub(super) write_error: Option<Arc<str>>,
}

impl Snapshot {
    /// A list of one client.
    #[cfg(test)]
    pub(crate) fn of(record: ClientRecord) -> Self {
        let name = record.spec.name.clone();
        let view = Arc::new(ClientView::new(record, None, None));
        Self { clients: [(name, view)].into(), write_error: None }
    }

    /// One client.
    pub fn get(&self, name: &ClientName) -> Option<&Arc<ClientView>> {
        self.clients.get(name)
    }

    /// All of them, with their names.
    pub fn named(&self) -> impl Iterator<Item = (&ClientName, &Arc<ClientView>)> {
        self.clients.iter()
    }

    /// Why the registry file cannot be written, while it cannot. Until then no start and no stop is accepted.
    pub fn write_error(&self) -> Option<&str> {
        self.write_error.as_deref()
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
    /// Its unit, also while it does not run. None where clients are no units.
    pub unit: Option<Arc<str>>,
    // A view never changes: a client that does gets another one.
    json: OnceLock<Bytes>,
}

impl ClientView {
    pub(super) fn new(record: ClientRecord, next_start: Option<u64>, unit: Option<Arc<str>>) -> Self {
        Self { record, next_start, unit, json: OnceLock::new() }
    }

    /// Its object in the list of `check_client`, serialised once.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            client_object(&self.record, self.next_start, self.unit.as_deref()).to_string().into()
        })
    }
}
