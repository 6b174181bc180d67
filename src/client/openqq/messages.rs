//! `send_…_message`: whom a call means, and what became of its message.

use super::call::Call;
use super::reply::{NotFound, Reply, Unsent};
use crate::client::backend::{Backend, BackendError, Recipient};
use crate::client::outbox::Outbox;
use crate::client::queue::PushError;

/// Parameters by which a call names something, and what that has in their place.
type Properties<'a, const N: usize> = [(&'static str, &'a str); N];

/// `send_friend_message`. With `async` the answer comes as soon as the message is queued, else when it was sent.
pub(super) async fn to_friend<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &Call,
) -> Result<Reply, BackendError> {
    let friends = backend.friends().await?;
    let found = friends.iter().find(|friend| {
        let display = friend.displayname.as_str();
        is_meant(
            call,
            [("id", &friend.id), ("uid", &friend.uid), ("name", &friend.name), ("displayname", display)],
        )
    });
    let Some(friend) = found else { return Ok(Reply::not_found(NotFound::Friend)) };
    Ok(send(outbox, Recipient::Friend(friend.id.clone()), call).await)
}

/// `send_group_message`.
pub(super) async fn to_group<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &Call,
) -> Result<Reply, BackendError> {
    let groups = backend.groups().await?;
    let found = groups.into_iter().find(|group| {
        is_meant(
            call,
            [
                ("id", &group.id),
                ("uid", &group.uid),
                ("name", &group.name),
                ("displayname", &group.displayname),
            ],
        )
    });
    let Some(group) = found else { return Ok(Reply::not_found(NotFound::Group)) };
    Ok(send(outbox, Recipient::Group(group.id), call).await)
}

/// `send_discuss_message`.
pub(super) async fn to_discuss<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &Call,
) -> Result<Reply, BackendError> {
    let discusses = backend.discusses().await?;
    let found = discusses.into_iter().find(|discuss| is_meant(call, [("id", &discuss.id)]));
    let Some(discuss) = found else { return Ok(Reply::not_found(NotFound::Discuss)) };
    Ok(send(outbox, Recipient::Discuss(discuss.id), call).await)
}

/// `send_sess_message`: to somebody who is in the same group or discussion.
pub(super) async fn to_member<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &Call,
) -> Result<Reply, BackendError> {
    let is_given = |name: &str| call.get(name).is_some_and(|value| !value.is_empty());
    let to = if is_given("group_id") || is_given("group_uid") {
        let groups = backend.groups().await?;
        let group = groups
            .into_iter()
            .find(|group| is_meant(call, [("group_id", &group.id), ("group_uid", &group.uid)]));
        let group = match group {
            Some(group) => backend.group(&group.id, false).await?,
            None => return Ok(Reply::not_found(NotFound::GroupMember)),
        };
        let mut members = group.member.iter();
        let member = members.find(|member| is_meant(call, [("id", &member.id), ("uid", &member.uid)]));
        let member = member.map(|member| member.id.clone());
        member.map(|member| Recipient::GroupMember { group: group.id, member }).ok_or(NotFound::GroupMember)
    } else if is_given("discuss_id") {
        let discusses = backend.discusses().await?;
        let discuss = discusses.into_iter().find(|discuss| is_meant(call, [("discuss_id", &discuss.id)]));
        let found = discuss.and_then(|discuss| {
            let mut members = discuss.member.iter();
            let member = members.find(|member| is_meant(call, [("id", &member.id), ("uid", &member.uid)]));
            let member = member?.id.clone();
            Some(Recipient::DiscussMember { discuss: discuss.id, member })
        });
        found.ok_or(NotFound::DiscussMember)
    } else {
        Err(NotFound::AnyMember)
    };
    match to {
        Ok(to) => Ok(send(outbox, to, call).await),
        Err(what) => Ok(Reply::not_found(what)),
    }
}

/// Whether the call gives at least one of these properties, and all it gives are so. An empty one means nobody.
pub(super) fn is_meant<const N: usize>(call: &Call, properties: Properties<'_, N>) -> bool {
    let mut given = properties.iter().filter_map(|(name, is)| call.get(name).map(|wanted| (wanted, *is)));
    let all = given.clone().all(|(wanted, is)| wanted == is && !wanted.is_empty());
    given.next().is_some() && all
}

async fn send(outbox: &Outbox, to: Recipient, call: &Call) -> Reply {
    // Refused here and not in its turn, when an asynchronous caller would not hear of it.
    let Some(content) = call.get("content").filter(|content| !content.is_empty()) else {
        return Reply::not_sent(Unsent::NoContent, "the message has no content");
    };
    let outcome = match outbox.submit(to, content.to_owned()) {
        Ok(outcome) => outcome,
        Err(PushError::Full) => {
            return Reply::not_sent(Unsent::TooMany, "too many messages wait to be sent");
        }
        Err(PushError::Closed) => return stopped(),
    };
    if call.is_set("async") {
        return Reply::queued();
    }
    match outcome.await {
        Ok(Ok(sent)) => Reply::sent(&sent),
        Ok(Err(error)) => {
            let why = match error {
                BackendError::Code(_) => Unsent::Code,
                BackendError::NoAnswer => Unsent::NoAnswer,
                _ => Unsent::NotDelivered,
            };
            Reply::not_sent(why, error.to_string())
        }
        Err(_) => stopped(),
    }
}

fn stopped() -> Reply {
    Reply::not_sent(Unsent::Stopped, "the client stopped before the message's turn")
}
