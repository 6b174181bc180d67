//! Why an account is as it is.

use http::{Response, StatusCode};

use super::refusals::{OneAccount, Reading};
use super::{Call, text};
use crate::http::body::{self, Body};
use crate::model::name::ClientName;
use crate::wire::v1::explain::{Explanation, explain};
use crate::wire::v1::problem::Problem;

/// Explains an account.
///
/// What it is in a sentence, what comes next, what a person can do, and the last events, which are those since the controller
/// started.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/explain",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The explanation", body = Explanation),
        Reading,
        OneAccount,
    )
)]
pub(super) fn explanation(call: &Call, name: &ClientName) -> Result<Response<Body>, Problem> {
    let view = call.v1.accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
    let account = call.v1.accounts.account(&view, &call.settings);
    Ok(body::json(StatusCode::OK, text(&explain(&account, call.v1.changes.story(name)))))
}
