//! [`Params`]: the parameters of an action, in all the forms in which programs write them.

use serde_json::{Map, Value};

use super::bad;
use crate::client::backend::action::Answer;
use crate::client::backend::segment::{self, Segment};

/// Parameters. By HTTP GET all of them are texts.
pub(in crate::client::sandbox) struct Params(pub(in crate::client::sandbox) Map<String, Value>);

impl Params {
    /// One that is there and not null.
    pub(in crate::client::sandbox) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Answer> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| bad(format!("{name} must be a number")))
    }

    /// A number, or what it is without one.
    pub(in crate::client::sandbox) fn number_or(&self, name: &str, default: i64) -> Result<i64, Answer> {
        Ok(self.number(name)?.unwrap_or(default))
    }

    /// The uid of a person or a group, if there is one.
    pub(in crate::client::sandbox) fn optional_uid(&self, name: &str) -> Result<Option<String>, Answer> {
        match self.number(name)? {
            // What programs write in place of nothing.
            None | Some(0) => Ok(None),
            Some(number @ 1..) => Ok(Some(number.to_string())),
            Some(_) => Err(bad(format!("{name} must be a positive number"))),
        }
    }

    /// The uid of a person or a group.
    pub(in crate::client::sandbox) fn uid(&self, name: &str) -> Result<String, Answer> {
        self.optional_uid(name)?.ok_or_else(|| bad(format!("{name} is missing")))
    }

    /// The number of a message.
    pub(in crate::client::sandbox) fn message(&self, name: &str) -> Result<i32, Answer> {
        let number = self.number(name)?.ok_or_else(|| bad(format!("{name} is missing")))?;
        i32::try_from(number).map_err(|_| bad(format!("{name} is no number of a message")))
    }

    /// A text; a number counts as one. Empty if there is none.
    pub(in crate::client::sandbox) fn text(&self, name: &str) -> String {
        match self.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => String::new(),
        }
    }

    /// A text that has to be there.
    pub(in crate::client::sandbox) fn needed(&self, name: &str) -> Result<String, Answer> {
        let text = self.text(name);
        if text.is_empty() { Err(bad(format!("{name} is missing"))) } else { Ok(text) }
    }

    /// A flag, or what it is without one.
    pub(in crate::client::sandbox) fn flag(&self, name: &str, default: bool) -> Result<bool, Answer> {
        Ok(match self.get(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::Number(number)) => number.as_i64() != Some(0),
            Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "" => default,
                "true" | "1" | "yes" => true,
                "false" | "0" | "no" => false,
                _ => return Err(bad(format!("{name} must be true or false"))),
            },
            Some(_) => return Err(bad(format!("{name} must be true or false"))),
        })
    }

    /// A message, which is not empty.
    pub(in crate::client::sandbox) fn parts(&self) -> Result<Vec<Segment>, Answer> {
        // What forwards messages has them by this name.
        let message = self.get("message").or_else(|| self.get("messages"));
        let message = message.ok_or_else(|| bad("message is missing"))?;
        // By HTTP GET an array is a text; CQ codes begin otherwise.
        let listed = match message {
            Value::String(text) if text.starts_with("[{") => serde_json::from_str::<Value>(text).ok(),
            _ => None,
        };
        let plain = self.flag("auto_escape", false)?;
        let parts = listed.filter(|_| !plain).and_then(|listed| segment::read(&listed, false));
        let parts = parts.or_else(|| segment::read(message, plain));
        let parts = parts.ok_or_else(|| bad("message is no text and no list of segments"))?;
        // Programs put empty texts beside images.
        let parts: Vec<Segment> =
            parts.into_iter().filter(|part| part.kind != "text" || !part.get("text").is_empty()).collect();
        if parts.is_empty() { Err(bad("message is empty")) } else { Ok(parts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_read_in_all_forms() {
        let Value::Object(map) = json!({
            "a": 7, "b": "7", "c": "x", "d": 0, "e": -1, "f": "yes", "g": 0, "h": "false", "i": null,
            "message": "[{\"type\":\"at\",\"data\":{\"qq\":1}}]",
        }) else {
            panic!()
        };
        let params = Params(map);
        assert_eq!((params.uid("a").unwrap(), params.uid("b").unwrap()), ("7".into(), "7".into()));
        for wrong in ["c", "d", "e", "i", "z"] {
            assert!(params.uid(wrong).is_err(), "{wrong}");
        }
        assert_eq!(params.optional_uid("d"), Ok(None));
        assert_eq!((params.flag("f", false), params.flag("g", true)), (Ok(true), Ok(false)));
        assert_eq!((params.flag("h", true), params.flag("z", true)), (Ok(false), Ok(true)));
        assert!(params.flag("c", true).is_err());
        assert_eq!(params.text("a"), "7");
        assert_eq!(params.parts().unwrap(), [Segment::new("at", &[("qq", "1")])]);
    }
}
