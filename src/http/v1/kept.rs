//! What the controller of another machine asks for when it moves an account: start parameters and files, with secrets.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;

use super::refusals::{Changing, OneAccount, Reading};
use super::{Call, text};
use crate::accounts::{KeptError, KeptOf};
use crate::http::body::{self, Body};
use crate::http::request::body::RequestBodyStream;
use crate::model::name::ClientName;
use crate::wire::door::DOOR;
use crate::wire::v1::problem::Problem;

type Answered = Result<Response<Body>, Problem>;

/// Which files of an account there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keeps {
    /// Of its client: undelivered reports, cookies.
    client: bool,
    /// Of the program that holds it: its login and configuration.
    implementation: bool,
}

/// The start parameters of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AllParameters {
    /// As they were given, with secrets.
    parameters: BTreeMap<String, String>,
}

/// Says which files of an account there are.
///
/// Also of one that is in the list no more.
#[utoipa::path(
    get,
    path = "/v1/clients/{name}/kept",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses((status = 200, description = "Which there are", body = Keeps), Reading, OneAccount)
)]
pub(super) async fn keeps(call: &Call, name: &ClientName) -> Answered {
    let keeps = async |of| call.v1.accounts.keeps(name, of).await.map_err(|error| refusal(&error, name));
    let keeps =
        Keeps { client: keeps(KeptOf::Client).await?, implementation: keeps(KeptOf::Implementation).await? };
    Ok(body::json(StatusCode::OK, text(&keeps)))
}

/// Gives all start parameters of an account, secrets included.
///
/// Only to the controller of another machine, which moves it: a request with the header `X-Wqcontroller-Door`.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/parameters",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses((status = 200, description = "Its parameters", body = AllParameters), Changing, OneAccount)
)]
pub(super) fn parameters(call: &Call, name: &ClientName) -> Answered {
    call.is_of_door()?;
    let parameters = call.v1.accounts.parameters(name).ok_or_else(Problem::no_such_account)?;
    info!(client = %name, "the controller of another machine takes its parameters, to move it");
    Ok(body::json(StatusCode::OK, text(&AllParameters { parameters })))
}

/// Gives all that an account keeps in a folder.
///
/// Only to the controller of another machine, and while the account is stopped. A tar archive, whose last entry says how many there are.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/kept/{of}",
    params(
        ("name" = String, Path, description = "Its name", example = "bot"),
        ("of" = String, Path, description = "`client` or `implementation`", example = "client")
    ),
    responses(
        (status = 200, description = "All files", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 204, description = "There are none"),
        (status = 409, description = "It runs, or its files can't be read", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
    )
)]
pub(super) async fn take_out(call: &Call, name: &ClientName, of: &str) -> Answered {
    call.is_of_door()?;
    let of = kept_of(of)?;
    call.v1.accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
    let content = call.v1.accounts.take_out(name, of).await.map_err(|error| refusal(&error, name))?;
    let Some(content) = content else { return Ok(body::empty(StatusCode::NO_CONTENT)) };
    info!(client = %name, "the controller of another machine takes the files of its {}, to move it", of.as_str());
    let mut response = Response::new(Body::stream(content.map_err(Into::into)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// Brings all that an account kept in a folder on another machine.
///
/// Only by the controller of another machine, and while the account is stopped and has no files there. Answers when all is on disk.
#[utoipa::path(
    put,
    path = "/v1/clients/{name}/kept/{of}",
    params(
        ("name" = String, Path, description = "Its name", example = "bot"),
        ("of" = String, Path, description = "`client` or `implementation`", example = "client")
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "All is on disk"),
        (status = 409, description = "It runs, or its files can't be written", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
    )
)]
pub(super) async fn put_in(mut call: Call, name: &ClientName, of: &str) -> Answered {
    call.is_of_door()?;
    let of = kept_of(of)?;
    call.v1.accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
    let Some(content) = call.body.take() else { return Err(Problem::invalid_body("there is no archive")) };
    // As a stream that reports its end: without that the connection would be closed after the response.
    let inactivity = call.settings.http.inactivity_timeout;
    let content = RequestBodyStream::new(content, call.downstream.clone(), inactivity);
    let put = call.v1.accounts.put_in(name, of, Box::pin(content)).await;
    put.map_err(|error| refusal(&error, name))?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

impl Call {
    /// Checks that the controller of another machine asks. What it may do was checked before: it has to be let in to control accounts.
    fn is_of_door(&self) -> Result<(), Problem> {
        match self.request.headers.contains_key(DOOR) {
            true => Ok(()),
            false => Err(Problem::only_for_doors()),
        }
    }
}

fn kept_of(word: &str) -> Result<KeptOf, Problem> {
    KeptOf::ALL.into_iter().find(|of| of.as_str() == word).ok_or_else(Problem::no_such_path)
}

fn refusal(error: &KeptError, name: &ClientName) -> Problem {
    match error {
        KeptError::Running => Problem::still_running(name),
        KeptError::NotEmpty(why) => Problem::files_there(why),
        KeptError::Busy => Problem::busy(error.to_string()),
        KeptError::Folder(folder) if folder.is_lost() => Problem::outage(),
        KeptError::Folder(_) | KeptError::Failed(_) => Problem::failed(error.explain()),
    }
}
