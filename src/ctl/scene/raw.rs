//! The keys of a file of scenes, as they are written.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::expectation::{Expected, Pattern, Sought};

/// The longest time that a scene may wait for something, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) account: Option<String>,
    #[serde(default)]
    pub(super) scene: Vec<Spanned<RawScene>>,
}

/// A scene. What stands beside the steps holds for those that do not say it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScene {
    pub(super) name: String,
    #[serde(rename = "as")]
    pub(super) by: Option<Who>,
    #[serde(rename = "in")]
    pub(super) group: Option<Who>,
    pub(super) steps: Vec<Spanned<RawStep>>,
}

/// A step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    pub(super) say: Option<Value>,
    pub(super) image: Option<String>,
    pub(super) poke: Option<Poked>,
    pub(super) recall: Option<bool>,
    pub(super) request_friend: Option<String>,
    pub(super) request_join: Option<String>,
    pub(super) invite: Option<String>,
    pub(super) expect: Option<toml::Value>,
    #[serde(rename = "as")]
    pub(super) by: Option<Who>,
    #[serde(rename = "in")]
    pub(super) group: Option<Who>,
    pub(super) to: Option<Who>,
    pub(super) name: Option<String>,
    pub(super) within: Option<f64>,
}

/// Somebody, or a group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a uid or a name")]
pub(in crate::ctl) enum Who {
    Uid(u64),
    Name(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "{uid}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Who is poked.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true for the account, or the uid or name of a person")]
pub(super) enum Poked {
    Account(bool),
    Person(Who),
}

/// What is expected, as a table.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    equals: Option<String>,
    contains: Option<String>,
    matches: Option<String>,
    segment: Option<String>,
    action: Option<String>,
    nothing: Option<f64>,
}

/// A time of the file.
///
/// # Errors
/// It is none that can be waited for.
pub(super) fn time(seconds: f64) -> Result<std::time::Duration, String> {
    match seconds > 0.0 && seconds <= MAX_SECONDS {
        true => Ok(std::time::Duration::from_secs_f64(seconds)),
        false => Err(format!("a time is more than 0 and at most {MAX_SECONDS} seconds")),
    }
}

/// What a step expects.
///
/// # Errors
/// It can't be told what that is.
pub(super) fn expected(value: &toml::Value) -> Result<Expected, String> {
    let raw = match value {
        toml::Value::String(text) => RawExpected { equals: Some(text.clone()), ..RawExpected::default() },
        toml::Value::Table(_) => {
            value.clone().try_into::<RawExpected>().map_err(|error| format!("expect: {}", error.message()))?
        }
        _ => return Err("expect is a text, or a table such as { contains = \"pong\" }".to_owned()),
    };
    let of_message =
        raw.equals.is_some() || raw.contains.is_some() || raw.matches.is_some() || raw.segment.is_some();
    match (of_message, raw.action, raw.nothing) {
        (true, None, None) => Ok(Expected::Message(Sought {
            equals: raw.equals,
            contains: raw.contains,
            matches: raw.matches.as_deref().map(Pattern::new),
            segment: raw.segment,
        })),
        (false, Some(action), None) => Ok(Expected::Action(action)),
        (false, None, Some(seconds)) => time(seconds).map(Expected::Nothing),
        (false, None, None) => {
            Err("expect has one of equals, contains, matches, segment, action and nothing".to_owned())
        }
        _ => Err("expect is about a message, an action, or nothing: only one of them".to_owned()),
    }
}
