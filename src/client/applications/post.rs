//! Events posted to applications (onebot-11, `communication/http-post.md`), and the quick operations that they answer.

mod target;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Bytes;
use tracing::{debug, info, warn};

use self::target::{Posted, Target};
use super::Applications;
use super::bounded_json;
use super::hub::{ApplicationKey, Attachment, Next};
use super::meta_event::{LifecycleKind, heartbeat, lifecycle};
use super::quick_operation;
use super::secrets::Signing;
use crate::client::backend::Backend;
use crate::client::backend::action::{Action, Answer};
use crate::client::backoff::{AttemptFailure, Backoff};
use crate::client::process::unix_seconds;
use crate::config::Endpoint;
use crate::http_client::ReceiverGuard;

/// How many quick operations may wait for the one that is carried out. Meanwhile no more events are posted.
const MAX_OPERATIONS: usize = 64;

/// How long the end of the client waits for the post under way, and for the last one.
const LAST_TIME: Duration = Duration::from_secs(1);

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

/// Carries out the quick operations of one application, in order.
pub(super) struct Operations<B> {
    applications: Arc<Applications<B>>,
    waiting: mpsc::Receiver<Vec<Action>>,
    key: ApplicationKey,
}

/// Prepares posts to the URL at this place in the settings. `guard` decides before each whose program may get it.
pub(super) fn open<B: Backend>(
    applications: Arc<Applications<B>>,
    at: (usize, Endpoint),
    signing: Option<Arc<Signing>>,
    guard: ReceiverGuard,
) -> (Posting<B>, Operations<B>) {
    let target = Target::new(at, signing, guard);
    let key = target.key.clone();
    let first = applications.hub.attach(Some(key.clone())).ok();
    let (operations, waiting) = mpsc::channel(MAX_OPERATIONS);
    let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let carrying = Operations { applications: applications.clone(), waiting, key };
    let posting = Posting { applications, target, backoff, first, trouble: None, operations, told: None };
    (posting, carrying)
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
    /// Posts until the client ends, and that it does.
    pub(super) async fn run(mut self) {
        let ending = self.applications.ending.clone();
        let key = self.target.key.clone();
        let late = async {
            ending.cancelled().await;
            sleep(LAST_TIME).await;
        };
        let whole = async {
            self.post_until_end().await;
            self.say_disabled().await;
        };
        tokio::select! {
            () = whole => {}
            () = late => debug!("{key} takes too long, so it may not learn that the client ends"),
        }
    }

    /// Says that nothing more is posted, if the application knows that anything is.
    async fn say_disabled(&mut self) {
        let Some(number) = self.told else { return };
        let event = lifecycle(number, LifecycleKind::Disable, unix_seconds());
        if let Posted::NotSent(why) | Posted::Unanswered(why) =
            self.target.post(event.to_string().into()).await
        {
            debug!("{} may not have learnt that the client ends: {why}", self.target.key);
        }
    }

    /// Returns between two posts, once the client ends.
    async fn post_until_end(&mut self) {
        let ending = self.applications.ending.clone();
        while !ending.is_cancelled() {
            // The first post of a time in which the application is there says whose account it is. Until it arrives the
            // application is away, and what happens meanwhile waits for as long as the hold says.
            if !self.arrive().await {
                return;
            }
            let Ok(attachment) = self.applications.hub.attach(Some(self.target.key.clone())) else {
                self.note("too many applications are connected to this account".to_owned());
                self.pause().await;
                continue;
            };
            self.post_events(attachment).await;
        }
    }

    /// Posts that the account is there, until that arrives. Returns false if the client ends.
    async fn arrive(&mut self) -> bool {
        let mut status = self.applications.hub.status();
        let ending = self.applications.ending.clone();
        while !ending.is_cancelled() {
            let number = status.borrow_and_update().number;
            let Some(number) = number else {
                // The hub, and with it the sender, lives as long as this.
                ending.run_until_cancelled(status.changed()).await;
                continue;
            };
            self.first = None;
            if self.tell(&lifecycle(number, LifecycleKind::Enable, unix_seconds())).await {
                self.told = Some(number);
                return true;
            }
            self.pause().await;
        }
        false
    }

    /// Waits before another attempt, or until the client ends.
    async fn pause(&mut self) {
        let pause = sleep(self.backoff.next_pause(AttemptFailure::Unavailable));
        self.applications.ending.run_until_cancelled(pause).await;
    }

    /// Posts events and heartbeats until the application is away, or falls too far behind.
    async fn post_events(&mut self, attachment: Attachment) {
        let mut status = self.applications.hub.status();
        let interval = self.applications.heartbeat;
        let mut next_beat = Instant::now() + interval;
        let ending = self.applications.ending.clone();
        while !ending.is_cancelled() {
            let now = *status.borrow_and_update();
            if let Some(number) = now.number.filter(|number| self.told != Some(*number)) {
                if !self.tell(&lifecycle(number, LifecycleKind::Enable, unix_seconds())).await {
                    return;
                }
                self.told = Some(number);
            }
            let goes_on = tokio::select! {
                () = ending.cancelled() => false,
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
        let Ok(operation) = bounded_json::read::<Map<String, Value>>(answer) else {
            // Many programs answer `ok`.
            debug!("{key} answers an event with what is no object of JSON, or too large a one");
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
