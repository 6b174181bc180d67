//! `DELETE /v1/clients/NAME`: an account leaves the list, with what it kept on disk if that is asked for.

use http::{Response, StatusCode};
use utoipa::IntoParams;

use super::Call;
use super::refusals::{Changing, OneAccount, WithQuery};
use crate::accounts::ForgetError;
use crate::http::body::{self, Body};
use crate::http::request::params::Params;
use crate::model::fleet::StopMode;
use crate::model::name::ClientName;
use crate::wire::v1::problem::Problem;

/// What goes with the account.
#[derive(Debug, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// 1 also removes what it kept on disk: its login, what waits to be reported, its settings. It has to be stopped then.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1, default = 0)]
    forget: bool,
}

impl DeleteQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let invalid = |error: String| Problem::invalid_parameter(error);
        let mut params = Params::parse(query.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let forget = match params.remove("forget").as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(_) => return Err(invalid("forget must be 0 or 1".to_owned())),
        };
        match params.names().next() {
            Some(name) => Err(invalid(format!("there is no parameter {name:?} here"))),
            None => Ok(Self { forget }),
        }
    }
}

/// Takes an account out of the list.
///
/// Answers when its processes have ended. What it kept on disk stays, unless `forget=1` says otherwise: that removes it, also of an
/// account that has left the list, and is refused while the account runs.
#[utoipa::path(
    delete,
    path = "/v1/clients/{name}",
    params(("name" = String, Path, description = "Its name", example = "bot"), DeleteQuery),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It could not be stopped, or with `forget=1` still runs", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
        WithQuery,
    )
)]
pub(super) async fn delete(call: Call, name: ClientName) -> Result<Response<Body>, Problem> {
    let DeleteQuery { forget } = DeleteQuery::parse(call.request.uri.query().unwrap_or_default())?;
    if forget {
        let forgotten = call.v1.accounts.forget(&name, &call.settings).await;
        forgotten.map_err(|error| not_forgotten(&error, &name))?;
    } else {
        let stopped = call.run(call.v1.accounts.stop(name, StopMode::Wait, &call.settings)).await?;
        Problem::unless_done(&stopped)?;
    }
    Ok(body::empty(StatusCode::NO_CONTENT))
}

fn not_forgotten(error: &ForgetError, name: &ClientName) -> Problem {
    match error {
        ForgetError::Unknown => Problem::no_such_account(),
        ForgetError::Running => Problem::still_running(name),
        ForgetError::Busy => Problem::busy("the controller is busy"),
        ForgetError::Outage => Problem::outage(),
        ForgetError::File(..) | ForgetError::Unit(_) | ForgetError::Failed(_) => {
            Problem::failed(error.explain())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_mistakes_are_named() {
        for (query, forget) in [("", false), ("forget=0", false), ("forget=1", true)] {
            assert_eq!(DeleteQuery::parse(query), Ok(DeleteQuery { forget }), "{query}");
        }
        for (query, why) in [
            ("forget=true", "forget must be 0 or 1"),
            ("forget", "forget must be 0 or 1"),
            ("forgett=1", "there is no parameter \"forgett\" here"),
        ] {
            assert_eq!(DeleteQuery::parse(query).unwrap_err().detail, why, "{query}");
        }
    }
}
