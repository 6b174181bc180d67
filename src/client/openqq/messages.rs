//! `send_…_message`: whom a call means, and what became of its message.

use super::call::Call;
use super::reply::{Reply, Unsent};
use crate::client::backend::{Backend, Friend, Recipient};
use crate::client::outbox::Outbox;
use crate::client::queue::PushError;

/// `send_friend_message`. With `async` the answer comes as soon as the message is queued, else when it was sent.
pub(super) async fn to_friend<B: Backend>(backend: &B, outbox: &Outbox, call: &Call) -> Reply {
    let friends = backend.friends();
    let Some(friend) = find(&friends, call) else { return Reply::friend_not_found() };
    send(outbox, Recipient::Friend(friend.id.clone()), call).await
}

/// The first friend that has all the properties of the call. A call without any means nobody.
fn find<'a>(friends: &'a [Friend], call: &Call) -> Option<&'a Friend> {
    type Property = (&'static str, fn(&Friend) -> &str);
    const PROPERTIES: [Property; 4] = [
        ("id", |friend| &friend.id),
        ("uid", |friend| &friend.uid),
        ("name", |friend| &friend.name),
        ("displayname", |friend| &friend.displayname),
    ];
    let wanted: Vec<_> =
        PROPERTIES.iter().filter_map(|(name, of)| call.get(name).map(|value| (of, value))).collect();
    if wanted.is_empty() {
        return None;
    }
    friends.iter().find(|friend| wanted.iter().all(|(of, value)| of(friend) == *value))
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
        Ok(Ok(message)) => Reply::sent(&message),
        Ok(Err(error)) => Reply::not_sent(Unsent::NotDelivered, error.to_string()),
        Err(_) => stopped(),
    }
}

fn stopped() -> Reply {
    Reply::not_sent(Unsent::Stopped, "the client stopped before the message's turn")
}
