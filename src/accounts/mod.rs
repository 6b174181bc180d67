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
//! - `changes`: what has changed, for those who listen

mod changes;
mod plan;
mod reconciler;

pub use changes::{Change, ChangeKind, ChangeWatch, Changes, Gap};
pub use reconciler::Reconciler;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::config::Settings;
use crate::environ::implementation_of;
use crate::files::FileOwner;
use crate::login::Logins;
use crate::model::client::{ClientSpec, Phase};
use crate::model::fleet::{RequestOutcome, StopMode};
use crate::model::login::{Login, LoginState};
use crate::model::name::ClientName;
use crate::registry::{CallError, ClientView, Forgetting, Registry, Snapshot};
use crate::wire::client_list::{client_object, implementation_object, login_object};
use crate::wire::v1::account::Account;

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
    logins: watch::Receiver<Logins>,
    forgetting: Forgetting,
    wake: mpsc::Sender<ClientName>,
}

/// Why an account can't be logged in anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloginError {
    /// There is no such account.
    Unknown,
    /// It has no implementation.
    NoImplementation,
    /// The registry takes no calls just now, or the kernel gives no random bytes.
    Busy,
    /// Its implementation is not there again.
    Failed(Arc<ClientSpec>, Arc<str>),
}

impl Accounts {
    /// Joins the two registries. The receiver is for the [`Reconciler`], which starts held implementations again.
    pub fn new(
        clients: Registry,
        implementations: Registry,
        logins: watch::Receiver<Logins>,
        forgetting: Forgetting,
    ) -> (Self, mpsc::Receiver<ClientName>) {
        let (wake, woken) = mpsc::channel(WAKE_QUEUE);
        (Self { clients, implementations, logins, forgetting, wake }, woken)
    }

    /// The login of an account with an implementation.
    pub fn login(&self, name: &ClientName) -> Option<Arc<Login>> {
        self.logins.borrow().get(name).cloned()
    }

    /// Logs an account in anew: starts its implementation anew, without the login that it saved if `forget` says so, and its
    /// client where that has ended. Returns when the implementation runs again.
    pub async fn relogin(
        &self,
        name: &ClientName,
        forget: bool,
        settings: &Settings,
    ) -> Result<Arc<ClientView>, ReloginError> {
        let client = self.clients.client(name).ok_or(ReloginError::Unknown)?;
        let before = self.implementations.client(name);
        let (Some(_), Some(before)) = (implementation_of(&client.record.spec), before) else {
            return Err(ReloginError::NoImplementation);
        };
        if forget {
            self.forgetting.ask(name.clone()).map_err(|_| ReloginError::Busy)?;
        }
        let mut snapshots = self.implementations.changes();
        self.implementations.relaunch(name.clone()).await.map_err(|_| ReloginError::Busy)?;
        // A client that ended because the account was logged out elsewhere is held.
        if matches!(client.record.phase, Phase::Gone(_)) {
            self.clients.relaunch(name.clone()).await.map_err(|_| ReloginError::Busy)?;
        }
        let is_over = |view: &ClientView| match view.record.phase {
            Phase::Up => view.record.generation > before.record.generation,
            // It can't be started, which its reason explains.
            Phase::Gone(_) => view.record.generation > before.record.generation || view.record.history.held,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        let mut is_under_way = false;
        let again = snapshots.wait_for(|snapshot| {
            let view = snapshot.get(name);
            // The first snapshots may be from before the actor read the request.
            is_under_way |= view.is_none_or(|view| !Arc::ptr_eq(view, &before));
            is_under_way && view.is_none_or(|view| is_over(view))
        });
        let again = timeout(settings.supervisor.stop_timeout + STOP_MARGIN, again).await;
        let spec = client.record.spec.clone();
        let found = match again {
            Ok(Ok(snapshot)) => snapshot.get(name).cloned(),
            Ok(Err(_)) => return Err(ReloginError::Busy),
            Err(_) => {
                return Err(ReloginError::Failed(
                    spec,
                    "its implementation does not end; see the log".into(),
                ));
            }
        };
        match found {
            Some(view) if view.record.phase == Phase::Up => Ok(client),
            Some(view) => {
                let reason = view.record.history.reason.clone();
                let why =
                    reason.unwrap_or_else(|| "its implementation could not be started; see the log".into());
                Err(ReloginError::Failed(spec, why))
            }
            None => Err(ReloginError::Failed(spec, "it was stopped meanwhile".into())),
        }
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

    /// The image of the login code of an account's implementation, and whose it must be. None while no code waits to be
    /// scanned.
    pub fn login_code(&self, spec: &ClientSpec, settings: &Settings) -> Option<(PathBuf, FileOwner)> {
        self.login(&spec.name).filter(|login| login.state == LoginState::Code)?;
        let kind = settings.implementations.get(implementation_of(spec)?)?.kind;
        let process = self.implementations.client(&spec.name)?;
        let folder = process.record.spec.files.tmpdir.clone();
        let file = folder.join(kind.contract().code_file()?);
        // Its parents may be links of the implementation, which lead to what the controller can read and callers may not see.
        Some((file, FileOwner::SameAsFolder(folder)))
    }

    /// What `/v1` says of an account.
    pub fn account(&self, view: &ClientView, settings: &Settings) -> Account {
        let account = Account::new((&view.record, view.next_start, view.unit.as_deref()));
        let Some(name) = implementation_of(&view.record.spec) else { return account };
        let kind = settings.implementations.get(name).map(|implementation| implementation.kind.name());
        let found = self.implementations.client(&view.record.spec.name);
        let process = found.as_deref().map(|found| (&found.record, found.next_start, found.unit.as_deref()));
        let account = account.with_implementation((name, kind), process);
        match self.login(&view.record.spec.name) {
            Some(login) => account.with_login(&login, view.record.state()),
            None => account,
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
        if let Some(login) = self.login(&view.record.spec.name) {
            object["state"] = login.client_state(view.record.state()).as_str().into();
            object["login"] = login_object(&login);
        }
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
