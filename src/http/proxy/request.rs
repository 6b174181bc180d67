//! [`ProxyRequest`]: a request on its way to a client. It is created before anything is waited for, and keeps
//! nothing of the buffer that the request was read into, so that hyper can reuse the buffer.

use std::pin::Pin;
use std::sync::Arc;

use http::header::{HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Proxy;
use super::connection::UpstreamRequest;
use super::headers::{self, Hop, NextHop};
use super::request_writer::RequestWriter;
use super::route::{self, RoutedRequest};
use super::upstream::{Destination, InFlightPermit};
use crate::config::Settings;
use crate::http::auth::{Guard, Lease};
use crate::http::request::form::FormKind;
use crate::http::server::{Downstream, UpgradeTask};
use crate::machines::{Location, Reservation, Target};
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::registry::{ClientView, Registry};
use crate::wire::Reply;
use crate::wire::door::DOOR;
use crate::wire::machines::MachineRefusal;
use crate::wire::v1::routes;

/// As a POST this call tells a client to stop. As a GET it is the controller's own. With other methods a client
/// may respond, but does not stop.
const STOP: &str = "/openqq/stop_client";

/// What a protocol switch needs of the caller's connection.
pub(in crate::http) struct Upgrade {
    pub(super) task: UpgradeTask,
    pub(super) downstream: OnUpgrade,
    /// By what its caller was let in, and who is let in now.
    pub(super) lease: Lease,
    pub(super) guard: watch::Receiver<Arc<Guard>>,
}

impl Upgrade {
    /// Takes it out of a request with `Upgrade`, which was let in.
    pub(in crate::http) fn take(
        request: &mut Request<Incoming>,
        guard: &watch::Receiver<Arc<Guard>>,
    ) -> Option<Self> {
        let task = request.extensions_mut().remove()?;
        let lease = request.extensions_mut().remove()?;
        Some(Self { task, downstream: hyper::upgrade::on(request), lease, guard: guard.clone() })
    }
}

/// A request on its way to a client, with what is needed when the response arrives.
pub(in crate::http) struct ProxyRequest {
    /// Who answers it.
    pub(super) addressee: Addressee,
    pub(super) permit: InFlightPermit,
    pub(super) upstream_request: UpstreamRequest,
    pub(super) arrived: Instant,
    /// The current settings.
    pub(super) settings: Arc<Settings>,
    /// The protocol that the caller wants to switch to.
    pub(super) protocol: Option<HeaderValue>,
    pub(super) upgrade: Option<Upgrade>,
    /// Whether the caller understands informational responses.
    pub(super) accepts_1xx: bool,
    /// Whether the request tells the client to stop.
    pub(super) stops: bool,
    /// Whether the connection may be reused, as far as the request is concerned.
    pub(super) reusable: bool,
    /// The machine that it goes to, if it is another one.
    pub(super) machine: Option<MachineName>,
    /// The name that it takes for a new account there.
    pub(super) reserved: Option<Reservation>,
}

/// Who answers a request.
pub(super) enum Addressee {
    /// A client, as it was when the request arrived.
    Client(Arc<ClientView>),
    /// The controller of the machine on which the account lives.
    Machine(ClientName, Arc<Target>),
}

impl Addressee {
    /// Who is called by a name: an account of this machine or of another one. `goes_on` says whether it may be of another one.
    fn find(proxy: &Proxy, named: &ClientName, goes_on: bool) -> Result<(Self, Option<MachineName>), Reply> {
        let client = |name: &ClientName| proxy.registry.client(name);
        let here = |name: &ClientName| {
            client(name).map(|view| (Self::Client(view), None)).ok_or_else(Reply::no_such_client)
        };
        if !goes_on || proxy.machines.is_empty() {
            return here(named);
        }
        match proxy.machines.locate(named, |name| client(name).is_some()) {
            Location::Here => here(named),
            Location::HereAs(name) => here(&name),
            Location::On(machine, name) => {
                let target = proxy.machines.target(&machine).map_err(|refusal| Reply::from(&refusal))?;
                Ok((Self::Machine(name, target), Some(machine)))
            }
            Location::Ambiguous(names) => Err(Reply::from(&MachineRefusal::Ambiguous(names))),
            Location::Moving(moving) => Err(Reply::from(&moving.refusal())),
        }
    }

    /// What the account is called where the request goes.
    pub(super) fn name(&self) -> &ClientName {
        match self {
            Self::Client(view) => &view.record.spec.name,
            Self::Machine(name, _) => name,
        }
    }

    /// Where the request goes.
    pub(super) fn destination<'a>(&'a self, registry: &'a Registry) -> Destination<'a> {
        match self {
            Self::Client(view) => Destination::Client(&view.record, registry),
            Self::Machine(_, target) => Destination::Machine(target),
        }
    }
}

/// A request that is prepared as far as possible without waiting.
pub(in crate::http) enum Prepared {
    /// Ready to be sent, as most requests are.
    Ready(Box<ProxyRequest>),
    /// The client is named in the form, which has to be read first.
    ReadsForm(Pin<Box<dyn Future<Output = Result<Box<ProxyRequest>, Reply>> + Send>>),
}

impl Proxy {
    /// Prepares a request for the client that is named in the query, or else in the form.
    pub(in crate::http) fn prepare(
        &self,
        request: Parts,
        body: Incoming,
        upgrade: Option<Upgrade>,
        downstream: &Arc<Downstream>,
    ) -> Result<Prepared, Reply> {
        let settings = self.settings.borrow().clone();
        let (client, query) = route::in_query(&request)?;
        if let Some(client) = client {
            let body = route::body(body, downstream, &settings.http);
            let mut proxied = ProxyRequest::new(
                self,
                settings,
                &request,
                RoutedRequest { client, query, body },
                downstream,
            )?;
            proxied.upgrade = upgrade;
            proxied.upstream_request.spare = request.headers;
            proxied.upstream_request.spare.clear();
            return Ok(Prepared::Ready(proxied));
        }
        // As in the original, a form counts with any method.
        if body.is_end_stream() {
            return Err(Reply::no_client_given());
        }
        let kind = FormKind::of(&request.headers).ok_or_else(Reply::no_form)?;
        let (proxy, downstream, mut request) = (self.clone(), downstream.clone(), request);
        Ok(Prepared::ReadsForm(Box::pin(async move {
            let (client, body) =
                route::in_form(kind, &mut request.headers, body, &downstream, &settings.http).await?;
            // A request with a body switches no protocols, even if nothing is left of the body.
            request.headers.remove(UPGRADE);
            // Again, as the first result borrowed the headers. Only the query counts, which may have an empty `client`.
            let (_, query) = route::in_query(&request)?;
            ProxyRequest::new(&proxy, settings, &request, RoutedRequest { client, query, body }, &downstream)
        })))
    }
}

impl Proxy {
    /// Prepares a request below `/v1` for an account of another machine, which its path names.
    pub(in crate::http) fn prepare_for(
        &self,
        (machine, target, name, reserved): (MachineName, Arc<Target>, ClientName, Option<Reservation>),
        request: &Parts,
        body: Incoming,
        downstream: &Arc<Downstream>,
    ) -> Result<Prepared, Reply> {
        let settings = self.settings.borrow().clone();
        let body = route::body(body, downstream, &settings.http);
        let query = request.uri.query().unwrap_or_default().as_bytes().into();
        let route = RoutedRequest { client: name.clone(), query, body };
        let to = (Addressee::Machine(name, target), Some(machine));
        let mut proxied = ProxyRequest::to(self, settings, request, to, route, downstream)?;
        proxied.reserved = reserved;
        Ok(Prepared::Ready(proxied))
    }
}

impl ProxyRequest {
    fn new(
        proxy: &Proxy,
        settings: Arc<Settings>,
        request: &Parts,
        route: RoutedRequest<'_>,
        downstream: &Downstream,
    ) -> Result<Box<Self>, Reply> {
        let goes_on = !request.headers.contains_key(DOOR);
        let (addressee, machine) = Addressee::find(proxy, &route.client, goes_on)?;
        Self::to(proxy, settings, request, (addressee, machine), route, downstream)
    }

    fn to(
        proxy: &Proxy,
        settings: Arc<Settings>,
        request: &Parts,
        (addressee, machine): (Addressee, Option<MachineName>),
        route: RoutedRequest<'_>,
        downstream: &Downstream,
    ) -> Result<Box<Self>, Reply> {
        let upstream = match (&addressee, &machine) {
            (Addressee::Machine(name, target), Some(machine)) => {
                let is_known = |name: &ClientName| proxy.machines.knows(name);
                proxy.upstreams.elsewhere(name, (machine, target), is_known)
            }
            (Addressee::Client(client), _) => {
                let upstream = proxy.upstreams.get(&client.record, &proxy.registry);
                if client.record.frozen {
                    return Err(upstream.refuse(Reply::frozen(&route.client, client.record.unit())));
                }
                upstream
            }
            (Addressee::Machine(..), None) => return Err(Reply::no_such_client()),
        };
        let permit = upstream.admit(settings.http.max_inflight_per_client)?;

        let (method, length) = (&request.method, route.body.length());
        let protocol = headers::wanted_protocol(request, length != Some(0));
        let (to, query) = match &addressee {
            Addressee::Client(client) => (NextHop::Client(client.record.port), route.query),
            Addressee::Machine(name, target) => {
                let said = route::said(request);
                let query = match routes::is_own(request.uri.path()) {
                    // Which machine is meant is the door's business, and so is what opens it.
                    true => ["machine", "token"]
                        .iter()
                        .fold(route.query.to_vec(), |query, name| route::without(&query, name))
                        .into(),
                    false => route::for_machine(request, name, &route.query, said).into(),
                };
                (NextHop::Machine { target, said }, query)
            }
        };
        let hop = Hop { address: &downstream.address, to, via_token: &proxy.upstreams.via_token };
        let head = headers::to_next_hop(request, &query, hop, length, protocol.as_ref())
            .map_err(|_| permit.refuse(Reply::looped()))?;
        // A client may take a body that it does not expect for another request.
        let expects_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let reusable = !request.headers.contains_key(UPGRADE)
            // Some clients send a body with the response to a HEAD, which would be taken for the next response.
            && *method != Method::HEAD
            && (length == Some(0) || expects_body);
        let arrived = Instant::now();
        let upstream_request = UpstreamRequest {
            method: method.clone(),
            writer: Some(RequestWriter::new(head, route.body, arrived)),
            spare: HeaderMap::new(),
        };
        Ok(Box::new(Self {
            addressee,
            permit,
            upstream_request,
            arrived,
            settings,
            protocol,
            upgrade: None,
            accepts_1xx: request.version == Version::HTTP_11,
            // `paths::normalize` leaves one spelling of it.
            stops: request.uri.path() == STOP && *method == Method::POST,
            reusable,
            machine,
            reserved: None,
        }))
    }
}
