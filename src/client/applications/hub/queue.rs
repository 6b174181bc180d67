//! [`EventBacklog`]: the events that wait for one application.

use std::collections::VecDeque;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Next;

/// How many events may wait for an application.
pub(super) const MAX_EVENTS: usize = 10_000;

/// How many bytes they may have. All applications share the texts.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The events, in order. Pure.
#[derive(Debug, Default)]
pub(super) struct EventBacklog {
    /// The last event before the application came.
    since: u64,
    waiting: VecDeque<(u64, Utf8Bytes)>,
    bytes: usize,
    /// How many did not fit.
    lost: u64,
    /// Whether the application reads too slowly.
    is_let_go: bool,
}

impl EventBacklog {
    /// Nothing waits for an application that came after the event `since`.
    pub(super) fn new(since: u64) -> Self {
        Self { since, ..Self::default() }
    }

    /// Adds an event. Where it does not fit, the oldest go, and an application that is there is let go.
    pub(super) fn push(&mut self, number: u64, event: Utf8Bytes, is_away: bool) {
        self.bytes += event.len();
        self.waiting.push_back((number, event));
        self.shrink();
        self.is_let_go |= self.lost > 0 && !is_away;
    }

    fn shrink(&mut self) {
        // One event alone always fits.
        while self.waiting.len() > MAX_EVENTS || self.bytes > MAX_BYTES && self.waiting.len() > 1 {
            self.drop_oldest();
            self.lost += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, event)) = self.waiting.pop_front() {
            self.bytes -= event.len();
        }
    }

    /// What is to be told next.
    pub(super) fn next(&self) -> Option<Next> {
        if self.is_let_go {
            return Some(Next::LetGo);
        }
        self.waiting.front().map(|(number, event)| Next::Event(*number, event.clone()))
    }

    /// Removes the event `number`, which was sent.
    pub(super) fn pop(&mut self, number: u64) {
        // It may have been dropped as the oldest meanwhile.
        if self.waiting.front().is_some_and(|(first, _)| *first == number) {
            self.drop_oldest();
        }
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

    /// The application is back. Returns how many events were lost meanwhile.
    pub(super) fn welcome_back(&mut self) -> u64 {
        self.is_let_go = false;
        std::mem::take(&mut self.lost)
    }

    /// Takes over the unsent events of another connection of the same application that are older than this connection.
    pub(super) fn take_over(&mut self, left: Self) {
        let older = left.waiting.into_iter().filter(|(number, _)| *number <= self.since);
        for (number, event) in older.collect::<Vec<_>>().into_iter().rev() {
            self.bytes += event.len();
            self.waiting.push_front((number, event));
        }
        self.shrink();
    }

    /// How many events wait or were lost.
    pub(super) fn len_with_lost(&self) -> u64 {
        self.lost + self.waiting.len() as u64
    }
}
