//! What a client prints, line by line into the log.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::model::name::ClientName;

/// The longest line that is logged whole, in bytes; a longer one becomes several.
const MAX_LINE: usize = 8 * 1024;

/// How many lines of one stream are logged within [`WINDOW`]; of more, only their number. A client that floods is not to
/// fill the journal, nor what the journal takes of us, with nothing but its own.
const MAX_LINES: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);

/// Logs what comes out of `stream` until its end.
pub(super) async fn log_lines(mut stream: impl AsyncRead + Unpin, client: ClientName) {
    let mut lines = LineLog::new(client);
    lines.buffer.reserve(1024);
    loop {
        let read = tokio::select! {
            read = stream.read_buf(&mut lines.buffer) => read,
            () = sleep_until(lines.allowance.ends), if lines.allowance.left_out > 0 => {
                lines.allowance.renew(&lines.client);
                continue;
            }
        };
        match read {
            Ok(0) => break,
            Ok(_) => lines.log_complete(),
            Err(error) => {
                info!(client = %lines.client, %error, "the client's output can't be read any more");
                break;
            }
        }
        lines.buffer.reserve(1024);
    }
    lines.log_rest();
}

/// Makes lines of what a client prints, and logs them.
#[derive(Debug)]
pub(super) struct LineLog {
    pub(super) client: ClientName,
    /// What was read and is not logged.
    buffer: BytesMut,
    allowance: Allowance,
}

impl LineLog {
    pub(super) fn new(client: ClientName) -> Self {
        Self { client, buffer: BytesMut::new(), allowance: Allowance::new() }
    }

    /// Takes what was read, and logs the lines that are complete with it.
    pub(super) fn take(&mut self, read: &[u8]) {
        self.buffer.extend_from_slice(read);
        self.log_complete();
    }

    /// How many bytes of a line that is not complete wait.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Says what was left out, once the time for it has come. Whether nothing is left to be said.
    pub(super) fn settle(&mut self) -> bool {
        if self.allowance.left_out > 0 && Instant::now() >= self.allowance.ends {
            self.allowance.renew(&self.client);
        }
        self.allowance.left_out == 0
    }

    /// Nothing follows: logs the rest, whole line or not, and says what was left out.
    pub(super) fn log_rest(&mut self) {
        if !self.buffer.is_empty() && self.allowance.covers_one_more(&self.client) {
            log(&self.client, &self.buffer);
        }
        self.buffer.clear();
        self.allowance.renew(&self.client);
    }

    fn log_complete(&mut self) {
        let Self { client, buffer, allowance } = self;
        take_lines(buffer, |line| {
            if allowance.covers_one_more(client) {
                log(client, line);
            }
        });
    }
}

/// What a stream may still have logged.
#[derive(Debug)]
struct Allowance {
    ends: Instant,
    lines: u32,
    left_out: u64,
}

impl Allowance {
    fn new() -> Self {
        Self { ends: Instant::now() + WINDOW, lines: MAX_LINES, left_out: 0 }
    }

    fn covers_one_more(&mut self, client: &ClientName) -> bool {
        if Instant::now() >= self.ends {
            self.renew(client);
        }
        match self.lines.checked_sub(1) {
            Some(lines) => self.lines = lines,
            None => self.left_out += 1,
        }
        self.left_out == 0
    }

    /// Begins anew, and says what was left out.
    fn renew(&mut self, client: &ClientName) {
        if self.left_out > 0 {
            let seconds = WINDOW.as_secs();
            warn!(
                %client,
                "{} lines of the client's output were left out: it prints more than {MAX_LINES} in {seconds} s",
                self.left_out
            );
        }
        *self = Self::new();
    }
}

/// One place in the code for each priority, for that is where the name of an event stands, and in the name the journal
/// finds what the client gave.
fn log(client: &ClientName, line: &[u8]) {
    let (priority, text) = split_priority(line);
    let text = printable(text);
    match priority {
        0 => error!(name: "client-0", target: "client", %client, "{text}"),
        1 => error!(name: "client-1", target: "client", %client, "{text}"),
        2 => error!(name: "client-2", target: "client", %client, "{text}"),
        3 => error!(name: "client-3", target: "client", %client, "{text}"),
        4 => warn!(name: "client-4", target: "client", %client, "{text}"),
        5 => info!(name: "client-5", target: "client", %client, "{text}"),
        6 => info!(name: "client-6", target: "client", %client, "{text}"),
        _ => debug!(name: "client-7", target: "client", %client, "{text}"),
    }
}

/// The priority that a line may begin with, `<3>`, as services write it for the journal: see sd-daemon(3).
fn split_priority(line: &[u8]) -> (u8, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', text @ ..] => (digit - b'0', text),
        _ => (6, line),
    }
}

/// Takes every complete line out of `buffer`, and what is too long to wait for its end.
fn take_lines(buffer: &mut BytesMut, mut each: impl FnMut(&[u8])) {
    loop {
        let window = &buffer[..buffer.len().min(MAX_LINE)];
        let (line, skip) = match window.iter().position(|b| *b == b'\n') {
            Some(end) => (end, end + 1),
            None if buffer.len() >= MAX_LINE => (whole_characters(window), whole_characters(window)),
            None => return,
        };
        let text = buffer[..line].strip_suffix(b"\r").unwrap_or(&buffer[..line]);
        if !text.is_empty() {
            each(text);
        }
        buffer.advance(skip);
    }
}

/// How much of `window` ends where a character ends, so that a cut leaves no half of one.
fn whole_characters(window: &[u8]) -> usize {
    let starts_character = |at: &usize| window[*at] & 0b1100_0000 != 0b1000_0000;
    match (window.len().saturating_sub(4)..window.len()).rev().find(starts_character) {
        Some(at) if at > 0 && window[at] >= 0x80 => at,
        _ => window.len(),
    }
}

/// Text that moves no cursor and changes no colour on the terminal of whoever reads the log.
fn printable(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for c in String::from_utf8_lossy(line).chars() {
        if c.is_control() && c != '\t' { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> (Vec<String>, usize) {
        let mut buffer = BytesMut::from(input);
        let mut found = Vec::new();
        take_lines(&mut buffer, |line| found.push(printable(line)));
        (found, buffer.len())
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        assert_eq!(lines(b"one\ntwo\r\n\nthr"), (vec!["one".into(), "two".into()], 3));
        assert_eq!(lines(b""), (vec![], 0));
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let (found, left) = lines("界".repeat(MAX_LINE).as_bytes());
        assert!(found.iter().all(|line| line.chars().all(|c| c == '界')), "a character was cut");
        assert!(left < MAX_LINE);
        let (found, left) = lines(&[0xff; 2 * MAX_LINE]);
        assert!(found.len() >= 2 && left <= MAX_LINE, "{} lines, {left} left", found.len());
    }

    #[test]
    fn a_priority_is_understood() {
        assert_eq!(split_priority(b"<3>broken"), (3, &b"broken"[..]));
        assert_eq!(split_priority(b"<7>"), (7, &b""[..]));
        for plain in [&b"text"[..], b"<8>x", b"<33>x", b"<", b"< 3>x"] {
            assert_eq!(split_priority(plain), (6, plain));
        }
    }

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(printable(b"\x1b[31mred\x07 \xff\tok"), "\\u{1b}[31mred\\u{7} \u{fffd}\tok");
    }
}
