//! Reads the signals of systemd. What may have been missed is requested again, and a lost connection is opened anew.

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
use super::connection::{bus_name, open};
use super::launch_file::LaunchFile;
use super::manager::{SERVICE, SYSTEMD, UNIT, unit_of};
use super::properties::{ServiceProps, UnitProps};
use super::unit::{UnitRole, id_of};
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::ProcessEvent;
use crate::service::events;

/// Why a connection is given up.
#[derive(Debug)]
enum ConnectionLoss {
    /// It was closed, or failed with this error.
    Broken(String),
    /// systemd left the bus.
    Left,
}

impl Bus {
    /// Reads from the connection as long as it lasts, then opens another one.
    pub(super) async fn run(self: Arc<Self>, mut messages: MessageStream) {
        // At first the table is empty, and nothing can have been missed.
        let mut resyncs = JoinSet::new();
        loop {
            let loss = self.listen(&mut messages, resyncs).await;
            // First, so that new calls wait for the next connection and do not fail on this one.
            self.link.send_replace(None);
            drop(messages);
            let manager = bus_name(self.kind);
            match loss {
                // The connection for clients is lost at the same time, and logged.
                loss if self.role == UnitRole::Implementation => {
                    debug!(manager, ?loss, "lost the connection to systemd for implementations");
                }
                ConnectionLoss::Broken(error) => {
                    warn!(
                        name: events::BUS_LOST, manager, error,
                        "lost the connection to systemd ({manager} bus: {error}); no start or stop until it is back; \
                         clients keep running; reconnecting"
                    );
                }
                ConnectionLoss::Left => {
                    warn!(
                        name: events::BUS_LOST, manager,
                        "systemd left the {manager} bus; no start or stop until it is back; clients keep running; reconnecting"
                    );
                }
            }
            messages = self.reopen().await;
            resyncs = JoinSet::new();
            // Those of the lost connection were dropped with it: their questions get no answer.
            resyncs.spawn(self.clone().resync());
            if self.role == UnitRole::Client {
                info!(manager, "connected to systemd again ({manager} bus)");
            }
        }
    }

    async fn reopen(&self) -> MessageStream {
        let mut pause = Duration::from_millis(50);
        loop {
            match open(self.kind).await {
                Ok((link, messages)) => {
                    // Before calls can be made: a reply is taken only where the table has no properties.
                    self.table().invalidate();
                    *locked(&self.started) = link.started.clone();
                    self.link.send_replace(Some(link));
                    return messages;
                }
                Err(error) => {
                    let error = ErrorChain(&error);
                    debug!(%error, "cannot connect to systemd yet: {error}");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Reads signals until the connection is lost. `resyncs` are in progress.
    async fn listen(
        self: &Arc<Self>,
        messages: &mut MessageStream,
        mut resyncs: JoinSet<()>,
    ) -> ConnectionLoss {
        let Some(owner) = self.link.borrow().as_ref().map(|link| link.owner.clone()) else {
            return ConnectionLoss::Left;
        };
        loop {
            // A resync is a task of its own: replies are received only while this loop reads.
            let message = tokio::select! {
                message = poll_fn(|context| Pin::new(&mut *messages).poll_next(context)) => message,
                // Only takes finished ones out of the set.
                Some(_) = resyncs.join_next() => continue,
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => return ConnectionLoss::Broken(error.to_string()),
                None => return ConnectionLoss::Broken("the connection was closed".to_owned()),
            };
            match self.interpret(&message, &owner) {
                SignalEffect::Events(events) => self.tell(events).await,
                SignalEffect::Unloaded(unit) => {
                    let bus = self.clone();
                    resyncs.spawn(async move { bus.refresh_unit(&unit, None).await });
                }
                SignalEffect::Appeared(unit) => {
                    resyncs.spawn(self.clone().inspect_unknown(unit));
                }
                SignalEffect::ManagerReloaded => {
                    // Signals may have been lost while systemd reloaded.
                    self.table().invalidate();
                    // Their replies may be older than the reload.
                    resyncs.abort_all();
                    resyncs.spawn(self.clone().resync());
                }
                SignalEffect::Left => return ConnectionLoss::Left,
            }
        }
    }

    /// Asks for the state of every unit in the table, and looks for unknown ones.
    async fn resync(self: Arc<Self>) {
        let units = self.table().names();
        let listed = match self.list().await {
            Ok(listed) => listed,
            // The connection is lost, so the next one begins with a resync.
            Err(error) => {
                let error = ErrorChain(&error);
                return debug!(%error, "cannot list units: {error}");
            }
        };
        let mut looks = JoinSet::new();
        // All at once: `Bus::call` bounds how many of them ask at a time.
        for unit in self.unknown_running(&listed) {
            looks.spawn(self.clone().inspect_unknown(unit));
        }
        for unit in units {
            let (bus, listed) = (self.clone(), listed.get(&*unit).cloned());
            looks.spawn(async move { bus.refresh_unit(&unit, listed).await });
        }
        looks.join_all().await;
    }

    /// Asks for the state of one unit. `listed` is its entry in the list of units.
    async fn refresh_unit(&self, unit: &Arc<str>, listed: Option<UnitProps>) {
        let asked = match listed {
            // An active unit needs only its InvocationID compared.
            Some(listed) if listed.state == "active" && !listed.has_job => {
                self.complete(unit, listed).await.map(|complete| (Some(complete), None))
            }
            _ => self.ask(unit).await,
        };
        match asked {
            Ok((unit_props, service_props)) => {
                let events = self.table().on_reply(unit, unit_props, service_props);
                self.tell(events).await;
            }
            Err(error) => {
                let error = ErrorChain(&error);
                debug!(unit = %unit, %error, "cannot ask for the state of {unit}: {error}");
            }
        }
    }

    fn interpret(&self, message: &Message, owner: &str) -> SignalEffect {
        let header = message.header();
        let nothing = SignalEffect::Events(Vec::new());
        if header.message_type() != Type::Signal {
            return nothing;
        }
        let (Some(interface), Some(member)) = (header.interface(), header.member()) else { return nothing };
        let said_by = header.sender().map(|sender| sender.as_str());
        let body = message.body();
        // The bus itself: no program can own this name.
        if said_by == Some("org.freedesktop.DBus") {
            let owners = body.deserialize::<(&str, &str, &str)>();
            let left = member.as_str() == "NameOwnerChanged"
                && owners.is_ok_and(|(name, _, new)| name == SYSTEMD && new != owner);
            return if left { SignalEffect::Left } else { nothing };
        }
        // Any program can address a signal to this connection, so the match rule alone is no proof of the sender.
        if said_by != Some(owner) {
            return nothing;
        }
        let events = match (interface.as_str(), member.as_str()) {
            ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
                let Some(unit) = header.path().and_then(|path| unit_of(self.role.prefix(), path.as_str()))
                else {
                    return nothing;
                };
                let known = self.table().contains(&unit);
                match body.deserialize::<(&str, HashMap<String, OwnedVariant>, Vec<&str>)>() {
                    Ok((UNIT, all, _)) if !known => {
                        // A unit that is still starting signals again when it is up.
                        let active = UnitProps::read(&all).is_some_and(|said| said.state == "active");
                        return if active { SignalEffect::Appeared(unit.into()) } else { nothing };
                    }
                    _ if !known => Vec::new(),
                    Ok((UNIT, all, _)) => self.table().on_signal(&unit, UnitProps::read(&all), None),
                    Ok((SERVICE, all, _)) => self.table().on_signal(&unit, None, ServiceProps::read(&all)),
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
                    Ok((unit, _)) if self.table().removed(unit) => {
                        return SignalEffect::Unloaded(unit.into());
                    }
                    _ => Vec::new(),
                }
            }
            ("org.freedesktop.systemd1.Manager", "Reloading") => {
                // True says that a reload begins, false that it has ended.
                if let Ok(false) = body.deserialize::<bool>() {
                    return SignalEffect::ManagerReloaded;
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        SignalEffect::Events(events)
    }

    /// The listed units that run and are not in the table.
    pub(super) fn unknown_running(&self, listed: &HashMap<String, UnitProps>) -> Vec<Arc<str>> {
        let table = self.table();
        let mut unknown_units = locked(&self.unknown_units);
        // One that has ended is logged again when it comes back.
        unknown_units.retain(|unit| listed.get(unit).is_some_and(|found| found.alive));
        let new = listed.iter().filter(|(unit, found)| found.alive && !table.contains(unit));
        new.map(|(unit, _)| unit.as_str().into()).collect()
    }

    /// Inspects a unit that runs and is not in the table. A client that an operator has started again is adopted; any other unit
    /// is logged once.
    pub(super) async fn inspect_unknown(self: Arc<Self>, unit: Arc<str>) {
        let asked = match self.ask(&unit).await {
            Ok((Some(unit_props), Some(service_props))) if unit_props.state == "active" => {
                (unit_props, service_props)
            }
            // It has ended meanwhile.
            _ => return,
        };
        let (name, launches, launch) =
            (unit.clone(), self.launches.clone(), self.table().stopped_launch(&unit));
        let role = self.role;
        let ours = tokio::task::spawn_blocking(move || {
            let (launch, id) = (launch?, id_of(role, &name)?);
            let file = LaunchFile::read(&launches, &id)?;
            let is_client = role == UnitRole::Client;
            // With the launch file of another launch it has the wrong port and secrets, and is not this client.
            (file.generation == launch.generation).then(|| is_client && file.is_built_in())
        });
        let events = match ours.await {
            Ok(Some(built_in)) => self.table().readopt(&unit, asked.0, asked.1, built_in),
            _ => None,
        };
        match events {
            Some(events) => self.tell(events).await,
            // Before adoption is complete the unit may still turn out to be a client.
            None if self.table().contains(&unit) || !self.adopted.load(Ordering::Acquire) => {}
            None => {
                let mut unknown_units = locked(&self.unknown_units);
                if unknown_units.insert(unit.to_string()) {
                    warn!(
                        unit = %unit,
                        "{unit} runs and belongs to no account in the registry; left alone (stop it with systemctl if it is not needed)"
                    );
                }
            }
        }
    }
}

/// What has to be done about a signal.
enum SignalEffect {
    Events(Vec<ProcessEvent>),
    /// A unit became active that is not in the table.
    Appeared(Arc<str>),
    /// A unit was unloaded, perhaps only while systemd reloads.
    Unloaded(Arc<str>),
    /// systemd has reloaded its configuration or re-executed itself.
    ManagerReloaded,
    /// systemd has left the bus, or another process has its name.
    Left,
}
