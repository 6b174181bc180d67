//! [`RecentEvents`]: the newest events, for `check_event`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::locks::locked;
use tokio::sync::Notify;

/// The most bytes that are kept; the newest event is kept even if it is longer.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The newest events. Each is returned to one caller.
#[derive(Clone)]
pub(crate) struct RecentEvents(Arc<RecentState>);

struct RecentState {
    events: Mutex<EventBuffer>,
    /// Wakes one waiting caller per event, in the order in which they came; one that is gone passes the wakeup
    /// on.
    new_report: Notify,
}

#[derive(Default)]
struct EventBuffer {
    texts: VecDeque<String>,
    bytes: usize,
    most: usize,
}

impl RecentEvents {
    /// Keeps at most `most` events.
    pub(crate) fn new(most: usize) -> Self {
        let events = Mutex::new(EventBuffer { most, ..EventBuffer::default() });
        Self(Arc::new(RecentState { events, new_report: Notify::new() }))
    }

    /// Adds an event (JSON), and drops the oldest ones if there are too many.
    pub(crate) fn push(&self, text: String) {
        {
            let mut events = self.events();
            events.bytes += text.len();
            events.texts.push_back(text);
            while events.texts.len() > events.most || (events.bytes > MAX_BYTES && events.texts.len() > 1) {
                let Some(oldest) = events.texts.pop_front() else { break };
                events.bytes -= oldest.len();
            }
        }
        self.0.new_report.notify_one();
    }

    /// Takes all events as a JSON array; waits for one if there are none. Cancel-safe.
    pub(crate) async fn take(&self) -> String {
        loop {
            // An event between the look and the wait is not missed: without a waiter `notify_one` leaves a permit.
            let new_report = self.0.new_report.notified();
            if let Some(events) = self.take_now() {
                return events;
            }
            // Then looks again: another caller may have taken the event.
            new_report.await;
        }
    }

    fn take_now(&self) -> Option<String> {
        let mut events = self.events();
        if events.texts.is_empty() {
            return None;
        }
        events.bytes = 0;
        let mut array = String::from("[");
        for (n, text) in events.texts.drain(..).enumerate() {
            if n > 0 {
                array.push(',');
            }
            array.push_str(&text);
        }
        array.push(']');
        Some(array)
    }

    fn events(&self) -> MutexGuard<'_, EventBuffer> {
        // No holder of the lock can panic half-way.
        locked(&self.0.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn newest_events_are_kept_for_one_caller() {
        let recent = RecentEvents::new(2);
        assert_eq!(poll_once(recent.take()).await, None);
        ["1", "2", "3"].iter().for_each(|event| recent.push((*event).into()));
        assert_eq!(recent.take().await, "[2,3]");
        assert_eq!(poll_once(recent.take()).await, None);
        recent.push("x".repeat(MAX_BYTES));
        assert_eq!(recent.take().await.len(), MAX_BYTES + 2);
        recent.push("x".repeat(MAX_BYTES));
        recent.push("1".into());
        assert_eq!(recent.take().await, "[1]");
    }

    #[tokio::test]
    async fn event_wakes_one_live_waiter() {
        let recent = RecentEvents::new(20);
        let mut gone = Box::pin(recent.take());
        let (mut first, mut second) = (pin!(recent.take()), pin!(recent.take()));
        assert_eq!(poll_once(gone.as_mut()).await, None);
        assert_eq!(poll_once(first.as_mut()).await, None);
        assert_eq!(poll_once(second.as_mut()).await, None);
        // It is woken for the event, and gone before it can take it.
        recent.push("1".into());
        drop(gone);
        assert_eq!(poll_once(second.as_mut()).await, None);
        assert_eq!(poll_once(first.as_mut()).await.as_deref(), Some("[1]"));
        recent.push("2".into());
        assert_eq!(poll_once(second.as_mut()).await.as_deref(), Some("[2]"));
    }
}
