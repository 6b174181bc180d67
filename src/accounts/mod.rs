//! [`Accounts`]: the client of an account together with the implementation that holds it.
//!
//! Each kind of process has a registry of its own, with the same rules: starts, ends, restarts, what a controller leaves to the
//! next one. The list of clients says which accounts there are, and the implementations follow from it: an account that is
//! registered with `implementation=NAME` has one, and one without an account is stopped. So neither a crash between the two nor
//! calls that come at the same time leave anything behind.
//!
//! A start is the implementation's first: the launch of the client waits for its port. A stop is the client's first: the
//! implementation is stopped when the account has left the list.
//!
//! - `plan`: what follows from the two lists
//! - `reconciler`: carries it out

mod plan;
mod reconciler;

pub use reconciler::Reconciler;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::config::Settings;
use crate::environ::implementation_of;
use crate::model::client::ClientSpec;
use crate::model::fleet::{RequestOutcome, StopMode};
use crate::model::name::ClientName;
use crate::registry::{CallError, ClientView, Registry, Snapshot};
use crate::wire::client_list::{client_object, implementation_object};

/// How many accounts may wait to have their held implementation started again.
const WAKE_QUEUE: usize = 256;
/// How long a stop waits for an implementation beyond the time that the configuration gives to a process.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// All accounts.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// The clients.
    pub clients: Registry,
    /// The implementations.
    pub implementations: Registry,
    wake: mpsc::Sender<ClientName>,
}

impl Accounts {
    /// Joins the two registries. The receiver is for the [`Reconciler`], which starts held implementations again.
    pub fn new(clients: Registry, implementations: Registry) -> (Self, mpsc::Receiver<ClientName>) {
        let (wake, woken) = mpsc::channel(WAKE_QUEUE);
        (Self { clients, implementations, wake }, woken)
    }

    /// Starts an account. Returns when the process of its client runs or the launch has failed.
    pub async fn start(&self, spec: ClientSpec) -> Result<RequestOutcome, CallError> {
        let name = spec.name.clone();
        let outcome = self.clients.start(spec).await?;
        // Also for a client that runs already: its implementation may be held, and this call is how it is tried again.
        if let RequestOutcome::AlreadyExists(info) | RequestOutcome::Started(info) = &outcome
            && implementation_of(&info.spec).is_some()
        {
            // A full queue means that many accounts are started just now; the caller can repeat the call.
            let _ = self.wake.try_send(name);
        }
        Ok(outcome)
    }

    /// Stops an account. Returns when both processes are gone, unless `mode` says not to wait.
    pub async fn stop(
        &self,
        name: ClientName,
        mode: StopMode,
        settings: &Settings,
    ) -> Result<RequestOutcome, CallError> {
        let outcome = self.clients.stop(name.clone(), mode).await?;
        let (StopMode::Wait, RequestOutcome::Stopped(info)) = (mode, &outcome) else { return Ok(outcome) };
        if implementation_of(&info.spec).is_none() {
            return Ok(outcome);
        }
        // The reconciler stops it, as the account has just left the list of clients. Here its end is only waited for.
        let gone = gone_or_registered(&name, self.clients.changes(), self.implementations.changes());
        // A stop that fails changes nothing that the wait looks at, so the wait needs an end of its own.
        match timeout(settings.supervisor.stop_timeout + STOP_MARGIN, gone).await {
            // Also where a registry has ended: then the controller ends its processes itself.
            Ok(()) => Ok(outcome),
            Err(_) => {
                let why = "its client is gone, but its implementation does not end; see the log".to_owned();
                Ok(RequestOutcome::Failed(info.spec.clone(), why))
            }
        }
    }

    /// The object of an account in the list of `check_client`.
    pub fn object(&self, view: &Arc<ClientView>, settings: &Settings) -> Bytes {
        // The view has its JSON ready. With an implementation it depends on two lists, so it is made at each call.
        let Some(name) = implementation_of(&view.record.spec) else { return view.json().clone() };
        let kind = settings.implementations.get(name).map(|implementation| implementation.kind.name());
        let found = self.implementations.client(&view.record.spec.name);
        let process = found.as_deref().map(|found| (&found.record, found.next_start, found.unit.as_deref()));
        let mut object = client_object(&view.record, view.next_start, view.unit.as_deref());
        object["implementation"] = implementation_object((name, kind), process);
        object.to_string().into()
    }
}

/// Waits until the implementation of an account is gone, or the account is registered again: then it may stay as it is. Returns
/// where a registry has ended as well.
async fn gone_or_registered(
    name: &ClientName,
    mut clients: watch::Receiver<Arc<Snapshot>>,
    mut implementations: watch::Receiver<Arc<Snapshot>>,
) {
    tokio::select! {
        _ = implementations.wait_for(|snapshot| snapshot.get(name).is_none()) => {}
        _ = clients.wait_for(|snapshot| snapshot.get(name).is_some()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientRecord, Generation, Phase, RestartHistory};

    fn list(name: &ClientName) -> Arc<Snapshot> {
        Arc::new(Snapshot::of(ClientRecord {
            spec: ClientSpec::example(name.as_str(), "/run/wq"),
            port: 5000,
            generation: Generation(1),
            phase: Phase::Up,
            handle: None,
            report: None,
            frozen: false,
            history: RestartHistory::default(),
        }))
    }

    #[tokio::test]
    async fn wait_for_an_implementation_ends_when_its_account_is_registered_again() {
        let name = ClientName::new("a").unwrap();
        for registered in [true, false] {
            let clients = watch::Sender::new(Arc::new(Snapshot::default()));
            let implementations = watch::Sender::new(list(&name));
            let waited = gone_or_registered(&name, clients.subscribe(), implementations.subscribe());
            let mut waited = std::pin::pin!(waited);
            assert!(futures_util::poll!(waited.as_mut()).is_pending());
            match registered {
                // The implementation stays, and its list does not change.
                true => clients.send_replace(list(&name)),
                false => implementations.send_replace(Arc::default()),
            };
            assert!(futures_util::poll!(waited).is_ready(), "registered: {registered}");
        }
    }
}
