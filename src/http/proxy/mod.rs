//! Everything below `/openqq/` that is not the controller's own: the same request, without `client`, to the client.
//!
//! `forward` tells the whole way in order; each step has a file of its own:
//!
//! - `route`: whom is it for, and what remains of it?
//! - `headers`: what of them is meant for the other end, and what is ours to say?
//! - `upstream`: the client's idle connections and its limit of requests
//! - `link`: one connection to a client
//! - `body`, `answer`: bodies to the client and to the caller, as streams: nothing is gathered but a form that has to be
//!   searched for `client`
//! - `tunnel`: what follows a change of protocol

mod answer;
mod body;
pub mod headers;
mod link;
mod route;
mod tunnel;
mod upstream;

pub use upstream::Upstreams;

use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use super::Door;
use super::answer::Body;
use super::serve::{Afterwards, Peer};
use crate::model::fleet::Launch;
use crate::model::reply::Reply;

/// The call by which a client is told to stop itself: as a GET it is the controller's own, any other way the client's.
const STOP: &str = "/openqq/stop_client";

/// Sends `request` to the client that it names and streams the answer back.
pub(super) async fn forward(
    door: &Door,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Reply> {
    let settings = door.settings.borrow().clone();
    let settings = &settings.http;
    let upgrade = request.extensions_mut().remove::<Afterwards>().zip(Some(hyper::upgrade::on(&mut request)));
    let (mut parts, body) = request.into_parts();
    let route = route::find(&parts, body, settings).await?;

    let snapshot = door.registry.snapshot();
    let record = &snapshot.get(&route.client).ok_or_else(Reply::no_such_client)?.record;
    let upstream = door.upstreams.get(record, &snapshot);
    let place = upstream.admit(settings.max_inflight_per_client, &route.client)?;

    // Said before the headers about it are taken out.
    let asked_upgrade = parts.headers.contains_key(http::header::UPGRADE);
    let protocol = headers::wanted_protocol(&parts, !route.body.is_end_stream());
    let is_stop = parts.uri.path() == STOP;
    let method = parts.method.clone();
    let length = route.body.size_hint().exact();
    headers::to_client(&mut parts, record.port, peer, &door.upstreams.us, length)
        .map_err(|_| Reply::looped())?;
    if let Some(protocol) = &protocol {
        headers::set_protocol(&mut parts.headers, protocol.clone());
    }
    parts.uri = route.target;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let forwarded = Request::from_parts(parts, route.body);

    let (mut head, incoming, link) = place.send(forwarded, record, &door.registry, settings).await?;
    if !headers::is_sound(&head, &method) {
        return Err(Reply::unreachable(&route.client, "the client's answer has no clear end"));
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let granted = head.headers.get(http::header::UPGRADE).cloned();
        let same = granted
            .zip(protocol)
            .filter(|(granted, asked)| granted.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        let (Some((granted, _)), Some((afterwards, caller))) = (same, upgrade) else {
            let why = "the client changed to a protocol that nobody asked for";
            return Err(Reply::unreachable(&route.client, why));
        };
        headers::to_caller(&mut head, &method);
        headers::set_protocol(&mut head.headers, granted);
        let limit = settings.inactivity_timeout;
        afterwards.set(tunnel::run(route.client, caller, link, place, limit));
        return Ok(Response::from_parts(head, Body::Whole(None)));
    }

    if is_stop && head.status.is_success() {
        let generation = record.generation;
        door.registry.stop_announced(Launch { name: route.client, generation });
    }
    // Where there is no body some clients send one all the same: that must not be the next answer. Nor is one awaited where
    // the length of this one was said twice.
    let reusable = !asked_upgrade
        && method != Method::HEAD
        && headers::may_have_body(head.status)
        && headers::says_length_once(&head.headers)
        && !headers::is_last(&head);
    let kept_open = headers::kept_open(&head.headers);
    headers::to_caller(&mut head, &method);
    if asked_upgrade {
        // A caller may already have gone on in the other protocol.
        head.headers.insert(http::header::CONNECTION, super::CLOSE);
    }
    let source = answer::Source { link, place, reusable, kept_open };
    Ok(Response::from_parts(head, answer::body(incoming, source, settings.inactivity_timeout)))
}
