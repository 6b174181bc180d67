//! What is done with whole accounts: starts, stops, new starts and new logins, of both processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Accounts;
use crate::config::Settings;
use crate::environ::{SpecError, client_spec, implementation_of, uin_of};
use crate::model::client::{ClientSpec, Phase};
use crate::model::fleet::{RequestOutcome, StopMode};
use crate::model::name::ClientName;
use crate::registry::{CallError, ClientView, Registry, RegistryGone, Snapshot};

/// How long a stop waits for an implementation beyond the time that the configuration gives to a process.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// Why the parameters of a start are refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecRefusal {
    /// No client can be started with them.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// The check could not be made.
    #[error("the controller is busy")]
    Busy,
}

/// Why an account is not started or logged in anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnewError {
    /// There is no such account.
    Unknown,
    /// It has no implementation.
    NoImplementation,
    /// The registry takes no calls just now, or the kernel gives no random bytes.
    Busy,
    /// One of its processes is not there again.
    Failed(Arc<ClientSpec>, Arc<str>),
}

impl From<RegistryGone> for AnewError {
    fn from(_: RegistryGone) -> Self {
        Self::Busy
    }
}

impl Accounts {
    /// Checks the parameters of a start. Files are looked up, so this may take a while.
    ///
    /// # Errors
    /// A client could not be started with them.
    pub async fn spec(
        &self,
        name: ClientName,
        params: impl IntoIterator<Item = (String, String)> + Send + 'static,
        settings: Arc<Settings>,
    ) -> Result<ClientSpec, SpecRefusal> {
        let (client_dirs, clients) = (self.client_dirs.clone(), self.clients.clone());
        // Looks up symbolic links and the template in the file system, which may be slow.
        let checked = self.blocking.run(move || {
            // An account keeps the ID that it was registered with, so that its files stay where they are.
            let known = clients.client(&name).map(|view| view.record.spec.id.clone());
            let is_known = known.is_some();
            let id = known.unwrap_or_else(|| client_dirs.new_id(&name));
            let spec = client_spec((name, id), params, &client_dirs, &settings)?;
            // A known client without new parameters starts with its last ones; they are checked at the launch.
            if !spec.params.is_empty() || !is_known {
                clients.check_start(&spec, &settings)?;
            }
            Ok(spec)
        });
        checked.await.map_err(|_| SpecRefusal::Busy)?
    }

    /// Starts an account. Returns when the process of its client runs or the launch has failed.
    pub async fn start(&self, spec: ClientSpec) -> Result<RequestOutcome, CallError> {
        let name = spec.name.clone();
        let outcome = self.clients.start(spec).await?;
        self.wake_implementation(name, &outcome);
        Ok(outcome)
    }

    /// Starts an account with exactly these parameters: one that runs with others is started anew.
    pub async fn start_with(
        &self,
        spec: ClientSpec,
        settings: &Settings,
    ) -> Result<RequestOutcome, CallError> {
        let name = spec.name.clone();
        if let Some(not_ended) = self.end_other_login(&spec, settings).await? {
            return Ok(not_ended);
        }
        let outcome = self.clients.start_with(spec).await?;
        self.wake_implementation(name, &outcome);
        Ok(outcome)
    }

    /// Puts an account without processes into the list, or gives one that is stopped exactly these parameters.
    pub async fn register(&self, spec: ClientSpec, settings: &Settings) -> Result<RequestOutcome, CallError> {
        match self.end_other_login(&spec, settings).await? {
            Some(not_ended) => Ok(not_ended),
            None => self.clients.register(spec).await,
        }
    }

    /// Ends an account that is to be held by another implementation, or with another number. Its client belongs to the account of the
    /// network that it first had, and would meet the earlier implementation: so this is a new registration. Returns what became of
    /// the stop if it failed.
    async fn end_other_login(
        &self,
        spec: &ClientSpec,
        settings: &Settings,
    ) -> Result<Option<RequestOutcome>, CallError> {
        let Some(known) = self.clients.client(&spec.name) else { return Ok(None) };
        let login = |spec: &ClientSpec| {
            implementation_of(spec).map(|name| (name.to_owned(), uin_of(spec).map(str::to_owned)))
        };
        if login(&known.record.spec) == login(spec) {
            return Ok(None);
        }
        let stopped = self.stop(spec.name.clone(), StopMode::Wait, settings).await?;
        let is_ended = matches!(stopped, RequestOutcome::Stopped(_) | RequestOutcome::NotExists);
        Ok(Some(stopped).filter(|_| !is_ended))
    }

    /// Also for a client that runs already: its implementation may be held, and a start is how it is tried again.
    fn wake_implementation(&self, name: ClientName, outcome: &RequestOutcome) {
        if let RequestOutcome::AlreadyExists(info) | RequestOutcome::Started(info) = outcome
            && implementation_of(&info.spec).is_some()
        {
            // A full queue means that many accounts are started just now; the caller can repeat the call.
            let _ = self.wake.try_send(name);
        }
    }

    /// Stops an account. Returns when both processes are gone, unless `mode` says not to wait.
    pub async fn stop(
        &self,
        name: ClientName,
        mode: StopMode,
        settings: &Settings,
    ) -> Result<RequestOutcome, CallError> {
        let outcome = self.clients.stop(name.clone(), mode).await?;
        match mode {
            StopMode::Wait => Ok(self.implementation_ended(&name, outcome, settings).await),
            StopMode::NoWait => Ok(outcome),
        }
    }

    /// Stops an account and keeps it in the list. Returns when both processes are gone.
    pub async fn stop_and_keep(
        &self,
        name: ClientName,
        settings: &Settings,
    ) -> Result<RequestOutcome, CallError> {
        let outcome = self.clients.stop_and_keep(name.clone()).await?;
        Ok(self.implementation_ended(&name, outcome, settings).await)
    }

    /// Waits until the implementation of an account that was stopped has ended as well.
    async fn implementation_ended(
        &self,
        name: &ClientName,
        outcome: RequestOutcome,
        settings: &Settings,
    ) -> RequestOutcome {
        let RequestOutcome::Stopped(info) = &outcome else { return outcome };
        if implementation_of(&info.spec).is_none() {
            return outcome;
        }
        // The reconciler stops it, as no account in the list needs it any more. Here its end is only waited for.
        let gone = gone_or_needed(name, self.clients.changes(), self.implementations.changes());
        // A stop that fails changes nothing that the wait looks at, so the wait needs an end of its own.
        match timeout(settings.supervisor.stop_timeout + STOP_MARGIN, gone).await {
            // Also where a registry has ended: then the controller ends its processes itself.
            Ok(()) => outcome,
            Err(_) => {
                let why = "its client is gone, but its implementation does not end; see the log".to_owned();
                RequestOutcome::Failed(info.spec.clone(), why)
            }
        }
    }

    /// Logs an account in anew: starts its implementation anew, without the login that it saved if `forget` says so, and its
    /// client where that has ended. Returns when the implementation runs again.
    ///
    /// # Errors
    /// See [`AnewError`].
    pub async fn relogin(
        &self,
        name: &ClientName,
        forget: bool,
        settings: &Settings,
    ) -> Result<Arc<ClientView>, AnewError> {
        let client = self.clients.client(name).ok_or(AnewError::Unknown)?;
        if implementation_of(&client.record.spec).is_none() {
            return Err(AnewError::NoImplementation);
        }
        let implementation = self.implementations.client(name);
        // That of a stopped account is started with its client.
        if implementation.is_none() && !client.record.is_kept_stopped() {
            return Err(AnewError::NoImplementation);
        }
        if forget {
            self.forgetting.ask(name.clone()).map_err(|_| AnewError::Busy)?;
        }
        let mut anew = Anew::new(name, client.clone(), settings);
        match implementation {
            Some(implementation) => {
                let again = anew.begin(&self.implementations, implementation, "implementation").await?;
                // A client that ended because the account was logged out elsewhere is held.
                if matches!(client.record.phase, Phase::Gone(_)) {
                    self.clients.relaunch(name.clone()).await?;
                }
                anew.wait(again).await?;
            }
            None => {
                let again = anew.begin(&self.clients, client, "client").await?;
                anew.wait(again).await?;
            }
        }
        self.clients.client(name).ok_or(AnewError::Unknown)
    }

    /// Starts both processes of an account anew, also where they are held or stopped. Returns when they run again.
    ///
    /// # Errors
    /// See [`AnewError`].
    pub async fn restart(
        &self,
        name: &ClientName,
        settings: &Settings,
    ) -> Result<Arc<ClientView>, AnewError> {
        let client = self.clients.client(name).ok_or(AnewError::Unknown)?;
        let implementation = self.implementations.client(name);
        let implementation = implementation.filter(|_| implementation_of(&client.record.spec).is_some());
        let mut anew = Anew::new(name, client.clone(), settings);
        let mut begun = Vec::new();
        // Both at once: the launch of the client waits for the port of the implementation.
        if let Some(implementation) = implementation {
            begun.push(anew.begin(&self.implementations, implementation, "implementation").await?);
        }
        begun.push(anew.begin(&self.clients, client, "client").await?);
        for begun in begun {
            anew.wait(begun).await?;
        }
        self.clients.client(name).ok_or(AnewError::Unknown)
    }
}

/// A new start of an account's processes.
struct Anew<'a> {
    name: &'a ClientName,
    spec: Arc<ClientSpec>,
    time: Duration,
}

/// A process that is started anew.
struct Begun {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    before: Arc<ClientView>,
    what: &'static str,
}

impl<'a> Anew<'a> {
    fn new(name: &'a ClientName, client: Arc<ClientView>, settings: &Settings) -> Self {
        let time = settings.supervisor.stop_timeout + STOP_MARGIN;
        Self { name, spec: client.record.spec.clone(), time }
    }

    async fn begin(
        &mut self,
        registry: &Registry,
        before: Arc<ClientView>,
        what: &'static str,
    ) -> Result<Begun, RegistryGone> {
        let snapshots = registry.changes();
        registry.relaunch(self.name.clone()).await?;
        Ok(Begun { snapshots, before, what })
    }

    /// Returns when the process runs again.
    async fn wait(&self, begun: Begun) -> Result<(), AnewError> {
        let Begun { mut snapshots, before, what } = begun;
        let failed = |why: Arc<str>| Err(AnewError::Failed(self.spec.clone(), why));
        // A launch that was under way already is not repeated, and its end is this one's.
        let least = match before.record.phase {
            Phase::Reserved | Phase::Starting => before.record.generation.0,
            Phase::Up | Phase::Stopping | Phase::Gone(_) => before.record.generation.0 + 1,
        };
        let is_over = |view: &ClientView| match view.record.phase {
            Phase::Up => view.record.generation.0 >= least,
            // It can't be started, which its reason explains.
            Phase::Gone(_) => view.record.generation.0 >= least || view.record.history.held,
            Phase::Reserved | Phase::Starting | Phase::Stopping => false,
        };
        let mut is_under_way = false;
        let again = snapshots.wait_for(|snapshot| {
            let view = snapshot.get(self.name);
            // The first snapshots may be from before the actor read the request.
            is_under_way |= view.is_none_or(|view| !Arc::ptr_eq(view, &before));
            is_under_way && view.is_none_or(|view| is_over(view))
        });
        let found = match timeout(self.time, again).await {
            Ok(Ok(snapshot)) => snapshot.get(self.name).cloned(),
            Ok(Err(_)) => return Err(AnewError::Busy),
            Err(_) => return failed(format!("its {what} is not back in time; see the log").into()),
        };
        match found {
            Some(view) if view.record.phase == Phase::Up => Ok(()),
            Some(view) => failed(
                view.record
                    .history
                    .reason
                    .clone()
                    .unwrap_or_else(|| format!("its {what} could not be started; see the log").into()),
            ),
            None => failed("it was stopped meanwhile".into()),
        }
    }
}

/// Waits until the implementation of an account is gone, or the account needs it again: then it may stay as it is. Returns where
/// a registry has ended as well.
async fn gone_or_needed(
    name: &ClientName,
    mut clients: watch::Receiver<Arc<Snapshot>>,
    mut implementations: watch::Receiver<Arc<Snapshot>>,
) {
    let is_needed = |clients: &Snapshot| clients.get(name).is_some_and(|view| !view.record.is_kept_stopped());
    tokio::select! {
        _ = implementations.wait_for(|snapshot| snapshot.get(name).is_none()) => {}
        _ = clients.wait_for(|snapshot| is_needed(snapshot)) => {}
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
            let waited = gone_or_needed(&name, clients.subscribe(), implementations.subscribe());
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
