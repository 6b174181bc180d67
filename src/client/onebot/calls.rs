//! [`Calls`]: the calls in flight. Each has a time, there are only so many at once, and of each that failed it is known
//! whether it may have reached the other end: what did not may be said again, what did must not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::wire::reply::Reply;
use crate::locks::locked;

/// How many calls may be in flight.
const IN_FLIGHT: usize = 16;

/// How many calls may wait to be written.
const UNWRITTEN: usize = IN_FLIGHT;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It did not leave this process.
    #[error("there is no connection")]
    NotWritten,
    /// It was written, and no answer came in time, or none that can be read.
    #[error("there is no answer")]
    NoAnswer,
    /// The answer is that it was not done.
    #[error("it was refused with retcode {code} {why}")]
    Refused {
        /// The retcode.
        code: i64,
        /// Why, in the other end's words.
        why: String,
    },
    /// The answer is that we may not.
    #[error("the token was refused")]
    Token,
}

/// What a call was answered.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// Done.
    Done(Value),
    /// Retcode 1: it goes on.
    Accepted,
}

impl Answer {
    /// The data.
    pub(super) fn data(self) -> Value {
        match self {
            Self::Done(data) => data,
            Self::Accepted => Value::Null,
        }
    }
}

/// A call on its way to the connection.
pub(super) struct Outgoing {
    /// What tells its answer from others.
    pub(super) echo: String,
    /// What is to be done.
    pub(super) action: &'static str,
    /// With what.
    pub(super) params: Value,
    claim: Arc<AtomicU8>,
}

const WAITS: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Outgoing {
    /// To be called before the first byte is written; false: it was withdrawn, and must not be.
    pub(super) fn begin(&self) -> bool {
        self.claim.compare_exchange(WAITS, WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The frame: some want `params` always, and an echo that is text.
    pub(super) fn frame(&self) -> String {
        json!({ "action": self.action, "params": self.params, "echo": self.echo }).to_string()
    }
}

/// What comes back for a call.
pub(super) enum Arrived {
    /// An answer.
    Reply(Reply),
    /// It turned out that it was not written.
    NotWritten,
    /// It will have no answer.
    Nothing,
}

#[derive(Default)]
struct Waiting {
    connection: Option<mpsc::Sender<Outgoing>>,
    answers: HashMap<String, oneshot::Sender<Arrived>>,
    last: u64,
}

/// The calls in flight.
pub(super) struct Calls {
    waiting: Mutex<Waiting>,
    places: Semaphore,
    time: Duration,
}

impl Calls {
    /// None yet; each may take `time`.
    pub(super) fn new(time: Duration) -> Self {
        Self { waiting: Mutex::default(), places: Semaphore::new(IN_FLIGHT), time }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        locked(&self.waiting)
    }

    /// A connection is there, and writes what comes out of the receiver.
    pub(super) fn connect(&self) -> mpsc::Receiver<Outgoing> {
        let (sender, receiver) = mpsc::channel(UNWRITTEN);
        self.waiting().connection = Some(sender);
        receiver
    }

    /// The connection is gone, and with it the answers of all calls.
    pub(super) fn disconnect(&self) {
        let mut waiting = self.waiting();
        waiting.connection = None;
        waiting.answers.clear();
    }

    /// Something came back for a call. False: nobody waits for it, any more or at all.
    pub(super) fn arrive(&self, echo: &str, arrived: Arrived) -> bool {
        let answer = self.waiting().answers.remove(echo);
        answer.is_some_and(|answer| answer.send(arrived).is_ok())
    }

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    /// There is none, or it is no.
    pub(super) async fn call(&self, action: &'static str, params: Value) -> Result<Answer, CallError> {
        // Never closed. Where all places are taken for so long, nothing is answered.
        let Ok(Ok(_place)) = timeout(self.time, self.places.acquire()).await else {
            return Err(CallError::NotWritten);
        };
        let (sender, mut answer) = oneshot::channel();
        let claim = Arc::new(AtomicU8::new(WAITS));
        let (connection, echo) = {
            let mut waiting = self.waiting();
            let connection = waiting.connection.clone().ok_or(CallError::NotWritten)?;
            waiting.last += 1;
            let echo = format!("wq{}", waiting.last);
            waiting.answers.insert(echo.clone(), sender);
            (connection, echo)
        };
        let _forget = Forget { calls: self, echo: &echo };
        let outgoing = Outgoing { echo: echo.clone(), action, params, claim: claim.clone() };
        let arrived = timeout(self.time, async {
            connection.send(outgoing).await.ok()?;
            // Else this would keep a connection alive that is gone.
            drop(connection);
            (&mut answer).await.ok()
        });
        match arrived.await {
            Ok(Some(Arrived::Reply(reply))) => judge(reply),
            Ok(Some(Arrived::NotWritten)) => Err(CallError::NotWritten),
            Ok(Some(Arrived::Nothing)) => Err(CallError::NoAnswer),
            // No connection any more, or no time. Withdrawn, it is never written.
            Ok(None) | Err(_) => {
                match claim.compare_exchange(WAITS, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => Err(CallError::NotWritten),
                    Err(_) => Err(CallError::NoAnswer),
                }
            }
        }
    }
}

fn judge(reply: Reply) -> Result<Answer, CallError> {
    if reply.refuses_token() {
        return Err(CallError::Token);
    }
    match reply {
        Reply::Done(data) => Ok(Answer::Done(data)),
        Reply::Accepted => Ok(Answer::Accepted),
        Reply::Refused { code, why } => Err(CallError::Refused { code, why }),
        Reply::Unclear => Err(CallError::NoAnswer),
    }
}

/// Whoever calls may go away at any time.
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

    fn done(data: Value) -> Arrived {
        Arrived::Reply(Reply::Done(data))
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_any_order() {
        let calls = Calls::new(Duration::from_secs(30));
        let mut connection = calls.connect();
        let other_end = async {
            let (one, two) = (connection.recv().await.unwrap(), connection.recv().await.unwrap());
            assert!(one.begin() && two.begin());
            let frame: Value = serde_json::from_str(&one.frame()).unwrap();
            assert_eq!(frame, json!({ "action": "a", "params": {}, "echo": one.echo }));
            assert!(!calls.arrive("wq99", done(json!(9))) && calls.arrive(&two.echo, done(json!(2))));
            assert!(calls.arrive(&one.echo, done(json!(1))) && !calls.arrive(&one.echo, done(json!(1))));
        };
        let (one, two, ()) = tokio::join!(calls.call("a", json!({})), calls.call("b", json!({})), other_end);
        assert_eq!((one, two), (Ok(Answer::Done(json!(1))), Ok(Answer::Done(json!(2)))));
        assert!(calls.waiting().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_known() {
        let calls = Calls::new(Duration::from_secs(30));
        assert_eq!(calls.call("a", json!({})).await, Err(CallError::NotWritten), "no connection");
        let mut connection = calls.connect();
        assert_eq!(calls.call("a", json!({})).await, Err(CallError::NotWritten), "nobody took it");
        assert!(!connection.recv().await.unwrap().begin(), "it was withdrawn");
        let take = async {
            assert!(connection.recv().await.unwrap().begin());
        };
        let (answer, ()) = tokio::join!(calls.call("a", json!({})), take);
        assert_eq!(answer, Err(CallError::NoAnswer), "time");
        let lose = async {
            assert!(connection.recv().await.unwrap().begin());
            // The second waits in the queue.
            tokio::task::yield_now().await;
            calls.disconnect();
        };
        let (one, two, ()) = tokio::join!(calls.call("a", json!({})), calls.call("b", json!({})), lose);
        assert_eq!((one, two), (Err(CallError::NoAnswer), Err(CallError::NotWritten)));
        let mut connection = calls.connect();
        let unsent = async {
            let outgoing = connection.recv().await.unwrap();
            assert!(outgoing.begin() && calls.arrive(&outgoing.echo, Arrived::NotWritten));
        };
        let (answer, ()) = tokio::join!(calls.call("a", json!({})), unsent);
        assert_eq!(answer, Err(CallError::NotWritten));
        assert!(calls.waiting().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_no_more() {
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
        assert!(calls.arrive(&taken[0].echo, done(json!(null))));
        assert!(connection.recv().await.is_some());
        // Whoever got no place in time was not written.
        let places = calls.places.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
        let begin = tokio::time::Instant::now();
        assert_eq!(calls.call("a", json!({})).await, Err(CallError::NotWritten));
        assert_eq!(begin.elapsed(), Duration::from_secs(30));
        drop(places);
    }

    #[test]
    fn what_an_answer_means() {
        let refused = |code| Reply::Refused { code, why: "w".into() };
        assert_eq!(judge(refused(1403)), Err(CallError::Token));
        assert_eq!(judge(refused(1200)), Err(CallError::Refused { code: 1200, why: "w".into() }));
        assert_eq!(judge(Reply::Unclear), Err(CallError::NoAnswer));
        assert_eq!(judge(Reply::Accepted), Ok(Answer::Accepted));
    }
}
