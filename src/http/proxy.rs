//! Everything below `/openqq/` that is not the controller's own: the same request, without `client`, to the client.
//!
//! Both ways are streams: nothing is gathered but a form body that has to be searched for `client`. A request is sent
//! once, whatever becomes of it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::Door;
use super::answer::{Body, BodyError, whole_body};
use super::control::client_name;
use super::params::take;
use crate::config::HttpSettings;
use crate::model::chain::Chain;
use crate::model::client::{ClientRecord, Generation, Phase};
use crate::model::fleet::Launch;
use crate::model::name::ClientName;
use crate::model::reply::Reply;
use crate::model::state::ClientState;
use crate::registry::Snapshot;

/// The call by which a client is told to stop itself: as a GET it is the controller's own, any other way the client's.
const STOP: &str = "/openqq/stop_client";

/// What the proxy learnt of clients: who has ever taken a connection.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<Mutex<HashMap<ClientName, Arc<Upstream>>>>);

#[derive(Debug)]
struct Upstream {
    generation: Generation,
    reached: AtomicBool,
}

impl Upstreams {
    fn get(&self, record: &ClientRecord, snapshot: &Snapshot) -> Arc<Upstream> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &record.spec.name;
        match all.get(name) {
            Some(known) if known.generation == record.generation => known.clone(),
            _ => {
                // A new launch, so it is also time to forget who is gone.
                all.retain(|name, _| snapshot.get(name).is_some());
                let new =
                    Arc::new(Upstream { generation: record.generation, reached: AtomicBool::new(false) });
                all.insert(name.clone(), new.clone());
                new
            }
        }
    }
}

/// Sends `request` to the client that it names and streams the answer back.
pub(super) async fn forward(door: &Door, request: Request<Incoming>) -> Result<Response<Body>, Reply> {
    let settings = door.settings.borrow().http.clone();
    let (parts, body) = request.into_parts();
    let (name, query, body) = take_client(&parts.headers, &parts.method, &parts.uri, body, &settings).await?;

    let snapshot = door.registry.snapshot();
    let record = &snapshot.get(&name).ok_or_else(Reply::no_such_client)?.record;
    let upstream = door.upstreams.get(record, &snapshot);
    let stream = connect(record, &upstream, settings.connect_timeout).await?;

    let turn = Turn::default();
    let mut forwarded = Request::new(Noted { body, turn: turn.clone() });
    *forwarded.uri_mut() = target(parts.uri.path(), &query)?;
    *forwarded.method_mut() = parts.method.clone();
    *forwarded.version_mut() = Version::HTTP_11;
    *forwarded.headers_mut() = parts.headers;
    end_to_end(forwarded.headers_mut());
    // The framing is ours to say: hyper derives it from the body, but says nothing of one that is known to be empty.
    let length = forwarded.headers_mut().remove(CONTENT_LENGTH).and(forwarded.body().size_hint().exact());
    if let Some(length) = length {
        forwarded.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if let Ok(host) = HeaderValue::try_from(format!("127.0.0.1:{}", record.port)) {
        forwarded.headers_mut().insert(HOST, host);
    }

    let broken = |error: &hyper::Error| {
        debug!(client = %name, error = %Chain(error), "a proxied request failed");
        match error.is_user() {
            true => Reply::bad_request("the request broke off"),
            false => Reply::unreachable(&name, "the client broke off without an answer"),
        }
    };
    let handshake = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    // Tied to the answer: when the caller goes away so does the connection, and the client can tell.
    let task = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let answer = in_time(sender.send_request(forwarded), &turn, settings.header_timeout).await;
    let answer = answer.map_err(|_| Reply::timed_out(&name, "the client did not answer in time"))?;
    let mut answer = answer.map_err(|error| broken(&error))?;

    if parts.uri.path() == STOP && answer.status().is_success() {
        let generation = record.generation;
        door.registry.stop_announced(Launch { name: name.clone(), generation });
    }
    end_to_end(answer.headers_mut());
    // Of HEAD the length is not that of a body; elsewhere hyper derives it from the body.
    if parts.method != Method::HEAD {
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    *answer.version_mut() = Version::HTTP_11;
    Ok(answer.map(|body| Timed::new(body, settings.inactivity_timeout, Some(task)).boxed()))
}

/// The client that a request names, and the query and the body without that name.
async fn take_client(
    headers: &HeaderMap,
    method: &Method,
    uri: &Uri,
    body: Incoming,
    settings: &HttpSettings,
) -> Result<(ClientName, Vec<u8>, Body), Reply> {
    let invalid = |error: super::params::ParamError| Reply::invalid(error.to_string());
    let query = uri.query().unwrap_or_default().as_bytes();
    let (name, query) = take(query, "client").map_err(invalid)?;
    let given = |name: Option<String>| name.filter(|name| !name.is_empty());
    if let Some(name) = given(name) {
        let body = Timed::new(body, settings.inactivity_timeout, None).boxed();
        return Ok((client_name(name)?, query.into_owned(), body));
    }
    if !is_form(headers) || matches!(*method, Method::GET | Method::HEAD) {
        return Err(Reply::no_client_given());
    }
    let body = Limited::new(Timed::new(body, settings.inactivity_timeout, None), settings.max_form_body);
    let form = body.collect().await.map_err(|error| match error.downcast::<LengthLimitError>() {
        Ok(_) => Reply::form_too_large(settings.max_form_body),
        Err(_) => Reply::bad_request("the request broke off"),
    })?;
    let form = form.to_bytes();
    let (name, rest) = take(&form, "client").map_err(invalid)?;
    let name = given(name).ok_or_else(Reply::no_client_given)?;
    Ok((client_name(name)?, query.into_owned(), whole_body(rest.into_owned())))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The path as it came, and what remains of the query.
fn target(path: &str, query: &[u8]) -> Result<Uri, Reply> {
    let mut target = Vec::with_capacity(path.len() + 1 + query.len());
    target.extend_from_slice(path.as_bytes());
    if !query.is_empty() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    // Both are parts of a URI that hyper took apart, so together they are one again.
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target));
    target.map(Uri::from).map_err(|_| Reply::bad_request("the path or query is malformed"))
}

async fn connect(record: &ClientRecord, upstream: &Upstream, limit: Duration) -> Result<TcpStream, Reply> {
    let name = &record.spec.name;
    match record.phase {
        Phase::Reserved | Phase::Starting => return Err(Reply::starting(name)),
        // Its port may be another one's by now.
        Phase::Gone(_) => return Err(Reply::unreachable(name, "the client is down")),
        Phase::Up | Phase::Stopping => {}
    }
    match timeout(limit, TcpStream::connect((Ipv4Addr::LOCALHOST, record.port))).await {
        Ok(Ok(stream)) => {
            upstream.reached.store(true, Ordering::Relaxed);
            // Only ever fails on a socket that is already dead, which the first write will say.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error))
            if error.kind() == io::ErrorKind::ConnectionRefused && is_starting(record, upstream) =>
        {
            Err(Reply::starting(name))
        }
        Ok(Err(error)) => {
            debug!(client = %name, port = record.port, %error, "the client can't be reached");
            Err(Reply::unreachable(name, "the client can't be reached"))
        }
        Err(_) => Err(Reply::timed_out(name, "the client takes no connection")),
    }
}

/// Whether the process is there but has not come to listening yet, as far as anybody can know.
fn is_starting(record: &ClientRecord, upstream: &Upstream) -> bool {
    record.phase == Phase::Up
        && !upstream.reached.load(Ordering::Relaxed)
        && matches!(record.state(), ClientState::Init | ClientState::Loading)
}

/// Headers about this connection and not about the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// Leaves only what is meant for the other end.
fn end_to_end(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whose turn it is while a request goes on its way: the client's, since then, or the caller's.
#[derive(Clone, Debug)]
struct Turn(Arc<Mutex<Option<Instant>>>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now()))))
    }
}

/// Waits for the client's answer, which must come within `limit`; the time that the caller takes to send the request
/// does not count.
async fn in_time<T>(answer: impl Future<Output = T>, turn: &Turn, limit: Duration) -> Result<T, Elapsed> {
    let mut answer = pin!(answer);
    let mut until = Instant::now() + limit;
    loop {
        let late = match timeout_at(until, answer.as_mut()).await {
            Ok(answer) => return Ok(answer),
            Err(late) => late,
        };
        let turn = *turn.0.lock().unwrap_or_else(PoisonError::into_inner);
        until = turn.unwrap_or_else(Instant::now) + limit;
        if until <= Instant::now() {
            return Err(late);
        }
    }
}

/// The body of a request, noting whose turn it is.
struct Noted {
    body: Body,
    turn: Turn,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let turn = polled.is_ready().then(Instant::now);
        *self.turn.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Nothing came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {} seconds", .0.as_secs())]
struct Inactive(Duration);

/// A body that breaks off when nothing comes for a while.
struct Timed {
    body: Incoming,
    limit: Duration,
    alarm: Pin<Box<Sleep>>,
    /// Whether the alarm is set: only while something is waited for, so a slow reader is not taken for a slow writer.
    waiting: bool,
    /// What the body comes from, if it has to be ended with it.
    _task: Option<AbortOnDropHandle<()>>,
}

impl Timed {
    fn new(body: Incoming, limit: Duration, task: Option<AbortOnDropHandle<()>>) -> Self {
        Self {
            body,
            limit,
            alarm: Box::pin(sleep_until(Instant::now() + limit)),
            waiting: false,
            _task: task,
        }
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.waiting {
            this.waiting = true;
            this.alarm.as_mut().reset(Instant::now() + this.limit);
        }
        ready!(this.alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(Inactive(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
