//! `send_…_message`: finds the recipient of a call and sends its message.

use http::StatusCode;

use super::call::RequestParams;
use super::compose::{self, UnusableMessage};
use super::reply::{ApiReply, BAD_REQUEST, NotFound};
use crate::client::backend::message::Recipient;
use crate::client::backend::{Backend, BackendError};
use crate::client::outbox::{Outbox, SendError};

/// The parameters by which a call names an object, and the object's values.
type MatchProperties<'a, const N: usize> = [(&'static str, &'a str); N];

/// `send_friend_message`. With `async` the answer comes once the message is queued, else once it is sent.
pub(crate) async fn to_friend<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &RequestParams,
) -> Result<ApiReply, BackendError> {
    let friends = backend.friends().await?;
    let found = friends.iter().find(|friend| {
        let display = friend.displayname.as_str();
        matches_all(
            call,
            [("id", &friend.id), ("uid", &friend.uid), ("name", &friend.name), ("displayname", display)],
        )
    });
    let Some(friend) = found else { return Ok(ApiReply::not_found(NotFound::Friend)) };
    Ok(send(backend, outbox, Recipient::Friend(friend.id.clone()), call).await)
}

/// `send_group_message`.
pub(crate) async fn to_group<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &RequestParams,
) -> Result<ApiReply, BackendError> {
    let groups = backend.groups().await?;
    let found = groups.into_iter().find(|group| {
        matches_all(
            call,
            [
                ("id", &group.id),
                ("uid", &group.uid),
                ("name", &group.name),
                ("displayname", &group.displayname),
            ],
        )
    });
    let Some(group) = found else { return Ok(ApiReply::not_found(NotFound::Group)) };
    Ok(send(backend, outbox, Recipient::Group(group.id), call).await)
}

/// `send_discuss_message`.
pub(crate) async fn to_discuss<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &RequestParams,
) -> Result<ApiReply, BackendError> {
    let discusses = backend.discusses().await?;
    let found = discusses.into_iter().find(|discuss| matches_all(call, [("id", &discuss.id)]));
    let Some(discuss) = found else { return Ok(ApiReply::not_found(NotFound::Discuss)) };
    Ok(send(backend, outbox, Recipient::Discuss(discuss.id), call).await)
}

/// `send_sess_message`: to a member of the same group or discussion.
pub(crate) async fn to_member<B: Backend>(
    backend: &B,
    outbox: &Outbox,
    call: &RequestParams,
) -> Result<ApiReply, BackendError> {
    if let Some(why) = backend.lack_of_member_chats() {
        return Ok(ApiReply::no_member_chats(why));
    }
    let is_given = |name: &str| call.get(name).is_some_and(|value| !value.is_empty());
    let to = if is_given("group_id") || is_given("group_uid") {
        let groups = backend.groups().await?;
        let group = groups
            .into_iter()
            .find(|group| matches_all(call, [("group_id", &group.id), ("group_uid", &group.uid)]));
        let group = match group {
            // The list of groups comes without members; those of this one group are enough.
            Some(group) => backend.group(&group.id, false).await?,
            None => return Ok(ApiReply::not_found(NotFound::GroupMember)),
        };
        let mut members = group.member.iter();
        let member = members.find(|member| matches_all(call, [("id", &member.id), ("uid", &member.uid)]));
        let member = member.map(|member| member.id.clone());
        member.map(|member| Recipient::GroupMember { group: group.id, member }).ok_or(NotFound::GroupMember)
    } else if is_given("discuss_id") {
        let discusses = backend.discusses().await?;
        let discuss = discusses.into_iter().find(|discuss| matches_all(call, [("discuss_id", &discuss.id)]));
        let found = discuss.and_then(|discuss| {
            let mut members = discuss.member.iter();
            let member = members.find(|member| matches_all(call, [("id", &member.id), ("uid", &member.uid)]));
            let member = member?.id.clone();
            Some(Recipient::DiscussMember { discuss: discuss.id, member })
        });
        found.ok_or(NotFound::DiscussMember)
    } else {
        Err(NotFound::AnyMember)
    };
    match to {
        Ok(to) => Ok(send(backend, outbox, to, call).await),
        Err(what) => Ok(ApiReply::not_found(what)),
    }
}

/// Whether the call gives at least one of these properties, and all that it gives are equal. An empty value
/// matches nothing.
pub(crate) fn matches_all<const N: usize>(call: &RequestParams, properties: MatchProperties<'_, N>) -> bool {
    let mut given = properties.iter().filter_map(|(name, is)| call.get(name).map(|wanted| (wanted, *is)));
    let all = given.clone().all(|(wanted, is)| wanted == is && !wanted.is_empty());
    given.next().is_some() && all
}

async fn send<B: Backend>(backend: &B, outbox: &Outbox, to: Recipient, call: &RequestParams) -> ApiReply {
    // Refused here and not in its turn: an asynchronous caller could no longer be told.
    let said = match compose::wording(call) {
        Ok(said) => said,
        Err(UnusableMessage::Empty) => return ApiReply::not_sent(&SendError::NoContent),
        Err(error) => return ApiReply::error(StatusCode::BAD_REQUEST, BAD_REQUEST, error.to_string()),
    };
    let id = backend.message_id();
    if call.is_set("async") {
        return match outbox.queue(id.clone(), to, said) {
            Ok(()) => ApiReply::queued(&id),
            Err(error) => ApiReply::not_sent(&error),
        };
    }
    // Dropped with the connection when the caller hangs up, which withdraws the message.
    match outbox.send(id, to, said).await {
        Ok(sent) => ApiReply::sent(&sent),
        Err(error) => ApiReply::not_sent(&error),
    }
}
