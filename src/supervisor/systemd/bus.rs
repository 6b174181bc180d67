//! The connection to systemd: one task owns it, listens to what systemd says, and makes it anew when it is lost. Others make
//! their calls through a [`Link`].

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::error::BusError;
use super::manager::{ManagerProxy, SERVICE, SYSTEMD, UNIT, UnitPropertiesProxy, path_of, unit_of};
use super::table::Table;
use super::told::{self, OfService, OfUnit};
use super::unit::PATTERNS;
use crate::config::ManagerKind;
use crate::model::chain::Chain;
use crate::supervisor::Event;

/// Calls that are under way at once. dbus-daemon allows 128 for a connection, and drops it above (`max_replies_per_connection`).
const CALLS: usize = 100;
/// Messages that may wait for us.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How long systemd may take to answer a call; jobs are not waited for in one. As libdbus has it.
const ANSWER: Duration = Duration::from_secs(25);
/// How long whoever has something to ask waits for the bus to come back.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn word(manager: ManagerKind) -> &'static str {
    match manager {
        ManagerKind::System => "system",
        ManagerKind::User => "user",
    }
}

/// A connection that works, as far as is known.
#[derive(Clone, Debug)]
pub(super) struct Link {
    connection: Connection,
    pub manager: ManagerProxy<'static>,
    /// systemd's own name on the bus: what anybody else says about units is not believed.
    owner: Arc<str>,
}

/// What all who deal with systemd share.
#[derive(Debug)]
pub(super) struct Bus {
    pub kind: ManagerKind,
    table: Mutex<Table>,
    link: watch::Sender<Option<Link>>,
    calls: Semaphore,
    events: mpsc::Sender<Event>,
    /// Units that are not in the table, of which that was said.
    strangers: Mutex<BTreeSet<String>>,
}

/// Why the owner of a connection stops listening to it.
enum Loss {
    /// It broke.
    Broken(String),
    /// systemd left the bus.
    Left,
}

impl Bus {
    /// Connects, or says why that is not possible. Events of units go to `events`.
    pub(super) async fn connect(
        kind: ManagerKind,
        events: mpsc::Sender<Event>,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>), BusError> {
        let (link, messages) = open(kind).await?;
        let bus = Arc::new(Self {
            kind,
            table: Mutex::default(),
            link: watch::Sender::new(Some(link)),
            calls: Semaphore::new(CALLS),
            events,
            strangers: Mutex::default(),
        });
        Ok((bus.clone(), bus.own(messages)))
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
            // Nobody listens only when the controller itself is at its end.
            let _ = self.events.send(event).await;
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

    /// The state of a unit in systemd's words.
    pub(super) async fn state(&self, unit: &str) -> Result<String, BusError> {
        let state = self.property(unit, UNIT, "ActiveState").await?;
        Ok(<&str>::try_from(&state).unwrap_or_default().to_owned())
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

    /// Which run of a unit there is or was last.
    pub(super) async fn invocation(&self, unit: &str) -> Result<Option<Arc<str>>, BusError> {
        Ok(told::invocation(&self.property(unit, UNIT, "InvocationID").await?))
    }

    /// Says, once, which units run that nobody here knows.
    pub(super) fn note_strangers(&self, listed: &HashMap<String, OfUnit>) {
        let table = self.table();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|unit| listed.get(unit).is_some_and(|found| found.alive));
        for (unit, found) in listed {
            if found.alive && !table.contains(unit) && strangers.insert(unit.clone()) {
                warn!(unit, "this unit runs, and no client in the registry is it; it is left alone");
            }
        }
    }

    /// Owns the connection: listens as long as it lasts, then makes another one.
    async fn own(self: Arc<Self>, mut messages: MessageStream) {
        loop {
            let loss = self.listen(&mut messages).await;
            self.link.send_replace(None);
            drop(messages);
            let manager = word(self.kind);
            match loss {
                Loss::Broken(error) => {
                    warn!(manager, error, "the bus was lost; clients go on, and it is tried again");
                }
                Loss::Left => warn!(manager, "systemd left the bus; clients go on, and it is waited for"),
            }
            messages = self.reopen().await;
            info!(manager, "systemd can be asked again");
        }
    }

    async fn reopen(&self) -> MessageStream {
        let mut pause = Duration::from_millis(50);
        loop {
            match open(self.kind).await {
                Ok((link, messages)) => {
                    self.table().doubt();
                    self.link.send_replace(Some(link));
                    return messages;
                }
                Err(error) => debug!(error = %Chain(&error), "the bus is not there yet"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Takes in what systemd says until the connection is of no use any more.
    async fn listen(self: &Arc<Self>, messages: &mut MessageStream) -> Loss {
        let Some(owner) = self.link.borrow().as_ref().map(|link| link.owner.clone()) else {
            return Loss::Left;
        };
        let mut surveys = JoinSet::new();
        surveys.spawn(self.clone().survey());
        loop {
            // Surveys are tasks of their own: they wait for answers, which come only while we read.
            let message = tokio::select! {
                message = poll_fn(|context| Pin::new(&mut *messages).poll_next(context)) => message,
                Some(_) = surveys.join_next() => continue,
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Loss::Broken(error.to_string()),
                None => return Loss::Broken("the connection was closed".to_owned()),
            };
            match self.hear(&message, &owner) {
                Heard::Events(events) => self.tell(events).await,
                Heard::Unloaded(unit) => {
                    let bus = self.clone();
                    surveys.spawn(async move { bus.look(&unit, None).await });
                }
                Heard::BeganAnew => {
                    // What happened meanwhile may not have been said.
                    self.table().doubt();
                    surveys.abort_all();
                    surveys.spawn(self.clone().survey());
                }
                Heard::Left => return Loss::Left,
            }
        }
    }

    /// Asks about every unit in the table that was not spoken of since it was doubted.
    async fn survey(self: Arc<Self>) {
        let units = self.table().names();
        let listed = match self.list().await {
            Ok(listed) => listed,
            // The connection is lost again, and so will be surveyed again.
            Err(error) => return debug!(error = %Chain(&error), "units can't be listed"),
        };
        self.note_strangers(&listed);
        let mut looks = JoinSet::new();
        for unit in units {
            let (bus, listed) = (self.clone(), listed.get(&*unit).cloned());
            looks.spawn(async move { bus.look(&unit, listed).await });
        }
        looks.join_all().await;
    }

    /// Asks about one unit, whose line in the list is `listed`.
    async fn look(&self, unit: &Arc<str>, listed: Option<OfUnit>) {
        let asked = match listed {
            // Where it runs it is enough to know that it is the same run.
            Some(listed) if listed.state == "active" && !listed.has_job => {
                self.invocation(unit).await.map(|invocation| (Some(OfUnit { invocation, ..listed }), None))
            }
            _ => self.ask(unit).await,
        };
        match asked {
            Ok((of_unit, of_service)) => {
                let events = self.table().learn(unit, of_unit, of_service);
                self.tell(events).await;
            }
            Err(error) => debug!(unit = %unit, error = %Chain(&error), "the unit can't be asked about"),
        }
    }

    fn hear(&self, message: &Message, owner: &str) -> Heard {
        let header = message.header();
        let nothing = Heard::Events(Vec::new());
        if header.message_type() != Type::Signal {
            return nothing;
        }
        let (Some(interface), Some(member)) = (header.interface(), header.member()) else { return nothing };
        let said_by = header.sender().map(|sender| sender.as_str());
        let body = message.body();
        if said_by == Some("org.freedesktop.DBus") {
            let owners = body.deserialize::<(&str, &str, &str)>();
            let left = member.as_str() == "NameOwnerChanged"
                && owners.is_ok_and(|(name, _, new)| name == SYSTEMD && new != owner);
            return if left { Heard::Left } else { nothing };
        }
        // The bus delivers to us what any program addresses to us.
        if said_by != Some(owner) {
            return nothing;
        }
        let events = match (interface.as_str(), member.as_str()) {
            ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
                let unit = header.path().and_then(|path| unit_of(path.as_str()));
                let Some(unit) = unit.filter(|unit| self.table().contains(unit)) else { return nothing };
                match body.deserialize::<(&str, HashMap<String, OwnedVariant>, Vec<&str>)>() {
                    Ok((UNIT, all, _)) => self.table().hear(&unit, OfUnit::read(&all), None),
                    Ok((SERVICE, all, _)) => self.table().hear(&unit, None, OfService::read(&all)),
                    _ => Vec::new(),
                }
            }
            ("org.freedesktop.systemd1.Manager", "JobNew") => {
                if let Ok((_, _, unit)) = body.deserialize::<(u32, OwnedObjectPath, &str)>() {
                    self.table().job_new(unit);
                }
                Vec::new()
            }
            ("org.freedesktop.systemd1.Manager", "JobRemoved") => {
                if let Ok((_, job, unit, result)) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>() {
                    self.table().job_removed(unit, job.as_str(), result);
                }
                Vec::new()
            }
            ("org.freedesktop.systemd1.Manager", "UnitRemoved") => {
                match body.deserialize::<(&str, OwnedObjectPath)>() {
                    Ok((unit, _)) if self.table().removed(unit) => return Heard::Unloaded(unit.into()),
                    _ => Vec::new(),
                }
            }
            ("org.freedesktop.systemd1.Manager", "Reloading") => {
                if let Ok(false) = body.deserialize::<bool>() {
                    return Heard::BeganAnew;
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        Heard::Events(events)
    }
}

/// What a message meant.
enum Heard {
    Events(Vec<Event>),
    /// A unit is not loaded any more, or not for a moment.
    Unloaded(Arc<str>),
    /// systemd has read its configuration, or itself, anew.
    BeganAnew,
    /// systemd is not on the bus any more, or is another process.
    Left,
}

impl Link {
    async fn properties(&self, path: String) -> zbus::Result<UnitPropertiesProxy<'static>> {
        UnitPropertiesProxy::builder(&self.connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }
}

/// Connects, and has systemd tell us of units: one rule for all of them, since a connection may have 512 rules and there may
/// be more clients.
async fn open(kind: ManagerKind) -> Result<(Link, MessageStream), BusError> {
    let opening = async {
        let builder = match kind {
            ManagerKind::System => zbus::connection::Builder::system(),
            ManagerKind::User => zbus::connection::Builder::session(),
        };
        let connection = builder.max_queued(QUEUE).build().await?;
        // Before anything is asked for, so that nothing is missed.
        let messages = MessageStream::from(&connection);
        let bus = DBusProxy::new(&connection).await?;
        let about_units = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .path_namespace("/org/freedesktop/systemd1")
            .build()?;
        let about_systemd = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg(SYSTEMD)
            .build()?;
        bus.add_match_rule(about_systemd).await?;
        bus.add_match_rule(about_units).await?;
        let manager =
            ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        manager.subscribe().await?;
        let owner = bus.get_name_owner(SYSTEMD.try_into()?).await?.as_str().into();
        Ok::<_, zbus::Error>((Link { connection, manager, owner }, messages))
    };
    match timeout(ANSWER, opening).await {
        Ok(opened) => opened.map_err(|error| BusError::Connect(word(kind), error)),
        Err(_) => Err(BusError::Away(word(kind))),
    }
}
