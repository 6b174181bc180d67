//! Reads JSON values in all the forms that implementations write.

use serde_json::Value;

use crate::client::backend::sanitize_remote_text;

/// A uid of a person or a group: not 0.
pub(crate) fn id(value: &Value) -> Option<u64> {
    number(value).filter(|id| *id > 0)
}

/// An opaque id such as `message_id`: a number, also a negative one, or text.
pub(crate) fn opaque(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A message id. Implementations write 0 if they do not know it.
pub(crate) fn message_number(value: &Value) -> Option<String> {
    opaque(value).filter(|number| number.trim() != "0")
}

/// Text; empty if there is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text for people, see [`sanitize_remote_text`].
pub(crate) fn words(value: &Value) -> String {
    sanitize_remote_text(text(value))
}

/// A non-negative integer.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => {
            // Below 2^53 a float is exact.
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

/// A non-negative integer, clamped to 32 bits; 0 if there is none.
pub(crate) fn small(value: &Value) -> u32 {
    number(value).map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// A flag, if there is one.
pub(crate) fn flag(value: &Value) -> Option<bool> {
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
    fn values_are_read_in_any_form() {
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
