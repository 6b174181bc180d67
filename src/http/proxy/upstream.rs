//! [`Upstreams`]: for each client its idle connections and the number of requests in flight.
//!
//! All of it belongs to one generation of the client. The next generation starts empty, so a connection to a
//! process that is gone never carries a request for the process that has its port now.
//!
//! Accounts of another machine share the idle connections to its controller.

mod connecting;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::connection::{ExchangeError, UpstreamConnection, UpstreamRequest};
use super::headers::{ResponseHead, ViaToken};
use super::idle::Idle;
use super::request_writer::RequestWriter;
use crate::config::HttpSettings;
use crate::http::body::BodyError;
use crate::http::log_limit::LogRateLimiter;
use crate::http::server::Gate;
use crate::locks::locked;
use crate::machines::Target;
use crate::metrics::{AccountRequests, Metrics};
use crate::model::client::{ClientRecord, Generation, Phase};
use crate::model::error_chain::ErrorChain;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::registry::Registry;
use crate::wire::Reply;
pub(super) use connecting::Destination;

/// How many times idle connections are checked within the idle timeout.
const CHECKS_PER_TIMEOUT: u32 = 8;

/// From how many accounts of other machines on those that are gone are dropped.
const MAX_UNUSED: usize = 1000;

/// How many failed requests of a client are logged a minute.
const MAX_LOGGED: u32 = 3;

/// The clients that were called.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    all: Arc<Mutex<HashMap<ClientName, Arc<Upstream>>>>,
    /// Accounts of other machines.
    elsewhere: Arc<Mutex<HashMap<ClientName, Arc<Upstream>>>>,
    /// The connections to other machines.
    machines: Arc<Mutex<HashMap<MachineName, ToMachine>>>,
    /// Wakes the task that closes idle connections.
    reaper: Arc<Notify>,
    gate: Gate,
    metrics: Arc<Metrics>,
    pub(super) via_token: Arc<ViaToken>,
}

/// One generation of a client.
#[derive(Debug)]
pub(super) struct Upstream {
    client: ClientName,
    generation: Generation,
    gate: Gate,
    /// The account's counters, those of its earlier generations. Here they cost a request no look-up.
    requests: Arc<AccountRequests>,
    /// Limits log messages about failed requests.
    error_log: LogRateLimiter,
    /// Whether it has ever accepted a connection.
    was_reached: AtomicBool,
    /// Whether it has ever closed a connection before the keep-alive time was over. A request written at that
    /// moment is lost, since it can't be known whether it was received. So no connection is kept.
    keepalive_unreliable: AtomicBool,
    in_flight: AtomicUsize,
    idle: Arc<Idle>,
    /// Wakes the task that closes idle connections.
    reaper: Arc<Notify>,
}

/// How a machine is reached, and the idle connections by that way.
type ToMachine = (Arc<Target>, Arc<Idle>);

impl Upstreams {
    /// No clients yet. `gate` checks who listens at a client's port, and `metrics` counts requests.
    pub fn new(gate: Gate, metrics: Arc<Metrics>) -> Self {
        Self { gate, metrics, ..Self::default() }
    }

    /// The state of a client that is in the registry.
    pub(super) fn get(&self, record: &ClientRecord, registry: &Registry) -> Arc<Upstream> {
        let mut all = locked(&self.all);
        let name = &record.spec.name;
        match all.get(name) {
            // A request with an older snapshot may come after one with a newer snapshot.
            Some(known) if known.generation >= record.generation => known.clone(),
            _ => {
                // A new launch is also the time to drop clients that are gone.
                let snapshot = registry.snapshot();
                all.retain(|name, _| snapshot.get(name).is_some());
                let new = self.upstream(name, record.generation, Arc::default());
                all.insert(name.clone(), new.clone());
                new
            }
        }
    }

    /// The state of an account of another machine, whose controller is reached at `target`. `is_known` says whether there is an account
    /// of a name on any of them.
    pub(super) fn elsewhere(
        &self,
        name: &ClientName,
        (machine, target): (&MachineName, &Arc<Target>),
        is_known: impl Fn(&ClientName) -> bool,
    ) -> Arc<Upstream> {
        let idle = {
            let mut machines = locked(&self.machines);
            match machines.get(machine) {
                // Another connection to the machine: those of before lead nowhere.
                Some((known, idle)) if Arc::ptr_eq(known, target) => idle.clone(),
                _ => {
                    let idle = Arc::new(Idle::default());
                    machines.insert(machine.clone(), (target.clone(), idle.clone()));
                    idle
                }
            }
        };
        let mut all = locked(&self.elsewhere);
        match all.get(name) {
            Some(known) if Arc::ptr_eq(&known.idle, &idle) => known.clone(),
            _ => {
                if all.len() >= MAX_UNUSED {
                    all.retain(|name, upstream| is_known(name) || Arc::strong_count(upstream) > 1);
                }
                let new = self.upstream(name, Generation::default(), idle);
                all.insert(name.clone(), new.clone());
                new
            }
        }
    }

    fn upstream(&self, name: &ClientName, generation: Generation, idle: Arc<Idle>) -> Arc<Upstream> {
        Arc::new(Upstream {
            client: name.clone(),
            error_log: LogRateLimiter::new(MAX_LOGGED),
            generation,
            gate: self.gate.clone(),
            requests: self.metrics.requests_of(name),
            was_reached: AtomicBool::new(false),
            keepalive_unreliable: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle,
            reaper: self.reaper.clone(),
        })
    }

    /// Closes the idle connections to a client that is to stop, so that it need not wait for them.
    pub fn close_idle_for(&self, client: &ClientName) {
        if let Some(upstream) = locked(&self.all).get(client) {
            upstream.idle.clear();
        }
    }

    /// Closes all idle connections.
    pub fn close_all_idle(&self) {
        self.close_older(Duration::ZERO);
    }

    /// Closes connections that were idle for the time of `limit`. Runs forever.
    pub async fn reap_idle(self, limit: impl Fn() -> Duration) {
        loop {
            let limit = limit();
            // Closed one interval early, as the next check would be too late.
            let oldest = limit.saturating_sub(limit / CHECKS_PER_TIMEOUT);
            if self.close_older(oldest) {
                sleep(limit / CHECKS_PER_TIMEOUT).await;
                continue;
            }
            // A connection that was returned in the meantime has left a permit.
            self.reaper.notified().await;
        }
    }

    /// Closes idle connections older than `age`; returns whether any are left.
    fn close_older(&self, age: Duration) -> bool {
        let now = Instant::now();
        // Copied, as every request takes this lock, and closing many connections takes a while.
        let of_clients: Vec<_> = locked(&self.all).values().map(|upstream| upstream.idle.clone()).collect();
        let of_machines: Vec<_> = locked(&self.machines).values().map(|(_, idle)| idle.clone()).collect();
        let mut any = false;
        for idle in of_clients.into_iter().chain(of_machines) {
            any |= idle.close_older(age, now);
        }
        any
    }
}

/// A request in flight, from before it is sent until its response is complete.
pub(super) struct InFlightPermit(Arc<Upstream>);

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Admits another request, unless there are `limit` in flight.
    pub(super) fn admit(self: Arc<Self>, limit: usize) -> Result<InFlightPermit, Reply> {
        // Counted before it is compared, or two requests could both take the last place.
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= limit {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.log_upstream_error(&format!("{limit} requests are in flight (max_inflight_per_client)"));
            return Err(self.refuse(Reply::too_many_requests(&self.client, limit)));
        }
        Ok(InFlightPermit(self))
    }

    /// Counts a request that is refused before it is sent.
    pub(super) fn refuse(&self, reply: Reply) -> Reply {
        self.requests.refused(reply.http_status);
        reply
    }

    /// Logs why a request failed, or counts it.
    fn log_upstream_error(&self, why: &str) {
        if let Some(suppressed) = self.error_log.allow() {
            warn!(client = %self.client, "request failed: {why}{suppressed}");
        }
    }

    fn checkout(&self, limit: Duration, now: Instant) -> Option<Box<UpstreamConnection>> {
        let (found, has_ended) = self.idle.take(limit, now);
        if has_ended {
            // Within its time: connections to this client can't be kept.
            self.keepalive_unreliable.store(true, Ordering::Relaxed);
        }
        found
    }
}

impl InFlightPermit {
    /// Counts a request that is refused before it is sent.
    pub(super) fn refuse(&self, reply: Reply) -> Reply {
        self.0.refuse(reply)
    }

    /// The counters of the account.
    pub(super) fn requests(&self) -> &Arc<AccountRequests> {
        &self.0.requests
    }

    /// The reply for a client that did not respond properly; logs it.
    pub(super) fn unreachable(&self, why: &str) -> Reply {
        self.0.log_upstream_error(why);
        Reply::unreachable(&self.0.client, why)
    }

    fn timed_out(&self, why: &str) -> Reply {
        self.0.log_upstream_error(why);
        Reply::timed_out(&self.0.client, why)
    }

    /// Logs that a response failed after a part of it had gone to the caller.
    pub(super) fn response_failed(&self, error: &BodyError) {
        self.0.log_upstream_error(&format!("the response broke off: {}", ErrorChain(&**error)));
    }

    /// Sends a request to the client and waits for the head of the response. Reuses an idle connection; if the
    /// client has closed it before a byte was written, sends the request on another one. Informational responses
    /// go to `on_informational`.
    pub(super) async fn send(
        &self,
        request: &mut UpstreamRequest,
        to: Destination<'_>,
        settings: &HttpSettings,
        on_informational: impl Fn(&ResponseHead),
    ) -> Result<(ResponseHead, Box<UpstreamConnection>), Reply> {
        let name = &self.0.client;
        if let Destination::Client(record, _) = to {
            // Before the launch another program may have the port, and the request is not for it.
            if let Phase::Reserved | Phase::Starting = record.phase {
                return Err(Reply::starting(name));
            }
            if !record.has_process() {
                return Err(Reply::unreachable(name, "the client is down"));
            }
        }
        // Saves reading the clock: the request was created a moment ago.
        let now = request
            .writer
            .as_ref()
            .and_then(RequestWriter::client_pending_since)
            .unwrap_or_else(Instant::now);
        // Ends, as each round takes an idle connection away and a new one is not tried twice.
        loop {
            let (mut connection, is_new) = match self.0.checkout(settings.idle_timeout, now) {
                Some(connection) => (connection, false),
                // Boxed: most requests need no new connection, and their future no room for it.
                None => (Box::pin(self.connect(to, settings.connect_timeout)).await?, true),
            };
            let error = match connection.send(request, settings.header_timeout, &on_informational).await {
                Ok(head) => return Ok((head, connection)),
                Err(ExchangeError::Unsent(error)) if !is_new => {
                    debug!(client = %name, %error, "idle connection was closed ({error}); retrying on another one");
                    continue;
                }
                Err(ExchangeError::TimedOut) => {
                    return Err(self.timed_out("the client did not answer in time"));
                }
                Err(ExchangeError::Downstream(error)) => {
                    debug!(client = %name, "caller broke off: {}", ErrorChain(&*error));
                    return Err(Reply::bad_request("the request broke off"));
                }
                Err(ExchangeError::Ambiguous(why)) => return Err(self.unreachable(why)),
                Err(ExchangeError::Unsent(error) | ExchangeError::Sent(error)) => error,
            };
            debug!(client = %name, %error, "request failed: {error}");
            if !is_new {
                self.0.keepalive_unreliable.store(true, Ordering::Relaxed);
            }
            return Err(self.unreachable("the client broke off without an answer"));
        }
    }

    /// Returns a connection to the idle ones, if it can be reused, for as long as the client promised. The
    /// client must not have announced that it closes it.
    pub(super) fn checkin(&self, mut connection: Box<UpstreamConnection>, keep_alive: Option<Duration>) {
        let is_free = connection.is_free();
        // After `is_free`, which reads and so notices the end.
        if connection.is_closed() {
            self.0.keepalive_unreliable.store(true, Ordering::Relaxed);
        }
        if !is_free || self.0.keepalive_unreliable.load(Ordering::Relaxed) {
            return;
        }
        self.0.idle.put(connection, keep_alive);
        self.0.reaper.notify_one();
    }
}
