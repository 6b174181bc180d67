//! Logs what clients print, line by line.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::model::name::ClientName;

/// The longest line that is logged whole, in bytes; a longer one becomes several.
const MAX_LINE: usize = 8 * 1024;

/// How many lines of one stream are logged within [`WINDOW`]. Of further lines only the number is logged, so that one client
/// cannot flood the journal or use up the controller's own rate limit there.
const MAX_LINES: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);

/// How much of the last line is kept, in bytes.
const MAX_LAST: usize = 1024;

/// Whose output it is.
#[derive(Clone, Debug)]
pub(super) struct OutputSource {
    /// The account.
    pub(super) client: ClientName,
    /// What stands before each line: nothing for a client, and `yogurt: ` for an implementation of that name.
    label: Arc<str>,
    /// The name of the implementation, if it is one.
    implementation: Option<Arc<str>>,
}

impl OutputSource {
    pub(super) fn client(client: ClientName) -> Self {
        Self { client, label: "".into(), implementation: None }
    }

    pub(super) fn implementation(client: ClientName, name: &str) -> Self {
        Self { client, label: format!("{name}: ").into(), implementation: Some(name.into()) }
    }
}

/// Logs the lines of `stream` until its end; returns [`LineLog::last_words`].
pub(super) async fn log_lines(mut stream: impl AsyncRead + Unpin, source: OutputSource) -> Option<String> {
    let mut lines = LineLog::new(source);
    // Without room `read_buf` grows the buffer by 64 bytes, and so reads no more at once.
    lines.buffer.reserve(1024);
    loop {
        let read = tokio::select! {
            // Cancel-safe: what is read is in the buffer, even if the other branch ends the wait.
            read = stream.read_buf(&mut lines.buffer) => read,
            // A stream that falls silent would otherwise never say how many of its lines were dropped.
            () = sleep_until(lines.allowance.ends), if lines.allowance.left_out > 0 => {
                lines.allowance.renew(&lines.source);
                continue;
            }
        };
        match read {
            Ok(0) => break,
            Ok(_) => lines.log_complete(),
            Err(error) => {
                info!(client = %lines.source.client, %error, "its output can't be read any more: {error}");
                break;
            }
        }
        lines.buffer.reserve(1024);
    }
    lines.log_rest();
    lines.last_words()
}

/// Splits the output of a client into lines and logs them.
#[derive(Debug)]
pub(super) struct LineLog {
    pub(super) source: OutputSource,
    /// What was read and not logged yet.
    buffer: BytesMut,
    allowance: Allowance,
    /// The last line, unless its own priority is below a warning.
    last: Vec<u8>,
}

impl LineLog {
    pub(super) fn new(source: OutputSource) -> Self {
        Self { source, buffer: BytesMut::new(), allowance: Allowance::new(), last: Vec::new() }
    }

    /// The last line, which may say why the client exited. None if its own priority is below a warning.
    pub(super) fn last_words(&self) -> Option<String> {
        let text = printable(&self.last);
        // The built-in client begins its error with its own name, which is no part of the reason.
        let text = text.strip_prefix("wqclient: ").unwrap_or(&text);
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    /// Adds what was read, and logs the complete lines.
    pub(super) fn take(&mut self, read: &[u8]) {
        self.buffer.extend_from_slice(read);
        self.log_complete();
    }

    /// The length of the incomplete last line in bytes.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Logs how many lines were dropped, once the window is over. Returns whether nothing is left to log.
    pub(super) fn settle(&mut self) -> bool {
        if self.allowance.left_out > 0 && Instant::now() >= self.allowance.ends {
            self.allowance.renew(&self.source);
        }
        self.allowance.left_out == 0
    }

    /// Nothing follows: logs the rest, even without a line end, and how many lines were dropped.
    pub(super) fn log_rest(&mut self) {
        if !self.buffer.is_empty() {
            keep(&mut self.last, &self.buffer);
        }
        if !self.buffer.is_empty() && self.allowance.covers_one_more(&self.source) {
            log(&self.source, &self.buffer);
        }
        self.buffer.clear();
        self.allowance.renew(&self.source);
    }

    fn log_complete(&mut self) {
        let Self { source, buffer, allowance, last } = self;
        take_lines(buffer, |line| {
            // Kept even if it is not logged: the last line of a flood may be the reason of the exit.
            keep(last, line);
            if allowance.covers_one_more(source) {
                log(source, line);
            }
        });
    }
}

/// Keeps a line as the last one. Not one that is empty or indented: it goes on with what the line before it said, as the trace of
/// an error does.
pub(super) fn keep(last: &mut Vec<u8>, line: &[u8]) {
    let (priority, text) = split_priority(line);
    if text.first().is_none_or(u8::is_ascii_whitespace) && !last.is_empty() {
        return;
    }
    // What Node.js prints after an error, which says nothing about it.
    let is_epilogue = text == b"}"
        || text == b"Require stack:"
        || text.starts_with(b"- ")
        || text.starts_with(b"Node.js v");
    if is_epilogue && !last.is_empty() {
        return;
    }
    last.clear();
    // Equal lengths mean that the line has no priority. Most programs give none, so any such line may be the error.
    if text.len() == line.len() || priority <= 4 {
        last.extend_from_slice(&text[..text.len().min(MAX_LAST)]);
    }
}

/// How many lines of a stream may still be logged.
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

    fn covers_one_more(&mut self, source: &OutputSource) -> bool {
        if Instant::now() >= self.ends {
            self.renew(source);
        }
        match self.lines.checked_sub(1) {
            Some(lines) => self.lines = lines,
            None => self.left_out += 1,
        }
        self.left_out == 0
    }

    /// Begins a new window, and logs how many lines were dropped.
    fn renew(&mut self, source: &OutputSource) {
        if self.left_out > 0 {
            let seconds = WINDOW.as_secs();
            let OutputSource { client, label, .. } = source;
            warn!(
                %client,
                "{label}{} lines of its output were dropped: it prints more than {MAX_LINES} in {seconds} s",
                self.left_out
            );
        }
        *self = Self::new();
    }
}

/// Logs a line with its priority. Each priority has its own macro call: the name of an event is fixed there, and the journal
/// writer takes the priority from the name.
fn log(OutputSource { client, label, implementation }: &OutputSource, line: &[u8]) {
    let implementation = implementation.as_deref();
    let (priority, text) = split_priority(line);
    let text = printable(text);
    match priority {
        0 => error!(name: "client-0", target: "client", %client, implementation, "{label}{text}"),
        1 => error!(name: "client-1", target: "client", %client, implementation, "{label}{text}"),
        2 => error!(name: "client-2", target: "client", %client, implementation, "{label}{text}"),
        3 => error!(name: "client-3", target: "client", %client, implementation, "{label}{text}"),
        4 => warn!(name: "client-4", target: "client", %client, implementation, "{label}{text}"),
        5 => info!(name: "client-5", target: "client", %client, implementation, "{label}{text}"),
        6 => info!(name: "client-6", target: "client", %client, implementation, "{label}{text}"),
        _ => debug!(name: "client-7", target: "client", %client, implementation, "{label}{text}"),
    }
}

/// The priority that a line may begin with, `<3>`, as services write it for the journal: see sd-daemon(3).
pub(super) fn split_priority(line: &[u8]) -> (u8, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', text @ ..] => (digit - b'0', text),
        _ => (6, line),
    }
}

/// Takes every complete line out of `buffer`, and what is too long to wait for its end.
pub(super) fn take_lines(buffer: &mut BytesMut, mut each: impl FnMut(&[u8])) {
    loop {
        // A line end beyond the window does not count, as the line would be longer than one that is logged whole.
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

/// The length of the part of `window` that ends at a character boundary.
fn whole_characters(window: &[u8]) -> usize {
    // A character of UTF-8 has at most four bytes, so the last one begins in the last four. Moving a complete one to the next
    // piece does no harm, so whether it is complete is not checked.
    let starts_character = |at: &usize| window[*at] & 0b1100_0000 != 0b1000_0000;
    match (window.len().saturating_sub(4)..window.len()).rev().find(starts_character) {
        // A cut at 0 would take nothing out of the buffer, and its caller would loop for ever.
        Some(at) if at > 0 && window[at] >= 0x80 => at,
        _ => window.len(),
    }
}

/// The text with control characters escaped, so that it cannot control the reader's terminal.
pub(super) fn printable(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for c in String::from_utf8_lossy(line).chars() {
        // `is_control` includes U+0080 to U+009F: U+009B begins an escape sequence as ESC [ does.
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
    fn output_is_split_into_lines() {
        assert_eq!(lines(b"one\ntwo\r\n\nthr"), (vec!["one".into(), "two".into()], 3));
        assert_eq!(lines(b""), (vec![], 0));
    }

    #[test]
    fn endless_line_is_cut_between_characters() {
        let (found, left) = lines("界".repeat(MAX_LINE).as_bytes());
        assert!(found.iter().all(|line| line.chars().all(|c| c == '界')), "a character was cut");
        assert!(left < MAX_LINE);
        let (found, left) = lines(&[0xff; 2 * MAX_LINE]);
        assert!(found.len() >= 2 && left <= MAX_LINE, "{} lines, {left} left", found.len());
    }

    #[test]
    fn line_priority_is_parsed() {
        assert_eq!(split_priority(b"<3>broken"), (3, &b"broken"[..]));
        assert_eq!(split_priority(b"<7>"), (7, &b""[..]));
        for plain in [&b"text"[..], b"<8>x", b"<33>x", b"<", b"< 3>x"] {
            assert_eq!(split_priority(plain), (6, plain));
        }
    }

    #[tokio::test]
    async fn last_words_exclude_information() {
        let last =
            async |input: &[u8]| log_lines(input, OutputSource::client(ClientName::new("a").unwrap())).await;
        assert_eq!(last(b"one\nCan't locate Mojo.pm\n").await.as_deref(), Some("Can't locate Mojo.pm"));
        assert_eq!(last(b"<6>fine\n<3>wqclient: broken").await.as_deref(), Some("broken"));
        assert_eq!(last(b"<4>an hour ago\n<6>fine\n").await, None);
        assert_eq!(last(b"").await, None);
        let node = b"node:internal/modules/cjs/loader:1228\n  throw err;\n  ^\n\nError: Cannot find module '/x.js'\nRequire stack:\n\
            - /y.js\n    at node:internal/main/run_main_module:28:49 {\n  code: 'MODULE_NOT_FOUND'\n}\n\nNode.js v20.20.2\n";
        assert_eq!(last(node).await.as_deref(), Some("Error: Cannot find module '/x.js'"));
        let trace = b"Uncaught Kotlin exception: no uin\n    at 0 yogurt.kexe\n\tat 1 yogurt.kexe\n\n";
        assert_eq!(last(trace).await.as_deref(), Some("Uncaught Kotlin exception: no uin"));
        assert!(last("界".repeat(5000).as_bytes()).await.unwrap().len() <= MAX_LAST + 8);
    }

    #[test]
    fn escape_sequences_are_escaped() {
        assert_eq!(printable(b"\x1b[31mred\x07 \xff\tok"), "\\u{1b}[31mred\\u{7} \u{fffd}\tok");
    }
}
