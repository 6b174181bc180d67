//! [`Metrics`]: what the controller counts for `/metrics`. Who sees something happen calls a method; the names of metrics and
//! their labels stand in `exposition` and nowhere else.
//!
//! - `causes`: the kinds of processes, and why they end
//! - `requests`: the counters of the proxy
//! - `facts`: what is read off the lists of accounts at a scrape
//! - `own_process`: memory, processor time and descriptors of the controller
//! - `exposition`: the text

mod causes;
mod exposition;
mod facts;
mod own_process;
mod requests;

pub use causes::{EndCause, ProcessKind};
pub use exposition::{Format, encode};
pub use facts::{AccountFacts, Facts, MachineFacts};
pub use requests::{AccountRequests, RequestCounts};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::model::name::ClientName;
use requests::Requests;

/// The counters, from the start of the controller on.
#[derive(Debug)]
pub struct Metrics {
    starts: [AtomicU64; ProcessKind::ALL.len()],
    ends: [[AtomicU64; EndCause::ALL.len()]; ProcessKind::ALL.len()],
    requests: Requests,
    start: Instant,
    start_time: SystemTime,
    /// When the registries last answered, in milliseconds after `start`.
    beat: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            starts: Default::default(),
            ends: Default::default(),
            requests: Requests::default(),
            start: Instant::now(),
            start_time: SystemTime::now(),
            beat: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// A process was started.
    pub fn started(&self, kind: ProcessKind) {
        self.starts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A process ended, or there was none.
    pub fn ended(&self, kind: ProcessKind, cause: EndCause) {
        self.ends[kind as usize][cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many processes were started, and how many ended by this cause.
    #[cfg(test)]
    pub(crate) fn counted(&self, kind: ProcessKind, cause: EndCause) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.starts[kind as usize]), read(&self.ends[kind as usize][cause as usize]))
    }

    /// The registries have answered.
    pub fn beat(&self) {
        self.beat.store(milliseconds(self.start.elapsed()), Ordering::Relaxed);
    }

    /// For how long they have not. Before the first answer: since the start.
    pub fn watchdog_age(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(beat)
    }

    /// The counters of an account's requests. To be kept with what the proxy knows of its client.
    pub fn requests_of(&self, name: &ClientName) -> Arc<AccountRequests> {
        self.requests.of(name)
    }

    /// Reads a list of accounts and the counters of those in it; drops those of all others.
    pub fn requests_in<L>(
        &self,
        list: impl FnOnce() -> L,
        has: impl Fn(&L, &ClientName) -> bool,
    ) -> (L, RequestCounts) {
        self.requests.in_list(list, has)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
