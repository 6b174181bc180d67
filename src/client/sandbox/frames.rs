//! [`FrameLog`]: what goes to applications and comes from them, for whoever writes one and wants to see it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::process::unix_seconds;
use crate::locks::locked;
use crate::redact::redact;

/// How many frames are kept for those who come later, and how many may wait for one who reads slowly.
const MAX_FRAMES: usize = 256;

/// How long a frame may be, and all that are kept together, in bytes.
const MAX_FRAME: usize = 32 * 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// How many may look at the same time.
const MAX_WATCHERS: usize = 16;

/// After how long without a frame something is sent all the same, so that whatever is between does not end the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How much of a text of a frame is shown, in characters; an image in it may have megabytes.
const MAX_TEXT: usize = 2000;

/// The frames. Clones share them.
#[derive(Clone)]
pub(super) struct FrameLog {
    kept: Arc<Mutex<Kept>>,
    news: broadcast::Sender<Bytes>,
    places: Arc<Semaphore>,
    ending: CancellationToken,
}

#[derive(Default)]
struct Kept {
    last: u64,
    bytes: usize,
    frames: VecDeque<Bytes>,
}

impl FrameLog {
    /// An empty log, and what ends those who look when it is dropped.
    pub(super) fn new() -> (Self, DropGuard) {
        let ending = CancellationToken::new();
        let (news, _) = broadcast::channel(MAX_FRAMES);
        let places = Arc::new(Semaphore::new(MAX_WATCHERS));
        (Self { kept: Arc::default(), news, places, ending: ending.clone() }, ending.drop_guard())
    }

    /// Notes a frame of this kind: `event`, `action`, `answer` or `sent`.
    pub(super) fn note(&self, kind: &str, mut content: Value) {
        hide(&mut content);
        let mut kept = locked(&self.kept);
        kept.last += 1;
        let mut data = json!({ "time": unix_seconds(), "frame": content }).to_string();
        if data.len() > MAX_FRAME {
            data = json!({ "time": unix_seconds(), "frame": null, "too_long": data.len() }).to_string();
        }
        // JSON on one line has no line break in it.
        let text: Bytes = format!("event: {kind}\nid: {}\ndata: {data}\n\n", kept.last).into();
        kept.bytes += text.len();
        kept.frames.push_back(text.clone());
        while (kept.frames.len() > MAX_FRAMES || kept.bytes > MAX_BYTES)
            && let Some(oldest) = kept.frames.pop_front()
        {
            kept.bytes -= oldest.len();
        }
        // In the lock, so that a watcher that begins gets each frame once. Nobody may look.
        let _ = self.news.send(text);
    }

    /// The frames so far, if they are wanted, and those that come, as Server-Sent Events. None: too many look already.
    pub(super) fn watch(
        &self,
        with_kept: bool,
    ) -> Option<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<>> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let (first, news) = {
            let kept = locked(&self.kept);
            (if with_kept { kept.frames.clone() } else { VecDeque::new() }, self.news.subscribe())
        };
        let watcher = Watcher { first, news, ending: self.ending.clone(), _place: place };
        Some(unfold(watcher, |mut watcher| async move {
            let text = watcher.next().await?;
            Some((Ok(Frame::data(text)), watcher))
        }))
    }
}

/// One who looks.
struct Watcher {
    first: VecDeque<Bytes>,
    news: broadcast::Receiver<Bytes>,
    ending: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.first.pop_front() {
            return Some(frame);
        }
        let received = tokio::select! {
            received = self.news.recv() => received,
            () = self.ending.cancelled() => return None,
            // A comment (HTML Standard, 9.2.5).
            () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b":\n\n")),
        };
        match received {
            Ok(frame) => Some(frame),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                Some(format!("event: missed\ndata: {{\"count\":{count}}}\n\n").into())
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Takes out what is secret, and shortens what is long.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
                text.push('…');
            }
            // URLs stay as they are unless they have something to hide: they say which image it is.
            if ["token", "secret", "password", "key="]
                .iter()
                .any(|word| text.to_ascii_lowercase().contains(word))
            {
                *text = redact(text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                if ["token", "secret", "password", "cookie"].iter().any(|word| name.contains(word)) {
                    *value = "…".into();
                } else {
                    hide(value);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn frames_are_shown_without_secrets_to_all_who_look() {
        let (log, ending) = FrameLog::new();
        let long = "长".repeat(MAX_TEXT + 1);
        log.note("action", json!({ "params": { "access_token": "hush", "a": [long], "n": 7 } }));
        let mut early = Box::pin(log.watch(true).unwrap());
        log.note("event", json!({ "b": 1 }));
        let mut late = Box::pin(log.watch(true).unwrap());
        for stream in [&mut early, &mut late] {
            let mut next = async || {
                let frame = stream.next().await.unwrap().unwrap().into_data().unwrap();
                String::from_utf8(frame.to_vec()).unwrap()
            };
            let first = next().await;
            assert!(first.starts_with("event: action\nid: 1\n") && !first.contains("hush"), "{first}");
            assert!(first.contains("长…\"") && first.contains("\"n\":7"), "{first}");
            assert!(next().await.contains("\"b\":1"));
        }
        let mut new_ones = Box::pin(log.watch(false).unwrap());
        log.note("event", json!(vec!["x".repeat(MAX_TEXT); 100]));
        assert!(
            new_ones
                .next()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .starts_with(b"event: event\nid: 3\n")
        );
        drop(new_ones);
        for stream in [&mut early, &mut late] {
            let frame = stream.next().await.unwrap().unwrap().into_data().unwrap();
            assert!(frame.len() < 200, "{frame:?}");
        }
        for _ in 0..=MAX_FRAMES {
            log.note("event", json!({}));
        }
        assert!(early.next().await.unwrap().unwrap().into_data().unwrap().starts_with(b"event: missed"));
        let more: Vec<_> = (2..MAX_WATCHERS).map(|_| log.watch(true).unwrap()).collect();
        assert!(log.watch(true).is_none());
        drop((more, late));
        drop(ending);
        let mut again = Box::pin(log.watch(true).unwrap());
        for _ in 0..MAX_FRAMES {
            assert!(again.next().await.is_some());
        }
        assert!(again.next().await.is_none(), "the client ends");
    }
}
