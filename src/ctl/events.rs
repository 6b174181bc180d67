//! [`Events`]: a stream of Server-Sent Events (HTML Standard, 9.2).

use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use super::client::Client;
use super::failure::{Failure, Kind, Outcome};

/// The largest event.
const MAX_EVENT: usize = 1024 * 1024;
/// A controller sends something every 25 s; one that is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(70);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream that is open.
pub(super) struct Events {
    body: Incoming,
    received: BytesMut,
    /// The ID of the last event, from which another stream goes on.
    pub(super) last_id: Option<String>,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) data: Value,
    id: Option<String>,
}

impl Events {
    /// Opens a stream; with the ID of an event it goes on after that.
    pub(super) async fn open(client: &Client, path: &str, last_id: Option<&str>) -> Outcome<Self> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(LAST_EVENT_ID, id);
        }
        let response = client.send(Method::GET, path, "text/event-stream", None, &headers).await?;
        Ok(Self {
            body: response.into_body(),
            received: BytesMut::new(),
            last_id: last_id.map(str::to_owned),
        })
    }

    /// The next event. None where the controller ended the stream. Cancel-safe: what was received is kept.
    pub(super) async fn next(&mut self) -> Outcome<Option<Event>> {
        loop {
            if let Some(text) = self.take_block() {
                let Some(event) = parse(&text) else { continue };
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                return Ok(Some(event));
            }
            if self.received.len() > MAX_EVENT {
                return Err(Failure::refused("the controller sent an event without an end"));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received.extend_from_slice(&data);
                    }
                }
                // A controller that is killed breaks it off.
                Ok(None | Some(Err(_))) => return Ok(None),
                Err(_) => {
                    return Err(Failure::new(Kind::Unreachable, "the controller is silent")
                        .next("systemctl status wqcontroller"));
                }
            }
        }
    }

    /// The lines of an event, or of a comment, that has come whole.
    fn take_block(&mut self) -> Option<String> {
        let end = self.received.windows(2).position(|pair| pair == b"\n\n")?;
        let block = self.received.split_to(end + 2);
        Some(String::from_utf8_lossy(&block).into_owned())
    }
}

/// An event; none where it has no data, such as a comment.
fn parse(block: &str) -> Option<Event> {
    let (mut kind, mut id, mut data) = (String::from("message"), None, None::<String>);
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => kind = value.to_owned(),
            "id" => id = Some(value.to_owned()),
            "data" => {
                let before = data.map(|data| data + "\n").unwrap_or_default();
                data = Some(before + value);
            }
            _ => {}
        }
    }
    let data = serde_json::from_str(&data?).ok()?;
    Some(Event { kind, data, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_parsed_and_comments_are_not() {
        let event = parse("event: account\nid: a-7\ndata: {\"name\":\"x\"}\n\n").unwrap();
        assert_eq!((event.kind.as_str(), event.id.as_deref()), ("account", Some("a-7")));
        assert_eq!(event.data, json!({ "name": "x" }));
        assert_eq!(parse(": \n\n"), None);
        assert_eq!(parse("data: {\ndata: }\n\n").unwrap().data, json!({}));
    }
}
