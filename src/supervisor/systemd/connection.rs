//! [`SystemdConnection`]: a connection to systemd over D-Bus, and how it is opened.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, MessageStream};

use super::error::{BusError, has_no_property};
use super::manager::{MANAGER, MANAGER_PATH, ManagerProxy, SYSTEMD, UnitPropertiesProxy};
use crate::config::ManagerKind;
use crate::model::boot::Started;

/// Received messages that may wait to be read.
const MAX_QUEUED_MESSAGES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How long systemd may take to answer a call: the default of libdbus. No call waits for a job.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// How long systemd may take where the controller can do without the answer.
pub(super) const QUICK_TIMEOUT: Duration = Duration::from_secs(2);

/// The name of the manager's bus, for messages.
pub(super) fn bus_name(manager: ManagerKind) -> &'static str {
    match manager {
        ManagerKind::System => "system",
        ManagerKind::User => "user",
    }
}

/// A connection that is not known to be broken.
#[derive(Clone, Debug)]
pub(super) struct SystemdConnection {
    connection: Connection,
    pub manager: ManagerProxy<'static>,
    /// The unique bus name of systemd. Signals from any other sender are ignored.
    pub owner: Arc<str>,
    /// When this systemd started.
    pub started: Started,
}

impl SystemdConnection {
    /// The properties of the unit with this path.
    pub(super) async fn properties(&self, path: String) -> zbus::Result<UnitPropertiesProxy<'static>> {
        properties(&self.connection, path).await
    }
}

pub(super) async fn properties(
    connection: &Connection,
    path: String,
) -> zbus::Result<UnitPropertiesProxy<'static>> {
    // A cache would be one more match rule for each unit.
    UnitPropertiesProxy::builder(connection).path(path).cache_properties(CacheProperties::No).build().await
}

/// Connects to the bus of this manager.
pub(super) fn builder<'a>(kind: ManagerKind) -> zbus::Result<zbus::connection::Builder<'a>> {
    Ok(match kind {
        ManagerKind::System => zbus::connection::Builder::system(),
        ManagerKind::User => zbus::connection::Builder::session(),
    })
}

/// When systemd at the other end of this connection started. The value survives a re-execution of systemd, and changes with each
/// reboot: of the machine, of a container, or of userspace alone (`systemctl soft-reboot`).
async fn started(connection: &Connection, kind: ManagerKind) -> zbus::Result<Started> {
    let manager = properties(connection, MANAGER_PATH.to_owned()).await?;
    let microseconds = u64::try_from(&manager.get(MANAGER, "UserspaceTimestampMonotonic").await?)?;
    // Earlier versions of systemd don't count soft reboots.
    let soft_reboots = match manager.get(MANAGER, "SoftRebootsCount").await {
        Ok(count) => Some(u32::try_from(&count)?),
        Err(error) if has_no_property(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(Started::Manager { kind, microseconds, soft_reboots })
}

/// When the manager of this kind started, over a connection of its own.
pub(super) async fn ask_started(kind: ManagerKind) -> Result<Started, BusError> {
    let asking = async { started(&builder(kind)?.build().await?, kind).await };
    match timeout(QUICK_TIMEOUT, asking).await {
        Ok(asked) => asked.map_err(|error| BusError::Connect(bus_name(kind), error)),
        Err(_) => Err(BusError::Unreachable(bus_name(kind))),
    }
}

/// Connects, and subscribes to signals about units. One match rule is for all units: dbus-daemon allows a connection 512 rules,
/// and there may be more clients.
pub(super) async fn open(kind: ManagerKind) -> Result<(SystemdConnection, MessageStream), BusError> {
    let builder = builder(kind).map_err(|error| BusError::Connect(bus_name(kind), error))?;
    open_over(kind, builder).await
}

/// The same, over the connection that `builder` makes.
pub(super) async fn open_over(
    kind: ManagerKind,
    builder: zbus::connection::Builder<'_>,
) -> Result<(SystemdConnection, MessageStream), BusError> {
    let opening = async {
        let connection = builder.max_queued(MAX_QUEUED_MESSAGES).build().await?;
        // Opened before the match rules are added, so that no message is missed.
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
        // After the match rule for owners, so that no change of the owner is missed.
        let owner = bus.get_name_owner(SYSTEMD.try_into()?).await?.as_str().into();
        let started = started(&connection, kind).await?;
        Ok::<_, zbus::Error>((SystemdConnection { connection, manager, owner, started }, messages))
    };
    match timeout(REPLY_TIMEOUT, opening).await {
        Ok(opened) => opened.map_err(|error| BusError::Connect(bus_name(kind), error)),
        Err(_) => Err(BusError::Unreachable(bus_name(kind))),
    }
}
