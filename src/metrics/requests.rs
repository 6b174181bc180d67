//! The counters of the proxy. A request that goes through it touches plain atomics only: it has an [`AccountRequests`] with the
//! connections of its client, so that nothing is looked up for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::locks::locked;
use crate::model::name::ClientName;

/// The classes of statuses, by their first digit.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The upper bounds of the histogram, in seconds. Long polls take up to a minute.
pub(super) const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How long requests took, of all accounts together: one histogram for each would be 17 series for each.
#[derive(Debug, Default)]
pub(super) struct RequestTimes {
    /// Those up to each of the bounds and above the one before; last those above all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds, of which 64 bits hold 584 years.
    sum: AtomicU64,
}

impl RequestTimes {
    fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counts of the buckets, each without those before it, and the sum in seconds.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed));
        (bounds.zip(counts).collect(), sum.as_secs_f64())
    }
}

/// The requests of one account.
#[derive(Debug)]
pub struct AccountRequests {
    classes: [AtomicU64; CLASSES.len()],
    times: Arc<RequestTimes>,
}

impl AccountRequests {
    /// A request was answered with this status, this long after it had come.
    pub fn answered(&self, status: u16, time: Duration) {
        self.refused(status);
        self.times.add(time);
    }

    /// A request was answered with this status by the controller, and did not get as far as the client.
    pub fn refused(&self, status: u16) {
        // What is no status of HTTP is a mistake of the client's.
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of each class.
    pub(super) fn read(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed))
    }
}

/// The counters of each account that was called.
pub type RequestCounts = HashMap<ClientName, Arc<AccountRequests>>;

/// The requests of all accounts.
#[derive(Debug, Default)]
pub(super) struct Requests {
    accounts: Mutex<RequestCounts>,
    pub(super) times: Arc<RequestTimes>,
}

impl Requests {
    /// The counters of an account, which stay the same over its restarts. Locks: for each launch, not for each request.
    pub(super) fn of(&self, name: &ClientName) -> Arc<AccountRequests> {
        let mut accounts = locked(&self.accounts);
        if let Some(known) = accounts.get(name) {
            return known.clone();
        }
        let new = Arc::new(AccountRequests { classes: Default::default(), times: self.times.clone() });
        accounts.insert(name.clone(), new.clone());
        new
    }

    /// The counters of all accounts in a list. Those of accounts that left it are dropped.
    pub(super) fn in_list<L>(
        &self,
        list: impl FnOnce() -> L,
        has: impl Fn(&L, &ClientName) -> bool,
    ) -> (L, RequestCounts) {
        let mut accounts = locked(&self.accounts);
        // Under the lock: an account that is registered and called after the list was read would lose counters that its
        // requests go on to use.
        let list = list();
        accounts.retain(|name, _| has(&list, name));
        (list, accounts.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClientName {
        ClientName::new(text).unwrap()
    }

    #[test]
    fn requests_are_counted_by_class() {
        let requests = Requests::default();
        let of_a = requests.of(&name("a"));
        for status in [101, 200, 204, 304, 404, 502, 599, 999, 7] {
            of_a.answered(status, Duration::from_millis(1));
        }
        assert_eq!(of_a.read(), [1, 2, 1, 1, 4]);
        of_a.refused(503);
        assert_eq!(of_a.read(), [1, 2, 1, 1, 5]);
        assert_eq!(requests.times.read().0.iter().map(|(_, count)| count).sum::<u64>(), 9);
    }

    #[test]
    fn times_fall_into_their_buckets() {
        let requests = Requests::default();
        let of_a = requests.of(&name("a"));
        // A bound is part of its bucket.
        for milliseconds in [0, 1, 2, 60_000, 60_001] {
            of_a.answered(200, Duration::from_millis(milliseconds));
        }
        let (buckets, sum) = requests.times.read();
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 2), (0.0025, 1), (60.0, 1), (f64::INFINITY, 1)]);
        assert!((sum - 120.004).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn counters_last_as_long_as_their_account_is_in_the_list() {
        let requests = Requests::default();
        let (a, _) = (requests.of(&name("a")), requests.of(&name("b")));
        a.answered(200, Duration::ZERO);
        let (_, counts) = requests.in_list(|| ["a"], |list, name| list.contains(&name.as_str()));
        assert_eq!(counts.keys().map(ClientName::as_str).collect::<Vec<_>>(), ["a"]);
        assert_eq!(requests.of(&name("a")).read()[1], 1, "a restart changes nothing");
        requests.in_list(|| (), |(), _| false);
        assert_eq!(requests.of(&name("a")).read()[1], 0, "another account of that name begins at 0");
    }
}
