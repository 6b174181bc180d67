//! [`Snapshot`]: what readers see, all clients at one moment.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::client::{ClientRecord, Phase};
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
        let view = Arc::new(ClientView::new(record, (None, None), None));
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

    /// Whether another one may be started by `max_clients`.
    pub fn has_place(&self, max_clients: usize) -> bool {
        self.iter().filter(|view| view.record.takes_place()).count() < max_clients
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
    /// Since when its phase is what it is, in Unix seconds; none where that has not changed in this run of the controller.
    pub since: Option<u64>,
    /// When it is started again, in Unix seconds.
    pub next_start: Option<u64>,
    /// Its unit, also while it does not run. None where clients are no units.
    pub unit: Option<Arc<str>>,
    // A view never changes: a client that does gets another one.
    json: OnceLock<Bytes>,
}

impl ClientView {
    pub(super) fn new(
        record: ClientRecord,
        (since, next_start): (Option<u64>, Option<u64>),
        unit: Option<Arc<str>>,
    ) -> Self {
        Self { record, since, next_start, unit, json: OnceLock::new() }
    }

    /// Its object in the list of `check_client`, serialised once.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            client_object(&self.record, self.next_start, self.unit.as_deref()).to_string().into()
        })
    }
}

/// Since when the phase of a client is what it is, in Unix seconds: `now` if it differs from that of the view before.
pub(super) fn phase_since(record: &ClientRecord, earlier: Option<&ClientView>, now: u64) -> Option<u64> {
    match earlier {
        // A phase of another process is another one.
        Some(ClientView { record: last, since, .. })
            if last.phase == record.phase && last.handle == record.handle =>
        {
            *since
        }
        Some(_) => Some(now),
        // One that was restored was in its phase before.
        None => matches!(record.phase, Phase::Reserved | Phase::Starting).then_some(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientSpec, Exit, Generation, RestartHistory};

    #[test]
    fn phases_begin_when_they_change() {
        let record = |phase| {
            let spec = ClientSpec::example("a", "/");
            ClientRecord::new(spec, 5000, Generation(1), phase, RestartHistory::default())
        };
        let view = |phase, since| ClientView::new(record(phase), (since, None), None);
        let gone = Phase::Gone(Exit::Unknown);
        for (phase, earlier, since) in [
            (Phase::Reserved, None, Some(7)),
            (Phase::Up, None, None),
            (gone, None, None),
            (Phase::Up, Some((Phase::Up, None)), None),
            (Phase::Up, Some((Phase::Up, Some(5))), Some(5)),
            (Phase::Up, Some((Phase::Starting, Some(5))), Some(7)),
            (gone, Some((Phase::Up, None)), Some(7)),
        ] {
            let earlier = earlier.map(|(phase, since)| view(phase, since));
            assert_eq!(phase_since(&record(phase), earlier.as_ref(), 7), since, "{phase} {earlier:?}");
        }
    }
}
