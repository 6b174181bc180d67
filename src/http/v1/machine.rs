//! `GET /v1/machine`: how this machine is, and the others that are reached through it. A door asks it when it connects; `/v1/events` tells
//! it anew from then on.

use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::Reading;
use super::{V1, text};
use crate::config::{Access, Settings};
use crate::http::auth::Admission;
use crate::http::body::{self, Body};
use crate::machines::{LinkState, Machine, free_memory};
use crate::model::machine::MachineName;
use crate::registry::Registry;
use crate::wire::door::DOOR;

/// This machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct About {
    /// The version of its controller.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// How many accounts it has.
    #[schema(example = 12)]
    accounts: usize,
    /// How much of its memory is free for more programs, in bytes. Null where that is not known.
    free_memory: Option<u64>,
    /// Whether this caller may start another account here just now: its token is not read-only, and `max_clients` leaves a place.
    takes_accounts: bool,
    /// The other machines to which this one is the door. Left empty for a caller that is a door itself.
    machines: Vec<Other>,
}

/// Another machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Other {
    #[schema(example = "tokyo")]
    name: String,
    /// `reachable` or `unreachable`.
    #[schema(example = "reachable")]
    state: &'static str,
    /// Since when it is that, in Unix seconds.
    since: u64,
    /// Why it can't be reached.
    reason: Option<String>,
    /// How many accounts it has.
    accounts: usize,
}

impl Other {
    fn of((name, machine): (&MachineName, &Machine)) -> Self {
        let (state, since, reason) = match &machine.link {
            LinkState::Reachable { since } => ("reachable", *since, None),
            LinkState::Unreachable { since, why } => ("unreachable", *since, Some(why.to_string())),
        };
        Self { name: name.to_string(), state, since, reason, accounts: machine.accounts.len() }
    }
}

/// Says how this machine is.
#[utoipa::path(get, path = "/v1/machine", responses((status = 200, description = "This machine", body = About), Reading))]
pub(super) fn about(v1: &V1, settings: &Settings, request: &Parts) -> Response<Body> {
    let machines = match request.headers.contains_key(DOOR) {
        true => Vec::new(),
        false => v1.machines.look(|table| table.machines().iter().map(Other::of).collect()),
    };
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        accounts: v1.accounts.clients.snapshot().iter().count(),
        free_memory: free_memory(),
        takes_accounts: takes_accounts(&v1.accounts.clients, settings, may_start(request)),
        machines,
    };
    body::json(StatusCode::OK, text(&about))
}

/// Whether a caller may start accounts.
pub(super) fn may_start(request: &Parts) -> bool {
    request.extensions.get::<Admission>().is_some_and(|known| known.access == Access::ReadWrite)
}

/// Whether another account can be started just now, by a caller that may start some.
pub(super) fn takes_accounts(clients: &Registry, settings: &Settings, may_start: bool) -> bool {
    may_start && clients.snapshot().has_place(settings.max_clients)
}
