//! [`EventText`]: Server-Sent Events out of the bytes of a stream (HTML Standard, 9.2). Pure.

/// The largest event, in bytes.
const MAX_EVENT: usize = 1024 * 1024;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// What it is.
    pub kind: String,
    /// Its ID, from which another stream goes on.
    pub id: Option<String>,
    /// Its data.
    pub data: String,
}

/// An event has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent an event without an end")]
pub struct Endless;

/// What came of a stream and is no whole event yet.
#[derive(Debug, Default)]
pub struct EventText {
    received: Vec<u8>,
    /// How much of it was searched for the end of an event.
    searched: usize,
}

impl EventText {
    /// Adds what came.
    ///
    /// # Errors
    /// It is more than an event may have, without an end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Endless> {
        self.received.extend_from_slice(bytes);
        // What is whole is taken before more is pushed.
        if self.received.len() > MAX_EVENT + bytes.len() { Err(Endless) } else { Ok(()) }
    }

    /// The next event that came whole. Comments are left out.
    pub fn take(&mut self) -> Option<StreamEvent> {
        loop {
            let from = self.searched.saturating_sub(1);
            let found = self.received.get(from..)?.windows(2).position(|pair| pair == b"\n\n");
            let Some(end) = found else {
                self.searched = self.received.len();
                return None;
            };
            let block: Vec<u8> = self.received.drain(..from + end + 2).collect();
            self.searched = 0;
            if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                return Some(event);
            }
        }
    }
}

/// An event; none where it has no data, such as a comment.
fn parse(block: &str) -> Option<StreamEvent> {
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
    Some(StreamEvent { kind, id, data: data? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_any_pieces() {
        let text = b": hello\n\nevent: account\nid: a-7\ndata: {\"name\":\"x\"}\n\n:\n\ndata: {\ndata: }\n\ndata: half";
        let event = |kind: &str, id: Option<&str>, data: &str| StreamEvent {
            kind: kind.to_owned(),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        };
        let expected = [event("account", Some("a-7"), "{\"name\":\"x\"}"), event("message", None, "{\n}")];
        for size in [1, 2, 3, 7, text.len()] {
            let mut reader = EventText::default();
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                reader.push(piece).unwrap();
                while let Some(event) = reader.take() {
                    found.push(event);
                }
            }
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn event_without_an_end_is_refused() {
        let mut reader = EventText::default();
        let piece = vec![b'x'; 64 * 1024];
        let pushed = (0..40).try_for_each(|_| {
            assert_eq!(reader.take(), None);
            reader.push(&piece)
        });
        assert_eq!(pushed, Err(Endless));
    }
}
