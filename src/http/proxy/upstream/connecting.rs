//! New connections to where a request goes.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::debug;

use super::super::connection::UpstreamConnection;
use super::super::upstream_stream::UpstreamStream;
use super::InFlightPermit;
use crate::machines::Target;
use crate::model::client::{ClientRecord, Handle, Phase};
use crate::model::state::ClientState;
use crate::registry::Registry;
use crate::wire::Reply;

/// Where a request goes.
#[derive(Clone, Copy)]
pub(in crate::http::proxy) enum Destination<'a> {
    /// To the process of a client, as it was when the request arrived.
    Client(&'a ClientRecord, &'a Registry),
    /// To the controller of another machine.
    Machine(&'a Target),
}

impl InFlightPermit {
    /// Connects to where a request goes.
    pub(super) async fn connect(
        &self,
        to: Destination<'_>,
        limit: Duration,
    ) -> Result<Box<UpstreamConnection>, Reply> {
        match to {
            Destination::Client(record, registry) => self.connect_to_client(record, registry, limit).await,
            Destination::Machine(target) => match target.connect().await {
                Ok(stream) => Ok(UpstreamConnection::over(UpstreamStream::Machine(stream), limit)),
                Err(error) => {
                    debug!(client = %self.0.client, "cannot connect to {}: {error}", target.host());
                    Err(self.unreachable("the controller of its machine can't be reached"))
                }
            },
        }
    }

    async fn connect_to_client(
        &self,
        record: &ClientRecord,
        registry: &Registry,
        limit: Duration,
    ) -> Result<Box<UpstreamConnection>, Reply> {
        let name = &record.spec.name;
        match UpstreamConnection::connect(record.port, limit).await {
            Ok(connection) => {
                // A port is given to another client only after this one is known to be gone, so the registry
                // tells whether it still has the port.
                let still = registry.client(name).is_some_and(|view| {
                    view.record.generation == record.generation && view.record.has_process()
                });
                if !still {
                    return Err(Reply::unreachable(name, "the client is down"));
                }
                // While the client does not listen, another account's process can listen at its port.
                if let (Some(Handle::Unit { name: unit, .. }), Some(stream)) =
                    (&record.handle, connection.to_client())
                    && let Err(error) = self.0.gate.check_upstream(stream, unit).await
                {
                    debug!(client = %name, "port {} is not used: {error}", record.port);
                    return Err(self.unreachable(&error.to_string()));
                }
                self.0.was_reached.store(true, Ordering::Relaxed);
                Ok(connection)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && self.is_starting(record) => {
                Err(Reply::starting(name))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.timed_out("the client takes no connection"))
            }
            Err(error) => {
                debug!(client = %name, "cannot connect to port {}: {error}", record.port);
                Err(self.unreachable("the client can't be reached"))
            }
        }
    }

    /// Whether the process may not listen yet, as far as is known.
    fn is_starting(&self, record: &ClientRecord) -> bool {
        record.phase == Phase::Up
            && !self.0.was_reached.load(Ordering::Relaxed)
            && matches!(record.state(), ClientState::Init | ClientState::Loading)
    }
}
