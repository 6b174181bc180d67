//! Calls over HTTP: each is a POST to the implementation's API, with the parameters as JSON.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use url::Url;

use super::SessionEnd;
use super::calls::{CallCompletion, Calls, PendingCall};
use super::inbox::Inbox;
use super::token::AccessToken;
use crate::client::remote::reply::ActionResponse;
use crate::http_client::{client_builder, loopback_addresses};
use crate::model::error_chain::ErrorChain;
use crate::peers::{ListenerRefusal, PeerPolicy};

/// The largest answer that is accepted.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// How often the client checks that the implementation still answers, for the same account.
const LOOK: Duration = Duration::from_secs(15);

/// The implementation's HTTP API.
pub(crate) struct HttpCalls {
    client: reqwest::Client,
    base: String,
    /// Host and port for messages; `base` may contain a password.
    place: String,
    token: Option<AccessToken>,
    look: Duration,
    /// Tells whose these ports are. The check comes before the connection, so a program that takes the port in between is called
    /// once. A connection that is kept belongs to the program that was checked.
    policy: Option<Arc<PeerPolicy>>,
    addresses: Vec<SocketAddr>,
    /// Why the port was not used.
    refusal: OnceLock<ListenerRefusal>,
}

impl HttpCalls {
    /// A client of the API at `base`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(
        base: &str,
        token: Option<AccessToken>,
        time: Duration,
        policy: Option<Arc<PeerPolicy>>,
    ) -> Result<Self, SessionEnd> {
        // Neither a proxy of the environment nor a redirect may get the token.
        let client =
            client_builder(base).timeout(time).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(|error| SessionEnd::Lost(ErrorChain(&error).to_string()))?;
        let base = base.trim_end_matches('/').to_owned();
        let place = Url::parse(&base)
            .ok()
            .and_then(|url| Some(format!("{} port {}", url.host_str()?, url.port_or_known_default()?)));
        let place = place.unwrap_or_else(|| "the host of its URL".into());
        let addresses = loopback_addresses(&base);
        Ok(Self { client, base, place, token, look: LOOK, policy, addresses, refusal: OnceLock::new() })
    }

    /// The same with more looks: a lost login is known by them alone.
    pub(crate) fn looking_each(self, look: Duration) -> Self {
        Self { look, ..self }
    }

    /// Opens a stream of SSE.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn stream(&self, url: &str) -> Result<reqwest::Response, SessionEnd> {
        if !self.is_its_port().await {
            return Err(self.gone_away());
        }
        // The time limit of calls is not that of a stream.
        let request = self.client.get(url).timeout(Duration::from_secs(365 * 86_400));
        let mut request = request.header(ACCEPT, "text/event-stream");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        request.send().await.map_err(|error| SessionEnd::Lost(ErrorChain(&error.without_url()).to_string()))
    }

    /// Whether no other account has the port.
    async fn is_its_port(&self) -> bool {
        let Some(policy) = &self.policy else { return true };
        for address in &self.addresses {
            if let Err(refusal) = policy.check_implementation_at(*address).await {
                // The first one is shown. The connection ends with it.
                let _ = self.refusal.set(refusal);
                return false;
            }
        }
        true
    }

    /// Makes the calls that `outgoing` yields, until nothing listens there any more.
    pub(crate) async fn run(
        self,
        mut outgoing: mpsc::Receiver<PendingCall>,
        calls: &Calls,
        inbox: &Arc<Inbox>,
    ) -> SessionEnd {
        let http = Arc::new(self);
        let mut open = JoinSet::new();
        // Outside the loop: a stream of calls must not put the check off.
        let mut looks = interval_at(Instant::now() + http.look, http.look);
        // No tick is taken while a check is under way; those that were missed must not follow at once.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_looking = false;
        loop {
            tokio::select! {
                call = outgoing.recv() => match call {
                    // The calls in flight bound the tasks.
                    Some(call) if call.begin() => {
                        let (http, inbox) = (http.clone(), inbox.clone());
                        open.spawn(async move {
                            let arrived = http.post(&call.action, call.params.to_string(), &inbox).await;
                            (Some(call.echo), arrived)
                        });
                    }
                    Some(_) => {}
                    None => return SessionEnd::Lost("it is not needed any more".into()),
                },
                // A task that panicked only disables the branch; its call ends by its timeout.
                Some(Ok((echo, arrived))) = open.join_next() => {
                    let gone = matches!(arrived, CallCompletion::NotWritten);
                    match echo {
                        Some(echo) => {
                            calls.complete(&echo, arrived);
                        }
                        None => {
                            is_looking = false;
                            if let Some(ended) = judge_look(&arrived, inbox) {
                                return ended;
                            }
                        }
                    }
                    if gone {
                        // Other calls may still be answered.
                        while let Some(Ok((echo, arrived))) = open.join_next().await {
                            echo.map(|echo| calls.complete(&echo, arrived));
                        }
                        return http.gone_away();
                    }
                }
                // One at a time, as a slow implementation would collect them. No call slot is needed, so slow calls do not put
                // it off.
                _ = looks.tick(), if !is_looking => {
                    // Without a connection, nothing tells that another implementation has taken the port.
                    is_looking = true;
                    let (http, inbox) = (http.clone(), inbox.clone());
                    open.spawn(async move {
                        let (action, params) = inbox.dialect().login_info();
                        (None, http.post(action, params.to_string(), &inbox).await)
                    });
                }
            }
        }
    }

    async fn post(&self, action: &str, params: String, inbox: &Inbox) -> CallCompletion {
        if !self.is_its_port().await {
            return CallCompletion::NotWritten;
        }
        let request = self.client.post(format!("{}/{action}", self.base)).body(params);
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            // Without a connection no byte was written. After any other error the request may have arrived.
            Err(error) if error.is_connect() => return CallCompletion::NotWritten,
            Err(error) if error.is_timeout() => return CallCompletion::Nothing,
            // The URL may contain a password.
            Err(error) => return CallCompletion::Unusable(ErrorChain(&error.without_url()).to_string()),
        };
        match answer.status().as_u16() {
            // Like the frame that refuses a token over a WebSocket.
            code @ (401 | 403) => {
                return CallCompletion::Reply(ActionResponse::Refused {
                    code: 1403,
                    why: format!("HTTP {code}"),
                });
            }
            404 => {
                let why = format!(
                    "HTTP 404: it has no such call, or the path of {}_url is not that of its API",
                    inbox.dialect().table()
                );
                return CallCompletion::Reply(ActionResponse::Refused { code: 1404, why });
            }
            // The body has the outcome, whatever the status is.
            _ => {}
        }
        // A list grows to its size at once. What is announced and never comes takes no memory.
        let announced = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(announced.min(MAX_ANSWER));
        loop {
            match answer.chunk().await {
                // Counted while it comes, as Content-Length may be missing.
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER => {
                    let most = MAX_ANSWER / (1024 * 1024);
                    return CallCompletion::Unusable(format!(
                        "it is larger than the {most} MiB that are taken"
                    ));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) if error.is_timeout() => return CallCompletion::Nothing,
                Err(error) => return CallCompletion::Unusable(ErrorChain(&error.without_url()).to_string()),
            }
        }
        match ActionResponse::of_body(&body) {
            Ok(read) => {
                if read.is_repaired {
                    inbox.note_repaired();
                }
                CallCompletion::Reply(read.what)
            }
            Err(_) if answer.status().is_server_error() => {
                CallCompletion::ServerError(answer.status().as_u16())
            }
            Err(why) => {
                inbox.note_unreadable(body.len(), &why);
                CallCompletion::Unusable(format!("HTTP {}, and {why}", answer.status()))
            }
        }
    }

    fn gone_away(&self) -> SessionEnd {
        if let Some(refusal) = self.refusal.get() {
            return SessionEnd::foreign(refusal);
        }
        SessionEnd::Unreachable(format!(
            "no connection to {}: the implementation is not running there, or not logged in yet",
            self.place
        ))
    }
}

/// Why the answer to a check ends the login, if it does.
fn judge_look(arrived: &CallCompletion, inbox: &Inbox) -> Option<SessionEnd> {
    let CallCompletion::Reply(reply) = arrived else { return None };
    if reply.refuses_token() {
        return Some(SessionEnd::TokenRefused("the answer was no".into()));
    }
    if let ActionResponse::Refused { code, .. } = reply
        && inbox.dialect().is_logged_out(*code)
    {
        return Some(SessionEnd::LoggedOut);
    }
    let ActionResponse::Done(data) = reply else { return None };
    let other = inbox.binding().check(inbox.dialect().own_uid(data)?).err()?;
    Some(SessionEnd::OtherAccount(other.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::account::binding::AccountBinding;
    use crate::client::remote::transport::calls::ActionError;
    use crate::client::remote::transport::inbox;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn http_login_ends_if_nothing_listens() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let binding = AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None);
        let inbox =
            Arc::new(inbox::open(&crate::client::onebot::OneBot11, calls.clone(), Arc::new(binding)).0);
        let http =
            HttpCalls::new(&format!("http://user:hush@{unused}/"), None, Duration::from_secs(30), None)
                .ok()
                .unwrap();
        let both =
            async { tokio::join!(http.run(calls.connect(), &calls, &inbox), calls.call("a", json!({}))) };
        // Long before anybody looks whether it is still there.
        let (ended, answer) = tokio::time::timeout(LOOK / 2, both).await.unwrap();
        assert!(
            matches!(&ended, SessionEnd::Unreachable(why) if why.starts_with(&format!("no connection to 127.0.0.1 port {}:", unused.port()))),
            "{ended:?}"
        );
        assert!(!format!("{ended:?}").contains("hush"));
        assert_eq!(answer, Err(ActionError::NotWritten));
    }

    /// An API that answers each call with `answer`, one connection for each.
    async fn answer_with(listener: tokio::net::TcpListener, answer: impl Fn(&str) -> &'static str) {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            let mut request = Vec::new();
            // The parameters are last.
            while !request.ends_with(b"{}") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let request = String::from_utf8(request).unwrap();
            stream.write_all(answer(&request).as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn http_login_check_is_not_delayed_by_calls() {
        const DONE: &str =
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 22\r\n\r\n{\"retcode\":0,\"data\":0}";
        const OTHER: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 35\r\n\r\n{\"retcode\":0,\"data\":{\"user_id\":2}} ";
        const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        for look in [OTHER, REFUSED] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let calls = Arc::new(Calls::new(Duration::from_secs(30)));
            let binding =
                AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), Some(1), None);
            let inbox =
                Arc::new(inbox::open(&crate::client::onebot::OneBot11, calls.clone(), Arc::new(binding)).0);
            let mut http = HttpCalls::new(&url, None, Duration::from_secs(30), None).ok().unwrap();
            http.look = Duration::from_millis(20);
            let busy = async {
                loop {
                    assert!(calls.call("a", json!({})).await.is_ok());
                }
            };
            // Two, so that one of them is always under way.
            let both =
                async { tokio::join!(busy, async { while calls.call("b", json!({})).await.is_ok() {} }) };
            let answers =
                answer_with(
                    listener,
                    move |request| {
                        if request.starts_with("POST /get_login_info ") { look } else { DONE }
                    },
                );
            let ended = async {
                tokio::select! {
                    ended = http.run(calls.connect(), &calls, &inbox) => ended,
                    _ = both => panic!("a call failed"),
                    () = answers => panic!("the calls got no answer"),
                }
            };
            let ended = tokio::time::timeout(LOOK, ended).await.expect("no look");
            match look {
                REFUSED => assert!(matches!(ended, SessionEnd::TokenRefused(_)), "{ended:?}"),
                _ => {
                    assert!(matches!(&ended, SessionEnd::OtherAccount(why) if why.contains('2')), "{ended:?}")
                }
            }
        }
    }
}
