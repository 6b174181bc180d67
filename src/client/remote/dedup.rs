//! [`EventDedup`]: recognises events that are told again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tracing::debug;

use super::event::{RemoteChat, RemoteEvent, RemoteMessage};
use super::transport::inbox::{EventStamp, FrameSource};

/// How many events are remembered to recognize repeats.
const MAX_REMEMBERED: usize = 4096;

/// The last events, by digest. An implementation repeats an event if its POST got no answer, or if it is not
/// sure what arrived before a connection was lost.
#[derive(Default)]
pub(super) struct EventDedup {
    order: VecDeque<u64>,
    /// The source that each came from first.
    all: HashMap<u64, FrameSource>,
}

impl EventDedup {
    /// Whether this event came before. Remembers it.
    pub(super) fn has(&mut self, event: &RemoteEvent, EventStamp { source, digest, .. }: EventStamp) -> bool {
        // Without a message id, the same text twice within a second is not a repeat, unless the source has a
        // reason to repeat events. Nor are two pokes.
        let may_be_new = matches!(
            event,
            RemoteEvent::Said(RemoteMessage { number: None, .. })
                | RemoteEvent::Happened(_)
                | RemoteEvent::Other
                | RemoteEvent::Unclear(_)
        ) && source != FrameSource::Post;
        let digest = match event {
            RemoteEvent::Said(RemoteMessage { number: Some(number), by, time, place, .. }) => {
                let place = match place {
                    RemoteChat::Friend | RemoteChat::Private | RemoteChat::Session(_) => 0,
                    RemoteChat::Group(group) => *group,
                };
                // The remaining fields may be written differently in a repeat.
                let mut hasher = DefaultHasher::new();
                (number, by, time, place).hash(&mut hasher);
                Some(hasher.finish())
            }
            _ => digest,
        };
        let Some(digest) = digest else { return false };
        if let Some(first) = self.all.get(&digest) {
            if may_be_new && *first == source {
                return false;
            }
            debug!("dropped a repeated event");
            return true;
        }
        self.all.insert(digest, source);
        self.order.push_back(digest);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_without_an_id_is_a_repeat_only_on_another_connection() {
        let said = |number: Option<&str>| {
            RemoteEvent::Said(RemoteMessage {
                place: RemoteChat::Friend,
                by: 7,
                to: None,
                own: false,
                number: number.map(str::to_owned),
                time: Some(9),
                name: None,
                card: None,
                content: Vec::new(),
                as_said: Default::default(),
            })
        };
        let stamp = |source, digest| EventStamp { source, digest: Some(digest), account: None, era: 0 };
        let (first, second) = (FrameSource::Connection(1), FrameSource::Connection(2));
        let mut seen = EventDedup::default();
        for digest in [1, 2, 1, 1] {
            assert!(!seen.has(&said(None), stamp(first, digest)), "said again");
        }
        for digest in [1, 2] {
            assert!(seen.has(&said(None), stamp(second, digest)), "repeated after a loss");
        }
        assert!(!seen.has(&said(None), stamp(second, 3)));
        assert!(
            !seen.has(&said(None), stamp(FrameSource::Post, 4))
                && seen.has(&said(None), stamp(FrameSource::Post, 4))
        );
        // A number or a notice is what it was.
        assert!(!seen.has(&said(Some("5")), stamp(first, 5)) && seen.has(&said(Some("5")), stamp(first, 6)));
        assert!(
            !seen.has(&RemoteEvent::FriendCame(7), stamp(first, 7))
                && seen.has(&RemoteEvent::FriendCame(7), stamp(first, 7))
        );
    }
}
