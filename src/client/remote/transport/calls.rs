//! [`Calls`]: the calls in flight. Each has a timeout and their number is bounded. For each failure it is known
//! whether the call may have reached the implementation: only one that did not may be repeated.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::client::backend::SendClaim;
use crate::client::remote::reply::ActionResponse;
use crate::locks::locked;

/// How many calls may be in flight.
const IN_FLIGHT: usize = 16;

/// How many calls may wait to be written.
const UNWRITTEN: usize = IN_FLIGHT;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActionError {
    /// It was not written.
    #[error("there is no connection")]
    NotWritten,
    /// It was not written: too many other calls are unanswered.
    #[error("too many calls have no answer yet")]
    Busy,
    /// It was written, and no readable answer came in time.
    #[error("there is no answer")]
    NoAnswer,
    /// It was written, and the answer is unusable: why.
    #[error("the answer cannot be used: {0}")]
    Unusable(String),
    /// It was written, and the answer is this status of HTTP, from 500 on, without JSON.
    #[error("the answer is HTTP {0}")]
    ServerError(u16),
    /// The implementation refused it.
    #[error("it was refused with retcode {code}{}{why}", if why.is_empty() { "" } else { " " })]
    Refused {
        /// The retcode.
        code: i64,
        /// Why, in the implementation's words.
        why: String,
    },
    /// The implementation refused the token.
    #[error("the token was refused")]
    Token,
}

/// The answer to a call.
#[derive(Debug, PartialEq)]
pub(crate) enum ActionResult {
    /// Done.
    Done(Value),
    /// Retcode 1: accepted, the outcome is not known yet.
    Accepted,
}

impl ActionResult {
    /// The data.
    pub(crate) fn data(self) -> Value {
        match self {
            Self::Done(data) => data,
            Self::Accepted => Value::Null,
        }
    }
}

/// A call that waits to be written.
pub(crate) struct PendingCall {
    /// Identifies the answer.
    pub(crate) echo: String,
    /// The name of the call.
    pub(crate) action: Cow<'static, str>,
    /// Its parameters.
    pub(crate) params: Value,
    claim: Arc<AtomicU8>,
    /// The claim of the message, if the call sends one.
    caller: Option<SendClaim>,
}

const WAITS: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl PendingCall {
    /// Must be called before the first byte is written; false means that the call was withdrawn and must not be
    /// written.
    pub(crate) fn begin(&self) -> bool {
        let is_ours =
            self.claim.compare_exchange(WAITS, WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        // The call's own claim first: a call whose time is up must not begin its message.
        is_ours && self.caller.as_ref().is_none_or(SendClaim::begin)
    }

    /// The frame. Some implementations require `params`, and an echo that is a string.
    pub(crate) fn frame(&self) -> String {
        json!({ "action": self.action, "params": self.params, "echo": self.echo }).to_string()
    }
}

/// How a call ended.
pub(crate) enum CallCompletion {
    /// An answer.
    Reply(ActionResponse),
    /// It was not written after all.
    NotWritten,
    /// It has no answer.
    Nothing,
    /// The answer is unusable: why.
    Unusable(String),
    /// The answer is this status of HTTP, from 500 on, without JSON.
    ServerError(u16),
}

#[derive(Default)]
struct InFlight {
    connection: Option<mpsc::Sender<PendingCall>>,
    answers: HashMap<String, oneshot::Sender<CallCompletion>>,
    last: u64,
}

/// The calls in flight.
pub(crate) struct Calls {
    waiting: Mutex<InFlight>,
    places: Semaphore,
    time: Duration,
}

impl Calls {
    /// No calls yet; each may take `time`.
    pub(crate) fn new(time: Duration) -> Self {
        Self { waiting: Mutex::default(), places: Semaphore::new(IN_FLIGHT), time }
    }

    fn waiting(&self) -> MutexGuard<'_, InFlight> {
        locked(&self.waiting)
    }

    /// Registers a connection, which writes the calls that the receiver yields.
    pub(crate) fn connect(&self) -> mpsc::Receiver<PendingCall> {
        let (sender, receiver) = mpsc::channel(UNWRITTEN);
        self.waiting().connection = Some(sender);
        receiver
    }

    /// The connection is gone: all open calls fail.
    pub(crate) fn disconnect(&self) {
        let mut waiting = self.waiting();
        waiting.connection = None;
        // A dropped sender wakes its call, which knows by `claim` whether it was written.
        waiting.answers.clear();
    }

    /// Completes a call. False: nothing waits for it any more.
    pub(crate) fn complete(&self, echo: &str, arrived: CallCompletion) -> bool {
        let answer = self.waiting().answers.remove(echo);
        answer.is_some_and(|answer| answer.send(arrived).is_ok())
    }

    /// Makes a call, and waits for the answer.
    ///
    /// # Errors
    /// There is none, or it is no.
    pub(crate) async fn call(
        &self,
        action: impl Into<Cow<'static, str>>,
        params: Value,
    ) -> Result<ActionResult, ActionError> {
        self.call_as(action.into(), params, None).await
    }

    /// Like [`Calls::call`], for a message: `claim` is begun before the first byte is written. If the message
    /// is withdrawn, nothing is written and this future is to be dropped.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) async fn call_claimed(
        &self,
        action: &'static str,
        params: Value,
        claim: &SendClaim,
    ) -> Result<ActionResult, ActionError> {
        self.call_as(action.into(), params, Some(claim.clone())).await
    }

    async fn call_as(
        &self,
        action: Cow<'static, str>,
        params: Value,
        caller: Option<SendClaim>,
    ) -> Result<ActionResult, ActionError> {
        // The call is for the current connection; there may be another by the time a slot is free. Only a weak
        // handle is kept, since a strong one would keep a dead connection alive.
        let connection = self.waiting().connection.as_ref().map(mpsc::Sender::downgrade);
        let connection = connection.ok_or(ActionError::NotWritten)?;
        // The semaphore is never closed. If no slot becomes free for so long, nothing is answered.
        let Ok(Ok(_place)) = timeout(self.time, self.places.acquire()).await else {
            return Err(ActionError::Busy);
        };
        let connection = connection.upgrade().ok_or(ActionError::NotWritten)?;
        let (sender, mut answer) = oneshot::channel();
        let claim = Arc::new(AtomicU8::new(WAITS));
        // Compared and registered under one lock: after `disconnect` no entry may be left that nothing completes.
        let echo = {
            let mut waiting = self.waiting();
            if !waiting.connection.as_ref().is_some_and(|now| now.same_channel(&connection)) {
                return Err(ActionError::NotWritten);
            }
            // Never used twice, also not on another connection: a late answer must not complete a later call.
            waiting.last += 1;
            let echo = format!("wq{}", waiting.last);
            waiting.answers.insert(echo.clone(), sender);
            echo
        };
        let _forget = Forget { calls: self, echo: &echo };
        let outgoing = PendingCall { echo: echo.clone(), action, params, claim: claim.clone(), caller };
        let arrived = timeout(self.time, async {
            connection.send(outgoing).await.ok()?;
            // A kept sender would keep a dead connection alive.
            drop(connection);
            (&mut answer).await.ok()
        });
        match arrived.await {
            Ok(Some(CallCompletion::Reply(reply))) => judge(reply),
            Ok(Some(CallCompletion::NotWritten)) => Err(ActionError::NotWritten),
            Ok(Some(CallCompletion::Nothing)) => Err(ActionError::NoAnswer),
            Ok(Some(CallCompletion::Unusable(why))) => Err(ActionError::Unusable(why)),
            Ok(Some(CallCompletion::ServerError(status))) => Err(ActionError::ServerError(status)),
            // The connection is gone, or the time is up. A withdrawn call is never written.
            Ok(None) | Err(_) => {
                match claim.compare_exchange(WAITS, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => Err(ActionError::NotWritten),
                    Err(_) => Err(ActionError::NoAnswer),
                }
            }
        }
    }
}

fn judge(reply: ActionResponse) -> Result<ActionResult, ActionError> {
    if reply.refuses_token() {
        return Err(ActionError::Token);
    }
    match reply {
        ActionResponse::Done(data) => Ok(ActionResult::Done(data)),
        ActionResponse::Accepted => Ok(ActionResult::Accepted),
        ActionResponse::Refused { code, why } => Err(ActionError::Refused { code, why }),
        // It may have been carried out, as after no answer.
        ActionResponse::Unclear => Err(ActionError::NoAnswer),
    }
}

/// Removes the entry if the caller drops its call.
struct Forget<'a> {
    calls: &'a Calls,
    echo: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.calls.waiting().answers.remove(self.echo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(data: Value) -> CallCompletion {
        CallCompletion::Reply(ActionResponse::Done(data))
    }

    #[tokio::test(start_paused = true)]
    async fn answers_match_their_calls_in_any_order() {
        let calls = Calls::new(Duration::from_secs(30));
        let mut connection = calls.connect();
        let other_end = async {
            let (one, two) = (connection.recv().await.unwrap(), connection.recv().await.unwrap());
            assert!(one.begin() && two.begin());
            let frame: Value = serde_json::from_str(&one.frame()).unwrap();
            assert_eq!(frame, json!({ "action": "a", "params": {}, "echo": one.echo }));
            assert!(!calls.complete("wq99", done(json!(9))) && calls.complete(&two.echo, done(json!(2))));
            assert!(calls.complete(&one.echo, done(json!(1))) && !calls.complete(&one.echo, done(json!(1))));
        };
        let (one, two, ()) = tokio::join!(calls.call("a", json!({})), calls.call("b", json!({})), other_end);
        assert_eq!((one, two), (Ok(ActionResult::Done(json!(1))), Ok(ActionResult::Done(json!(2)))));
        assert!(calls.waiting().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_call_tells_whether_it_was_written() {
        let calls = Calls::new(Duration::from_secs(30));
        assert_eq!(calls.call("a", json!({})).await, Err(ActionError::NotWritten), "no connection");
        let mut connection = calls.connect();
        assert_eq!(calls.call("a", json!({})).await, Err(ActionError::NotWritten), "nobody took it");
        assert!(!connection.recv().await.unwrap().begin(), "it was withdrawn");
        let take = async {
            assert!(connection.recv().await.unwrap().begin());
        };
        let (answer, ()) = tokio::join!(calls.call("a", json!({})), take);
        assert_eq!(answer, Err(ActionError::NoAnswer), "time");
        let lose = async {
            assert!(connection.recv().await.unwrap().begin());
            // The second waits in the queue.
            tokio::task::yield_now().await;
            calls.disconnect();
        };
        let (one, two, ()) = tokio::join!(calls.call("a", json!({})), calls.call("b", json!({})), lose);
        assert_eq!((one, two), (Err(ActionError::NoAnswer), Err(ActionError::NotWritten)));
        let mut connection = calls.connect();
        let unsent = async {
            let outgoing = connection.recv().await.unwrap();
            assert!(outgoing.begin() && calls.complete(&outgoing.echo, CallCompletion::NotWritten));
        };
        let (answer, ()) = tokio::join!(calls.call("a", json!({})), unsent);
        assert_eq!(answer, Err(ActionError::NotWritten));
        assert!(calls.waiting().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_flight_are_bounded() {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let mut connection = calls.connect();
        for _ in 0..IN_FLIGHT + 5 {
            let calls = calls.clone();
            tokio::spawn(async move { calls.call("a", json!({})).await });
        }
        let mut taken = Vec::new();
        for _ in 0..IN_FLIGHT {
            taken.push(connection.recv().await.unwrap());
        }
        tokio::task::yield_now().await;
        assert!(connection.try_recv().is_err());
        assert!(calls.complete(&taken[0].echo, done(json!(null))));
        assert!(connection.recv().await.is_some());
        // A call without a slot in time was not written.
        let places = calls.places.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
        let begin = tokio::time::Instant::now();
        assert_eq!(calls.call("a", json!({})).await, Err(ActionError::Busy));
        assert_eq!(begin.elapsed(), Duration::from_secs(30));
        // Nor what was meant for the connection before.
        let mut waits = std::pin::pin!(calls.call("a", json!({})));
        assert!(futures_util::poll!(&mut waits).is_pending());
        calls.disconnect();
        let _other = calls.connect();
        drop(places);
        assert_eq!(waits.await, Err(ActionError::NotWritten));
    }

    #[test]
    fn responses_map_to_results() {
        let refused = |code| ActionResponse::Refused { code, why: "w".into() };
        assert_eq!(judge(refused(1403)), Err(ActionError::Token));
        assert_eq!(judge(refused(1200)), Err(ActionError::Refused { code: 1200, why: "w".into() }));
        // euler-onebot says no more than the code.
        for (why, text) in [
            ("", "it was refused with retcode 1404"),
            ("no such call", "it was refused with retcode 1404 no such call"),
        ] {
            assert_eq!(ActionError::Refused { code: 1404, why: why.into() }.to_string(), text);
        }
        assert_eq!(judge(ActionResponse::Unclear), Err(ActionError::NoAnswer));
        assert_eq!(judge(ActionResponse::Accepted), Ok(ActionResult::Accepted));
    }
}
