//! What is done with accounts: each call answers when it is done, with the account as it is then.

use http::header::IF_NONE_MATCH;
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;

use super::refusals::{Changing, OneAccount, WithBody};
use super::{Call, text};
use crate::accounts::{Accounts, AnewError, SpecRefusal};
use crate::http::body::{self, Body};
use crate::http::request::body::read_form;
use crate::http::request::params::Params;
use crate::model::client::ClientSpec;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::REGISTRATION;
use crate::model::name::ClientName;
use crate::registry::CallError;
use crate::wire::door::DOOR;
use crate::wire::v1::account::Account;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::requests::{DesiredState, Parameters, PutAccount, Relogin, StartAccount};

type Answered = Result<Response<Body>, Problem>;

/// Says what an account is to be.
///
/// Registers it if there is none of that name. One that runs with other parameters is started anew. The same request again changes
/// nothing.
#[utoipa::path(
    put,
    path = "/v1/clients/{name}",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    request_body(content = Option<PutAccount>),
    responses(
        (status = 200, description = "The account, which was there before", body = Account),
        (status = 201, description = "The account, which is new", body = Account),
        (status = 409, description = "It could not be started or stopped", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was there before, and the request has `If-None-Match: *`", body = Problem, content_type = "application/problem+json"),
        Changing,
        WithBody,
    )
)]
pub(super) async fn put(call: Call, name: ClientName) -> Answered {
    let only_new = call.request.headers.get(IF_NONE_MATCH).is_some_and(|tag| tag == "*");
    let (call, PutAccount { parameters, desired }) = call.json::<PutAccount>().await?;
    let known = call.v1.accounts.clients.client(&name);
    if only_new && known.is_some() {
        return Err(Problem::exists_already(&name));
    }
    let accounts = &call.v1.accounts;
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    // An account without parameters of its own starts with none, and so does one that is new.
    let spec = match (parameters, &known) {
        (None, Some(_)) => None,
        (parameters, _) => {
            let mut parameters = parameters.unwrap_or_default();
            let is_moved = only_new && call.request.headers.contains_key(DOOR);
            let registration = is_moved.then(|| parameters.remove(REGISTRATION)).flatten();
            Some(Accounts::with_registration(call.spec(&name, parameters).await?, registration))
        }
    };
    match (desired, spec) {
        (DesiredState::Running, Some(spec)) => {
            Problem::unless_done(&call.run(accounts.start_with(spec, &call.settings)).await?)?
        }
        (DesiredState::Running, None) => {
            let spec = call.spec(&name, Parameters::new()).await?;
            Problem::unless_done(&call.run(accounts.start(spec)).await?)?;
        }
        (DesiredState::Stopped, spec) => {
            if known.is_some_and(|view| !view.record.is_kept_stopped()) {
                Problem::unless_done(&call.run(accounts.stop_and_keep(name.clone(), &call.settings)).await?)?;
            }
            if let Some(spec) = spec {
                Problem::unless_done(&call.run(accounts.register(spec, &call.settings)).await?)?;
            }
        }
    }
    call.account(&name, status)
}

/// Starts an account.
///
/// Answers when its client's process runs. One that runs already stays as it is.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/start",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    request_body(content = Option<StartAccount>),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 409, description = "It could not be started", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
        WithBody,
    )
)]
pub(super) async fn start(call: Call, name: ClientName) -> Answered {
    call.exists(&name)?;
    let (call, StartAccount { parameters }) = call.json::<StartAccount>().await?;
    let spec = call.spec(&name, parameters.unwrap_or_default()).await?;
    Problem::unless_done(&call.run(call.v1.accounts.start(spec)).await?)?;
    call.account(&name, StatusCode::OK)
}

/// Stops an account and keeps it in the list.
///
/// Answers when its processes have ended. It stays stopped until it is started, also after a boot.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/stop",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 409, description = "It could not be stopped", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
    )
)]
pub(super) async fn stop(call: Call, name: ClientName) -> Answered {
    let stopped = call.run(call.v1.accounts.stop_and_keep(name.clone(), &call.settings)).await?;
    Problem::unless_done(&stopped)?;
    call.account(&name, StatusCode::OK)
}

/// Starts both processes of an account anew.
///
/// Also where they are held or stopped. Answers when they run again.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/restart",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 409, description = "It could not be started again", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
    )
)]
pub(super) async fn restart(call: Call, name: ClientName) -> Answered {
    let again = call.v1.accounts.restart(&name, &call.settings).await;
    again.map_err(|error| not_anew(error, &name))?;
    call.account(&name, StatusCode::OK)
}

/// Logs an account with an implementation in anew.
///
/// Answers when its implementation runs again, which then logs in or shows a code.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/relogin",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    request_body(content = Option<Relogin>),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 409, description = "It has no implementation, or that could not be started", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
        WithBody,
    )
)]
pub(super) async fn relogin(call: Call, name: ClientName) -> Answered {
    call.exists(&name)?;
    let (call, Relogin { forget }) = call.json::<Relogin>().await?;
    let again = call.v1.accounts.relogin(&name, forget, &call.settings).await;
    again.map_err(|error| not_anew(error, &name))?;
    call.account(&name, StatusCode::OK)
}

fn not_anew(error: AnewError, name: &ClientName) -> Problem {
    match error {
        AnewError::Unknown => Problem::no_such_account(),
        AnewError::NoImplementation => Problem::no_implementation(name),
        AnewError::Busy => Problem::busy("the controller is busy"),
        AnewError::Failed(_, why) => Problem::failed(&*why),
    }
}

impl Call {
    /// Reads a body of JSON; none counts as an empty object.
    pub(super) async fn json<T: DeserializeOwned + Default>(mut self) -> Result<(Self, T), Problem> {
        let Some(body) = self.body.take() else { return Ok((self, T::default())) };
        let read = read_form(body, &self.downstream, &self.settings.http).await;
        let read = read.map_err(|reply| Problem::from(&reply))?;
        if read.is_empty() {
            return Ok((self, T::default()));
        }
        let kind = self.request.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        // Any other type can be sent by a page of another site without being asked first (Fetch Standard, CORS-safelisted).
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::no_json());
        }
        // Read as an object first: an array would be taken for one, its items in the order of the fields.
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&read).map_err(|error| Problem::invalid_body(error.to_string()))?;
        let value = serde_json::from_value(object.into());
        Ok((self, value.map_err(|error| Problem::invalid_body(error.to_string()))?))
    }

    fn exists(&self, name: &ClientName) -> Result<(), Problem> {
        self.v1.accounts.clients.client(name).map(drop).ok_or_else(Problem::no_such_account)
    }

    /// Checks start parameters.
    async fn spec(&self, name: &ClientName, parameters: Parameters) -> Result<ClientSpec, Problem> {
        if parameters.len() > Params::MAX_COUNT {
            return Err(Problem::invalid_parameter(format!(
                "there are more than {} parameters",
                Params::MAX_COUNT
            )));
        }
        let spec = self.v1.accounts.spec(name.clone(), parameters, self.settings.clone()).await;
        spec.map_err(|refusal| match refusal {
            SpecRefusal::Invalid(error) => Problem::invalid_parameter(ErrorChain(&error).to_string()),
            SpecRefusal::Busy => Problem::busy("the controller is busy"),
        })
    }

    /// Waits for what was asked of the registry.
    pub(super) async fn run<T>(
        &self,
        asked: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Problem> {
        asked.await.map_err(|error| match error {
            CallError::RegistryGone(_) => Problem::busy("the controller is busy"),
            CallError::Outage => Problem::outage(),
        })
    }

    /// The account as it is now.
    fn account(&self, name: &ClientName, status: StatusCode) -> Answered {
        let view = self.v1.accounts.clients.client(name).ok_or_else(Problem::no_such_account)?;
        Ok(body::json(status, text(&self.v1.accounts.account(&view, &self.settings))))
    }
}
