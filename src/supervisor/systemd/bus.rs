//! [`Bus`]: the connection to systemd, which the task in `signals` keeps, the table of units, and the calls to systemd.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error};
use zbus::{MessageStream, OwnedVariant, Variant};

use super::connection::{REPLY_TIMEOUT, SystemdConnection, bus_name, open};
use super::error::BusError;
use super::manager::{SERVICE, UNIT, path_of};
use super::properties::{self, ServiceProps, UnitProps};
use super::unit::UnitRole;
use super::unit_table::UnitTable;
use crate::config::ManagerKind;
use crate::locks::locked;
use crate::model::boot::Started;
use crate::model::client::Handle;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::ProcessEvent;
use crate::supervisor::EventSender;

/// Calls in progress at a time. dbus-daemon allows a connection 128 and disconnects it above (`max_replies_per_connection`).
const MAX_CALLS: usize = 100;
/// How many units may wait for a watch on their freezer.
const MAX_TO_WATCH: usize = 8192;
/// How many events may wait for the registry: two for each client that a configuration can allow. During adoption nothing takes them,
/// and while the listener waits for room no reply comes through, for which adoption waits. Room is allocated as it is used.
const MAX_EVENTS: usize = 20_000;
/// How many of them are forwarded together.
const BATCH: usize = 64;
/// How long a call waits for a lost connection. Callers of the API are answered within 5 s.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A service manager of systemd, as the controller sees it.
#[derive(Debug)]
pub(super) struct Bus {
    pub kind: ManagerKind,
    /// What the processes of the units are.
    pub role: UnitRole,
    /// The folder of launch files.
    pub launches: PathBuf,
    table: Mutex<UnitTable>,
    pub(super) link: watch::Sender<Option<SystemdConnection>>,
    /// When the systemd of the last connection started.
    pub(super) started: Mutex<Started>,
    calls: Semaphore,
    /// Units whose freezer is to be watched.
    freezer_watches: mpsc::Sender<Arc<str>>,
    /// Events on their way to the registry. The task that reads signals must not wait for it.
    events: mpsc::Sender<ProcessEvent>,
    /// Unknown units that were already logged.
    pub(super) unknown_units: Mutex<BTreeSet<String>>,
    /// Whether the clients of the registry were adopted.
    pub(super) adopted: AtomicBool,
}

/// What the tasks of a bus read.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The messages of systemd, for [`Bus::run`].
    pub messages: MessageStream,
    /// The units whose freezer is to be watched.
    pub to_watch: mpsc::Receiver<Arc<str>>,
    /// Events for [`forward_events`].
    pub events: mpsc::Receiver<ProcessEvent>,
}

/// Passes events on to the registry, in their order.
pub(super) async fn forward_events(mut queued: mpsc::Receiver<ProcessEvent>, events: EventSender) {
    let mut batch = Vec::with_capacity(BATCH);
    while queued.recv_many(&mut batch, BATCH).await > 0 {
        events.send(std::mem::take(&mut batch)).await;
    }
}

/// Runs what listens to systemd, and cancels `broken` at its end, which is a panic. It is not started again: what was missed
/// meanwhile, the next controller finds out when it adopts the units.
pub(super) async fn breaking(
    broken: CancellationToken,
    listening: impl Future<Output = ()> + Send + 'static,
) {
    let ended = AbortOnDropHandle::new(tokio::spawn(listening)).await;
    let error = ended.err();
    error!(
        ?error,
        "what listens to systemd failed ({error:?}); the controller ends, and clients keep running"
    );
    broken.cancel();
}

/// The properties of a unit as they are now.
#[derive(Debug)]
pub(super) struct CurrentProps(HashMap<String, OwnedVariant>);

impl CurrentProps {
    /// Whether the unit has this property with this value.
    pub(super) fn has(&self, (name, value): &(&str, Variant<'_>)) -> bool {
        self.0.get(*name).is_some_and(|has| **has == *value)
    }
}

impl Bus {
    /// Connects to systemd. The bus works while the [`Incoming`] that is returned with it is read.
    pub(super) async fn connect(
        (kind, role): (ManagerKind, UnitRole),
        launches: PathBuf,
    ) -> Result<(Arc<Self>, Incoming), BusError> {
        Ok(Self::over((kind, role), launches, open(kind).await?))
    }

    /// A bus with this connection.
    pub(super) fn over(
        (kind, role): (ManagerKind, UnitRole),
        launches: PathBuf,
        (link, messages): (SystemdConnection, MessageStream),
    ) -> (Arc<Self>, Incoming) {
        let (freezer_watches, to_watch) = mpsc::channel(MAX_TO_WATCH);
        let (events, queued) = mpsc::channel(MAX_EVENTS);
        let bus = Arc::new(Self {
            kind,
            role,
            freezer_watches,
            launches,
            table: Mutex::default(),
            started: Mutex::new(link.started.clone()),
            link: watch::Sender::new(Some(link)),
            calls: Semaphore::new(MAX_CALLS),
            events,
            unknown_units: Mutex::default(),
            adopted: AtomicBool::new(false),
        });
        (bus, Incoming { messages, to_watch, events: queued })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, UnitTable> {
        locked(&self.table)
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Waits for a connection, without a limit.
    pub(super) async fn wait(&self) {
        // The sender lives as long as `self`.
        let _ = self.link.subscribe().wait_for(Option::is_some).await;
    }

    async fn link(&self) -> Result<SystemdConnection, BusError> {
        let mut link = self.link.subscribe();
        let link = timeout(RECONNECT_TIMEOUT, link.wait_for(Option::is_some)).await;
        let found = link.ok().and_then(Result::ok).and_then(|link| link.clone());
        found.ok_or(BusError::Unreachable(bus_name(self.kind)))
    }

    /// Makes a call, at most [`MAX_CALLS`] at a time.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(SystemdConnection) -> F,
    ) -> Result<T, BusError>
    where
        F: Future<Output = zbus::Result<T>>,
    {
        let link = self.link().await?;
        // The semaphore is never closed.
        let _permit = self.calls.acquire().await;
        match timeout(REPLY_TIMEOUT, call(link)).await {
            Ok(answer) => answer.map_err(|error| BusError::Call(what, error)),
            // Counts as lost: systemd may still carry it out.
            Err(_) => Err(BusError::NoReply(what)),
        }
    }

    /// Makes a call that may safely be repeated, and repeats it where the connection was lost: systemd leaves the bus for a moment
    /// while it re-executes itself.
    pub(super) async fn retry<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        let mut pause = Duration::from_millis(10);
        loop {
            match call().await {
                // The call itself has waited for a connection.
                Err(error @ BusError::Unreachable(_)) => return Err(error),
                // The pauses add up to 2.5 s: callers of the API are answered within 5 s.
                Err(error) if error.is_lost() && pause < Duration::from_secs(2) => {
                    let error = ErrorChain(&error);
                    debug!(%error, "a call to systemd failed: {error}; trying again");
                }
                done => return done,
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    pub(super) async fn tell(&self, events: Vec<ProcessEvent>) {
        for event in events {
            if let ProcessEvent::Replaced(_, Handle::Unit { name, .. }) = &event {
                // A new process is in a new cgroup, and the kernel has removed the watch on the old one with it.
                self.watch_freezer(name);
            }
            // Fails only while the controller ends.
            let _ = self.events.send(event).await;
        }
    }

    /// Sends an event during adoption. Events are received only once the adopted units are in the registry, so this does not wait.
    pub(super) fn tell_later(&self, event: ProcessEvent) {
        if let Err(error) = self.events.try_send(event) {
            debug!(%error, "dropped an event of an adopted unit: {error}; the state shows with its next change");
        }
    }

    /// Notices from now on whether the processes of this unit are frozen.
    pub(super) fn watch_freezer(&self, unit: &Arc<str>) {
        if let Err(error) = self.freezer_watches.try_send(unit.clone()) {
            debug!(unit = %unit, %error, "cannot watch the freezer of {unit}: {error}");
        }
    }

    /// One property of a unit.
    pub(super) async fn property(
        &self,
        unit: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<OwnedVariant, BusError> {
        let get = || {
            let path = path_of(unit);
            self.call(name, async move |link| link.properties(path).await?.get(interface, name).await)
        };
        self.retry(get).await
    }

    /// The main process of the unit whose object path ends with `label`.
    pub(super) async fn main_pid_at(&self, label: &str) -> Option<u32> {
        let path = format!("/org/freedesktop/systemd1/unit/{label}");
        let pid = self
            .call("MainPID", async |link| link.properties(path).await?.get(SERVICE, "MainPID").await)
            .await;
        u32::try_from(&pid.ok()?).ok()
    }

    /// What a start needs to know of a unit: its `ActiveState` and its properties. In one call, because systemd loads an unused
    /// unit for each call and unloads it afterwards.
    pub(super) async fn before_start(&self, unit: &str) -> Result<(String, CurrentProps), BusError> {
        let all = || {
            let path = path_of(unit);
            // The empty name stands for all interfaces.
            self.call("GetAll", async move |link| link.properties(path).await?.get_all("").await)
        };
        let all = self.retry(all).await?;
        let state = all.get("ActiveState").and_then(|state| <&str>::try_from(state).ok());
        let state = state.unwrap_or_default().to_owned();
        Ok((state, CurrentProps(all)))
    }

    /// The properties of a unit and of its service.
    pub(super) async fn ask(
        &self,
        unit: &str,
    ) -> Result<(Option<UnitProps>, Option<ServiceProps>), BusError> {
        let all = |interface: &'static str| {
            let path = path_of(unit);
            self.call("GetAll", async move |link| link.properties(path).await?.get_all(interface).await)
        };
        let unit_props = self.retry(|| all(UNIT)).await?;
        let service_props = self.retry(|| all(SERVICE)).await?;
        Ok((UnitProps::read(&unit_props), ServiceProps::read(&service_props)))
    }

    /// The same, however long there is no answer.
    pub(super) async fn ask_until_answered(
        &self,
        unit: &str,
    ) -> Result<(Option<UnitProps>, Option<ServiceProps>), BusError> {
        loop {
            match self.ask(unit).await {
                // `ask` has made pauses itself.
                Err(error) if error.is_lost() => self.wait().await,
                answered => return answered,
            }
        }
    }

    /// All loaded units that can be clients, with their state. InvocationID is not included.
    pub(super) async fn list(&self) -> Result<HashMap<String, UnitProps>, BusError> {
        let patterns = self.role.patterns();
        let patterns = patterns.each_ref().map(String::as_str);
        let list = || {
            let units =
                async |link: SystemdConnection| link.manager.list_units_by_patterns(&[], &patterns).await;
            self.call("ListUnitsByPatterns", units)
        };
        let listed = self.retry(list).await?;
        // `has_job` is the number of the queued job, 0 without one.
        let read = |(name, _, _, state, _, _, _, job, _, _): super::manager::Listed| {
            let alive = properties::is_alive(&state);
            (name, UnitProps { alive, state, invocation: None, has_job: job != 0, frozen: None })
        };
        Ok(listed.into_iter().map(read).collect())
    }

    /// Adds what [`Bus::list`] does not include: the InvocationID, and whether the unit is frozen.
    pub(super) async fn complete(&self, unit: &str, listed: UnitProps) -> Result<UnitProps, BusError> {
        let (invocation, freezer) = tokio::join!(
            self.property(unit, UNIT, "InvocationID"),
            self.property(unit, UNIT, "FreezerState")
        );
        // Only systemd from version 246 has FreezerState.
        let frozen = freezer.ok().map(|state| <&str>::try_from(&state) == Ok("frozen"));
        Ok(UnitProps { invocation: properties::invocation(&invocation?), frozen, ..listed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_of_what_listens_is_noticed() {
        let broken = CancellationToken::new();
        let task = tokio::spawn(breaking(broken.clone(), async { panic!("a test") }));
        broken.cancelled().await;
        task.await.unwrap();
    }
}
