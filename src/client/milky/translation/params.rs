//! [`Params`]: the parameters of an action, as applications write them.

use serde_json::{Map, Value};

use crate::client::backend::action::{Answer, Refusal};
use crate::client::remote::message_ids::MessageKey;
use crate::client::remote::plan::PlanContext;
use crate::client::remote::value;

/// Parameters. Numbers and flags may be texts, as by HTTP and in CQ codes.
pub(super) struct Params(pub(super) Map<String, Value>);

/// The answer to a parameter that can't be used.
pub(super) fn bad(why: impl Into<String>) -> Answer {
    Answer::refused(Refusal::BadParameter, why)
}

/// A flag; the words are the standard's (`message/segment.md`).
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value.as_str() {
        Some("yes") => Some(true),
        Some("no") => Some(false),
        _ => value::flag(value),
    }
}

/// A number of a message, which is never 0.
pub(super) fn message_id(value: &Value) -> Option<i32> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.and_then(|number| i32::try_from(number).ok())
}

impl Params {
    fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether it is there.
    pub(super) fn has(&self, name: &str) -> bool {
        !self.get(name).is_null()
    }

    /// Takes it out, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.get_mut(name).map(Value::take).filter(|value| !value.is_null())
    }

    /// The number of a person or a group.
    pub(super) fn id(&self, name: &str) -> Result<u64, Answer> {
        value::id(self.get(name)).ok_or_else(|| bad(format!("{name} must be a number above 0")))
    }

    /// A number that may be missing.
    pub(super) fn number(&self, name: &str, usual: u64) -> Result<u64, Answer> {
        if !self.has(name) {
            return Ok(usual);
        }
        value::number(self.get(name)).ok_or_else(|| bad(format!("{name} must be a number, not below 0")))
    }

    /// A flag that may be missing.
    pub(super) fn flag(&self, name: &str, usual: bool) -> Result<bool, Answer> {
        if !self.has(name) {
            return Ok(usual);
        }
        flag(self.get(name)).ok_or_else(|| bad(format!("{name} must be true or false")))
    }

    /// A text that may be missing. Numbers are texts as well: a card may be one.
    pub(super) fn text(&self, name: &str) -> Result<String, Answer> {
        match self.get(name) {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null => Ok(String::new()),
            _ => Err(bad(format!("{name} must be a text"))),
        }
    }

    /// A text that has to be there, under the first of these names that is.
    pub(super) fn needed_text(&self, names: &[&str]) -> Result<String, Answer> {
        let found = names.iter().find(|name| self.has(name)).map(|name| self.text(name)).transpose()?;
        found.filter(|text| !text.is_empty()).ok_or_else(|| bad(format!("{} is missing", names.join(" or "))))
    }

    /// The message with this number.
    pub(super) fn message(&self, name: &str, context: &PlanContext) -> Result<MessageKey, Answer> {
        find_message(self.get(name), name, context)
    }
}

/// The message with the number `value`, which the application gave as `name`.
pub(super) fn find_message(value: &Value, name: &str, context: &PlanContext) -> Result<MessageKey, Answer> {
    let id = message_id(value).ok_or_else(|| bad(format!("{name} must be a number of 32 bits")))?;
    context.ids.find(id, context.account).ok_or_else(|| {
        Answer::refused(Refusal::NotFound, format!("there is no message {id}, or it is too long ago"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_read_in_any_form() {
        let Value::Object(map) =
            json!({ "a": "7", "b": 7, "c": "yes", "d": null, "e": 0, "f": [], "g": " -5 ", "h": 3e9 })
        else {
            unreachable!()
        };
        let params = Params(map);
        assert_eq!((params.id("a").unwrap(), params.id("b").unwrap()), (7, 7));
        assert_eq!((params.number("d", 9).unwrap(), params.number("e", 9).unwrap()), (9, 0));
        assert!(params.flag("c", false).unwrap() && params.flag("x", true).unwrap());
        assert_eq!((params.text("b").unwrap(), params.text("d").unwrap()), ("7".into(), String::new()));
        assert_eq!(params.needed_text(&["d", "a"]).unwrap(), "7");
        for refused in [
            params.id("e").map(|_| ()),
            params.id("x").map(|_| ()),
            params.number("f", 1).map(|_| ()),
            params.flag("f", true).map(|_| ()),
            params.text("f").map(|_| ()),
            params.needed_text(&["x", "y"]).map(|_| ()),
        ] {
            assert!(matches!(refused, Err(Answer::Failed { code: 100, .. })), "{refused:?}");
        }
        assert_eq!((message_id(params.get("g")), message_id(params.get("h"))), (Some(-5), None));
    }
}
