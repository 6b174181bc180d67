//! Sending: the call for a message, and when it is repeated.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{RemoteAccount, actions, failure};
use crate::client::backend::action::Action;
use crate::client::backend::message::Recipient;
use crate::client::backend::message::{Chat, ChatMessage, Direction, Party};
use crate::client::backend::segment::{self, Segment};
use crate::client::backend::{BackendError, Draft, Sent};
use crate::client::process::unix_seconds;
use crate::client::remote::dialect::{Request, number};
use crate::client::remote::translation::content;
use crate::client::remote::transport::calls::{ActionError, ActionResult};

/// How often a message that was not written is tried; the original's number.
const ATTEMPTS: u32 = 3;

/// How long a message waits for a connection in all; less than a caller behind the controller waits for its
/// answer.
const SEND_TIME: Duration = Duration::from_secs(90);

impl RemoteAccount {
    /// The message as it is reported once it is sent.
    fn sent(&self, Draft { id, to, content, segments, .. }: &Draft) -> Result<ChatMessage, BackendError> {
        let roster = self.state.roster();
        let party = |group: Option<u64>, id: &str| {
            let displayname = id.parse().ok().and_then(|uid| roster.name_of(group, uid));
            Party { id: id.into(), uid: id.into(), displayname: displayname.unwrap_or_else(|| id.into()) }
        };
        let (chat, group, receiver) = match to {
            Recipient::Friend(id) => (Chat::Friend, None, Some(party(None, id))),
            Recipient::Group(id) => {
                let uid = number(id)?;
                (Chat::Group(roster.group_name(uid).ok_or(BackendError::Gone)?), Some(uid), None)
            }
            Recipient::GroupMember { group, member } => {
                let uid = number(group)?;
                let name = roster.group_name(uid).ok_or(BackendError::Gone)?;
                (Chat::GroupSession(name), Some(uid), Some(party(Some(uid), member)))
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => return Err(BackendError::Gone),
        };
        Ok(ChatMessage {
            direction: Direction::Sent,
            chat,
            id: id.clone(),
            time: unix_seconds(),
            content: content.clone(),
            segments: match segments.as_slice() {
                [] => segment::of_text(content),
                parts => segment::without_content(parts),
            },
            // Its answer, which has it, is yet to come.
            number: None,
            sender: roster.own_party(group),
            receiver,
        })
    }

    /// The call for a message of these parts, if they go as they are. None: its protocol has other words.
    ///
    /// # Errors
    /// There is no such recipient, or no way to send to one.
    fn as_it_is(&self, to: &Recipient, parts: &[Segment]) -> Result<Option<Request>, BackendError> {
        if let (Recipient::GroupMember { .. }, Some(why)) = (to, self.state.dialect.lack_of_member_chats()) {
            return Err(BackendError::Refused(why.to_owned()));
        }
        if !self.state.dialect.passes_actions() {
            return Ok(None);
        }
        let (name, params) = call_of(to, parts)?;
        Ok(Some((name, params.into())))
    }

    pub(crate) async fn send_claimed(&self, draft: &Draft) -> Result<Sent, BackendError> {
        let Draft { to, content, claim, .. } = draft;
        // Before the wait: a recipient that cannot exist fails at once.
        let plain = match draft.segments.as_slice() {
            [] => Some(self.state.dialect.send(to, &content::to_segments(content))?),
            parts => self.as_it_is(to, parts)?,
        };
        let until = Instant::now() + SEND_TIME;
        // The account that the message was queued for. Another one may be logged in by now.
        let account = self.state.account_of(&draft.id).unwrap_or_else(|| self.state.roster().own_uid());
        let mut unsent = BackendError::LoggedOut;
        for _ in 0..ATTEMPTS {
            if !self.state.wait_ready(until).await {
                return Err(BackendError::LoggedOut);
            }
            // Before the call, so that a change during the call is not missed below.
            let mut ready = self.state.ready();
            if self.state.roster().own_uid() != account {
                return Err(BackendError::Gone);
            }
            self.state.roster().knows(to)?;
            let (action, params) = match &plain {
                Some((action, params)) => (*action, params.clone()),
                None => actions::planned(&self.state, account, action_of(to, &draft.segments)?).await?,
            };
            // Built before sending: a message that was sent must not fail because its group has gone meanwhile.
            let mut message = self.sent(draft)?;
            // Before the call, as the echo may come before the answer.
            let sending = self.state.sent_messages.begin(draft);
            let remark = match self.state.calls.call_claimed(action, params, claim).await {
                Ok(ActionResult::Done(data)) => {
                    if let Some(number) = self.state.dialect.sent_number(to, &data) {
                        sending.has_number(number);
                    }
                    message.number = self.state.dialect.sent_id(account, to, &data, self.state.inbox.ids());
                    None
                }
                Ok(ActionResult::Accepted) => Some(1),
                // Nothing was written, so a retry cannot send it twice. After any other error it may have been
                // sent.
                Err(error @ (ActionError::NotWritten | ActionError::Busy)) => {
                    claim.release();
                    let is_busy = error == ActionError::Busy;
                    unsent = failure(error);
                    if is_busy {
                        // The connection is up but busy: there is no other one to wait for.
                        if Instant::now() >= until {
                            return Err(unsent);
                        }
                        continue;
                    }
                    // Otherwise `all_answered` would hold up the events of own messages for as long as this waits.
                    drop(sending);
                    // The loss of the connection may not have been noticed yet. On a timeout, too, `wait_ready` decides.
                    let _ = timeout_at(until, ready.changed()).await;
                    continue;
                }
                Err(error) => {
                    warn!("{action} failed: {error}; the message may not have been sent");
                    return Err(failure(error));
                }
            };
            return Ok(Sent { message, remark });
        }
        Err(unsent)
    }
}

/// A message of these parts, in the words of the standard.
fn call_of(to: &Recipient, parts: &[Segment]) -> Result<(&'static str, Map<String, Value>), BackendError> {
    let (name, ids) = match to {
        Recipient::Friend(id) => ("send_private_msg", vec![("user_id", number(id)?)]),
        Recipient::Group(id) => ("send_group_msg", vec![("group_id", number(id)?)]),
        Recipient::GroupMember { group, member } => {
            ("send_private_msg", vec![("user_id", number(member)?), ("group_id", number(group)?)])
        }
        Recipient::Discuss(_) | Recipient::DiscussMember { .. } => return Err(BackendError::Gone),
    };
    let mut params: Map<String, Value> =
        ids.into_iter().map(|(name, id)| (name.to_owned(), id.into())).collect();
    params.insert("message".to_owned(), json!(parts));
    params.insert("auto_escape".to_owned(), false.into());
    Ok((name, params))
}

fn action_of(to: &Recipient, parts: &[Segment]) -> Result<Action, BackendError> {
    let (name, params) = call_of(to, parts)?;
    Ok(Action { name: name.to_owned(), params })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::account::binding::AccountBinding;
    use crate::client::backend::Backend;
    use crate::client::backend::SendClaim;
    use crate::client::remote::state::RemoteState;
    use crate::client::remote::transport::calls::Calls;
    use crate::client::remote::transport::{calls, inbox};
    use crate::client::remote::{lists, reply, state};

    #[tokio::test(start_paused = true)]
    async fn unwritten_message_waits_for_the_next_login() {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let binding =
            Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None));
        let (inbox, _events) = inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding.clone());
        let hour = Duration::from_secs(3600);
        let state =
            Arc::new(RemoteState::new("x".into(), calls.clone(), Arc::new(inbox), binding, hour, false, 1));
        let user = lists::user("x", 1, &json!({ "nickname": "n" }), &Value::Null);
        state.roster().set_user(user);
        state.roster().update_lists(vec![lists::unknown_friend(7, "a")], Vec::new());
        // The connection is gone, and the login does not know it yet.
        state.set_ready(true);
        let backend = RemoteAccount { state: state.clone() };
        let to = Recipient::Friend("7".into());
        let other_end = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            state.set_ready(false);
            let mut connection = calls.connect();
            state.set_ready(true);
            let call = connection.recv().await.unwrap();
            assert!(call.begin());
            let done =
                reply::ActionResponse::of_body(br#"{"status":"ok","retcode":0,"data":{}}"#).unwrap().what;
            calls.complete(&call.echo, calls::CallCompletion::Reply(done));
        };
        let draft = |claim| Draft {
            id: "1".into(),
            to: to.clone(),
            content: "x".into(),
            segments: Vec::new(),
            claim,
        };
        let first = draft(SendClaim::default());
        let both = async { tokio::join!(backend.send(&first), other_end) };
        let (sent, ()) = tokio::time::timeout(hour, both).await.unwrap();
        assert_eq!(sent.unwrap().message.content, "x");
        // None comes: that is said in time.
        state.set_ready(false);
        let begin = Instant::now();
        assert_eq!(backend.send(&draft(SendClaim::default())).await, Err(BackendError::LoggedOut));
        assert_eq!(begin.elapsed(), SEND_TIME);
        // Its caller gives up while it waits.
        let claim = SendClaim::default();
        let waiting = draft(claim.clone());
        let give_up = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(claim.withdraw());
        };
        let (sent, ()) = tokio::join!(backend.send(&waiting), give_up);
        assert_eq!(sent, Err(BackendError::Withdrawn));
        // Nothing listens where it would be: that is said soon, and at once of all that come later.
        state.note_unreachable();
        for waits in [state::UNREACHABLE_TIME, Duration::ZERO] {
            let begin = Instant::now();
            assert_eq!(backend.send(&draft(SendClaim::default())).await, Err(BackendError::LoggedOut));
            assert_eq!(begin.elapsed(), waits);
        }
    }

    fn state(calls: &Arc<Calls>) -> Arc<RemoteState> {
        let binding =
            Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None));
        let (inbox, _events) = inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding.clone());
        let hour = Duration::from_secs(3600);
        Arc::new(RemoteState::new("x".into(), calls.clone(), Arc::new(inbox), binding, hour, false, 1))
    }

    fn log_in(state: &RemoteState, uid: u64) {
        let user = lists::user("x", uid, &json!({ "nickname": "n" }), &Value::Null);
        state.set_account(user);
        state.roster().update_lists(vec![lists::unknown_friend(7, "a")], Vec::new());
        state.set_ready(true);
    }

    /// Answers each call, and counts them.
    async fn answer_all(calls: &Calls, count: &std::sync::atomic::AtomicUsize) {
        let mut connection = calls.connect();
        while let Some(call) = connection.recv().await {
            assert!(call.begin());
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let done = reply::ActionResponse::Done(json!({ "message_id": 5 }));
            calls.complete(&call.echo, calls::CallCompletion::Reply(done));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_sent_only_from_the_account_it_was_queued_for() {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let state = state(&calls);
        let backend = RemoteAccount { state: state.clone() };
        let count = std::sync::atomic::AtomicUsize::new(0);
        let draft = |id: String| Draft {
            id,
            to: Recipient::Friend("7".into()),
            content: "x".into(),
            segments: Vec::new(),
            claim: SendClaim::default(),
        };
        let send = async {
            log_in(&state, 1);
            let (early, late) = (draft(backend.message_id()), draft(backend.message_id()));
            assert_eq!(backend.send(&early).await.map(|sent| sent.message.content), Ok("x".into()));
            // Both have the same friend.
            log_in(&state, 2);
            let new = draft(backend.message_id());
            assert_eq!(backend.send(&late).await, Err(BackendError::Gone));
            assert_eq!(backend.send(&new).await.map(|sent| sent.message.sender.uid), Ok("2".into()));
            log_in(&state, 1);
            assert_eq!(backend.send(&new_claim(&new)).await, Err(BackendError::Gone));
            assert!(backend.send(&new_claim(&late)).await.is_ok(), "it is back");
        };
        tokio::select! {
            () = answer_all(&calls, &count) => panic!("no connection"),
            () = send => {}
        }
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 3);
    }

    fn new_claim(draft: &Draft) -> Draft {
        let Draft { id, to, content, .. } = draft;
        Draft {
            id: id.clone(),
            to: to.clone(),
            content: content.clone(),
            segments: draft.segments.clone(),
            claim: SendClaim::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn message_without_a_call_slot_waits_for_a_slot() {
        let time = Duration::from_secs(30);
        let calls = Arc::new(Calls::new(time));
        let state = state(&calls);
        log_in(&state, 1);
        let mut connection = calls.connect();
        let backend = RemoteAccount { state: state.clone() };
        // Slow calls take all places, one of them longer than a message waits for a place.
        let slow = futures_util::future::join_all((0..16).map(|_| calls.call("slow", json!({}))));
        let again = async {
            tokio::time::sleep(time - Duration::from_secs(1)).await;
            futures_util::future::join_all((0..16).map(|_| calls.call("slow", json!({})))).await
        };
        let other_end = async {
            loop {
                let call = connection.recv().await.unwrap();
                assert!(call.begin());
                if call.action == "send_private_msg" {
                    let done = reply::ActionResponse::Done(json!({ "message_id": 5 }));
                    calls.complete(&call.echo, calls::CallCompletion::Reply(done));
                }
            }
        };
        let id = backend.message_id();
        let to = Recipient::Friend("7".into());
        let draft = Draft { id, to, content: "x".into(), segments: Vec::new(), claim: SendClaim::default() };
        let begin = Instant::now();
        let send = async {
            // After those that wait from the beginning.
            tokio::time::sleep(time - Duration::from_millis(500)).await;
            backend.send(&draft).await
        };
        let all = async { tokio::join!(slow, again, send).2 };
        let sent = tokio::select! {
            sent = all => sent,
            () = other_end => unreachable!(),
        };
        assert!(sent.is_ok(), "{sent:?}");
        assert!(begin.elapsed() < SEND_TIME, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn unanswered_calls_are_not_a_logged_out_account() {
        let time = Duration::from_secs(30);
        let calls = Arc::new(Calls::new(time));
        let state = state(&calls);
        log_in(&state, 1);
        state.roster().add_group(5);
        let mut connection = calls.connect();
        let backend = RemoteAccount { state: state.clone() };
        let other_end = async {
            while let Some(call) = connection.recv().await {
                assert!(call.begin());
            }
        };
        let ask = async {
            // The own role is not known, and nothing answers.
            let muted = backend.mute("5", &["7".into()], Duration::from_secs(60)).await;
            assert_eq!(muted, Err(BackendError::NoAnswer));
            // Slow calls take all places, and further ones come before each attempt of the message.
            let slow = async |milliseconds: u64| {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                futures_util::future::join_all((0..16).map(|_| calls.call("slow", json!({})))).await
            };
            let many = async { tokio::join!(slow(0), slow(500), slow(30_200), slow(60_200)) };
            let to = Recipient::Friend("7".into());
            let draft = Draft {
                id: "1".into(),
                to,
                content: "x".into(),
                segments: Vec::new(),
                claim: SendClaim::default(),
            };
            let both = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tokio::join!(backend.group("5", true), backend.send(&draft))
            };
            let (_, (group, sent)) = tokio::join!(many, both);
            assert_eq!((group.err(), sent.err()), (Some(BackendError::Busy), Some(BackendError::Busy)));
        };
        tokio::select! {
            () = other_end => unreachable!(),
            () = ask => {}
        }
    }
}
