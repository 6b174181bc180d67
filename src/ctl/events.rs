//! [`Events`]: a stream of Server-Sent Events (HTML Standard, 9.2).

use std::time::Duration;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use super::client::Client;
use super::failure::{Failure, Kind, Outcome};
use crate::wire::v1::event_text::{EventText, StreamEvent};

/// A controller sends something every 25 s; one that is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(70);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream that is open.
pub(super) struct Events {
    body: Incoming,
    text: EventText,
    /// The ID of the last event, from which another stream goes on.
    pub(super) last_id: Option<String>,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) data: Value,
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
            text: EventText::default(),
            last_id: last_id.map(str::to_owned),
        })
    }

    /// The next event. None where the controller ended the stream. Cancel-safe: what was received is kept.
    pub(super) async fn next(&mut self) -> Outcome<Option<Event>> {
        loop {
            if let Some(StreamEvent { kind, id, data }) = self.text.take() {
                // What is no JSON is none of the controller's.
                let Ok(data) = serde_json::from_str(&data) else { continue };
                if id.is_some() {
                    self.last_id = id;
                }
                return Ok(Some(Event { kind, data }));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        let pushed = self.text.push(&data);
                        pushed
                            .map_err(|_| Failure::refused("the controller sent an event without an end"))?;
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
}
