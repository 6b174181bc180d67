//! The paths below `/v1`, and those beside it that tell whether the controller is well.

use http::Method;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::model::name::ClientName;
use crate::wire::calls::CallAccess;

/// Where every path of this API begins.
pub const ROOT: &str = "/v1/";

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// All accounts, or those of a query.
    Accounts,
    /// One account.
    Account(ClientName),
    /// What changes, as it changes.
    Events,
    /// The specification of this API.
    Specification,
}

/// Whether a path is of this API.
pub fn is_own(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// What a request asks for.
///
/// # Errors
/// There is no such path, or it takes another method.
pub fn find(method: &Method, path: &str) -> Result<Route, Problem> {
    let (route, _) = split(path).ok_or_else(Problem::no_such_path)?;
    // The server leaves the body of an answer to HEAD out.
    match *method {
        Method::GET | Method::HEAD => route,
        _ => Err(Problem::wrong_method("GET, HEAD")),
    }
}

/// Whether a request only reads, so that a read-only token opens it.
pub fn only_reads(method: &Method, path: &str) -> bool {
    let reads = split(path).is_some_and(|(_, access)| access == CallAccess::Read);
    reads && matches!(*method, Method::GET | Method::HEAD)
}

/// The paths are listed here and nowhere else.
fn split(path: &str) -> Option<(Result<Route, Problem>, CallAccess)> {
    let mut parts = path.strip_prefix(ROOT)?.split('/');
    let route = match (parts.next()?, parts.next(), parts.next()) {
        ("clients", None, None) => Ok(Route::Accounts),
        ("clients", Some(name), None) => account(name).map(Route::Account),
        ("events", None, None) => Ok(Route::Events),
        ("openapi.json", None, None) => Ok(Route::Specification),
        _ => return None,
    };
    Some((route, CallAccess::Read))
}

/// The name in a path. One that no account can have is one that no account has.
fn account(name: &str) -> Result<ClientName, Problem> {
    let name = percent_decode_str(name).decode_utf8().ok().and_then(|name| ClientName::new(name).ok());
    name.ok_or_else(Problem::no_such_account)
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
    }

    #[test]
    fn read_only_tokens_read() {
        assert!(only_reads(&Method::GET, "/v1/clients") && only_reads(&Method::HEAD, "/v1/clients/a"));
        assert!(!only_reads(&Method::POST, "/v1/clients") && !only_reads(&Method::GET, "/v1/other"));
    }

    #[test]
    fn health_has_two_paths() {
        assert_eq!(health(&Method::GET, "/healthz"), Some(Health::Lives));
        assert_eq!(health(&Method::HEAD, "/readyz"), Some(Health::IsReady));
        assert_eq!((health(&Method::POST, "/readyz"), health(&Method::GET, "/healthz/")), (None, None));
    }
}
