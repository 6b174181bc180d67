//! Events posted to applications (onebot-11, `communication/http-post.md`), and the quick operations that they answer.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, redirect};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Bytes;
use tracing::{debug, info, warn};

use super::Applications;
use super::hub::{ApplicationKey, Attachment, Next};
use super::meta_event::{LifecycleKind, heartbeat, lifecycle};
use super::quick_operation;
use super::secrets::Signing;
use crate::client::backend::Backend;
use crate::client::backend::action::{Action, Answer};
use crate::client::backoff::{AttemptFailure, Backoff};
use crate::client::process::unix_seconds;
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

/// How many quick operations may wait for the one that is carried out. Meanwhile no more events are posted.
const MAX_OPERATIONS: usize = 64;

/// The first pause before another attempt, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Posts the events to one application, as long as the client runs.
pub(super) struct Posting<B> {
    applications: Arc<Applications<B>>,
    target: Target,
    backoff: Backoff,
    /// From the start on, so that the first events wait for the first login.
    first: Option<Attachment>,
    /// What is wrong, as it was logged: once, not at each post.
    trouble: Option<String>,
    operations: mpsc::Sender<Vec<Action>>,
    /// The account in the last lifecycle event that was sent.
    told: Option<u64>,
}

/// Where to post to.
struct Target {
    url: Endpoint,
    key: ApplicationKey,
    guard: ReceiverGuard,
    signing: Option<Arc<Signing>>,
    /// None until TLS is set up: the system's certificates may be missing, and come later.
    client: Option<Client>,
}

/// What became of a post.
#[derive(Debug)]
enum Posted {
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

/// Carries out the quick operations of one application, in order.
pub(super) struct Operations<B> {
    applications: Arc<Applications<B>>,
    waiting: mpsc::Receiver<Vec<Action>>,
    key: ApplicationKey,
}

/// Prepares posts to the URL at this place in the settings. `guard` decides before each whose program may get it.
pub(super) fn open<B: Backend>(
    applications: Arc<Applications<B>>,
    (place, url): (usize, Endpoint),
    signing: Option<Arc<Signing>>,
    guard: ReceiverGuard,
) -> (Posting<B>, Operations<B>) {
    let key = ApplicationKey::Url(place, shown(&url));
    let first = applications.hub.attach(Some(key.clone())).ok();
    let (operations, waiting) = mpsc::channel(MAX_OPERATIONS);
    let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let carrying = Operations { applications: applications.clone(), waiting, key: key.clone() };
    let target = Target { url, key, guard, signing, client: None };
    let posting = Posting { applications, target, backoff, first, trouble: None, operations, told: None };
    (posting, carrying)
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

impl<B: Backend> Operations<B> {
    /// Runs as long as there are posts.
    pub(super) async fn run(mut self) {
        while let Some(actions) = self.waiting.recv().await {
            if let Answer::Failed { code, why } = self.applications.actions.operate(actions).await {
                warn!("the quick operation of {} failed with {code}: {why}", self.key);
            }
        }
    }
}

impl<B: Backend> Posting<B> {
    /// Posts until the client ends.
    pub(super) async fn run(mut self) {
        loop {
            // The first post of a time in which the application is there says whose account it is. Until it arrives the
            // application is away, and what happens meanwhile waits for as long as the hold says.
            self.arrive().await;
            let Ok(attachment) = self.applications.hub.attach(Some(self.target.key.clone())) else {
                self.note("too many applications are connected to this account".to_owned());
                self.pause().await;
                continue;
            };
            self.post_events(attachment).await;
        }
    }

    /// Posts that the account is there, until that arrives.
    async fn arrive(&mut self) {
        let mut status = self.applications.hub.status();
        loop {
            let number = status.borrow_and_update().number;
            let Some(number) = number else {
                // The hub, and with it the sender, lives as long as this.
                let _ = status.changed().await;
                continue;
            };
            self.first = None;
            if self.tell(&lifecycle(number, LifecycleKind::Enable, unix_seconds())).await {
                self.told = Some(number);
                return;
            }
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        sleep(self.backoff.next_pause(AttemptFailure::Unavailable)).await;
    }

    /// Posts events and heartbeats until the application is away, or falls too far behind.
    async fn post_events(&mut self, attachment: Attachment) {
        let mut status = self.applications.hub.status();
        let interval = self.applications.heartbeat;
        let mut next_beat = Instant::now() + interval;
        loop {
            let now = *status.borrow_and_update();
            if let Some(number) = now.number.filter(|number| self.told != Some(*number)) {
                if !self.tell(&lifecycle(number, LifecycleKind::Enable, unix_seconds())).await {
                    return;
                }
                self.told = Some(number);
            }
            let goes_on = tokio::select! {
                Ok(()) = status.changed() => true,
                next = attachment.next() => match next {
                    Next::Event(event, text) => {
                        let arrived = self.post(Bytes::from(text)).await;
                        if arrived {
                            attachment.written(event);
                        }
                        arrived
                    }
                    Next::LetGo => {
                        warn!("{} takes events too slowly: the oldest are dropped", self.target.key);
                        false
                    }
                },
                () = sleep_until(next_beat), if !interval.is_zero() => {
                    next_beat = Instant::now() + interval;
                    match now.number {
                        Some(number) => self.tell(&heartbeat(number, now, interval, unix_seconds())).await,
                        None => true,
                    }
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Posts an event of our own. Returns whether it arrived, or may have.
    async fn tell(&mut self, event: &Value) -> bool {
        self.post(event.to_string().into()).await
    }

    /// Posts an event. Returns true if it arrived or may have arrived; it must not be posted again then.
    async fn post(&mut self, event: Bytes) -> bool {
        match self.target.post(event.clone()).await {
            Posted::Answered(answer) => {
                if self.trouble.take().is_some() {
                    info!("{} takes events again", self.target.key);
                }
                self.backoff.reset();
                self.operate(&event, &answer).await;
                true
            }
            Posted::Unanswered(why) => {
                self.backoff.reset();
                self.note(format!("{why}; the event is not posted again, as it may have arrived"));
                true
            }
            Posted::NotSent(why) => {
                let every = LONGEST_PAUSE.as_secs();
                self.note(format!("{why}; events wait, and it is tried again at least every {every} s"));
                false
            }
        }
    }

    /// Has done what the application answers to an event.
    async fn operate(&self, event: &[u8], answer: &[u8]) {
        let key = &self.target.key;
        if answer.trim_ascii().is_empty() {
            return;
        }
        let Ok(operation) = serde_json::from_slice::<Map<String, Value>>(answer) else {
            // Many programs answer `ok`.
            debug!("{key} answers an event with what is no object of JSON");
            return;
        };
        let Ok(context) = serde_json::from_slice(event) else { return };
        match quick_operation::actions(&context, &operation) {
            Ok(actions) if actions.is_empty() => {}
            // The receiver lives as long as this.
            Ok(actions) => drop(self.operations.send(actions).await),
            Err(why) => warn!("{key} answers an event with a quick operation that can't be used: {why}"),
        }
    }

    /// Logs what is wrong, unless that is known.
    fn note(&mut self, trouble: String) {
        let key = &self.target.key;
        if self.trouble.as_ref() == Some(&trouble) {
            debug!("{key}: {trouble}");
        } else {
            warn!("an event did not reach {key}: {trouble}");
            self.trouble = Some(trouble);
        }
    }
}

impl Target {
    async fn post(&mut self, event: Bytes) -> Posted {
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
