//! [`Target`]: one URL that events are posted to.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, redirect};
use ring::hmac;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Bytes;

use crate::client::applications::hub::ApplicationKey;
use crate::client::applications::secrets::Signing;
use crate::config::Endpoint;
use crate::http_client::{ReceiverGuard, client_builder};
use crate::model::error_chain::ErrorChain;

/// How long a post may take, its answer included.
const POST_TIME: Duration = Duration::from_secs(30);

/// How long opening its connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Shorter than any server keeps one: what is written to one that the server closes meanwhile may
/// have arrived, and would not be posted again.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// The largest answer that is read: an image in base64.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Where to post to.
pub(super) struct Target {
    url: Endpoint,
    pub(super) key: ApplicationKey,
    guard: ReceiverGuard,
    signing: Option<Arc<Signing>>,
    /// None until TLS is set up: the system's certificates may be missing, and come later.
    client: Option<Client>,
}

/// What became of a post.
#[derive(Debug)]
pub(super) enum Posted {
    /// It was answered with success, and with this.
    Answered(Vec<u8>),
    /// It may have arrived, but was not answered with success: why.
    Unanswered(String),
    /// It did not arrive: why.
    NotSent(String),
}

/// The member of an event that says whose it is.
#[derive(Deserialize)]
struct Own {
    self_id: Option<u64>,
}

/// The URL for people, without user, password and query.
fn shown(url: &Endpoint) -> String {
    let Ok(mut url) = url::Url::parse(url.as_str()) else { return "***".to_owned() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

impl Target {
    /// A target to which nothing was posted yet; `place` is that of the URL in the settings.
    pub(super) fn new(
        (place, url): (usize, Endpoint),
        signing: Option<Arc<Signing>>,
        guard: ReceiverGuard,
    ) -> Self {
        let key = ApplicationKey::Url(place, shown(&url));
        Self { url, key, guard, signing, client: None }
    }

    /// Posts an event, once.
    pub(super) async fn post(&mut self, event: Bytes) -> Posted {
        if let Err(refused) = self.guard.check().await {
            return Posted::NotSent(format!("it is not called: {refused}"));
        }
        let signature = match self.signing.as_ref().map(|signing| signing.now()).transpose() {
            Ok(secret) => secret.map(|secret| signature(secret.as_str(), &event)),
            // Not without a signature, by which the application knows us.
            Err(why) => return Posted::NotSent(format!("secret_file of [onebot_server]: {why}")),
        };
        let client = match &mut self.client {
            Some(client) => client,
            none => match client(&self.url) {
                Ok(client) => none.insert(client),
                Err(error) => {
                    return Posted::NotSent(format!("TLS cannot be set up ({})", ErrorChain(&error)));
                }
            },
        };
        let mut request = client.post(self.url.as_str());
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(Own { self_id: Some(own) }) = serde_json::from_slice(&event) {
            request = request.header("x-self-id", HeaderValue::from(own));
        }
        if let Some(signature) = signature {
            request = request.header("x-signature", signature);
        }
        match request.body(event).send().await {
            Ok(response) => taken(response).await,
            // Only here nothing of the event has been written.
            Err(error) if error.is_connect() => {
                Posted::NotSent(format!("no connection ({})", ErrorChain(&error.without_url())))
            }
            Err(error) if error.is_timeout() => {
                Posted::Unanswered(format!("it does not answer within {} s", POST_TIME.as_secs()))
            }
            Err(error) => Posted::Unanswered(ErrorChain(&error.without_url()).to_string()),
        }
    }
}

fn client(url: &Endpoint) -> reqwest::Result<Client> {
    client_builder(url.as_str())
        .timeout(POST_TIME)
        .connect_timeout(CONNECT_TIME)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_TIME)
        // Events are private: they go to the configured URL and nowhere else.
        .redirect(redirect::Policy::none())
        .build()
}

/// The body of an answer of success.
async fn taken(mut response: Response) -> Posted {
    let status = response.status();
    if !status.is_success() {
        return Posted::Unanswered(format!("it answers HTTP {}", status.as_u16()));
    }
    let mut body = Vec::new();
    if status == StatusCode::NO_CONTENT {
        return Posted::Answered(body);
    }
    loop {
        match response.chunk().await {
            Ok(None) => return Posted::Answered(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                return Posted::Unanswered(format!("its answer is larger than {MAX_ANSWER} bytes"));
            }
            Err(error) => {
                let why = ErrorChain(&error.without_url()).to_string();
                return Posted::Unanswered(format!("its answer broke off ({why})"));
            }
        }
    }
}

/// The value of `X-Signature`.
fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let tag = hmac::sign(&key, body);
    tag.as_ref().iter().fold("sha1=".to_owned(), |mut text, byte| {
        // Writing to a text can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_standard() {
        // RFC 2202, test case 2.
        let expected = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn url_is_shown_without_secrets() {
        let url = Endpoint::new("http://me:hush@h:81/x?token=hush#hush").unwrap();
        assert_eq!(shown(&url), "http://h:81/x");
    }
}
