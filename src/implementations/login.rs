//! How the controller asks an implementation about its login, and what helps to read the answers. No I/O.

use serde_json::Value;

/// How the controller asks an implementation about its login. Each answer is a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginQuestion {
    /// Not at all: what the account's client says counts.
    OfClient,
    /// By a line to a Unix socket, which answers with a line.
    Socket {
        /// The name of the socket in [`super::StartValues::runtime`].
        name: &'static str,
        /// The line, without its end.
        line: &'static str,
    },
    /// By a POST of an empty object to the port of its API, with the token of the start as bearer.
    Api {
        /// The path.
        path: &'static str,
    },
    /// By POST requests to the port of its web page, which wants a credential.
    Page(&'static PageQuestion),
}

/// The requests to a web page. All are POST requests of a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageQuestion {
    /// The path that gives a credential for `{"hash": SHA-256 of the token followed by [`PageQuestion::salt`]}`.
    pub login: &'static str,
    /// What follows the token.
    pub salt: &'static str,
    /// Where the credential is in the answer, as a JSON pointer.
    pub credential: &'static str,
    /// The path that tells the state.
    pub status: &'static str,
    /// The path that tells number and name of an account that is logged in.
    pub info: &'static str,
}

/// A number or a text as text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
