//! [`Bus`]: what is shared by all who deal with systemd: the connection, of which one task is the owner (`listening`), the
//! table of units, and the questions that are asked.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;
use zbus::{OwnedVariant, Variant};

use super::error::BusError;
use super::freezing;
use super::link::{ANSWER, Link, open, word};
use super::manager::{SERVICE, UNIT, path_of};
use super::table::Table;
use super::told::{self, OfService, OfUnit};
use super::unit::PATTERNS;
use crate::config::ManagerKind;
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::model::client::Handle;
use crate::supervisor::Event;

/// Calls that are under way at once. dbus-daemon allows 128 for a connection, and drops it above (`max_replies_per_connection`).
const CALLS: usize = 100;
/// How many units may wait to be watched.
const UNITS: usize = 8192;
/// How long whoever has something to ask waits for the bus to come back.
const PATIENCE: Duration = Duration::from_secs(15);

/// What all who deal with systemd share.
#[derive(Debug)]
pub(super) struct Bus {
    pub kind: ManagerKind,
    /// The folder of launch files.
    pub launches: PathBuf,
    table: Mutex<Table>,
    pub(super) link: watch::Sender<Option<Link>>,
    calls: Semaphore,
    /// Units whose freezing is to be noticed.
    freezable: mpsc::Sender<Arc<str>>,
    events: mpsc::Sender<Event>,
    /// Units that are not in the table, of which that was said.
    pub(super) strangers: Mutex<BTreeSet<String>>,
    /// Whether the clients of the registry were taken up.
    pub(super) adopted: AtomicBool,
}

/// The properties that a unit has.
#[derive(Debug)]
pub(super) struct Has(HashMap<String, OwnedVariant>);

impl Has {
    /// Whether this is one of them, with the same value.
    pub(super) fn has(&self, (name, value): &(&str, Variant<'_>)) -> bool {
        self.0.get(*name).is_some_and(|has| **has == *value)
    }
}

impl Bus {
    /// Connects, or says why that is not possible. Events of units go to `events`.
    pub(super) async fn connect(
        kind: ManagerKind,
        launches: PathBuf,
        events: mpsc::Sender<Event>,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>), BusError> {
        let (link, messages) = open(kind).await?;
        let (freezable, to_watch) = mpsc::channel(UNITS);
        let bus = Arc::new(Self {
            kind,
            freezable,
            launches,
            table: Mutex::default(),
            link: watch::Sender::new(Some(link)),
            calls: Semaphore::new(CALLS),
            events,
            strangers: Mutex::default(),
            adopted: AtomicBool::new(false),
        });
        let (owner, watcher) = (bus.clone().own(messages), freezing::watch(bus.clone(), to_watch));
        let both = async move {
            tokio::join!(owner, watcher);
        };
        Ok((bus, both))
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    /// Whether the bus is there.
    pub(super) fn is_there(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Returns when the bus is there, however long that takes.
    pub(super) async fn wait(&self) {
        // Fails only when we are gone.
        let _ = self.link.subscribe().wait_for(Option::is_some).await;
    }

    async fn link(&self) -> Result<Link, BusError> {
        let mut link = self.link.subscribe();
        let link = timeout(PATIENCE, link.wait_for(Option::is_some)).await;
        let found = link.ok().and_then(Result::ok).and_then(|link| link.clone());
        found.ok_or(BusError::Away(word(self.kind)))
    }

    /// Makes a call, one of few at a time.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(Link) -> F,
    ) -> Result<T, BusError>
    where
        F: Future<Output = zbus::Result<T>>,
    {
        let link = self.link().await?;
        // The semaphore is never closed.
        let _permit = self.calls.acquire().await;
        match timeout(ANSWER, call(link)).await {
            Ok(answer) => answer.map_err(|error| BusError::Call(what, error)),
            Err(_) => Err(BusError::Silent(what)),
        }
    }

    /// Makes a call that may be made twice, until systemd is there long enough to answer: while it executes itself anew it is
    /// away for a moment.
    pub(super) async fn again<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        let mut pause = Duration::from_millis(10);
        loop {
            match call().await {
                Err(error) if error.is_lost() && pause < Duration::from_secs(2) => {
                    debug!(error = %Chain(&error), "systemd is asked again");
                }
                done => return done,
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    pub(super) async fn tell(&self, events: Vec<Event>) {
        for event in events {
            if let Event::Replaced(_, Handle::Unit { name, .. }) = &event {
                self.watch_freezing(name);
            }
            // Nobody listens only when the controller itself is at its end.
            let _ = self.events.send(event).await;
        }
    }

    /// Tells something that is heard once the units that are being looked for are in the registry: nobody listens before, so
    /// this does not wait.
    pub(super) fn tell_later(&self, event: Event) {
        if let Err(error) = self.events.try_send(event) {
            debug!(%error, "too much is to be told of units; it is shown when it changes again");
        }
    }

    /// Has it noticed from here on whether the process of this unit is frozen.
    pub(super) fn watch_freezing(&self, unit: &Arc<str>) {
        if let Err(error) = self.freezable.try_send(unit.clone()) {
            debug!(unit = %unit, %error, "too many units came at once, this one's freezing is not noticed");
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
        self.again(get).await
    }

    /// The main process of the unit with this label, the last part of its path.
    pub(super) async fn main_pid_at(&self, label: &str) -> Option<u32> {
        let path = format!("/org/freedesktop/systemd1/unit/{label}");
        let pid = self
            .call("MainPID", async |link| link.properties(path).await?.get(SERVICE, "MainPID").await)
            .await;
        u32::try_from(&pid.ok()?).ok()
    }

    /// What has to be known of a unit before it is started: its state in systemd's words, and its limits. In one call: a unit
    /// that nobody needs is loaded for each, and forgotten after it.
    pub(super) async fn before_start(&self, unit: &str) -> Result<(String, Has), BusError> {
        let all = || {
            let path = path_of(unit);
            // Of all interfaces, which is what no name stands for.
            self.call("GetAll", async move |link| link.properties(path).await?.get_all("").await)
        };
        let all = self.again(all).await?;
        let state = all.get("ActiveState").and_then(|state| <&str>::try_from(state).ok());
        let state = state.unwrap_or_default().to_owned();
        Ok((state, Has(all)))
    }

    /// Everything about a unit that matters.
    pub(super) async fn ask(&self, unit: &str) -> Result<(Option<OfUnit>, Option<OfService>), BusError> {
        let all = |interface: &'static str| {
            let path = path_of(unit);
            self.call("GetAll", async move |link| link.properties(path).await?.get_all(interface).await)
        };
        let of_unit = self.again(|| all(UNIT)).await?;
        let of_service = self.again(|| all(SERVICE)).await?;
        Ok((OfUnit::read(&of_unit), OfService::read(&of_service)))
    }

    /// Every unit that can be a client and is loaded, with its state; which run it is is not among it.
    pub(super) async fn list(&self) -> Result<HashMap<String, OfUnit>, BusError> {
        let list = || {
            let units = async |link: Link| link.manager.list_units_by_patterns(&[], &PATTERNS).await;
            self.call("ListUnitsByPatterns", units)
        };
        let listed = self.again(list).await?;
        let read = |(name, _, _, state, _, _, _, job, _, _): super::manager::Listed| {
            let alive = told::is_alive(&state);
            (name, OfUnit { alive, state, invocation: None, has_job: job != 0, frozen: None })
        };
        Ok(listed.into_iter().map(read).collect())
    }

    /// What the list does not say of a unit: which run of it there is, and whether it is frozen.
    pub(super) async fn complete(&self, unit: &str, listed: OfUnit) -> Result<OfUnit, BusError> {
        let (invocation, freezer) = tokio::join!(
            self.property(unit, UNIT, "InvocationID"),
            self.property(unit, UNIT, "FreezerState")
        );
        // Not every systemd has the latter.
        let frozen = freezer.ok().map(|state| <&str>::try_from(&state) == Ok("frozen"));
        Ok(OfUnit { invocation: told::invocation(&invocation?), frozen, ..listed })
    }
}
