//! [`Client`]: requests to a controller, and what their answers mean.

use std::cell::OnceCell;
use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::door::{Door, DoorKind};
use super::failure::{Failure, Kind, Outcome};
use super::token::{TOKEN_FILE, Token};

/// Who may use the Unix socket (wqcontroller-unix.socket).
pub(super) const GROUP: &str = "wqctl";
/// What to type after most refusals about an account.
pub(super) const EXPLAIN: &str = "wqctl explain NAME";

/// The largest answer that is read. A page of a thousand accounts has about one megabyte.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// How long an answer may take that waits for no process.
const READ: Duration = Duration::from_secs(30);
/// How long one may take that does: the controller ends each process within `stop_timeout`, which is a day at most, and gives up a
/// start sooner.
const ACT: Duration = Duration::from_secs(600);

/// How long a move may take: a login of QQ has some hundred megabytes, and a link may be slow.
const CARRY: Duration = Duration::from_secs(6 * 3600);

/// What follows the account in the path of a move.
pub(super) const MOVE: &str = "/move";

/// A controller, at the first of these doors that opens.
pub(super) struct Client {
    doors: Vec<Door>,
    token: Option<Token>,
    /// The door that opened, by its place.
    open: OnceCell<usize>,
    /// The socket that is there and not for this user.
    closed: OnceCell<String>,
}

/// An answer that is none of a failure.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// What went wrong, as the API tells it (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

/// The path of an account, with what follows its name.
pub(super) fn path_of(name: &str, rest: &str) -> String {
    format!("/v1/clients/{}{rest}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

impl Client {
    /// A client for the door that is named, or for those that there usually are.
    pub(super) fn new(url: Option<&str>, token: Option<Token>) -> Outcome<Self> {
        let doors = match url {
            Some(url) => vec![Door::of_url(url)?],
            None => Door::guesses(),
        };
        Ok(Self { doors, token, open: OnceCell::new(), closed: OnceCell::new() })
    }

    /// Reads JSON.
    pub(super) async fn get(&self, path: &str) -> Outcome<Value> {
        let answer = self.call(Method::GET, path, "application/json", None).await?;
        self.json(&answer)
    }

    /// Does something, and returns the JSON that comes of it; null where none does.
    pub(super) async fn act(&self, method: Method, path: &str, body: Option<Value>) -> Outcome<Value> {
        let answer = self.call(method, path, "application/json", body).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(Value::Null),
            _ => self.json(&answer),
        }
    }

    fn json(&self, answer: &Answer) -> Outcome<Value> {
        serde_json::from_slice(&answer.body).map_err(|_| self.no_controller("its answer is no JSON"))
    }

    /// Calls and reads the whole answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<Value>,
    ) -> Outcome<Answer> {
        let patience = match &method {
            &Method::GET => READ,
            _ if path.ends_with(MOVE) => CARRY,
            _ => ACT,
        };
        let answering = async {
            let response = self.send(method, path, accept, body, &HeaderMap::new()).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| self.broken(&*error))?.to_bytes();
            Ok(Answer { status, body })
        };
        timeout(patience, answering).await.unwrap_or_else(|_| Err(self.silent(patience)))
    }

    /// Calls and returns the answer, once it is known to be none of a failure.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<Value>,
        headers: &HeaderMap,
    ) -> Outcome<Response<Incoming>> {
        let (door, connection) = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(connection).await;
        let (mut sender, driver) = handshake.map_err(|error| self.broken(&error))?;
        // It ends with the response, or with this process.
        tokio::spawn(driver);
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", door.prefix))
            .header(HOST, door.host())
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("wqctl/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, &token.header);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body)).map_err(|error| Failure::usage(error.to_string()))?;
        let answering = timeout(if method == Method::GET { READ } else { ACT }, sender.send_request(request));
        let response = match answering.await {
            Ok(response) => response.map_err(|error| self.broken(&error))?,
            Err(_) => return Err(self.silent(READ)),
        };
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.failure_of(response, &method, path).await),
        }
    }

    /// Connects to the door that is open, or finds that.
    async fn connect(&self) -> Outcome<(&Door, super::door::Connection)> {
        let secret = self.token.is_some();
        if let Some(door) = self.open.get().and_then(|place| self.doors.get(*place)) {
            let connection = door.connect(secret).await;
            return connection.map(|connection| (door, connection)).map_err(|error| self.gone(door, &error));
        }
        let mut tried = Vec::new();
        for (place, door) in self.doors.iter().enumerate() {
            match door.connect(secret).await {
                Ok(connection) => {
                    let _ = self.open.set(place);
                    return Ok((door, connection));
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && matches!(door.kind, DoorKind::Unix(_))
                    {
                        let _ = self.closed.set(door.to_string());
                    }
                    tried.push((door, error));
                }
            }
        }
        let [.., (door, error)] = &tried[..] else { return Err(Failure::usage("there is no address")) };
        // A socket that refuses this user explains the failure better than an address where nothing listens.
        match (self.closed.get(), &tried[..]) {
            (Some(socket), _) => {
                Err(Failure::new(Kind::NotAllowed, format!("{socket} is not open to you")).next(join()))
            }
            (None, [_]) => Err(self.gone(door, error)),
            (None, _) => {
                let tried: Vec<_> =
                    tried.iter().map(|(door, error)| format!("{door}: {}", words(error))).collect();
                Err(unreachable(format!("no controller answers ({})", tried.join("; "))))
            }
        }
    }

    fn gone(&self, door: &Door, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Failure::new(Kind::NotAllowed, format!("{door} is not open to you")).next(join())
            }
            _ => {
                let failure = unreachable(format!("no controller answers at {door}: {}", words(error)));
                match door.is_here() {
                    true => failure,
                    false => {
                        failure.next("see whether the address is right, and the controller listens there")
                    }
                }
            }
        }
    }

    /// The door that opened, for messages.
    fn place(&self) -> String {
        let open = self.open.get().and_then(|place| self.doors.get(*place));
        open.map(ToString::to_string).unwrap_or_default()
    }

    /// Whether the door that opened is on this machine.
    pub(super) fn is_here(&self) -> bool {
        self.open.get().and_then(|place| self.doors.get(*place)).is_some_and(Door::is_here)
    }

    fn silent(&self, patience: Duration) -> Failure {
        let text = format!("{} has not answered for {} seconds", self.place(), patience.as_secs());
        Failure::new(Kind::Unreachable, text).next("systemctl status wqcontroller")
    }

    fn broken(&self, error: &dyn Error) -> Failure {
        let mut why = error.to_string();
        if let Some(cause) = error.source() {
            why = format!("{why}: {cause}");
        }
        let text = format!("the connection to {} broke: {why}", self.place());
        Failure::new(Kind::Unreachable, text).next("systemctl status wqcontroller")
    }

    fn no_controller(&self, why: &str) -> Failure {
        let text = format!("what answers at {} is no controller: {why}", self.place());
        Failure::new(Kind::Unreachable, text).next("name the controller with --url")
    }

    /// What a refusal means.
    async fn failure_of(&self, response: Response<Incoming>, method: &Method, path: &str) -> Failure {
        let (parts, body) = response.into_parts();
        let body = timeout(READ, Limited::new(body, MAX_ANSWER).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let status = parts.status.as_u16();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            // A controller that can't start answers so at its sockets.
            let said = serde_json::from_slice::<Value>(&body).ok();
            // A client answers for its sandbox as it answers applications.
            if let Some(why) = said.as_ref().filter(|said| said["retcode"].is_i64()) {
                return Failure::refused(
                    why["wording"].as_str().or(why["message"].as_str()).unwrap_or("refused"),
                );
            }
            let said = said.as_ref().and_then(|said| said["status"].as_str());
            return match (status, said) {
                (503, Some(said)) => Failure::new(Kind::Unreachable, said).next("wqctl check"),
                _ => self.no_controller(&format!("it says {status}")),
            };
        };
        let detail = problem.detail;
        let refused = |next: &str| Failure::refused(&detail).next(next);
        match problem.code.as_str() {
            "no_such_account" => Failure::new(Kind::NoAccount, "there is no such account").next("wqctl list"),
            "no_such_path" => {
                let path = path.split('?').next().unwrap_or_default();
                Failure::refused(format!(
                    "the controller at {} has no {method} {path}: it is too old for this",
                    self.place()
                ))
                .next("install the same version, and systemctl restart wqcontroller")
            }
            "token_needed" | "token_wrong" => self.wants_a_token(),
            "not_allowed" => match &self.token {
                Some(token) => Failure::new(
                    Kind::NotAllowed,
                    format!("the token of {} does not open this: {detail}", token.source),
                )
                .next("name a token that may write with --token-file"),
                None => Failure::new(Kind::NotAllowed, detail).next(join()),
            },
            "foreign_host" => refused("call it by its address, or add the name to hosts in [http]"),
            "still_running" => refused("wqctl stop NAME"),
            "no_implementation" => refused("wqctl restart NAME"),
            "busy" | "outage" => {
                let seconds =
                    parts.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()).unwrap_or("1");
                refused(&format!("try again in {seconds} s"))
            }
            "invalid_parameter" | "invalid_body" => refused("man 7 wqcontroller-api"),
            "too_many_accounts" => refused("wqctl list"),
            "failed" => refused(EXPLAIN),
            // They say themselves what to do, or a command knows more.
            _ => Failure::refused(detail),
        }
    }

    fn wants_a_token(&self) -> Failure {
        let socket =
            self.closed.get().map(|socket| format!(", or by {socket}: {}", join())).unwrap_or_default();
        match &self.token {
            Some(token) => Failure::new(
                Kind::NotAllowed,
                format!("the controller at {} does not know the token of {}", self.place(), token.source),
            )
            .next(format!("name another one with --token-file{socket}")),
            None => {
                Failure::new(Kind::NotAllowed, format!("the controller at {} wants a token", self.place()))
                    .next(format!("wqctl --token-file FILE, or set {TOKEN_FILE}{socket}"))
            }
        }
    }

    /// The token that is shown, for what must not print it.
    pub(super) fn token_value(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.value.as_str())
    }
}

/// How this user gets in by the socket.
fn join() -> String {
    format!("sudo usermod -aG {GROUP} $USER, and log in again; or sudo wqctl")
}

fn unreachable(text: String) -> Failure {
    Failure::new(Kind::Unreachable, text).next("sudo systemctl start wqcontroller")
}

/// What the system says, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
