//! Everything below `/openqq/` that is not the controller's own: the same request, without `client`, to the client.
//!
//! `order` and `forward` are the whole way in order; each step has a file of its own:
//!
//! - `route`: whom is it for, and what remains of it?
//! - `order`: all that can be done with a request before something has to be waited for
//! - `headers`: what of them is meant for the other end, and what is ours to say?
//! - `upstream`: the client's idle connections and its limit of requests
//! - `link`: one connection to a client; `outgoing` is a request as it is written there, `incoming` the body of an answer as
//!   it is read
//! - `body`, `answer`: bodies from the caller and to him, as streams: nothing is gathered but a form that has to be searched
//!   for `client`
//! - `tunnel`: what follows a change of protocol

mod answer;
mod body;
pub mod headers;
pub mod incoming;
mod link;
mod order;
mod outgoing;
mod route;
mod tunnel;
mod upstream;

pub(super) use order::{Order, Upgrade, order};
pub use upstream::Upstreams;

use std::sync::Arc;

use http::{Response, StatusCode};

use headers::Head;

use super::Door;
use super::answer::Body;
use super::caller::Caller;
use crate::model::fleet::Launch;
use crate::model::reply::Reply;

/// Sends a request to its client and streams the answer back.
pub(super) async fn forward(
    door: &Door,
    mut order: Box<Order>,
    caller: &Arc<Caller>,
) -> Result<Response<Body>, Reply> {
    // Permission to go on is given by our own server, when the client has taken the head.
    let announced = |head: &Head| {
        if order.hears_announcements && head.parts.status != StatusCode::CONTINUE {
            caller.announce(&head.announcement());
        }
    };
    let to = (&order.client.record, &door.registry);
    let (head, link) = order.place.send(&mut order.asked, to, &order.settings.http, announced).await?;
    let (record, settings) = (&order.client.record, &order.settings.http);
    let (status, method) = (head.parts.status, &order.asked.method);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let granted = head.protocol.clone();
        let same = granted
            .zip(order.protocol)
            .filter(|(granted, asked)| granted.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        let (Some((granted, _)), Some(upgrade)) = (same, order.upgrade) else {
            return Err(order.place.unreachable("the client changed to a protocol that nobody asked for"));
        };
        let mut parts = head.into_parts(method);
        headers::set_protocol(&mut parts.headers, granted);
        let (name, limit) = (record.spec.name.clone(), settings.inactivity_timeout);
        upgrade.afterwards.set(tunnel::run(name, upgrade.caller, link, order.place, limit));
        return Ok(Response::from_parts(parts, Body::Whole(None)));
    }

    if order.stops && status.is_success() {
        let (name, generation) = (record.spec.name.clone(), record.generation);
        door.registry.stop_announced(Launch { name, generation });
    }
    // Where there is no body some clients send one all the same: that must not be the next answer. Nor is one awaited where
    // the length of this one was said twice.
    let reusable = order.reusable && head.may_have_body() && !head.has_two_lengths && !head.is_last;
    let source = answer::Source { link, place: order.place, reusable, kept_open: head.kept_open };
    let body = answer::body(source, caller, settings.inactivity_timeout)?;
    Ok(Response::from_parts(head.into_parts(method), body))
}
