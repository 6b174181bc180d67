//! Other URIs for requests.

use http::Uri;
use http::uri::PathAndQuery;

use crate::wire::onebot;

/// Makes `client=NAME` of the account in a path such as `/clients/NAME/onebot/v11/ws`.
pub(super) fn name_in_query(uri: &mut Uri) {
    let Some((name, path)) = onebot::by_name(uri.path()) else { return };
    if let Some(named) = named_in_query(name, path, uri.query()) {
        *uri = named;
    }
}

/// The path with `client=NAME`. The name is as it stood in another path, percent-encoded.
pub(super) fn named_in_query(name: &str, path: &str, query: Option<&str>) -> Option<Uri> {
    let mut target = format!("{path}?client=");
    for c in name.chars() {
        match c {
            // Plain in a path, and not in a query.
            '+' => target += "%2B",
            '&' => target += "%26",
            c => target.push(c),
        }
    }
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push('&');
        target += query;
    }
    // Made of parts of a URI, so it is one.
    PathAndQuery::try_from(target).ok().map(Uri::from)
}

/// Gives a request another path. Its query stays.
pub(super) fn set_path(uri: &mut Uri, path: &str) {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Both are parts of a URI, so they are one.
    if let Ok(target) = PathAndQuery::try_from(format!("{path}{query}")) {
        *uri = target.into();
    }
}
