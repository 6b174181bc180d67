//! [`Reply`]: every answer that the controller gives itself, with its HTTP status, code and text.
//!
//! Programs rely on the texts of codes 1 to 5, which are those of the original. Code 6 is ours: input that is not allowed.
//! A proxied call without an answer has its HTTP status as code.

use serde_json::{Map, Value};

use crate::model::client::{ClientSpec, ParamValue};
use crate::model::name::ClientName;

/// The code of invalid input, and of a request that can't be read.
pub const INVALID: i32 = 6;

/// The keys in replies to starts and stops that are the controller's word. A parameter of that name is not repeated, not even where
/// the key is missing: a caller would take its text for the pid, say.
const OWN_KEYS: [&str; 7] = ["account", "client", "code", "pid", "port", "reason", "status"];

/// A reply of the controller itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status. As in the original it is 200 even for errors, which `code` tells, except where the
    /// manual names another.
    pub http_status: u16,
    /// Seconds for `Retry-After`, if a retry makes sense.
    pub retry_after: Option<u32>,
    /// The JSON object. Its keys are in alphabetical order, as the original's were.
    pub body: Map<String, Value>,
}

impl Reply {
    pub(super) fn new(http_status: u16, code: i32, status: impl Into<String>) -> Self {
        // Sorted by key, unless some dependency turns on serde_json's feature `preserve_order`.
        let mut body = Map::new();
        body.insert("code".into(), code.into());
        body.insert("status".into(), status.into().into());
        Self { http_status, retry_after: None, body }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.into(), value.into());
        self
    }

    /// Adds the start parameters, except secrets and names that are keys of the controller's own.
    pub(super) fn with_params(mut self, spec: &ClientSpec) -> Self {
        let is_echoed = |name: &str, value: &ParamValue| !value.secret && !OWN_KEYS.contains(&name);
        for (name, value) in spec.params.iter().filter(|(name, value)| is_echoed(name, value)) {
            self.body.insert(name.clone(), value.text.clone().into());
        }
        self
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The parameter `client` is missing.
    pub fn no_client_given() -> Self {
        Self::new(200, 1, "client not found")
    }

    /// There is no client of this name.
    pub fn no_such_client() -> Self {
        Self::new(200, 1, "client not exists")
    }

    /// The account has no implementation that could log it in anew.
    pub fn no_implementation(name: &ClientName) -> Self {
        Self::invalid(format!(
            "{name} has no implementation that the controller starts; /openqq/relogin asks its client for a new login"
        ))
    }

    /// The path is not one of the API.
    pub fn no_such_path() -> Self {
        Self::new(403, -1, "api not found")
    }

    /// Reads the name of a client that a caller gave.
    ///
    /// # Errors
    /// It cannot be the name of one.
    pub fn client_name(text: String) -> Result<ClientName, Self> {
        ClientName::new(text).map_err(|error| Self::invalid(format!("parameter \"client\": {error}")))
    }

    /// Invalid input; `why` says what is wrong with it.
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::new(200, 6, why)
    }

    /// The body is needed for `client` but is no form.
    pub fn no_form() -> Self {
        Self::new(415, 6, "the body is no form: send client in the URL, or a form or a JSON object")
    }

    /// The form to be searched for `client` is larger than `limit` bytes.
    pub fn form_too_large(limit: usize) -> Self {
        Self::new(413, 6, format!("the form body is larger than {limit} bytes"))
    }

    /// A request whose target makes its head larger than `limit` bytes. `code` is that of the server.
    pub fn target_too_long(code: i32, limit: usize) -> Self {
        let why = format!(
            "URL and headers are larger than {limit} bytes: use POST, with the parameters as a form in the body"
        );
        Self::new(414, code, why)
    }

    /// A request whose headers are too many or larger than `limit` bytes. `code` is that of the server.
    pub fn headers_too_large(code: i32, limit: usize) -> Self {
        Self::new(431, code, format!("the headers are larger than {limit} bytes, or more than 100"))
    }

    /// The request broke off or is not valid HTTP.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, 6, why)
    }

    /// A token is needed and missing.
    pub fn token_needed() -> Self {
        Self::new(
            401,
            401,
            "a token is needed: in the header Authorization: Bearer, or as token in the query",
        )
    }

    /// The token is unknown.
    pub fn token_unknown() -> Self {
        Self::new(401, 401, "the token is not known")
    }

    /// The token is read-only, and the call is not.
    pub fn token_read_only() -> Self {
        Self::new(403, 403, "the token is read-only, and this call is not known to change nothing")
    }

    /// The host is not ours: a web page may have pointed its own name at us (DNS rebinding).
    pub fn foreign_host(host: &str) -> Self {
        let status = format!(
            "the host {host:?} is not known here: call localhost, 127.0.0.1 or an address of this machine, or have the name added to hosts in [http]"
        );
        Self::new(421, 421, status)
    }

    /// A browser sends the request for another web site.
    pub fn foreign_site() -> Self {
        let status = "a browser sent this for another web site; have the site added to allowed_origins in [http] if it may";
        Self::new(403, 403, status)
    }

    /// The connection comes from another account's client.
    pub fn other_account() -> Self {
        Self::new(403, 403, "the client of another account may not call here")
    }

    /// The user at the other end of the connection can't be determined.
    pub fn user_unknown() -> Self {
        let status = "the user who calls is unknown: keep the connection open until it is answered, and call the address that is listened on";
        Self::new(403, 403, status)
    }

    /// The controller is overloaded.
    pub fn busy() -> Self {
        Self::new(503, 503, "the controller is busy").retry_after(1)
    }

    /// A start or stop is under way, but systemd can't be reached.
    pub fn outage() -> Self {
        let status = "systemd can't be reached; check_client shows what became of the call once it is back";
        Self::new(503, 503, status).retry_after(5)
    }

    /// The controller can't start. The reason is for the operator, not for every caller.
    pub fn not_started() -> Self {
        let status = "the controller can't start; systemctl status wqcontroller says why";
        Self::new(503, 503, status).retry_after(5)
    }

    /// The client gave no response, for the reason `why`.
    pub fn unreachable(client: &ClientName, why: &str) -> Self {
        Self::new(502, 502, why).with("client", client.as_str())
    }

    /// The client took too long.
    pub fn timed_out(client: &ClientName, why: &str) -> Self {
        Self::new(504, 504, why).with("client", client.as_str())
    }

    /// The client has `limit` requests in flight.
    pub fn too_many_requests(client: &ClientName, limit: usize) -> Self {
        let why = format!("the client has {limit} requests to answer already");
        Self::new(503, 503, why).with("client", client.as_str()).retry_after(1)
    }

    /// A request that was sent to a client came back.
    pub fn looped() -> Self {
        Self::new(508, 508, "the request came back to this controller: a loop")
    }

    /// The client does not listen yet.
    pub fn starting(client: &ClientName) -> Self {
        Self::new(503, 503, "client is starting").with("client", client.as_str()).retry_after(1)
    }

    /// The client is frozen through systemd, and does not answer until it is thawed.
    pub fn frozen(client: &ClientName, unit: Option<&str>) -> Self {
        let why = match unit {
            Some(unit) => format!("the client is frozen; systemctl thaw {unit} lets it go on"),
            None => "the client is frozen".to_owned(),
        };
        Self::new(503, 503, why).with("client", client.as_str())
    }
}
