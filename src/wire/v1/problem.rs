//! [`Problem`]: what went wrong with a request (RFC 9457, `application/problem+json`).

use serde::Serialize;
use utoipa::ToSchema;

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

    /// A parameter can't be used.
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid_parameter", "A parameter can't be used", detail)
    }
}

/// The refusals of the door, which are decided before it is known what was asked for.
impl From<&Reply> for Problem {
    fn from(reply: &Reply) -> Self {
        let (code, title) = match reply.http_status {
            200 | 400 => ("invalid_request", "The request can't be understood"),
            401 => ("token_needed", "A token is needed"),
            403 => ("not_allowed", "This caller may not do that"),
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
