//! `POST /v1/clients/NAME/move`: an account goes to another machine.

use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::{Changing, OneAccount, WithBody};
use super::{Call, text};
use crate::http::body::{self, Body};
use crate::machines::Location;
use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;
use crate::moves::{At, LoginAfterwards, MoveFailure, Moved, shown};
use crate::wire::door::DOOR;
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::problem::Problem;
use crate::wire::v1::requests::MoveAccount;

/// An account that was moved.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MovedAccount {
    #[schema(example = "bot")]
    name: String,
    /// The machine where it was.
    #[schema(example = "local")]
    from: String,
    /// The machine where it is.
    #[schema(example = "tokyo")]
    to: String,
    /// What becomes of its login: `carried` with it; `may_need_scan`, as its network may take the other machine for another device;
    /// `held_elsewhere`, by a program that no controller runs, and which has to be reached from the other machine.
    #[schema(example = "may_need_scan")]
    login: &'static str,
    /// Why it does not run, though it ran before.
    not_started: Option<String>,
}

fn word(login: LoginAfterwards) -> &'static str {
    match login {
        LoginAfterwards::Carried => "carried",
        LoginAfterwards::MayNeedScan => "may_need_scan",
        LoginAfterwards::HeldElsewhere => "held_elsewhere",
    }
}

/// Moves an account to another machine.
///
/// Stops it, carries its parameters and all that it keeps on disk, and starts it there if it ran. Answers when it is there. If that fails,
/// it is where it was, and runs again if it ran.
#[utoipa::path(
    post,
    path = "/v1/clients/{name}/move",
    params(("name" = String, Path, description = "Its name", example = "bot")),
    request_body(content = MoveAccount),
    responses(
        (status = 200, description = "It is there", body = MovedAccount),
        (status = 409, description = "It is where it was, or there already", body = Problem, content_type = "application/problem+json"),
        Changing,
        OneAccount,
        WithBody,
    )
)]
pub(super) async fn move_account(call: Call, named: ClientName) -> Result<Response<Body>, Problem> {
    if call.request.headers.contains_key(DOOR) {
        // A door's request goes no further.
        return Err(Problem::from(&MachineRefusal::NoDoor));
    }
    let (call, MoveAccount { machine }) = call.json::<MoveAccount>().await?;
    let v1 = &call.v1;
    let to = if machine == LOCAL { None } else { Some(v1.known_machine(&machine)?) };
    let is_here = |name: &ClientName| v1.accounts.clients.client(name).is_some();
    let refused = |refusal: MachineRefusal| Problem::from(&refusal);
    let (name, from): (ClientName, At) = match v1.machines.locate(&named, is_here) {
        Location::Here if !is_here(&named) => return Err(Problem::no_such_account()),
        Location::Here => (named, None),
        Location::HereAs(name) => (name, None),
        Location::On(machine, name) => (name, Some(machine)),
        Location::Ambiguous(names) => return Err(refused(MachineRefusal::Ambiguous(names))),
        Location::Moving(moving) => return Err(refused(moving.refusal())),
    };
    if from == to {
        return Err(Problem::lives_there(&name, shown(&to)));
    }
    for machine in [&from, &to].into_iter().flatten() {
        v1.machines.target(machine).map_err(|refusal| Problem::from(&refusal))?;
    }
    let moved = v1.moves.start(name.clone(), from, to).await;
    let Moved { from, to, login, not_started } = moved.map_err(|failure| match failure {
        MoveFailure::Unknown => Problem::no_such_account(),
        MoveFailure::Busy => Problem::busy(failure.to_string()),
        MoveFailure::Stays(why) => Problem::not_moved(why),
        MoveFailure::InDoubt(why) => Problem::move_goes_on(why),
    })?;
    let moved = MovedAccount {
        name: name.to_string(),
        from: shown(&from).to_owned(),
        to: shown(&to).to_owned(),
        login: word(login),
        not_started,
    };
    Ok(body::json(StatusCode::OK, text(&moved)))
}

impl super::V1 {
    /// A machine of the configuration.
    fn known_machine(&self, named: &str) -> Result<MachineName, Problem> {
        let known = MachineName::new(named).ok();
        let known = known.filter(|name| self.machines.look(|table| table.machines().contains_key(name)));
        known.ok_or_else(|| Problem::from(&MachineRefusal::NoSuchMachine(named.to_owned())))
    }
}
