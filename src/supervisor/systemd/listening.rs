//! How the owner of a [`Bus`] listens to systemd: what it says is taken in, what it may not have said is asked for, and a
//! connection that is lost is made anew.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_core::Stream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use zbus::message::Type;
use zbus::{Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::bus::Bus;
use super::launch::LaunchFile;
use super::link::{open, word};
use super::manager::{SERVICE, SYSTEMD, UNIT, unit_of};
use super::told::{OfService, OfUnit};
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::service::events;
use crate::supervisor::Event;

/// Why the owner of a connection stops listening to it.
enum Loss {
    /// It broke.
    Broken(String),
    /// systemd left the bus.
    Left,
}

impl Bus {
    /// Owns the connection: listens as long as it lasts, then makes another one.
    pub(super) async fn own(self: Arc<Self>, mut messages: MessageStream) {
        // At first nobody is known, and nobody is missed.
        let mut surveys = JoinSet::new();
        loop {
            let loss = self.listen(&mut messages, surveys).await;
            self.link.send_replace(None);
            drop(messages);
            let manager = word(self.kind);
            match loss {
                Loss::Broken(error) => {
                    warn!(name: events::BUS_LOST, manager, error, "the bus was lost; clients go on, and it is tried again");
                }
                Loss::Left => {
                    warn!(name: events::BUS_LOST, manager, "systemd left the bus; clients go on, and it is waited for");
                }
            }
            messages = self.reopen().await;
            surveys = JoinSet::new();
            surveys.spawn(self.clone().survey());
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

    /// Takes in what systemd says until the connection is of no use any more. `surveys` are under way.
    async fn listen(self: &Arc<Self>, messages: &mut MessageStream, mut surveys: JoinSet<()>) -> Loss {
        let Some(owner) = self.link.borrow().as_ref().map(|link| link.owner.clone()) else {
            return Loss::Left;
        };
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
                Heard::Appeared(unit) => {
                    surveys.spawn(self.clone().meet(unit));
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
        let mut looks = JoinSet::new();
        for unit in self.newcomers(&listed) {
            looks.spawn(self.clone().meet(unit));
        }
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
                self.complete(unit, listed).await.map(|complete| (Some(complete), None))
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
                let Some(unit) = header.path().and_then(|path| unit_of(path.as_str())) else {
                    return nothing;
                };
                let known = self.table().contains(&unit);
                match body.deserialize::<(&str, HashMap<String, OwnedVariant>, Vec<&str>)>() {
                    Ok((UNIT, all, _)) if !known => {
                        let active = OfUnit::read(&all).is_some_and(|said| said.state == "active");
                        return if active { Heard::Appeared(unit.into()) } else { nothing };
                    }
                    _ if !known => Vec::new(),
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

    /// Those of the units that were listed that run and are not in the table.
    pub(super) fn newcomers(&self, listed: &HashMap<String, OfUnit>) -> Vec<Arc<str>> {
        let table = self.table();
        let mut strangers = locked(&self.strangers);
        strangers.retain(|unit| listed.get(unit).is_some_and(|found| found.alive));
        let new = listed.iter().filter(|(unit, found)| found.alive && !table.contains(unit));
        new.map(|(unit, _)| unit.as_str().into()).collect()
    }

    /// Looks at a unit that runs and is not in the table: a client that an operator stopped, and started again, is taken up;
    /// of any other it is said, once, that it is there.
    pub(super) async fn meet(self: Arc<Self>, unit: Arc<str>) {
        let asked = match self.ask(&unit).await {
            Ok((Some(of_unit), Some(of_service))) if of_unit.state == "active" => (of_unit, of_service),
            // It is gone already.
            _ => return,
        };
        let (launches, launch) = (self.launches.clone(), self.table().set_aside(&unit));
        let ours = tokio::task::spawn_blocking(move || {
            launch.is_some_and(|launch| {
                LaunchFile::generation_in(&launches, &launch.name.unit_id()) == Some(launch.generation)
            })
        });
        let events = match ours.await {
            Ok(true) => self.table().rejoin(&unit, asked.0, asked.1),
            _ => None,
        };
        match events {
            Some(events) => self.tell(events).await,
            // Whose it is, is not known before the clients of the registry are taken up.
            None if self.table().contains(&unit) || !self.adopted.load(Ordering::Acquire) => {}
            None => {
                let mut strangers = locked(&self.strangers);
                if strangers.insert(unit.to_string()) {
                    warn!(unit = %unit, "this unit runs, and no client in the registry is it; it is left alone");
                }
            }
        }
    }
}

/// What a message meant.
enum Heard {
    Events(Vec<Event>),
    /// A unit runs that is not in the table.
    Appeared(Arc<str>),
    /// A unit is not loaded any more, or not for a moment.
    Unloaded(Arc<str>),
    /// systemd has read its configuration, or itself, anew.
    BeganAnew,
    /// systemd is not on the bus any more, or is another process.
    Left,
}
