//! [`OneBot`]: a backend for today's network. The account is logged in elsewhere, in a program that speaks OneBot v11
//! (NapCat, LLBot, …); this is a client of that program.

// Pure: what is said on the wire, what it means, and what is known.
mod content;
mod roster;
mod translate;
mod wire;

// The ways to the implementation.
mod calls;
mod http_calls;
mod inbox;
mod link;
mod listener;
mod login_code;
mod pauses;
mod websocket;

// Who does what.
mod session;
mod shared;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::backend::{Backend, BackendError, News, Recipient, Sent};
use super::events::{Message, Party, Scene, Way as Direction, unix_seconds};
use super::objects::{Discuss, Friend, Group, Role, User};
use super::settings::{OneBotSettings, Reach, Settings};
use calls::{Answer, CallError, Calls};
use link::Ended;
use listener::{Door, Purpose};
use login_code::LoginCode;
use session::{Sessions, SoFar, Way};
use shared::Shared;
use wire::reply::message_id;
use worker::Worker;

/// How often a message is tried that was not written; the original's number.
const ATTEMPTS: u32 = 3;

/// How long a message waits in all for a connection; less than a caller behind the controller waits for its answer.
const SEND_TIME: Duration = Duration::from_secs(90);

/// Why the backend cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("onebot_listen: the client cannot listen on {0}")]
pub(super) struct ListenError(SocketAddr, #[source] io::Error);

/// The handle: people, groups and sending.
pub(super) struct OneBot {
    shared: Arc<Shared>,
}

/// The driver: logins, and what happens.
pub(super) struct Driver {
    shared: Arc<Shared>,
    sessions: Sessions,
    worker: Worker,
    listening: Option<(Arc<Door>, TcpListener)>,
    news: mpsc::Sender<News>,
}

/// Opens the backend for the account of `settings`. The driver reports to `news`.
///
/// # Errors
/// Nobody can listen where the implementation is to come to.
pub(super) fn open(
    settings: &Settings,
    own: &OneBotSettings,
    news: mpsc::Sender<News>,
) -> Result<(OneBot, Driver), ListenError> {
    let calls = Arc::new(Calls::new(own.call_time));
    let (inbox, events) = inbox::open(calls.clone());
    let inbox = Arc::new(inbox);
    // Numbers go on where an earlier run was, near enough: nobody sends a thousand messages a second.
    let first_id = unix_seconds() * 1000;
    let account = settings.account.to_string();
    let shared =
        Arc::new(Shared::new(account, calls, inbox.clone(), own.refresh, own.message_sync, first_id));
    let listen = |address: SocketAddr, purpose| {
        let listener = listener::bind(address).map_err(|error| ListenError(address, error))?;
        let (door, sockets) = Door::new(purpose, inbox.clone());
        Ok((door, listener, sockets))
    };
    let (way, listening) = match &own.reach {
        Reach::Forward { url, host, port } => {
            (Way::Forward { url: url.clone(), host: host.clone(), port: *port }, None)
        }
        Reach::Reverse(address) => {
            let (door, listener, sockets) = listen(*address, Purpose::Reverse)?;
            (Way::Reverse { door: door.clone(), sockets, next: None }, Some((door, listener)))
        }
        Reach::Http { url, listen: address } => {
            let (door, listener, _) = listen(*address, Purpose::Posts)?;
            (Way::Http { url: url.clone(), door: door.clone() }, Some((door, listener)))
        }
    };
    let code = LoginCode::new(own.qrcode.as_deref());
    let sessions = Sessions {
        shared: shared.clone(),
        news: news.clone(),
        way,
        token: own.token_file.clone(),
        code,
        call_time: own.call_time,
        so_far: SoFar::default(),
    };
    let worker = Worker::new(shared.clone(), events, news.clone());
    Ok((OneBot { shared: shared.clone() }, Driver { shared, sessions, worker, listening, news }))
}

impl Driver {
    /// Logs in, and again whenever a login ends. Returns when nobody wants to hear it any more.
    pub(super) async fn run(self) {
        let mut offline = self.shared.inbox.offline();
        let listen = async {
            match self.listening {
                Some((door, listener)) => door.run(listener).await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            Ended::Unheard = self.sessions.run() => return,
            Ended::Unheard = self.worker.run() => return,
            () = listen => return,
            why = offline.wait_for(Option::is_some) => why.ok().and_then(|why| why.clone()).unwrap_or_default(),
        };
        // The account was put out, and each further login would put out whoever did it. Somebody has to look at it.
        if self.news.send(News::Offline(why)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }
}

/// A number of the network, which the ids of this backend are.
fn number(id: &str) -> Result<u64, BackendError> {
    id.parse().map_err(|_| BackendError::Gone)
}

fn failure(error: CallError) -> BackendError {
    match error {
        CallError::NotWritten => BackendError::LoggedOut,
        CallError::NoAnswer => BackendError::NoAnswer,
        CallError::Refused { code, .. } => BackendError::Code(code),
        CallError::Token => BackendError::Code(1403),
    }
}

/// The call that sends a message. Strict implementations want every parameter, numbers for ids, and parts for the content.
fn request(to: &Recipient, content: &str) -> Result<(&'static str, Value), BackendError> {
    let message = content::to_segments(content);
    Ok(match to {
        Recipient::Friend(id) => {
            ("send_private_msg", json!({ "user_id": number(id)?, "message": message, "auto_escape": false }))
        }
        Recipient::Group(id) => {
            ("send_group_msg", json!({ "group_id": number(id)?, "message": message, "auto_escape": false }))
        }
        Recipient::GroupMember { group, member } => {
            let (group, member) = (number(group)?, number(member)?);
            let params =
                json!({ "user_id": member, "group_id": group, "message": message, "auto_escape": false });
            ("send_private_msg", params)
        }
        Recipient::Discuss(_) | Recipient::DiscussMember { .. } => return Err(BackendError::Gone),
    })
}

impl OneBot {
    /// A message as it went out.
    fn sent(&self, to: &Recipient, content: &str) -> Result<Message, BackendError> {
        let roster = self.shared.roster();
        let party = |group: Option<u64>, id: &str| {
            let displayname = id.parse().ok().and_then(|uid| roster.name_of(group, uid));
            Party { id: id.into(), uid: id.into(), displayname: displayname.unwrap_or_else(|| id.into()) }
        };
        let (scene, group, receiver) = match to {
            Recipient::Friend(id) => (Scene::Friend, None, Some(party(None, id))),
            Recipient::Group(id) => {
                let uid = number(id)?;
                (Scene::Group(roster.group_name(uid).ok_or(BackendError::Gone)?), Some(uid), None)
            }
            Recipient::GroupMember { group, member } => {
                let uid = number(group)?;
                let name = roster.group_name(uid).ok_or(BackendError::Gone)?;
                (Scene::GroupSession(name), Some(uid), Some(party(Some(uid), member)))
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => return Err(BackendError::Gone),
        };
        Ok(Message {
            way: Direction::Sent,
            scene,
            id: self.shared.next_id(),
            time: unix_seconds(),
            content: content.to_owned(),
            sender: roster.own_party(group),
            receiver,
        })
    }

    /// Does `action` to `members` of a group, one after another, if the own account may.
    async fn rule(
        &self,
        group: &str,
        members: &[String],
        action: &'static str,
        params: impl Fn(u64, u64) -> Value,
    ) -> Result<(), BackendError> {
        let group = number(group)?;
        let own = {
            let roster = self.shared.roster();
            roster.group(group).ok_or(BackendError::Gone)?;
            (roster.own_uid(), roster.own_role(group))
        };
        let role = match own {
            (_, Some(role)) => role,
            (uid, None) => self.shared.member(group, uid).await.role,
        };
        if role == Role::Member {
            return Err(BackendError::NotAllowed);
        }
        for member in members {
            let uid = number(member)?;
            let known = self.shared.roster().member(group, uid).map(|member| member.role);
            let role = match known {
                Some(role) => role,
                None => self.shared.member(group, uid).await.role,
            };
            if role > Role::Member {
                // As the original has it, also where the own account owns the group.
                return Err(BackendError::Refused("the member is an admin or the owner of the group".into()));
            }
            self.shared.calls.call(action, params(group, uid)).await.map_err(failure)?;
        }
        Ok(())
    }
}

impl Backend for OneBot {
    async fn user(&self) -> Result<User, BackendError> {
        self.shared.roster().user().cloned().ok_or(BackendError::LoggedOut)
    }

    async fn friends(&self) -> Result<Arc<Vec<Friend>>, BackendError> {
        Ok(self.shared.roster().friends())
    }

    async fn groups(&self) -> Result<Vec<Group>, BackendError> {
        Ok(self.shared.roster().groups().to_vec())
    }

    async fn group(&self, id: &str, anew: bool) -> Result<Group, BackendError> {
        let uid = number(id)?;
        {
            let mut roster = self.shared.roster();
            roster.group(uid).ok_or(BackendError::Gone)?;
            if let Some(group) = roster.with_members(uid).filter(|_| !anew) {
                return Ok(group);
            }
        }
        let params = json!({ "group_id": uid, "no_cache": anew });
        let answer = self.shared.calls.call("get_group_member_list", params).await.map_err(failure)?;
        let members = wire::lists::members(&answer.data());
        let mut roster = self.shared.roster();
        roster.take_members(uid, members);
        roster.with_members(uid).ok_or(BackendError::Gone)
    }

    async fn discusses(&self) -> Result<Vec<Discuss>, BackendError> {
        // The network has none any more.
        Ok(Vec::new())
    }

    async fn send(&self, to: &Recipient, content: &str) -> Result<Sent, BackendError> {
        let (action, params) = request(to, content)?;
        let until = Instant::now() + SEND_TIME;
        for _ in 0..ATTEMPTS {
            let mut ready = self.shared.ready();
            if !matches!(timeout_at(until, ready.wait_for(|ready| *ready)).await, Ok(Ok(_))) {
                break;
            }
            self.shared.roster().knows(to)?;
            // Before, for what went out must not fail because its group is gone then.
            let message = self.sent(to, content)?;
            let _sending = self.shared.sends.begin();
            let remark = match self.shared.calls.call(action, params.clone()).await {
                Ok(Answer::Done(data)) => {
                    if let Some(number) = message_id(&data) {
                        self.shared.sends.remember(number);
                    }
                    None
                }
                Ok(Answer::Accepted) => Some(1),
                // It was not said, so it can be said again. Whatever else went wrong, it may have been said.
                Err(CallError::NotWritten) => {
                    // That the connection is gone may not have been noticed yet.
                    let _ = timeout_at(until, ready.changed()).await;
                    continue;
                }
                Err(error) => {
                    warn!(%error, action, "A message did not go out, or nobody knows.");
                    return Err(failure(error));
                }
            };
            return Ok(Sent { message, remark });
        }
        Err(BackendError::LoggedOut)
    }

    async fn mute(&self, group: &str, members: &[String], time: Duration) -> Result<(), BackendError> {
        let duration = time.as_secs();
        self.rule(
            group,
            members,
            "set_group_ban",
            |group, member| json!({ "group_id": group, "user_id": member, "duration": duration }),
        )
        .await
    }

    async fn kick(&self, group: &str, members: &[String]) -> Result<(), BackendError> {
        self.rule(
            group,
            members,
            "set_group_kick",
            |group, member| json!({ "group_id": group, "user_id": member, "reject_add_request": false }),
        )
        .await
    }

    fn relogin(&self) {
        self.shared.relogin.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_not_written_waits_for_the_next_login() {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, _events) = inbox::open(calls.clone());
        let hour = Duration::from_secs(3600);
        let shared = Arc::new(Shared::new("x".into(), calls.clone(), Arc::new(inbox), hour, false, 1));
        let user = wire::lists::user("x", &json!({ "user_id": 1, "nickname": "n" }), &Value::Null);
        shared.roster().be(user.unwrap());
        shared.roster().take_lists(vec![wire::lists::unknown_friend(7, "a")], Vec::new());
        // The connection is gone, and the login does not know it yet.
        shared.set_ready(true);
        let backend = OneBot { shared: shared.clone() };
        let to = Recipient::Friend("7".into());
        let other_end = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            shared.set_ready(false);
            let mut connection = calls.connect();
            shared.set_ready(true);
            let call = connection.recv().await.unwrap();
            assert!(call.begin());
            let done = wire::reply::Reply::of_body(br#"{"status":"ok","retcode":0,"data":{}}"#).unwrap();
            calls.arrive(&call.echo, calls::Arrived::Reply(done));
        };
        let both = async { tokio::join!(backend.send(&to, "x"), other_end) };
        let (sent, ()) = tokio::time::timeout(hour, both).await.unwrap();
        assert_eq!(sent.unwrap().message.content, "x");
        // None comes: that is said in time.
        shared.set_ready(false);
        let begin = Instant::now();
        assert_eq!(backend.send(&to, "x").await, Err(BackendError::LoggedOut));
        assert_eq!(begin.elapsed(), SEND_TIME);
    }

    #[test]
    fn requests_have_every_parameter() {
        let parts = json!([{ "type": "text", "data": { "text": "[CQ:face,id=1]" } }]);
        let (action, params) = request(&Recipient::Friend("7".into()), "[CQ:face,id=1]").unwrap();
        assert_eq!(action, "send_private_msg");
        assert_eq!(params, json!({ "user_id": 7, "message": parts, "auto_escape": false }));
        let member = Recipient::GroupMember { group: "5".into(), member: "7".into() };
        let (action, params) = request(&member, "[CQ:face,id=1]").unwrap();
        assert_eq!(action, "send_private_msg");
        assert_eq!(params, json!({ "user_id": 7, "group_id": 5, "message": parts, "auto_escape": false }));
        let (action, params) = request(&Recipient::Group("5".into()), "[CQ:face,id=1]").unwrap();
        assert_eq!(action, "send_group_msg");
        assert_eq!(params, json!({ "group_id": 5, "message": parts, "auto_escape": false }));
        assert_eq!(request(&Recipient::Discuss("5".into()), "x"), Err(BackendError::Gone));
        assert_eq!(request(&Recipient::Friend("x".into()), "x"), Err(BackendError::Gone));
    }
}
