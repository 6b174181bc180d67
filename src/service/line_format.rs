//! What a log line looks like: the account first, then the message.
//!
//! An event's message is complete by itself. Its fields are for programs, and only the journal shows them. The field `client` is
//! the account, which stands before the message. Libraries write their messages for their fields, so theirs are shown.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::events;

/// The targets of this project's own events.
const OWN_TARGETS: [&str; 3] = ["wqcontroller", "client", "message"];

/// How a line of text begins.
#[derive(Clone, Copy, Debug)]
pub enum LineFormat {
    /// The time and the level, for people.
    Dated,
    /// A priority as in sd-daemon(3), for a program that reads our pipe and adds the time.
    Prioritized,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Dated => {
                let (dim, level, end) = match writer.has_ansi_escapes() {
                    true => ("\x1b[2m", color(*event.metadata().level()), "\x1b[0m"),
                    false => ("", "", ""),
                };
                writer.write_str(dim)?;
                SystemTime.format_time(&mut writer)?;
                write!(writer, "{end} {level}{:>5}{end} ", event.metadata().level())?;
            }
            Self::Prioritized => write!(writer, "<{}>", events::priority(event.metadata()))?,
        }
        writeln!(writer, "{}", text_of(event, true))
    }
}

/// The escape sequence of a level's colour on a terminal.
fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// The text of an event, after its account where `with_account` is true.
pub(super) fn text_of(event: &Event<'_>, with_account: bool) -> String {
    let mut text = TextVisitor { shows_fields: !is_own(event.metadata()), ..TextVisitor::default() };
    event.record(&mut text);
    let TextVisitor { account, message, fields, .. } = text;
    match account {
        Some(account) if with_account => format!("{account}: {message}{fields}"),
        _ => message + &fields,
    }
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    let module = metadata.target().split("::").next();
    module.is_some_and(|module| OWN_TARGETS.contains(&module))
}

#[derive(Default)]
struct TextVisitor {
    shows_fields: bool,
    account: Option<String>,
    message: String,
    fields: String,
}

impl Visit for TextVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "client" => self.account = Some(format!("{value:?}")),
            name if self.shows_fields => {
                // Writing to a string never fails.
                let _ = write!(self.fields, " {name}={value:?}");
            }
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // By `Display`: `Debug` of a string would put it in quotes.
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing::{info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LineFormat, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(format)
            .with_writer(move || writer.clone())
            .finish();
        with_default(subscriber, log);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn account_stands_before_the_message_and_fields_are_left_out() {
        let lines = written(LineFormat::Prioritized, || {
            let name = "小红";
            warn!(client = %name, pid = 272, "ended by signal 9 (pid 272)");
            info!(client = name, "listening");
            info!(path = "/x", "ready");
            info!(target: "client", client = %name, "a line of its own");
        });
        assert_eq!(
            lines,
            "<4>小红: ended by signal 9 (pid 272)\n<6>小红: listening\n<6>ready\n<6>小红: a line of its own\n"
        );
    }

    #[test]
    fn fields_of_libraries_are_shown() {
        let lines =
            written(LineFormat::Prioritized, || warn!(target: "zbus::connection", path = "/x", "no reply"));
        assert_eq!(lines, "<4>no reply path=/x\n");
    }

    #[test]
    fn dated_line_has_time_and_level() {
        let line = written(LineFormat::Dated, || info!(client = "a", "listening"));
        assert!(line.starts_with("20") && line.ends_with("Z  INFO a: listening\n"), "{line}");
    }
}
