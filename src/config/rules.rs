//! What values options allow. A rule turns an item into a value, or into faults that say what it is and what
//! it must be. Strings are shown in faults only where no secret can be meant.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::endpoint::Endpoint;
use super::fragment::{Fault, Item, Value};
use super::log_level::LogLevel;
use super::options::Checked;
use crate::model::machine::Placement;
use crate::model::restart::RestartPolicy;

/// The shortest duration other than none: finer ones are below what timers do, and would keep the CPU busy.
const SHORTEST: f64 = 0.001;
/// The longest duration, in seconds: a day.
const LONGEST: f64 = 86_400.0;

/// A whole number within `range`.
pub(super) fn whole<N>(range: RangeInclusive<N>) -> impl Fn(&Item) -> Checked<N>
where
    N: Copy + Display + PartialOrd + TryFrom<i64>,
{
    move |item| {
        let number = match item.value {
            Value::Integer(number) => N::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        };
        number
            .ok_or_else(|| wrong(item, &format!("a whole number from {} to {}", range.start(), range.end())))
    }
}

/// A port that clients may be given.
pub(super) fn unprivileged_port(item: &Item) -> Checked<u16> {
    whole(1024..=u16::MAX)(item).map_err(|mut faults| {
        for fault in &mut faults {
            fault.message.push_str(" (lower ports need privileges, which clients do not have)");
        }
        faults
    })
}

/// A duration of at least a millisecond, as whole or broken seconds.
pub(super) fn seconds(item: &Item) -> Checked<Duration> {
    duration(item)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| wrong(item, &format!("a number of seconds from {SHORTEST} to {LONGEST}")))
}

/// A duration that may be 0 as well.
pub(super) fn seconds_or_zero(item: &Item) -> Checked<Duration> {
    seconds_or_zero_up_to(LONGEST)(item)
}

/// The same, of at most so many seconds.
pub(super) fn seconds_or_zero_up_to(longest: impl Into<f64>) -> impl Fn(&Item) -> Checked<Duration> {
    let longest = longest.into();
    move |item| {
        duration(item).filter(|duration| duration.as_secs_f64() <= longest).ok_or_else(|| {
            wrong(item, &format!("a number of seconds from {SHORTEST} to {longest}, or 0 for none"))
        })
    }
}

fn duration(item: &Item) -> Option<Duration> {
    let seconds = match item.value {
        // What `f64` can't tell apart is far above the limit.
        Value::Integer(number) => number as f64,
        Value::Float(number) => number,
        _ => return None,
    };
    // False for NaN, which neither equals nor is in a range.
    let allowed = seconds == 0.0 || (SHORTEST..=LONGEST).contains(&seconds);
    allowed.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

/// What `rule` allows, or the empty string for none, by which a later file unsets what an earlier one set.
pub(super) fn optional<T>(rule: impl Fn(&Item) -> Checked<T>) -> impl Fn(&Item) -> Checked<Option<T>> {
    move |item| match &item.value {
        // Before the rule, which may well refuse an empty string.
        Value::Text(text) if text.is_empty() => Ok(None),
        _ => rule(item).map(Some),
    }
}

/// A list, maybe empty, of what `rule` allows.
pub(super) fn list_of<T>(rule: impl Fn(&Item) -> Checked<T>) -> impl Fn(&Item) -> Checked<Vec<T>> {
    move |item| {
        let Value::List(entries) = &item.value else { return Err(wrong(item, "a list")) };
        let mut values = Vec::new();
        let mut faults = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            match rule(entry) {
                Ok(value) => values.push(value),
                Err(of_entry) => faults.extend(of_entry.into_iter().map(|fault| Fault {
                    line: fault.line,
                    message: format!("entry {number} {}", fault.message),
                })),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(faults) }
    }
}

/// An absolute path. A relative one would depend on the working directory of the daemon.
pub(super) fn absolute_path(item: &Item) -> Checked<PathBuf> {
    match &item.value {
        // With a NUL every system call fails that gets the path, and only when it is first used.
        Value::Text(text) if Path::new(text).is_absolute() && !text.contains('\0') => Ok(PathBuf::from(text)),
        _ => Err(wrong_shown(item, "an absolute path without NUL, such as \"/var/lib/example\"")),
    }
}

/// One of the words of [`LogLevel`].
pub(super) fn log_level(item: &Item) -> Checked<LogLevel> {
    let level = match &item.value {
        Value::Text(word) => LogLevel::from_word(word),
        _ => None,
    };
    level.ok_or_else(|| {
        wrong_shown(item, &format!("one of {}", LogLevel::ALL.map(LogLevel::as_str).join(", ")))
    })
}

/// One of the words of [`RestartPolicy`].
pub(super) fn restart_policy(item: &Item) -> Checked<RestartPolicy> {
    let policy = match &item.value {
        Value::Text(word) => RestartPolicy::ALL.into_iter().find(|policy| policy.as_str() == word),
        _ => None,
    };
    policy.ok_or_else(|| {
        wrong_shown(item, &format!("one of {}", RestartPolicy::ALL.map(RestartPolicy::as_str).join(", ")))
    })
}

/// Where accounts start that no machine is named for.
pub(super) fn placement(item: &Item) -> Checked<Placement> {
    let known = match &item.value {
        Value::Text(text) => Placement::WORDS.into_iter().find(|(word, _)| word == text),
        _ => None,
    };
    known.map(|(_, placement)| placement).ok_or_else(|| wrong_shown(item, "local or spread"))
}

/// A switch.
pub(super) fn yes_or_no(item: &Item) -> Checked<bool> {
    match item.value {
        Value::Boolean(on) => Ok(on),
        _ => Err(wrong(item, "true or false")),
    }
}

/// The name of a character encoding, which only clients interpret.
pub(super) fn encoding(item: &Item) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match &item.value {
        Value::Text(text) if (1..=32).contains(&text.len()) && text.bytes().all(plain) => Ok(text.clone()),
        _ => Err(wrong_shown(item, "1 to 32 letters, digits, - or _, such as \"utf8\"")),
    }
}

/// The name of a start parameter. Not shown when it is none: it may be the secret instead of its name.
pub(super) fn parameter_name(item: &Item) -> Checked<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match &item.value {
        Value::Text(text)
            if text.len() <= 64
                && text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.bytes().all(plain) =>
        {
            Ok(text.clone())
        }
        Value::Text(_) => {
            Err(fault(item, "must be a letter, then at most 63 letters, digits or _".to_owned()))
        }
        _ => Err(wrong(item, "the name of a start parameter")),
    }
}

/// An `http` or `https` URL. Not shown: it may carry a password.
pub(super) fn endpoint(item: &Item) -> Checked<Endpoint> {
    let Value::Text(text) = &item.value else { return Err(wrong(item, "an http:// or https:// URL")) };
    Endpoint::new(text).ok_or_else(|| {
        let allowed =
            format!("a valid http:// or https:// URL without spaces, at most {} bytes", Endpoint::MAX_BYTES);
        fault(item, format!("must be {allowed}"))
    })
}

/// What is wrong with `item`, as the end of a sentence that begins with the option's name.
pub(super) fn fault(item: &Item, message: String) -> Vec<Fault> {
    vec![Fault { line: Some(item.line), message }]
}

/// `item` is not what is allowed. Strings are not shown.
pub(super) fn wrong(item: &Item, allowed: &str) -> Vec<Fault> {
    fault(item, format!("is {}, must be {allowed}", item.value.shown()))
}

/// Like [`wrong`], with the text of a string.
pub(super) fn wrong_shown(item: &Item, allowed: &str) -> Vec<Fault> {
    match &item.value {
        Value::Text(text) => fault(item, format!("is {}, must be {allowed}", quoted(text))),
        _ => wrong(item, allowed),
    }
}

/// The text as one line of a message, cut where it is very long.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::fragment::Fragment;

    /// What `rule` says about a TOML value: its value, or its faults, each with the line.
    pub(in crate::config) fn check<T>(rule: impl Fn(&Item) -> Checked<T>, value: &str) -> Result<T, String> {
        let fragment = Fragment::parse(Path::new("f"), &format!("key = {value}"));
        assert!(fragment.faults.is_empty(), "{value}: {:?}", fragment.faults);
        rule(fragment.find("key").unwrap()).map_err(|faults| {
            let line = |fault: &Fault| format!("{}: {}", fault.line.unwrap(), fault.message);
            faults.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn whole_numbers() {
        let rule = || whole::<u16>(1..=10);
        assert_eq!(check(rule(), "1"), Ok(1));
        assert_eq!(check(rule(), "0xA"), Ok(10));
        for (bad, shown) in [("0", "0"), ("11", "11"), ("-1", "-1"), ("65537", "65537"), ("5.0", "5.0")] {
            assert_eq!(
                check(rule(), bad),
                Err(format!("1: is {shown}, must be a whole number from 1 to 10"))
            );
        }
        for (bad, kind) in [("'5'", "a string"), ("true", "true"), ("[]", "a list"), ("{}", "a table")] {
            assert!(check(rule(), bad).unwrap_err().starts_with(&format!("1: is {kind}, must be")), "{bad}");
        }
    }

    #[test]
    fn ports_say_why() {
        assert_eq!(check(unprivileged_port, "1024"), Ok(1024));
        assert!(check(unprivileged_port, "80").unwrap_err().contains("lower ports need privileges"));
    }

    #[test]
    fn durations() {
        assert_eq!(check(seconds, "86_400"), Ok(Duration::from_secs(86_400)));
        assert_eq!(check(seconds, "0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(check(seconds_or_zero, "0"), Ok(Duration::ZERO));
        assert_eq!(check(seconds_or_zero, "-0.0"), Ok(Duration::ZERO));
        let allowed = "must be a number of seconds from 0.001 to 86400";
        for (bad, shown) in [
            ("0", "0"),
            ("0.0", "0.0"),
            ("-1", "-1"),
            ("1e-9", "1e-9"),
            ("86401", "86401"),
            ("9223372036854775807", "9223372036854775807"),
            ("1e999", "inf"),
            ("nan", "NaN"),
            ("'5s'", "a string"),
            ("2024-01-01", "a date or time"),
        ] {
            assert_eq!(check(seconds, bad), Err(format!("1: is {shown}, {allowed}")));
        }
        assert_eq!(check(seconds_or_zero, "-1"), Err(format!("1: is -1, {allowed}, or 0 for none")));
    }

    #[test]
    fn paths() {
        assert_eq!(check(absolute_path, "'/a b'"), Ok(PathBuf::from("/a b")));
        assert_eq!(check(optional(absolute_path), "''"), Ok(None));
        let allowed = "must be an absolute path without NUL, such as \"/var/lib/example\"";
        for (bad, shown) in [
            ("'tmp'", "\"tmp\""),
            ("''", "\"\""),
            (r#""/a\u0000""#, r#""/a\0""#),
            ("'~/x'", "\"~/x\""),
            ("1", "1"),
        ] {
            assert_eq!(check(absolute_path, bad), Err(format!("1: is {shown}, {allowed}")));
        }
        assert_eq!(
            check(list_of(absolute_path), "[\n'/a',\n'b',\n3]"),
            Err(format!("3: entry 2 is \"b\", {allowed}\n4: entry 3 is 3, {allowed}"))
        );
        assert_eq!(check(list_of(absolute_path), "'/a'"), Err("1: is a string, must be a list".into()));
        assert!(check(absolute_path, &format!("'{}'", "x".repeat(9999))).unwrap_err().len() < 200);
    }

    #[test]
    fn words() {
        assert_eq!(check(log_level, "'msg'"), Ok(LogLevel::Msg));
        assert_eq!(
            check(log_level, "'verbose'"),
            Err("1: is \"verbose\", must be one of debug, info, msg, warn, error, fatal".into())
        );
        assert_eq!(check(encoding, "'utf-8'").as_deref(), Ok("utf-8"));
        for bad in ["''", "'a b'", "8", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'"] {
            assert!(check(encoding, bad).unwrap_err().contains("must be 1 to 32 letters"), "{bad}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        assert_eq!(check(parameter_name, "'p_1'").as_deref(), Ok("p_1"));
        assert_eq!(check(endpoint, "'http://h/'").unwrap().as_str(), "http://h/");
        for error in [
            check(parameter_name, "'_hunter2'").unwrap_err(),
            check(parameter_name, &format!("'hunter2{}'", "x".repeat(64))).unwrap_err(),
            check(parameter_name, "['hunter2']").unwrap_err(),
            check(endpoint, "'ftp://me:hunter2@h/'").unwrap_err(),
            check(endpoint, "{ url = 'hunter2' }").unwrap_err(),
            check(whole::<u16>(1..=2), "'hunter2'").unwrap_err(),
        ] {
            assert!(error.contains("must be") && !error.contains("hunter2"), "{error}");
        }
    }
}
