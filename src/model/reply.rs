//! The wire: codes, status strings and JSON bodies of the controller's own answers. They stand here and nowhere
//! else.
//!
//! The words of codes 1 to 5 are those of the original, on which programs rely. Everything else is ours: code 6
//! for input that is not allowed, and for a proxied call that got no answer the HTTP status as code.

use serde_json::{Map, Value, json};

use super::client::{ClientRecord, ClientSpec};
use super::fleet::{Outcome, Told};
use super::name::ClientName;

/// An answer of the controller itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status. As in the original an error is told by `code` and the HTTP status stays 200, but where
    /// the contract names another.
    pub http_status: u16,
    /// Seconds for `Retry-After`, where trying again makes sense.
    pub retry_after: Option<u32>,
    /// The JSON object. Its keys are in alphabetical order, as the original's were.
    pub body: Map<String, Value>,
}

impl Reply {
    fn new(http_status: u16, code: i32, status: impl Into<String>) -> Self {
        let mut body = Map::new();
        body.insert("code".into(), code.into());
        body.insert("status".into(), status.into().into());
        Self { http_status, retry_after: None, body }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.into(), value.into());
        self
    }

    /// Adds the start parameters given, but no secret and nothing that is there already.
    fn with_params(mut self, spec: &ClientSpec) -> Self {
        for (name, value) in spec.params.iter().filter(|(_, value)| !value.secret) {
            self.body.entry(name.clone()).or_insert_with(|| value.text.clone().into());
        }
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// No `client` was given.
    pub fn no_client_given() -> Self {
        Self::new(200, 1, "client not found")
    }

    /// No client has that name.
    pub fn no_such_client() -> Self {
        Self::new(200, 1, "client not exists")
    }

    /// No path of this API.
    pub fn no_such_path() -> Self {
        Self::new(403, -1, "api not found")
    }

    /// Something given is not allowed; `why` says what and why.
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::new(200, 6, why)
    }

    /// A form body larger than `limit` bytes, which would have to be searched for `client`.
    pub fn form_too_large(limit: usize) -> Self {
        Self::new(413, 6, format!("the form body is larger than {limit} bytes"))
    }

    /// The caller's request broke off or is not what HTTP allows.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, 6, why)
    }

    /// The request shows no token where one is needed.
    pub fn token_needed() -> Self {
        Self::new(
            401,
            401,
            "a token is needed: in the header Authorization: Bearer, or as token in the query",
        )
    }

    /// The token that the request shows is none of ours.
    pub fn token_unknown() -> Self {
        Self::new(401, 401, "the token is not known")
    }

    /// The token of the request does not open this call.
    pub fn token_read_only() -> Self {
        Self::new(403, 403, "the token is read-only, and this call is not known to change nothing")
    }

    /// The request calls us by a name that is not ours, as a web page does whose own name was pointed at us.
    pub fn foreign_host(host: &str) -> Self {
        let status = format!(
            "the host {host:?} is not known here: use an address or localhost, or have the name added to hosts in [http]"
        );
        Self::new(421, 421, status)
    }

    /// A browser sends the request for the page of another web site.
    pub fn foreign_site() -> Self {
        let status = "a browser sent this for another web site; have the site added to allowed_origins in [http] if it may";
        Self::new(403, 403, status)
    }

    /// The controller has too much to do just now.
    pub fn busy() -> Self {
        Self::new(503, 503, "the controller is busy").retry_after(1)
    }

    /// There is no controller, for it can't start. Why is its operator's to know, not every caller's.
    pub fn not_started() -> Self {
        let status = "the controller can't start; systemctl status wqcontroller says why";
        Self::new(503, 503, status).retry_after(5)
    }

    /// The client gave no answer; why, in words.
    pub fn unreachable(client: &ClientName, why: &str) -> Self {
        Self::new(502, 502, why).with("client", client.as_str())
    }

    /// The client took too long to answer.
    pub fn timed_out(client: &ClientName, why: &str) -> Self {
        Self::new(504, 504, why).with("client", client.as_str())
    }

    /// The client has as many requests on its hands as it may.
    pub fn too_many_requests(client: &ClientName, limit: usize) -> Self {
        let why = format!("the client has {limit} requests to answer already");
        Self::new(503, 503, why).with("client", client.as_str()).retry_after(1)
    }

    /// A request that the controller sent to a client came back to it.
    pub fn looped() -> Self {
        Self::new(508, 508, "the request came back to this controller: a loop")
    }

    /// The client does not listen yet.
    pub fn starting(client: &ClientName) -> Self {
        Self::new(503, 503, "client is starting").with("client", client.as_str()).retry_after(1)
    }

    /// What became of a start or a stop.
    pub fn outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Started(told) | Outcome::Stopped(told) => Self::about(told, "success"),
            Outcome::AlreadyExists(told) => Self::about(told, "client already exists"),
            Outcome::NotExists => Self::no_such_client(),
            Outcome::NoPort(spec) => Self::refused(spec, 2, "no available port"),
            Outcome::Failed(spec, why) => Self::refused_because(spec, 3, "failure", why),
            Outcome::NoPid(spec, exit) => {
                Self::refused_because(spec, 4, "client pid not ok", &format!("the client {exit} at once"))
            }
            Outcome::TooMany(spec) => Self::refused(spec, 5, "max clients exceed"),
        }
    }

    fn about(told: &Told, status: &str) -> Self {
        Self::new(200, 0, status)
            .with("client", told.spec.name.as_str())
            .with("port", told.port)
            .with("pid", told.pid)
            .with_params(&told.spec)
    }

    fn refused(spec: &ClientSpec, code: i32, status: &str) -> Self {
        Self::new(200, code, status).with("client", spec.name.as_str()).with_params(spec)
    }

    fn refused_because(spec: &ClientSpec, code: i32, status: &str, why: &str) -> Self {
        Self::new(200, code, status).with("client", spec.name.as_str()).with("reason", why).with_params(spec)
    }
}

/// The answer of `check_client`: the given objects, already JSON, in a list.
pub fn client_list<'a>(objects: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = br#"{"client":["#.to_vec();
    for (index, object) in objects.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(object);
    }
    text.extend_from_slice(br#"],"code":0}"#);
    text
}

/// What `check_client` says of one client: its state file's keys, then what the controller knows better, and then what the
/// original did not tell: how far it got, how often its process ended unasked, how the last one did, whether the controller
/// leaves it so, whether an operator froze it, and when it starts it again (`next_start`, Unix seconds).
pub fn client_object(record: &ClientRecord, next_start: Option<u64>) -> Value {
    let mut object = record.report.as_ref().map(|report| report.fields()).unwrap_or_default();
    let history = &record.history;
    for (key, value) in [
        ("account", json!(record.spec.name.as_str())),
        ("state", json!(record.state().as_str())),
        ("pid", json!(record.pid())),
        ("port", json!(record.port)),
        ("phase", json!(record.phase.as_str())),
        ("exits", json!(history.exits)),
        ("last_exit", json!(history.last_exit.map(|exit| exit.to_string()))),
        ("held", json!(history.held)),
        ("frozen", json!(record.frozen)),
        ("next_start", json!(next_start)),
    ] {
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientFiles, Exit, Generation, Handle, History, ParamValue, Phase};
    use crate::model::state::StateReport;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn spec(params: &[(&str, &str, bool)]) -> Arc<ClientSpec> {
        let name = ClientName::new("webqq_client_01").unwrap();
        let files = ClientFiles::in_folder(PathBuf::from("/tmp"), &name);
        let value = |text: &str, secret| ParamValue { text: text.into(), secret, path: None };
        let params =
            params.iter().map(|(name, text, secret)| ((*name).into(), value(text, *secret))).collect();
        Arc::new(ClientSpec { name, params, files })
    }

    fn told(params: &[(&str, &str, bool)]) -> Told {
        Told { spec: spec(params), port: 5000, pid: Some(32294) }
    }

    fn text(reply: Reply) -> String {
        assert_eq!(reply.http_status, 200);
        Value::Object(reply.body).to_string()
    }

    #[test]
    fn the_seed_word_for_word() {
        let success = r#"{"client":"webqq_client_01","code":0,"pid":32294,"port":5000,"status":"success"}"#;
        assert_eq!(text(Reply::outcome(&Outcome::Started(told(&[])))), success);
        assert_eq!(text(Reply::outcome(&Outcome::Stopped(told(&[])))), success);
        let exists = success.replace("success", "client already exists");
        assert_eq!(text(Reply::outcome(&Outcome::AlreadyExists(told(&[])))), exists);
        assert_eq!(text(Reply::no_client_given()), r#"{"code":1,"status":"client not found"}"#);
        assert_eq!(text(Reply::outcome(&Outcome::NotExists)), r#"{"code":1,"status":"client not exists"}"#);
        let code = |outcome| {
            let reply = Reply::outcome(&outcome);
            format!("{} {}", reply.body["code"], reply.body["status"])
        };
        assert_eq!(code(Outcome::NoPort(spec(&[]))), r#"2 "no available port""#);
        assert_eq!(code(Outcome::Failed(spec(&[]), "why".into())), r#"3 "failure""#);
        assert_eq!(code(Outcome::NoPid(spec(&[]), Exit::Code(1))), r#"4 "client pid not ok""#);
        assert_eq!(code(Outcome::TooMany(spec(&[]))), r#"5 "max clients exceed""#);
        assert_eq!(Reply::no_such_path().http_status, 403);
        assert_eq!(
            Value::Object(Reply::no_such_path().body).to_string(),
            r#"{"code":-1,"status":"api not found"}"#
        );
    }

    #[test]
    fn parameters_are_told_but_change_nothing_and_secrets_are_not() {
        let given = [
            ("log_level", "debug", false),
            ("pwd", "geheim", true),
            ("code", "9", false),
            ("status", "x", false),
            ("pid", "1", false),
            ("reason", "x", false),
        ];
        let reply = Value::Object(Reply::outcome(&Outcome::Started(told(&given))).body);
        assert_eq!(
            reply,
            json!({"client": "webqq_client_01", "code": 0, "pid": 32294, "port": 5000, "status": "success",
                   "log_level": "debug", "reason": "x"})
        );
        let failed = Value::Object(Reply::outcome(&Outcome::Failed(spec(&given), "no perl".into())).body);
        assert_eq!((&failed["code"], &failed["reason"]), (&json!(3), &json!("no perl")));
    }

    #[test]
    fn a_state_file_overrides_nothing_that_we_know() {
        let report = StateReport::parse(
            br#"{"state":"running","account":"root","pid":1,"port":1,"log_path":null,"plugin":[{"name":"x"}]}"#,
        );
        let handle = Handle::Direct { pid: 77, start_ticks: 1, boot_id: "b".into() };
        let mut record = ClientRecord {
            spec: spec(&[]),
            port: 5000,
            generation: Generation(1),
            phase: Phase::Up,
            handle: Some(handle),
            report: Some(Arc::new(report.unwrap())),
            frozen: false,
            history: History::default(),
        };
        let mut known = json!({"account": "webqq_client_01", "state": "init", "pid": 77, "port": 5000, "phase": "up",
                               "exits": 0, "last_exit": null, "held": false, "frozen": false, "next_start": null});
        let mut expected = known.clone();
        for (key, value) in
            [("state", json!("running")), ("log_path", json!(null)), ("plugin", json!([{"name": "x"}]))]
        {
            expected[key] = value;
        }
        assert_eq!(client_object(&record, None), expected);
        record.report = None;
        assert_eq!(client_object(&record, None), known);
        record.phase = Phase::Stopping;
        assert_eq!(client_object(&record, None)["state"], "stop");
        record.phase = Phase::Gone(Exit::Signal(9));
        record.handle = None;
        record.history = History { exits: 3, last_exit: Some(Exit::Signal(9)), ..History::default() };
        for (key, value) in [
            ("state", json!("stop")),
            ("pid", json!(null)),
            ("phase", json!("gone")),
            ("exits", json!(3)),
            ("last_exit", json!("was ended by signal 9")),
            ("next_start", json!(1_700_000_000)),
        ] {
            known[key] = value;
        }
        assert_eq!(client_object(&record, Some(1_700_000_000)), known);
    }

    #[test]
    fn lists() {
        let list =
            |objects: &[&str]| String::from_utf8(client_list(objects.iter().map(|o| o.as_bytes()))).unwrap();
        assert_eq!(list(&[]), r#"{"client":[],"code":0}"#);
        assert_eq!(list(&["{}", "{\"a\":1}"]), r#"{"client":[{},{"a":1}],"code":0}"#);
    }
}
