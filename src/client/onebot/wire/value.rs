//! Values, whatever they are written as.

use serde_json::Value;

use crate::client::backend::others_words;

/// A number of a person or a group: not 0, in decimal digits.
pub(in crate::client::onebot) fn id(value: &Value) -> Option<u64> {
    number(value).filter(|id| *id > 0)
}

/// What only its maker understands, such as `message_id`: a number, also a negative one, or text.
pub(in crate::client::onebot) fn opaque(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Text. Empty where there is none.
pub(in crate::client::onebot) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The other end's words for people: one line, no longer than a log or a state file bears.
pub(in crate::client::onebot) fn words(value: &Value) -> String {
    others_words(text(value))
}

/// A whole number that is not negative.
pub(in crate::client::onebot) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            let whole = |float: f64| float.fract() == 0.0 && (0.0..9.0e15).contains(&float);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and small"
            )]
            number
                .as_u64()
                .or_else(|| number.as_f64().filter(|float| whole(*float)).map(|float| float as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The same, as far as it fits; 0 where there is none.
pub(in crate::client::onebot) fn small(value: &Value) -> u32 {
    number(value).map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whether a flag is set. None: there is none.
pub(in crate::client::onebot) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(_) => number(value).map(|number| number != 0),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_as_anything() {
        for (value, expected) in [
            (json!(10001), Some(10001)),
            (json!("10001"), Some(10001)),
            (json!(" 10001 "), Some(10001)),
            (json!(10001.0), Some(10001)),
            (json!(0), None),
            (json!("0"), None),
            (json!(-5), None),
            (json!(1.5), None),
            (json!(1e300), None),
            (json!(""), None),
            (json!("x"), None),
            (json!(null), None),
            (json!({}), None),
            (json!([1]), None),
        ] {
            assert_eq!(id(&value), expected, "{value}");
        }
        assert_eq!(small(&json!("99999999999")), u32::MAX);
        assert_eq!(opaque(&json!(-2_147_483_648_i64)).as_deref(), Some("-2147483648"));
        assert_eq!(opaque(&json!("AbC=")).as_deref(), Some("AbC="));
        assert_eq!((opaque(&json!("")), opaque(&json!(null))), (None, None));
        assert_eq!(words(&json!("no\n such\u{1b}[2J")), "no such[2J");
        assert_eq!(
            (words(&json!("长".repeat(5000))).chars().count(), words(&json!(7))),
            (200, String::new())
        );
        assert_eq!(
            (flag(&json!("false")), flag(&json!(1)), flag(&json!({}))),
            (Some(false), Some(true), None)
        );
    }
}
