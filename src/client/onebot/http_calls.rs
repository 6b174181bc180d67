//! Calls by HTTP: each is a POST to the address of the implementation's API, with the parameters as its body.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::calls::{Arrived, Calls, Outgoing};
use super::link::{Ended, Token};
use super::wire::reply::Reply;
use crate::model::chain::Chain;
use crate::outbound::http_client;

/// The largest answer that is taken.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// The pause between two looks whether the implementation is still there.
const LOOK: Duration = Duration::from_secs(15);

/// The way to the implementation's HTTP API.
pub(super) struct HttpCalls {
    client: reqwest::Client,
    base: String,
    token: Option<Token>,
}

impl HttpCalls {
    /// For the API at `base`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(base: &str, token: Option<Token>, time: Duration) -> Result<Self, Ended> {
        // No proxy of the environment, and no redirect: the token goes where the operator wants it.
        let client =
            http_client(base).timeout(time).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(|error| Ended::Lost(Chain(&error).to_string()))?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { client, base, token })
    }

    /// Makes the calls that come, until nobody listens there any more.
    pub(super) async fn run(self, mut outgoing: mpsc::Receiver<Outgoing>, calls: &Calls) -> Ended {
        let http = Arc::new(self);
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                call = outgoing.recv() => match call {
                    // There are never more than calls in flight.
                    Some(call) if call.begin() => {
                        let http = http.clone();
                        open.spawn(async move {
                            let arrived = http.post(call.action, call.params.to_string()).await;
                            (call.echo, arrived)
                        });
                    }
                    Some(_) => {}
                    None => return Ended::Lost("it is not needed any more".into()),
                },
                Some(Ok((echo, arrived))) = open.join_next() => {
                    let gone = matches!(arrived, Arrived::NotWritten);
                    calls.arrive(&echo, arrived);
                    if gone {
                        // Others may still be answered.
                        while let Some(Ok((echo, arrived))) = open.join_next().await {
                            calls.arrive(&echo, arrived);
                        }
                        return gone_away();
                    }
                }
                () = sleep(LOOK), if open.is_empty() => {
                    if let Arrived::NotWritten = http.post("get_status", "{}".to_owned()).await {
                        return gone_away();
                    }
                }
            }
        }
    }

    async fn post(&self, action: &str, params: String) -> Arrived {
        let request = self.client.post(format!("{}/{action}", self.base)).body(params);
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Arrived::NotWritten,
            Err(_) => return Arrived::Nothing,
        };
        match answer.status().as_u16() {
            // As the frame that refuses a token says it.
            code @ (401 | 403) => {
                return Arrived::Reply(Reply::Refused { code: 1403, why: format!("HTTP {code}") });
            }
            404 => return Arrived::Reply(Reply::Refused { code: 1404, why: "HTTP 404".into() }),
            _ => {}
        }
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Arrived::Nothing;
            }
            body.extend_from_slice(&chunk);
        }
        Reply::of_body(&body).map_or(Arrived::Nothing, Arrived::Reply)
    }
}

fn gone_away() -> Ended {
    Ended::Unreachable("nobody listens there".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::onebot::calls::CallError;
    use serde_json::json;

    #[tokio::test]
    async fn where_nobody_listens_the_login_ends() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let calls = Calls::new(Duration::from_secs(30));
        let http = HttpCalls::new(&format!("http://{nobody}/"), None, Duration::from_secs(30)).ok().unwrap();
        let both = async { tokio::join!(http.run(calls.connect(), &calls), calls.call("a", json!({}))) };
        // Long before anybody looks whether it is still there.
        let (ended, answer) = tokio::time::timeout(LOOK / 2, both).await.unwrap();
        assert_eq!((ended, answer), (gone_away(), Err(CallError::NotWritten)));
    }
}
