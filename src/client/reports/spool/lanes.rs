//! [`Lanes`]: which reports may be posted now. Of each lane the oldest, one at a time; the others wait for it,
//! also while it pauses. Pure: it is given the time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::client::reports::lane::Lane;

#[derive(Default)]
struct LaneQueue {
    waiting: VecDeque<u64>,
    /// Whether a post is under way. Its report may have left `waiting` already.
    is_busy: bool,
    /// When the first may be posted again.
    paused_until: Option<Instant>,
}

/// The order of the waiting reports, by sequence number.
#[derive(Default)]
pub(crate) struct Lanes {
    queues: HashMap<Lane, LaneQueue>,
    /// The first report of each lane that is neither busy nor paused.
    ready: BTreeSet<u64>,
    paused: BTreeSet<(Instant, u64, Lane)>,
}

impl Lanes {
    /// Appends a report to its lane. Sequence numbers increase.
    pub(crate) fn push(&mut self, lane: Lane, seq: u64) {
        let queue = self.queues.entry(lane).or_default();
        queue.waiting.push_back(seq);
        // In a busy lane `finish` makes it ready.
        if queue.waiting.len() == 1 && !queue.is_busy {
            self.ready.insert(seq);
        }
    }

    /// The oldest report that may be posted.
    pub(crate) fn first(&self) -> Option<u64> {
        self.ready.first().copied()
    }

    /// Whether the report may be posted.
    pub(crate) fn is_ready(&self, seq: u64) -> bool {
        self.ready.contains(&seq)
    }

    /// A post of the lane's first report begins.
    pub(crate) fn start(&mut self, lane: Lane) {
        if let Some(queue) = self.queues.get_mut(&lane) {
            queue.is_busy = true;
            queue.waiting.front().map(|seq| self.ready.remove(seq));
        }
    }

    /// The post ended. If its report still waits, the lane pauses until then.
    pub(crate) fn finish(&mut self, lane: Lane, posted: u64, pause: Option<Instant>) {
        let Some(queue) = self.queues.get_mut(&lane) else { return };
        queue.is_busy = false;
        let Some(&first) = queue.waiting.front() else {
            // Else every conversation there ever was would stay in memory.
            self.queues.remove(&lane);
            return;
        };
        match pause {
            // Another report at the front has not timed out itself.
            Some(until) if first == posted => {
                queue.paused_until = Some(until);
                self.paused.insert((until, first, lane));
            }
            _ => {
                self.ready.insert(first);
            }
        }
    }

    /// Removes a report. If it is being posted, its lane stays busy.
    pub(crate) fn remove(&mut self, lane: Lane, seq: u64) {
        let Some(queue) = self.queues.get_mut(&lane) else { return };
        // Sorted, because sequence numbers increase.
        let Ok(at) = queue.waiting.binary_search(&seq) else { return };
        queue.waiting.remove(at);
        // Only the first of a lane can be ready or paused.
        if at > 0 {
            return;
        }
        self.ready.remove(&seq);
        if let Some(until) = queue.paused_until.take() {
            self.paused.remove(&(until, seq, lane));
        }
        if queue.is_busy {
            return;
        }
        match queue.waiting.front() {
            Some(next) => {
                self.ready.insert(*next);
            }
            None => {
                self.queues.remove(&lane);
            }
        }
    }

    /// Ends the pauses that are over.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(&(_, seq, lane)) = self.paused.first().filter(|(until, ..)| *until <= now) {
            self.paused.pop_first();
            // Still the first of its lane: `remove` takes its pause away with it.
            self.ready.insert(seq);
            if let Some(queue) = self.queues.get_mut(&lane) {
                queue.paused_until = None;
            }
        }
    }

    /// When the next pause is over.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.paused.first().map(|(until, ..)| *until)
    }
}
