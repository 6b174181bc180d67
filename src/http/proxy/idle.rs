//! [`Idle`]: connections that wait for the next request.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::UpstreamConnection;
use crate::locks::locked;

/// Idle connections to one place. A stack: the last one used is used next, so that surplus connections grow old.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<IdleConnection>>);

struct IdleConnection {
    connection: Box<UpstreamConnection>,
    since: Instant,
    /// How long the other side promised to keep it open.
    keep_alive: Option<Duration>,
}

impl IdleConnection {
    /// Whether it is young enough to be used again: within `limit` and the promise of the other side.
    fn is_usable(&self, limit: Duration, now: Instant) -> bool {
        let limit = self.keep_alive.map_or(limit, |keep_alive| keep_alive.min(limit));
        now.duration_since(self.since) < limit
    }
}

impl fmt::Debug for IdleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Idle {
    /// Takes the one that was used last, if it is not older than `limit`. Also whether any was closed within its time, or had bytes that no
    /// request asked for.
    pub(super) fn take(&self, limit: Duration, now: Instant) -> (Option<Box<UpstreamConnection>>, bool) {
        let (mut idle, mut has_ended) = (locked(&self.0), false);
        while let Some(mut last) = idle.pop() {
            if !last.is_usable(limit, now) {
                continue;
            }
            if last.connection.is_quiet() {
                return (Some(last.connection), has_ended);
            }
            has_ended = true;
        }
        (None, has_ended)
    }

    /// Keeps one, for as long as the other side promised.
    pub(super) fn put(&self, connection: Box<UpstreamConnection>, keep_alive: Option<Duration>) {
        locked(&self.0).push(IdleConnection { connection, since: Instant::now(), keep_alive });
    }

    /// Closes those that are older than `age`; returns whether any are left.
    pub(super) fn close_older(&self, age: Duration, now: Instant) -> bool {
        let mut idle = locked(&self.0);
        idle.retain(|idle| idle.is_usable(age, now));
        !idle.is_empty()
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        locked(&self.0).clear();
    }
}
