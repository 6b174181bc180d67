//! `/onebot/v11/`: the paths by which programs of OneBot v11, the *applications*, reach an account, at its client and at the controller.

use http::Method;
use serde_json::{Value, json};

use super::Reply;

/// Below which path applications are served.
pub const ROOT: &str = "/onebot/v11";

/// Below which path the controller serves them by the name of the account, for programs that drop queries.
const BY_NAME: &str = "/clients/";

/// Where the controller says to a client what it has found out about a request.
pub const DOOR: &str = "x-wqcontroller-access";

/// What the controller says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouch {
    /// A token of the controller opens everything.
    Full,
    /// A token of the controller opens what only reads.
    ReadOnly,
    /// It has no token of the controller: one of the account has to open it.
    Account,
}

impl Vouch {
    /// The word in the header [`DOOR`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Account => "account",
        }
    }

    /// Reads that word. An unknown one opens nothing by itself.
    pub fn of(word: &str) -> Self {
        [Self::Full, Self::ReadOnly].into_iter().find(|vouch| vouch.as_str() == word).unwrap_or(Self::Account)
    }
}

/// Whether a path is for applications.
pub fn is_own(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Actions whose answer opens the account itself elsewhere: the web sites of the network take it for the person (onebot-11,
/// `api/public.md`; `get_clientkey` is of NapCat).
const GIVE_THE_ACCOUNT: [&str; 4] = ["get_cookies", "get_csrf_token", "get_credentials", "get_clientkey"];

/// Whether a request changes nothing: an action that only reads, by GET.
pub fn only_reads(method: &Method, path: &str) -> bool {
    let name = path.strip_prefix(ROOT).unwrap_or_default().trim_matches('/');
    matches!(*method, Method::GET | Method::HEAD) && is_read(name)
}

/// Whether an action changes nothing, and gives its caller nothing to change anything with.
pub fn is_read(action: &str) -> bool {
    // Only what can be a name: a slash may lead to another action of an implementation that is asked by HTTP.
    let is_name = action.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    is_name && action.starts_with("get_") && !GIVE_THE_ACCOUNT.iter().any(|secret| action.starts_with(secret))
}

/// The account and the path without it, of `/clients/NAME/onebot/v11/…`. The name is as it stands in the path, percent-encoded.
pub fn by_name(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(BY_NAME)?;
    let end = rest.find('/')?;
    let (name, path) = rest.split_at(end);
    (!name.is_empty() && is_own(path)).then_some((name, path))
}

/// A refusal of the controller in the words of OneBot v11, with its status of HTTP.
pub fn refusal(reply: &Reply) -> (u16, Value) {
    let why = reply.body.get("status").and_then(Value::as_str).unwrap_or_default();
    let (status, retcode) = match (reply.http_status, reply.body.get("code").and_then(Value::as_i64)) {
        // Of the older API, whose refusals have status 200.
        (200, Some(1)) => (404, 1404),
        (200, _) => (400, 1400),
        (status @ (401 | 403 | 404), _) => (status, 1000 + i64::from(status)),
        (status, _) => (status, 1400),
    };
    (status, json!({ "status": "failed", "retcode": retcode, "data": null, "message": why, "wording": why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        for (path, own) in [
            ("/onebot/v11", true),
            ("/onebot/v11/", true),
            ("/onebot/v11/ws", true),
            ("/onebot/v11x", false),
            ("/onebot", false),
        ] {
            assert_eq!(is_own(path), own, "{path}");
        }
        assert_eq!(by_name("/clients/a%20b/onebot/v11/ws"), Some(("a%20b", "/onebot/v11/ws")));
        for path in [
            "/clients/",
            "/clients//onebot/v11",
            "/clients/a/openqq/x",
            "/clients/a",
            "/clients/a/b/onebot/v11",
        ] {
            assert_eq!(by_name(path), None, "{path}");
        }
        assert!(only_reads(&Method::GET, "/onebot/v11/get_status"));
        for (method, path) in [
            (Method::POST, "/onebot/v11/get_status"),
            (Method::GET, "/onebot/v11/send_msg"),
            (Method::GET, "/onebot/v11/ws"),
            (Method::GET, "/onebot/v11/"),
            (Method::GET, "/onebot/v11/get_cookies"),
            (Method::GET, "/onebot/v11/get_credentials_async"),
            (Method::GET, "/onebot/v11/get_clientkey/"),
            (Method::GET, "/onebot/v11/get_status/../send_msg"),
            (Method::GET, "/onebot/v11/get_status%2f..%2fsend_msg"),
        ] {
            assert!(!only_reads(&method, path), "{path}");
        }
    }

    #[test]
    fn refusals_are_those_of_the_standard() {
        for (reply, status, retcode) in [
            (Reply::no_such_client(), 404, 1404),
            (Reply::no_client_given(), 404, 1404),
            (Reply::token_needed(), 401, 1401),
            (Reply::token_read_only(), 403, 1403),
            (Reply::busy(), 503, 1400),
        ] {
            let (found, body) = refusal(&reply);
            assert_eq!(
                (found, &body["retcode"], &body["status"]),
                (status, &json!(retcode), &json!("failed"))
            );
            assert!(!body["message"].as_str().unwrap().is_empty());
        }
    }
}
