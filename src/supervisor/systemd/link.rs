//! [`Link`]: a connection to systemd over the bus, and how it is made.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, MessageStream};

use super::error::BusError;
use super::manager::{ManagerProxy, SYSTEMD, UnitPropertiesProxy};
use crate::config::ManagerKind;

/// Messages that may wait for us.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// How long systemd may take to answer a call; jobs are not waited for in one. As libdbus has it.
pub(super) const ANSWER: Duration = Duration::from_secs(25);

/// Whose manager, for people.
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
    pub owner: Arc<str>,
}

impl Link {
    /// The properties of the unit with this path.
    pub(super) async fn properties(&self, path: String) -> zbus::Result<UnitPropertiesProxy<'static>> {
        UnitPropertiesProxy::builder(&self.connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }
}

/// Connects, and has systemd tell us of units: one rule for all of them, since a connection may have 512 rules and there may
/// be more clients.
pub(super) async fn open(kind: ManagerKind) -> Result<(Link, MessageStream), BusError> {
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
