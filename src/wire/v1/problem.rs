//! [`Problem`]: what went wrong with a request (RFC 9457, `application/problem+json`).

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::fleet::RequestOutcome;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::wire::Reply;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is, for programs. It never changes.
    #[schema(example = "no_such_account")]
    pub code: &'static str,
    /// The same for people.
    #[schema(example = "There is no such account")]
    pub title: &'static str,
    /// The status of HTTP.
    #[schema(example = 404)]
    pub status: u16,
    /// What was wrong this time, and what to do.
    pub detail: String,
    /// For the header `Allow`.
    #[serde(skip)]
    pub allow: Option<&'static str>,
    /// Seconds for the header `Retry-After`, if a retry makes sense.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

/// Code and title where a retry helps.
const BUSY: (&str, &str) = ("busy", "The controller can't answer just now");

impl Problem {
    fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { code, title, status, detail: detail.into(), allow: None, retry_after: None }
    }

    /// There is no such path.
    pub fn no_such_path() -> Self {
        Self::new(404, "no_such_path", "There is no such path", "GET /v1/openapi.json lists all paths")
    }

    /// There is no such account.
    pub fn no_such_account() -> Self {
        Self::new(404, "no_such_account", "There is no such account", "GET /v1/clients lists all accounts")
    }

    /// The path takes other methods, which are named.
    pub fn wrong_method(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Self { allow: Some(allow), ..Self::new(405, "wrong_method", "The method is not allowed", detail) }
    }

    /// The controller can't do this just now; a retry makes sense.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(503, BUSY.0, BUSY.1, detail) }
    }

    /// It is under way, but systemd can't be reached.
    pub fn outage() -> Self {
        let detail =
            "systemd can't be reached; GET the account to see what became of the call once it is back";
        Self { retry_after: Some(5), ..Self::new(503, "outage", "systemd can't be reached", detail) }
    }

    /// An account could not be started or stopped.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::new(409, "failed", "It could not be done", why)
    }

    /// There is an account of this name, where only a new one may come about.
    pub fn exists_already(name: &ClientName) -> Self {
        let detail = format!("{name} is in the list, and the request has If-None-Match: *");
        Self::new(412, "exists_already", "There is such an account already", detail)
    }

    /// An account lives there already.
    pub fn lives_there(name: &ClientName, machine: &str) -> Self {
        Self::new(
            409,
            "lives_there",
            "It lives there already",
            format!("{name} lives on the machine {machine}"),
        )
    }

    /// An account is not moved. It is where it was.
    pub fn not_moved(why: impl Into<String>) -> Self {
        Self::new(409, "not_moved", "It is not moved", why)
    }

    /// What becomes of a move is seen later.
    pub fn move_goes_on(why: impl Into<String>) -> Self {
        let title = "The move waits for a machine, and goes on by itself";
        Self::new(503, "move_goes_on", title, why)
    }

    /// Files are there that came from elsewhere.
    pub fn files_there(why: impl Into<String>) -> Self {
        Self::new(409, "files_there", "There are files of an earlier account of this name", why)
    }

    /// Only the controller of another machine may ask for this.
    pub fn only_for_doors() -> Self {
        let detail = "the controller of another machine asks for this when it moves an account: POST /v1/clients/NAME/move";
        Self::new(403, "not_allowed", "The call is not allowed", detail)
    }

    /// The account has to be stopped first.
    pub fn still_running(name: &ClientName) -> Self {
        let detail = format!("{name} runs, or is started again by itself; stop it first");
        Self::new(409, "still_running", "It still runs", detail)
    }

    /// The controller does not start the program that holds the account, so it can't log it in.
    pub fn no_implementation(name: &ClientName) -> Self {
        let detail =
            format!("{name} has no implementation that the controller starts; a restart logs it in anew");
        Self::new(409, "no_implementation", "It has no implementation", detail)
    }

    /// The token of a sign-in is not known.
    pub fn token_wrong() -> Self {
        let detail = "this is none of the tokens in the configuration of the controller";
        Self::new(401, "token_wrong", "The token is not right", detail)
    }

    /// It is not known by what name others reach the controller.
    pub fn no_public_url() -> Self {
        let detail = "set public_url in [http] to the URL by which browsers reach this controller";
        Self::new(409, "no_public_url", "It is not known where the link should lead", detail)
    }

    /// There is no such link for scanning.
    pub fn no_such_link() -> Self {
        let detail =
            "the link is not complete, or was made before the controller was started; ask for a new one";
        Self::new(404, "no_such_link", "There is no such link", detail)
    }

    /// The link for scanning has ended.
    pub fn link_ended() -> Self {
        let detail = "links hold for five minutes, and end with a new login; ask for a new one";
        Self::new(410, "link_ended", "The link has ended", detail)
    }

    /// A machine does not answer, or not as a controller does.
    pub fn machine_unclear(machine: &MachineName) -> Self {
        let detail = format!("the controller of {machine} does not answer, or says what can't be understood");
        Self::new(502, "machine_unclear", "The machine of the account gives no answer", detail)
    }

    /// No login code of the account waits to be scanned.
    pub fn no_code() -> Self {
        let detail = "no login code of it waits to be scanned; its state says how far it is";
        Self::new(404, "no_code", "There is no login code", detail)
    }

    /// The login code can't be shown as text.
    pub fn no_text() -> Self {
        let detail = "its image is no PNG, or has no code that can be read; ask for the image itself, with Accept: image/*";
        Self::new(406, "no_text", "The login code can't be shown as text", detail)
    }

    /// The body has another type than JSON.
    pub fn no_json() -> Self {
        let detail = "send JSON, with the header Content-Type: application/json";
        Self::new(415, "no_json", "The body is no JSON", detail)
    }

    /// The body is not what is expected here.
    pub fn invalid_body(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid_body", "The body can't be used", detail)
    }

    /// Why a start or a stop was not done, if it was not.
    ///
    /// # Errors
    /// It was not done.
    pub fn unless_done(outcome: &RequestOutcome) -> Result<(), Self> {
        Err(match outcome {
            RequestOutcome::Started(_) | RequestOutcome::AlreadyExists(_) | RequestOutcome::Stopped(_) => {
                return Ok(());
            }
            RequestOutcome::NotExists => Self::no_such_account(),
            RequestOutcome::NoPort(_) => {
                Self::new(409, "no_port", "No port is free", "every port from first_port on is taken")
            }
            RequestOutcome::Failed(_, why) => Self::failed(why),
            RequestOutcome::Invalid(_, why) => Self::invalid_parameter(why),
            RequestOutcome::NoPid(_, exit) => Self::failed(format!("its client {exit} at once")),
            RequestOutcome::TooMany(_) => {
                let detail = "there are max_clients others that run; stop one of them, or raise max_clients";
                Self::new(409, "too_many_accounts", "There are too many accounts", detail)
            }
        })
    }

    /// A parameter can't be used.
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid_parameter", "A parameter can't be used", detail)
    }
}

/// The refusals of the door, which are decided before it is known what was asked for.
impl From<&Reply> for Problem {
    fn from(reply: &Reply) -> Self {
        let is_of_machine = reply.body.contains_key("machine");
        let (code, title) = match reply.http_status {
            403 | 502 if is_of_machine => super::super::machines::REFUSES,
            200 | 400 => ("invalid_request", "The request can't be understood"),
            401 => ("token_needed", "A token is needed"),
            403 => ("not_allowed", "This caller may not do that"),
            413 => ("too_large", "The body is too large"),
            421 => ("foreign_host", "The host is not known here"),
            503 => BUSY,
            _ => ("refused", "The request was refused"),
        };
        // Replies of the older API have status 200 even where they refuse.
        let status = if reply.http_status == 200 { 400 } else { reply.http_status };
        let detail = reply.body.get("status").and_then(|text| text.as_str()).unwrap_or_default();
        Self { retry_after: reply.retry_after, ..Self::new(status, code, title, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_door_become_problems() {
        for (reply, status, code) in [
            (Reply::token_needed(), 401, "token_needed"),
            (Reply::token_read_only(), 403, "not_allowed"),
            (Reply::foreign_host("x"), 421, "foreign_host"),
            (Reply::invalid("x"), 400, "invalid_request"),
        ] {
            let problem = Problem::from(&reply);
            assert_eq!((problem.status, problem.code), (status, code));
            assert_eq!(Some(&*problem.detail), reply.body["status"].as_str());
        }
        assert_eq!(Problem::from(&Reply::busy()).retry_after, Some(1));
    }
}
