//! [`Upstreams`]: what the proxy holds for each client: its idle connections, and how many requests it has on its hands.
//!
//! All of it belongs to one generation of the client. The next one begins with nothing, so a connection of a process
//! that is gone never carries a request for the one that has its port now.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::headers::{Head, Pseudonym};
use super::link::{Failure, Link};
use super::order::Asked;
use super::outgoing::Outgoing;
use crate::config::HttpSettings;
use crate::http::answer::BodyError;
use crate::http::sparing::Sparing;
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::model::client::{ClientRecord, Generation, Phase};
use crate::model::name::ClientName;
use crate::model::reply::Reply;
use crate::model::state::ClientState;
use crate::registry::Registry;

/// How many times within the idle time is looked whether it is over.
const LOOKS: u32 = 8;

/// How many troubles of a client are logged in a minute.
const TROUBLES: u32 = 3;

/// The clients that were called.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    all: Arc<Mutex<HashMap<ClientName, Arc<Upstream>>>>,
    attention: Arc<Attention>,
    pub(super) us: Arc<Pseudonym>,
}

/// Tells the task that closes idle connections that there are some.
#[derive(Debug, Default)]
struct Attention {
    paid: AtomicBool,
    wanted: Notify,
}

/// One client, in one generation.
#[derive(Debug)]
pub(super) struct Upstream {
    client: ClientName,
    generation: Generation,
    /// What goes wrong with its requests is logged.
    troubles: Sparing,
    /// Whether it has ever taken a connection.
    reached: AtomicBool,
    /// Whether it has ever closed a connection without a word before the time to close it was over. A request that is
    /// written in the moment of that is lost, for it cannot be known whether it was seen: so no connection is kept.
    closes_early: AtomicBool,
    in_flight: AtomicUsize,
    /// The last one used is the next one to be used, so that those too many grow old.
    idle: Mutex<Vec<Idle>>,
    attention: Arc<Attention>,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
    /// For how long the client promised to keep it open, if it did.
    kept_open: Option<Duration>,
}

impl Idle {
    /// Whether it may be used again, of which `limit` is the end in any case.
    fn is_young(&self, limit: Duration, now: Instant) -> bool {
        let limit = self.kept_open.map_or(limit, |kept_open| kept_open.min(limit));
        now.duration_since(self.since) < limit
    }
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Upstreams {
    /// What is held for a client that is in the registry.
    pub(super) fn get(&self, record: &ClientRecord, registry: &Registry) -> Arc<Upstream> {
        let mut all = locked(&self.all);
        let name = &record.spec.name;
        match all.get(name) {
            // Somebody who looked a moment earlier may ask after somebody who looked later.
            Some(known) if known.generation >= record.generation => known.clone(),
            _ => {
                // A new launch, so it is also time to forget who is gone.
                let snapshot = registry.snapshot();
                all.retain(|name, _| snapshot.get(name).is_some());
                let new = Arc::new(Upstream {
                    client: name.clone(),
                    troubles: Sparing::new(TROUBLES),
                    generation: record.generation,
                    reached: AtomicBool::new(false),
                    closes_early: AtomicBool::new(false),
                    in_flight: AtomicUsize::new(0),
                    idle: Mutex::default(),
                    attention: self.attention.clone(),
                });
                all.insert(name.clone(), new.clone());
                new
            }
        }
    }

    /// Closes the idle connections to a client that is to end: it would wait whether something comes on them.
    pub fn let_go(&self, client: &ClientName) {
        if let Some(upstream) = locked(&self.all).get(client) {
            locked(&upstream.idle).clear();
        }
    }

    /// Closes all idle connections.
    pub fn let_all_go(&self) {
        self.close_older(Duration::ZERO);
    }

    /// Closes connections that were idle for as long as `limit` says; goes on for ever.
    pub async fn close_idle(self, limit: impl Fn() -> Duration) {
        loop {
            let limit = limit();
            // Closed before it is too late: the next look would be after that.
            let oldest = limit.saturating_sub(limit / LOOKS);
            if self.close_older(oldest) {
                sleep(limit / LOOKS).await;
                continue;
            }
            self.attention.paid.store(false, Ordering::SeqCst);
            // One may have come just before.
            if !self.close_older(oldest) {
                self.attention.wanted.notified().await;
            }
            self.attention.paid.store(true, Ordering::SeqCst);
        }
    }

    /// Closes idle connections older than `age`; whether any are left.
    fn close_older(&self, age: Duration) -> bool {
        let now = Instant::now();
        let upstreams: Vec<_> = locked(&self.all).values().cloned().collect();
        let mut any = false;
        for upstream in upstreams {
            let mut idle = locked(&upstream.idle);
            idle.retain(|idle| idle.is_young(age, now));
            any |= !idle.is_empty();
        }
        any
    }
}

/// A request that a client has on its hands, from before it is sent until its answer is through.
pub(super) struct Place(Arc<Upstream>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A place for one more request, unless there are `limit` already.
    pub(super) fn admit(self: Arc<Self>, limit: usize) -> Result<Place, Reply> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= limit {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.complain(&format!("the client has {limit} to answer already (max_inflight_per_client)"));
            return Err(Reply::too_many_requests(&self.client, limit));
        }
        Ok(Place(self))
    }

    /// Logs why a request failed, or counts it.
    fn complain(&self, why: &str) {
        let client = &self.client;
        match self.troubles.note() {
            None => {}
            Some(0) => warn!(%client, "a request failed: {why}"),
            Some(left_out) => warn!(%client, left_out, "a request failed: {why}"),
        }
    }

    fn take_idle(&self, limit: Duration, now: Instant) -> Option<Box<Link>> {
        let mut idle = locked(&self.idle);
        while let Some(mut last) = idle.pop() {
            if !last.is_young(limit, now) {
                continue;
            }
            if last.link.is_quiet() {
                return Some(last.link);
            }
            self.closes_early.store(true, Ordering::Relaxed);
        }
        None
    }
}

impl Place {
    /// What a caller is told of a client that did not do as a server does, which is logged.
    pub(super) fn unreachable(&self, why: &str) -> Reply {
        self.0.complain(why);
        Reply::unreachable(&self.0.client, why)
    }

    fn timed_out(&self, why: &str) -> Reply {
        self.0.complain(why);
        Reply::timed_out(&self.0.client, why)
    }

    /// Says that an answer broke off of which the caller has a part already.
    pub(super) fn broke_off(&self, error: &BodyError) {
        self.0.complain(&format!("the answer broke off: {}", Chain(&**error)));
    }

    /// Sends a request to the client and waits for the head of the answer. A connection that is there is used again, and
    /// where the client had closed it before a byte was written, the request goes to the next one. What announces the
    /// answer goes to `announced`.
    pub(super) async fn send(
        &self,
        asked: &mut Asked,
        to: (&ClientRecord, &Registry),
        settings: &HttpSettings,
        announced: impl Fn(&Head),
    ) -> Result<(Head, Box<Link>), Reply> {
        let (record, registry) = to;
        let name = &record.spec.name;
        if let Phase::Reserved | Phase::Starting = record.phase {
            return Err(Reply::starting(name));
        }
        if !record.has_process() {
            return Err(Reply::unreachable(name, "the client is down"));
        }
        // The time of most requests is that of a moment ago.
        let now = asked.outgoing.as_ref().and_then(Outgoing::turn).unwrap_or_else(Instant::now);
        loop {
            let (mut link, is_new) = match self.0.take_idle(settings.idle_timeout, now) {
                Some(link) => (link, false),
                // Most requests need none, and no room for it.
                None => (Box::pin(self.connect(record, registry, settings.connect_timeout)).await?, true),
            };
            let error = match link.send(asked, settings.header_timeout, &announced).await {
                Ok(head) => return Ok((head, link)),
                Err(Failure::Unsent(error)) if !is_new => {
                    debug!(client = %name, %error, "an idle connection was closed; the request goes to another one");
                    continue;
                }
                Err(Failure::TimedOut) => return Err(self.timed_out("the client did not answer in time")),
                Err(Failure::Caller(error)) => {
                    debug!(client = %name, error = %Chain(&*error), "a caller broke off");
                    return Err(Reply::bad_request("the request broke off"));
                }
                Err(Failure::Unclear(why)) => return Err(self.unreachable(why)),
                Err(Failure::Unsent(error) | Failure::Sent(error)) => error,
            };
            debug!(client = %name, %error, "a proxied request failed");
            if !is_new {
                self.0.closes_early.store(true, Ordering::Relaxed);
            }
            return Err(self.unreachable("the client broke off without an answer"));
        }
    }

    async fn connect(
        &self,
        record: &ClientRecord,
        registry: &Registry,
        limit: Duration,
    ) -> Result<Box<Link>, Reply> {
        let name = &record.spec.name;
        match Link::connect(record.port, limit).await {
            Ok(link) => {
                // Whoever has the port now had it given only after this client was seen to be gone. Its record may still
                // be there.
                let still = registry.client(name).is_some_and(|view| {
                    view.record.generation == record.generation && view.record.has_process()
                });
                if !still {
                    return Err(Reply::unreachable(name, "the client is down"));
                }
                self.0.reached.store(true, Ordering::Relaxed);
                Ok(link)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && self.is_starting(record) => {
                Err(Reply::starting(name))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(self.timed_out("the client takes no connection"))
            }
            Err(error) => {
                debug!(client = %name, port = record.port, %error, "the client can't be reached");
                Err(self.unreachable("the client can't be reached"))
            }
        }
    }

    /// Whether the process is there but has not come to listening yet, as far as anybody can know.
    fn is_starting(&self, record: &ClientRecord) -> bool {
        record.phase == Phase::Up
            && !self.0.reached.load(Ordering::Relaxed)
            && matches!(record.state(), ClientState::Init | ClientState::Loading)
    }

    /// Keeps a connection for the next request, if it can take one, for as long as the client promised if it did. It must
    /// not have said that it would close it.
    pub(super) fn give_back(&self, mut link: Box<Link>, kept_open: Option<Duration>) {
        let is_free = link.is_free();
        if link.has_ended() {
            self.0.closes_early.store(true, Ordering::Relaxed);
        }
        if !is_free || self.0.closes_early.load(Ordering::Relaxed) {
            return;
        }
        locked(&self.0.idle).push(Idle { link, since: Instant::now(), kept_open });
        let attention = &self.0.attention;
        if !attention.paid.load(Ordering::SeqCst) {
            attention.wanted.notify_one();
        }
    }
}
