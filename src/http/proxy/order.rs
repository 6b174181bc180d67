//! [`Order`]: a request as it goes to its client. It is made before anything is waited for, and holds nothing of the memory
//! that the request was read into: the HTTP library reads on there, and would have to get new memory for every request.

use std::sync::Arc;

use http::header::{HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use tokio::time::Instant;

use super::forward;
use super::headers::{self, Hop};
use super::outgoing::Outgoing;
use super::route::{self, Route};
use super::upstream::Place;
use crate::config::Settings;
use crate::http::caller::Caller;
use crate::http::serve::Afterwards;
use crate::http::{Door, Way};
use crate::model::reply::Reply;
use crate::registry::ClientView;

/// The call by which a client is told to stop itself, as a POST. As a GET it is the controller's own; any other way the client
/// may answer it, and does not stop.
const STOP: &str = "/openqq/stop_client";

/// What a caller needs who wants to go on in another protocol.
pub(in crate::http) struct Upgrade {
    pub(super) afterwards: Afterwards,
    pub(super) caller: OnUpgrade,
}

impl Upgrade {
    /// Takes it out of a request that wants to.
    pub(in crate::http) fn take(request: &mut Request<Incoming>) -> Option<Self> {
        let afterwards = request.extensions_mut().remove()?;
        Some(Self { afterwards, caller: hyper::upgrade::on(request) })
    }
}

/// What is asked of a client.
pub(super) struct Asked {
    pub(super) method: Method,
    /// The request; none while a connection has it.
    pub(super) outgoing: Option<Outgoing>,
    /// Empty, and with room for the headers of the answer.
    pub(super) spare: HeaderMap,
}

/// A request on its way to a client, and what has to be known of it when the answer comes.
pub(in crate::http) struct Order {
    /// For whom it is, as it was when the request came.
    pub(super) client: Arc<ClientView>,
    pub(super) place: Place,
    pub(super) asked: Asked,
    /// The settings of now.
    pub(super) settings: Arc<Settings>,
    /// The protocol that the caller asks to go on with.
    pub(super) protocol: Option<HeaderValue>,
    pub(super) upgrade: Option<Upgrade>,
    /// Whether the caller understands announcements of the answer.
    pub(super) hears_announcements: bool,
    /// Whether the client is told to stop itself.
    pub(super) stops: bool,
    /// Whether the connection may carry another request, if the answer is nothing against it.
    pub(super) reusable: bool,
}

/// What is to be done with a request for a client: it goes to the one that is named in its query, else to the one in its
/// form, which has to be read first.
pub(in crate::http) fn order(
    door: &Arc<Door>,
    request: Parts,
    body: Incoming,
    upgrade: Option<Upgrade>,
    caller: &Arc<Caller>,
) -> Result<Way, Reply> {
    let settings = door.settings.borrow().clone();
    let (client, query) = route::in_query(&request)?;
    if let Some(client) = client {
        let body = route::body(body, caller, &settings.http);
        let mut order = Order::new(door, settings, &request, Route { client, query, body }, caller)?;
        order.upgrade = upgrade;
        order.asked.spare = request.headers;
        order.asked.spare.clear();
        return Ok(Way::ToClient(order));
    }
    if !route::may_have_form(&request) {
        return Err(Reply::no_client_given());
    }
    let (door, caller) = (door.clone(), caller.clone());
    Ok(Way::Waits(Box::pin(async move {
        let (client, body) = route::in_form(body, &caller, &settings.http).await?;
        let (_, query) = route::in_query(&request)?;
        let order = Order::new(&door, settings, &request, Route { client, query, body }, &caller)?;
        forward(&door, order, &caller).await
    })))
}

impl Order {
    fn new(
        door: &Door,
        settings: Arc<Settings>,
        request: &Parts,
        route: Route<'_>,
        caller: &Caller,
    ) -> Result<Box<Self>, Reply> {
        let client = door.registry.client(&route.client).ok_or_else(Reply::no_such_client)?;
        let upstream = door.upstreams.get(&client.record, &door.registry);
        let place = upstream.admit(settings.http.max_inflight_per_client)?;

        let (method, length) = (&request.method, route.body.length());
        let protocol = headers::wanted_protocol(request, length != Some(0));
        let hop = Hop { address: &caller.address, port: client.record.port, us: &door.upstreams.us };
        let head = headers::to_client(request, &route.query, hop, length, protocol.as_ref())
            .map_err(|_| Reply::looped())?;
        // A client may take a body that it does not expect for another request.
        let expects_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let reusable = !request.headers.contains_key(UPGRADE)
            && *method != Method::HEAD
            && (length == Some(0) || expects_body);
        let asked = Asked {
            method: method.clone(),
            outgoing: Some(Outgoing::new(head, route.body, Instant::now())),
            spare: HeaderMap::new(),
        };
        Ok(Box::new(Self {
            client,
            place,
            asked,
            settings,
            protocol,
            upgrade: None,
            hears_announcements: request.version == Version::HTTP_11,
            stops: request.uri.path() == STOP && *method == Method::POST,
            reusable,
        }))
    }
}
