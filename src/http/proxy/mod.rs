//! The proxy: a request below `/openqq/` that is not the controller's own goes, without `client`, to the client
//! it names.
//!
//! [`Proxy::prepare`] and [`Proxy::forward`] are the whole way. Their steps:
//!
//! - `route`: which client a request is for, and what remains of it
//! - `request`: everything that is done before anything has to be waited for
//! - [`headers`]: which headers are passed on, and which are written anew
//! - `upstream`: a client's idle connections and its limit of requests
//! - `connection`: one connection to a client; `request_writer` writes to it, [`body_decoder`] reads bodies from
//!   it
//! - `response_body`: streams the response to the caller
//! - `tunnel`: what follows a protocol switch
//!
//! Bodies are streamed, except for a form that has to be searched for `client`.

pub mod body_decoder;
mod connection;
pub mod headers;
mod idle;
mod request;
mod request_writer;
mod response_body;
mod route;
mod tunnel;
mod upstream;
mod upstream_stream;

pub(super) use request::{Prepared, ProxyRequest, Upgrade};
pub use upstream::Upstreams;

use std::sync::Arc;

use http::{Response, StatusCode};
use tokio::sync::watch;

use crate::config::Settings;
use crate::http::body::Body;
use crate::http::server::Downstream;
use crate::machines::Machines;
use crate::model::fleet::Launch;
use crate::registry::Registry;
use crate::wire::Reply;
use crate::wire::machines::MachineRefusal;
use headers::ResponseHead;
use request::Addressee;

/// Passes requests on to clients.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Knows the clients.
    pub registry: Registry,
    /// The current settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The connections to clients and to other machines.
    pub upstreams: Upstreams,
    /// The other machines, and which accounts live there.
    pub machines: Machines,
}

impl Proxy {
    /// Sends a request to its client and streams the response back. Counts it by what the caller is answered.
    pub(super) async fn forward(
        &self,
        proxied: Box<ProxyRequest>,
        downstream: &Arc<Downstream>,
    ) -> Result<Response<Body>, Reply> {
        let (requests, arrived) = (proxied.permit.requests().clone(), proxied.arrived);
        let answered = self.exchange(proxied, downstream).await;
        let status =
            answered.as_ref().map_or_else(|reply| reply.http_status, |answer| answer.status().as_u16());
        requests.answered(status, arrived.elapsed());
        answered
    }

    async fn exchange(
        &self,
        mut proxied: Box<ProxyRequest>,
        downstream: &Arc<Downstream>,
    ) -> Result<Response<Body>, Reply> {
        // Our own server sends 100, once the client has read the head.
        let on_informational = |head: &ResponseHead| {
            if proxied.accepts_1xx && head.parts.status != StatusCode::CONTINUE {
                downstream.send_informational(&head.informational_head());
            }
        };
        let to = proxied.addressee.destination(&self.registry);
        let (head, connection) = proxied
            .permit
            .send(&mut proxied.upstream_request, to, &proxied.settings.http, on_informational)
            .await?;
        if let Some(machine) = &proxied.machine {
            if let Some(reserved) = proxied.reserved.take() {
                reserved.settle(machine, head.parts.status.is_success());
            }
            // It has refused us, not our caller, who would take it for his own token.
            if let Some(refused) = MachineRefusal::of_answer(machine, &head.parts.headers) {
                return Err(Reply::from(&refused));
            }
        }
        let settings = &proxied.settings.http;
        let (status, method) = (head.parts.status, &proxied.upstream_request.method);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let granted = head.protocol.clone();
            let same = granted
                .zip(proxied.protocol)
                .filter(|(granted, asked)| granted.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
            let (Some((granted, _)), Some(upgrade)) = (same, proxied.upgrade) else {
                return Err(proxied
                    .permit
                    .unreachable("the client changed to a protocol that nobody asked for"));
            };
            let mut parts = head.into_parts(method);
            headers::set_protocol(&mut parts.headers, granted);
            let (name, limit) = (proxied.addressee.name().clone(), settings.inactivity_timeout);
            let Upgrade { task, downstream, lease, guard } = upgrade;
            let closing = async move { lease.over(guard).await };
            task.set(tunnel::run(name, downstream, connection, proxied.permit, limit, closing));
            return Ok(Response::from_parts(parts, Body::Whole(None)));
        }

        // Otherwise its exit would count as a failure, and it would be started again.
        if let Addressee::Client(client) = &proxied.addressee
            && proxied.stops
            && status.is_success()
        {
            let (name, generation) = (client.record.spec.name.clone(), client.record.generation);
            self.registry.stop_accepted(Launch { name, generation });
        }
        // Some clients send a body where none is allowed, which must not be taken for the next response. Nor is
        // the connection reused after a duplicate Content-Length.
        let reusable = proxied.reusable && head.may_have_body() && !head.has_duplicate_length && !head.closes;
        let source = response_body::ResponseSource {
            connection,
            permit: proxied.permit,
            reusable,
            keep_alive: head.keep_alive,
        };
        let body = response_body::body(source, downstream, settings.inactivity_timeout)?;
        Ok(Response::from_parts(head.into_parts(method), body))
    }
}
