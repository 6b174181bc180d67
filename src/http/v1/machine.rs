//! `GET /v1/machine`: how this machine is. A door asks it each few seconds, and so notices a machine that is gone.

use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::Reading;
use super::{V1, text};
use crate::http::body::{self, Body};
use crate::machines::free_memory;

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
}

/// Says how this machine is.
#[utoipa::path(get, path = "/v1/machine", responses((status = 200, description = "This machine", body = About), Reading))]
pub(super) fn about(v1: &V1) -> Response<Body> {
    let accounts = v1.accounts.clients.snapshot().iter().count();
    let about = About { version: env!("CARGO_PKG_VERSION"), accounts, free_memory: free_memory() };
    body::json(StatusCode::OK, text(&about))
}
