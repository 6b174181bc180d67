//! The paths below `/v1`, and those beside it that tell whether the controller is well.

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::problem::Problem;
use crate::model::name::ClientName;

/// Where every path of this API begins.
pub const ROOT: &str = "/v1/";

/// What stands behind the name of an account before the paths of the world to try bots in, which its client serves.
const SANDBOX: &str = "/sandbox/";

/// Where links for scanning lead.
pub const SCAN: &str = "/scan/";

/// A link for scanning: `root` is where browsers reach the controller, and `token` what [`SCAN`] is followed by.
pub fn scan_url(root: &str, token: &str) -> String {
    format!("{}{SCAN}{token}", root.trim_end_matches('/'))
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// All accounts, or those of a query.
    Accounts,
    /// One account.
    Account(ClientName),
    /// What an account is to be.
    Put(ClientName),
    /// An account leaves the list.
    Delete(ClientName),
    /// Something is done with an account.
    Act(ClientName, Action),
    /// The login code of an account.
    Qrcode(ClientName),
    /// Why an account is as it is.
    Explain(ClientName),
    /// A link for scanning is made.
    ScanLink(ClientName),
    /// The log of an account.
    Log(ClientName),
    /// An account goes to another machine.
    Move(ClientName),
    /// The start parameters of an account, with secrets.
    Parameters(ClientName),
    /// Which files of an account there are.
    Keeps(ClientName),
    /// What an account keeps in a folder of this kind.
    TakeOut(ClientName, String),
    /// The same is brought.
    PutIn(ClientName, String),
    /// What changes, as it changes.
    Events,
    /// How the machine is.
    Machine,
    /// Who the caller is.
    Session,
    /// The caller signs in.
    SignIn,
    /// The caller signs out.
    SignOut,
    /// The specification of this API.
    Specification,
}

/// What is done with an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as its path")]
pub enum Action {
    Start,
    Stop,
    Restart,
    Relogin,
}

/// The path of the metrics.
pub const METRICS: &str = "/metrics";

/// Whether a path is of this API.
pub fn is_own(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// What a request asks for.
///
/// # Errors
/// There is no such path, or it takes another method.
pub fn find(method: &Method, path: &str) -> Result<Route, Problem> {
    let (target, allow) = target(path).ok_or_else(Problem::no_such_path)?;
    // The server leaves the body of an answer to HEAD out.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    if !allow.split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(Problem::wrong_method(allow));
    }
    Ok(match target {
        Target::Accounts => Route::Accounts,
        Target::Events => Route::Events,
        Target::Machine => Route::Machine,
        Target::Session => match *method {
            Method::POST => Route::SignIn,
            Method::DELETE => Route::SignOut,
            _ => Route::Session,
        },
        Target::Specification => Route::Specification,
        Target::Account(name) => match *method {
            Method::PUT => Route::Put(new_account(name)?),
            Method::DELETE => Route::Delete(account(name)?),
            _ => Route::Account(account(name)?),
        },
        Target::Qrcode(name) => Route::Qrcode(account(name)?),
        Target::ScanLink(name) => Route::ScanLink(account(name)?),
        Target::Explain(name) => Route::Explain(account(name)?),
        Target::Log(name) => Route::Log(account(name)?),
        Target::Move(name) => Route::Move(account(name)?),
        Target::Parameters(name) => Route::Parameters(account(name)?),
        Target::Keeps(name) => Route::Keeps(account(name)?),
        Target::Kept(name, of) => match *method {
            Method::PUT => Route::PutIn(account(name)?, of.to_owned()),
            _ => Route::TakeOut(account(name)?, of.to_owned()),
        },
        Target::Action(name, action) => Route::Act(account(name)?, action),
    })
}

/// The account of a path, and what follows its name there. The name is as it stands in the path, percent-encoded.
pub fn of_account(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(ROOT)?.strip_prefix("clients/")?;
    let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (!name.is_empty()).then_some((name, rest))
}

/// The path of an account, with what follows its name.
pub fn path_of(name: &ClientName, rest: &str) -> String {
    format!("{ROOT}clients/{}{rest}", utf8_percent_encode(name.as_str(), NON_ALPHANUMERIC))
}

/// The account and the path at its client, of `/v1/clients/NAME/sandbox/…`. The name is as it stands in the path, percent-encoded.
pub fn sandbox(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(ROOT)?.strip_prefix("clients/")?;
    let (name, path) = rest.split_at(rest.find('/')?);
    // Not the login, whose GET is the scan of a code.
    let part = path.strip_prefix(SANDBOX)?.split('/').next()?;
    (!name.is_empty() && ["world", "frames", "people", "file"].contains(&part)).then_some((name, path))
}

/// Whether a path of the sandbox, as [`sandbox`] has found it, takes a method.
///
/// # Errors
/// It takes another.
pub fn check_sandbox(method: &Method, path: &str) -> Result<(), Problem> {
    let part = path.strip_prefix(SANDBOX).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let allow = match part {
        "people" => "POST",
        "frames" => "GET",
        _ => "GET, HEAD",
    };
    match allow.split(", ").any(|allowed| allowed == method.as_str()) {
        true => Ok(()),
        false => Err(Problem::wrong_method(allow)),
    }
}

/// Whether a request only reads, so that a read-only token opens it. Of the sandbox's paths, those that do something take no GET.
pub fn only_reads(method: &Method, path: &str) -> bool {
    let is_known = path == METRICS
        || sandbox(path).is_some()
        || target(path).is_some_and(|(_, allow)| allow.starts_with("GET"));
    is_known && matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a request signs in or out, for which no token is needed.
pub fn is_sign_in_or_out(method: &Method, path: &str) -> bool {
    matches!(target(path), Some((Target::Session, _))) && matches!(*method, Method::POST | Method::DELETE)
}

/// What a path is for.
enum Target<'a> {
    Accounts,
    Account(&'a str),
    Qrcode(&'a str),
    Explain(&'a str),
    ScanLink(&'a str),
    Log(&'a str),
    Move(&'a str),
    Parameters(&'a str),
    Keeps(&'a str),
    Kept(&'a str, &'a str),
    Action(&'a str, Action),
    Events,
    Machine,
    Session,
    Specification,
}

/// What a path is for, and the methods that it takes. The paths are listed here and nowhere else.
fn target(path: &str) -> Option<(Target<'_>, &'static str)> {
    const READ: &str = "GET, HEAD";
    let mut parts = path.strip_prefix(ROOT)?.split('/');
    let all = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
    let action = |name, action| Some((Target::Action(name, action), "POST"));
    match all {
        [Some("clients"), None, ..] => Some((Target::Accounts, READ)),
        [Some("clients"), Some(name), None, ..] => Some((Target::Account(name), "GET, HEAD, PUT, DELETE")),
        [Some("clients"), Some(name), Some("qrcode"), None, _] => Some((Target::Qrcode(name), READ)),
        [Some("clients"), Some(name), Some("explain"), None, _] => Some((Target::Explain(name), READ)),
        [Some("clients"), Some(name), Some("scan-link"), None, _] => Some((Target::ScanLink(name), "POST")),
        [Some("clients"), Some(name), Some("log"), None, _] => Some((Target::Log(name), READ)),
        [Some("clients"), Some(name), Some("start"), None, _] => action(name, Action::Start),
        [Some("clients"), Some(name), Some("stop"), None, _] => action(name, Action::Stop),
        [Some("clients"), Some(name), Some("restart"), None, _] => action(name, Action::Restart),
        [Some("clients"), Some(name), Some("relogin"), None, _] => action(name, Action::Relogin),
        [Some("clients"), Some(name), Some("move"), None, _] => Some((Target::Move(name), "POST")),
        // No GET: a read-only token opens all that take one.
        [Some("clients"), Some(name), Some("parameters"), None, _] => {
            Some((Target::Parameters(name), "POST"))
        }
        [Some("clients"), Some(name), Some("kept"), None, _] => Some((Target::Keeps(name), READ)),
        [Some("clients"), Some(name), Some("kept"), Some(of), None] => {
            Some((Target::Kept(name, of), "POST, PUT"))
        }
        [Some("session"), None, ..] => Some((Target::Session, "GET, HEAD, POST, DELETE")),
        [Some("events"), None, ..] => Some((Target::Events, READ)),
        [Some("machine"), None, ..] => Some((Target::Machine, READ)),
        [Some("openapi.json"), None, ..] => Some((Target::Specification, READ)),
        _ => None,
    }
}

/// The name in a path. One that no account can have is one that no account has.
fn account(name: &str) -> Result<ClientName, Problem> {
    let name = percent_decode_str(name).decode_utf8().ok().and_then(|name| ClientName::new(name).ok());
    name.ok_or_else(Problem::no_such_account)
}

/// Whether the metrics are asked for. Unlike the controller's health they need a token: they name accounts.
pub fn asks_for_metrics(method: &Method, path: &str) -> bool {
    path == METRICS && matches!(*method, Method::GET | Method::HEAD)
}

/// The name in a path that may be that of a new account.
fn new_account(name: &str) -> Result<ClientName, Problem> {
    let text = percent_decode_str(name).decode_utf8();
    let text = text.map_err(|_| Problem::invalid_parameter("the name is not UTF-8"))?;
    ClientName::new(text).map_err(|error| Problem::invalid_parameter(format!("the name: {error}")))
}

/// Whether a path asks how the controller is. That needs no token, since the answer has no content.
pub fn health(method: &Method, path: &str) -> Option<Health> {
    let health = match path {
        "/healthz" => Health::Lives,
        "/readyz" => Health::IsReady,
        _ => return None,
    };
    matches!(*method, Method::GET | Method::HEAD).then_some(health)
}

/// What is asked about the controller itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Whether it answers.
    Lives,
    /// Whether it takes starts and stops.
    IsReady,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_routes() {
        let get = |path: &str| find(&Method::GET, path).map_err(|problem| problem.status);
        assert_eq!(get("/v1/clients"), Ok(Route::Accounts));
        for (path, name) in [("/v1/clients/a%20b", "a b"), ("/v1/clients/%E5%B0%8F%E6%98%8E", "小明")] {
            assert_eq!(get(path), Ok(Route::Account(ClientName::new(name).unwrap())));
        }
        assert_eq!(get("/v1/openapi.json"), Ok(Route::Specification));
        for path in [
            "/v1/",
            "/v1/client",
            "/v1/clients/",
            "/v1/clients/a/b",
            "/v1/clients/%FF",
            "/v1/clients/a%2Fb",
            "/v2/clients",
        ] {
            assert_eq!(get(path), Err(404), "{path}");
        }
        let post = find(&Method::POST, "/v1/clients").unwrap_err();
        assert_eq!((post.status, post.allow), (405, Some("GET, HEAD")));
        let bot = || ClientName::new("bot").unwrap();
        for (method, path, route) in [
            (Method::PUT, "/v1/clients/bot", Route::Put(bot())),
            (Method::DELETE, "/v1/clients/bot", Route::Delete(bot())),
            (Method::HEAD, "/v1/clients/bot/qrcode", Route::Qrcode(bot())),
            (Method::GET, "/v1/clients/bot/log", Route::Log(bot())),
            (Method::POST, "/v1/clients/bot/start", Route::Act(bot(), Action::Start)),
            (Method::GET, "/v1/session", Route::Session),
            (Method::POST, "/v1/session", Route::SignIn),
            (Method::DELETE, "/v1/session", Route::SignOut),
            (Method::POST, "/v1/clients/bot/relogin", Route::Act(bot(), Action::Relogin)),
        ] {
            assert_eq!(find(&method, path), Ok(route), "{method} {path}");
        }
        for name in ["%FF", "a%2Fb", ""] {
            assert_eq!(find(&Method::PUT, &format!("/v1/clients/{name}")).unwrap_err().status, 400, "{name}");
        }
        assert_eq!(find(&Method::GET, "/v1/clients/bot/stop").unwrap_err().allow, Some("POST"));
    }

    #[test]
    fn paths_of_the_sandbox_are_told_apart() {
        for (path, found) in [
            ("/v1/clients/a%20b/sandbox/world", Some(("a%20b", "/sandbox/world"))),
            ("/v1/clients/a/sandbox/people/1/say", Some(("a", "/sandbox/people/1/say"))),
            ("/v1/clients/sandbox/sandbox/frames", Some(("sandbox", "/sandbox/frames"))),
            ("/v1/clients/a/sandbox/", None),
            ("/v1/clients/a/sandbox/login/0123", None),
            ("/v1/clients/a/sandbox", None),
            ("/v1/clients//sandbox/world", None),
            ("/v1/clients/a/openqq/sandbox/world", None),
            ("/v1/sandbox/world", None),
            ("/clients/a/sandbox/world", None),
        ] {
            assert_eq!(sandbox(path), found, "{path}");
        }
    }

    #[test]
    fn read_only_tokens_read() {
        assert!(only_reads(&Method::GET, "/v1/clients") && only_reads(&Method::HEAD, "/v1/clients/a"));
        assert!(only_reads(&Method::GET, "/v1/clients/a/qrcode"));
        assert!(only_reads(&Method::GET, "/v1/clients/a/sandbox/frames"));
        for (method, path) in [
            (Method::POST, "/v1/clients"),
            (Method::GET, "/v1/other"),
            (Method::PUT, "/v1/clients/a"),
            (Method::DELETE, "/v1/clients/a"),
            (Method::POST, "/v1/clients/a/start"),
            (Method::GET, "/v1/clients/a/start"),
            (Method::POST, "/v1/clients/a/sandbox/people/1/say"),
        ] {
            assert!(!only_reads(&method, path), "{method} {path}");
        }
        assert!(only_reads(&Method::GET, METRICS) && !only_reads(&Method::POST, METRICS));
    }

    #[test]
    fn health_has_two_paths() {
        assert_eq!(health(&Method::GET, "/healthz"), Some(Health::Lives));
        assert_eq!(health(&Method::HEAD, "/readyz"), Some(Health::IsReady));
        assert_eq!((health(&Method::POST, "/readyz"), health(&Method::GET, "/healthz/")), (None, None));
    }
}
