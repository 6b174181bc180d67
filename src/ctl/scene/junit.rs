//! The outcome of scenes as JUnit's XML, which services that build and test read. There is no standard of it; this has what they
//! have in common: `testsuites`, `testsuite` with counts, `testcase` with `failure`.

use std::fmt::Write;
use std::time::Duration;

use crate::ctl::screen::printable;

/// What came of a scene.
pub(in crate::ctl) struct Played {
    pub(in crate::ctl) name: String,
    pub(in crate::ctl) time: Duration,
    /// Why it failed.
    pub(in crate::ctl) failure: Option<String>,
}

/// The document.
pub(in crate::ctl) fn document(file: &str, played: &[Played]) -> String {
    let failures = played.iter().filter(|played| played.failure.is_some()).count();
    let time: Duration = played.iter().map(|played| played.time).sum();
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\"",
        played.len(),
        time.as_secs_f64()
    );
    let file = escaped(file);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"{file}\" {counts}>\n"
    );
    for Played { name, time, failure } in played {
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "    <testcase classname=\"{file}\" name=\"{}\" time=\"{:.3}\"",
            escaped(name),
            time.as_secs_f64()
        );
        match failure {
            Some(why) => {
                let why = escaped(why);
                let _ =
                    writeln!(text, ">\n      <failure message=\"{why}\">{why}</failure>\n    </testcase>");
            }
            None => text.push_str("/>\n"),
        }
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// The text as it may stand in an attribute. Most control characters can't be in XML 1.0 at all (2.2), so they are shown.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(c.escape_unicode()),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_escaped() {
        let time = Duration::from_millis(1500);
        let played = [
            Played { name: "a < b".to_owned(), time, failure: None },
            Played { name: "c".to_owned(), time, failure: Some("\"]]>&'\u{1b}\n\u{ffff}".to_owned()) },
        ];
        let text = document("x&y", &played);
        assert!(text.contains("<testsuite name=\"x&amp;y\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"3.000\">"));
        assert!(text.contains("name=\"a &lt; b\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("message=\"&quot;]]&gt;&amp;&apos;\\u{1b}\\n\\u{ffff}\">"), "{text}");
    }
}
