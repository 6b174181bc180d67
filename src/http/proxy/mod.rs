//! Everything below `/openqq/` that is not the controller's own: the same request, without `client`, to the client.
//!
//! `forward` tells the whole way in order; each step has a file of its own:
//!
//! - `route`: whom is it for, and what remains of it?
//! - `headers`: what of them is meant for the other end, and what is ours to say?
//! - `upstream`: the client's idle connections and its limit of requests
//! - `link`: one connection to a client; `outgoing` is a request as it is written there, `incoming` an answer as it is read
//! - `body`, `answer`: bodies from the caller and to him, as streams: nothing is gathered but a form that has to be searched
//!   for `client`
//! - `tunnel`: what follows a change of protocol

mod answer;
mod body;
pub mod headers;
pub mod incoming;
mod link;
mod outgoing;
mod route;
mod tunnel;
mod upstream;

pub use upstream::Upstreams;

use std::sync::Arc;

use headers::Hop;
use http::header::UPGRADE;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version, response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use outgoing::Outgoing;

use super::Door;
use super::answer::Body;
use super::serve::{Afterwards, Caller};
use crate::model::fleet::Launch;
use crate::model::reply::Reply;

/// The call by which a client is told to stop itself, as a POST. As a GET it is the controller's own; any other way the client
/// may answer it, and does not stop.
const STOP: &str = "/openqq/stop_client";

/// What a caller needs who wants to go on in another protocol.
pub(super) struct Upgrade {
    afterwards: Afterwards,
    caller: OnUpgrade,
}

impl Upgrade {
    /// Takes it out of a request that wants to.
    pub(super) fn take(request: &mut Request<Incoming>) -> Option<Self> {
        let afterwards = request.extensions_mut().remove()?;
        Some(Self { afterwards, caller: hyper::upgrade::on(request) })
    }
}

/// Sends a request to the client that it names and streams the answer back.
pub(super) async fn forward(
    door: &Door,
    request: &Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
    caller: &Arc<Caller>,
) -> Result<Response<Body>, Reply> {
    let settings = door.settings.borrow().clone();
    let settings = &settings.http;
    let route = route::find(request, body, caller, settings).await?;

    let snapshot = door.registry.snapshot();
    let record = &snapshot.get(&route.client).ok_or_else(Reply::no_such_client)?.record;
    let upstream = door.upstreams.get(record, &snapshot);
    let place = upstream.admit(settings.max_inflight_per_client)?;

    let length = route.body.length();
    let protocol = headers::wanted_protocol(request, length != Some(0));
    let hop = Hop { peer: caller.peer, port: record.port, us: &door.upstreams.us };
    let head = headers::to_client(request, &route.query, hop, length, protocol.as_ref())
        .map_err(|_| Reply::looped())?;
    let (method, to) = (&request.method, (record, &door.registry));
    // Permission to go on is given by our own server, when the client has taken the head.
    let announced = |head: &response::Parts| {
        if request.version == Version::HTTP_11 && head.status != StatusCode::CONTINUE {
            caller.announce(&headers::announcement(head));
        }
    };
    let outgoing = Outgoing::new(head, route.body);
    let (mut head, link) = place.send(outgoing, method, to, settings, announced).await?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let granted = head.headers.get(UPGRADE).cloned();
        let same = granted
            .zip(protocol)
            .filter(|(granted, asked)| granted.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        let (Some((granted, _)), Some(upgrade)) = (same, upgrade) else {
            return Err(place.unreachable("the client changed to a protocol that nobody asked for"));
        };
        headers::to_caller(&mut head, method);
        headers::set_protocol(&mut head.headers, granted);
        let limit = settings.inactivity_timeout;
        upgrade.afterwards.set(tunnel::run(route.client, upgrade.caller, link, place, limit));
        return Ok(Response::from_parts(head, Body::Whole(None)));
    }

    if request.uri.path() == STOP && *method == Method::POST && head.status.is_success() {
        let generation = record.generation;
        door.registry.stop_announced(Launch { name: route.client, generation });
    }
    // Where there is no body some clients send one all the same: that must not be the next answer. Nor is one awaited where
    // the length of this one was said twice, or where a client may take a body that it does not expect for a request.
    let reusable = !request.headers.contains_key(UPGRADE)
        && *method != Method::HEAD
        && (length == Some(0) || has_body_by_nature(method))
        && headers::may_have_body(head.status)
        && headers::says_length_once(&head.headers)
        && !headers::is_last(&head);
    let kept_open = headers::kept_open(&head.headers);
    headers::to_caller(&mut head, method);
    let source = answer::Source { link, place, caller: caller.clone(), reusable, kept_open };
    let body = answer::body(source, settings.inactivity_timeout)?;
    Ok(Response::from_parts(head, body))
}

/// Whether a body of a request with this method has a meaning that is known (RFC 9110, 9.3).
fn has_body_by_nature(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
