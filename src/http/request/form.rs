//! [`FormKind`]: the kinds of bodies that hold parameters, by `Content-Type`.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::multipart::{parameters, parts};
use super::params::{ParamError, Params, take};

/// The kind of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormKind {
    /// `application/x-www-form-urlencoded`.
    UrlEncoded,
    /// `multipart/form-data`, with its boundary.
    Multipart(String),
    /// `application/json`: an object of strings, numbers and booleans.
    Json,
}

/// A form without the parameter that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemainingForm<'a> {
    /// The same kind of form; the other parameters are unchanged byte for byte.
    Same(Cow<'a, [u8]>),
    /// Now `application/x-www-form-urlencoded`, which every client understands.
    UrlEncoded(String),
}

impl FormKind {
    /// The kind that `headers` declare, if the body is a form.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut kinds = headers.get_all(CONTENT_TYPE).iter();
        // With two headers the client may believe the other one.
        let kind = kinds.next().filter(|_| kinds.next().is_none())?.as_bytes();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Some(Self::UrlEncoded);
        }
        if essence.eq_ignore_ascii_case(b"application/json") {
            return Some(Self::Json);
        }
        if !essence.eq_ignore_ascii_case(b"multipart/form-data") {
            return None;
        }
        let parameters = parameters(kind);
        let (_, boundary) =
            parameters.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"))?;
        String::from_utf8(boundary).ok().filter(|boundary| !boundary.is_empty()).map(Self::Multipart)
    }

    /// Reads the parameters of `body`.
    pub fn parse(&self, body: &[u8]) -> Result<Params, ParamError> {
        match self {
            Self::UrlEncoded => Params::parse(body),
            Self::Multipart(boundary) => {
                let mut params = Params::default();
                for part in parts(body, boundary)? {
                    if let Some(name) = part.field {
                        params.add(name, body[part.content].to_vec())?;
                    }
                }
                Ok(params)
            }
            Self::Json => json(body),
        }
    }

    /// Takes the parameter `name` out of `body`. Returns its value, if there is one, and the remaining form.
    pub fn take<'a>(
        &self,
        body: &'a [u8],
        name: &str,
    ) -> Result<(Option<String>, RemainingForm<'a>), ParamError> {
        match self {
            Self::UrlEncoded => take(body, name).map(|(value, rest)| (value, RemainingForm::Same(rest))),
            Self::Multipart(boundary) => {
                let is_named = |part: &super::multipart::Part| part.field.as_deref() == Some(name.as_bytes());
                let mut named = parts(body, boundary)?.into_iter().filter(is_named);
                let Some(part) = named.next() else {
                    return Ok((None, RemainingForm::Same(Cow::Borrowed(body))));
                };
                if named.next().is_some() {
                    return Err(ParamError::Twice(name.to_owned()));
                }
                let value = String::from_utf8(body[part.content].to_vec());
                let value = value.map_err(|_| ParamError::NotUtf8(name.to_owned()))?;
                let rest = [&body[..part.place.start], &body[part.place.end..]].concat();
                Ok((Some(value), RemainingForm::Same(Cow::Owned(rest))))
            }
            Self::Json => {
                let mut params = json(body)?;
                let value = params.remove(name);
                let mut rest = url::form_urlencoded::Serializer::new(String::new());
                rest.extend_pairs(params.iter());
                Ok((value, RemainingForm::UrlEncoded(rest.finish())))
            }
        }
    }
}

/// Parameters that may be JSON themselves: the parts of a message, and the parameters of an action of OneBot.
const NESTED: [&str; 2] = ["segments", "params"];

/// The parameters in a JSON object. Numbers are kept as written; as in Perl true is 1 and false is 0; null means
/// not given.
fn json(body: &[u8]) -> Result<Params, ParamError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // As pairs: a map would silently keep the last of two equal names, and turn numbers into other text.
    let pairs = deserializer.deserialize_map(Pairs).and_then(|pairs| deserializer.end().map(|()| pairs));
    let mut params = Params::default();
    for (name, value) in pairs.map_err(|_| ParamError::NotAnObject)? {
        let text = match value.get() {
            "null" => continue,
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            text if text.starts_with('"') => {
                // Fails on an escaped surrogate without its other half, which no text can hold.
                serde_json::from_str(text).map_err(|_| ParamError::NotUtf8(name.clone()))?
            }
            text if text.starts_with(['{', '[']) && !NESTED.contains(&name.as_str()) => {
                return Err(ParamError::NotText(name));
            }
            number => number.to_owned(),
        };
        params.add(name.into_bytes(), text.into_bytes())?;
    }
    Ok(params)
}

/// The members of an object in order, duplicates included.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            // One more than allowed may pass, for which `Params::add` has the better error. The rest is not even read.
            if pairs.len() > Params::MAX_COUNT {
                return Err(A::Error::custom("too many"));
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn kind(text: &str) -> Option<FormKind> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
        FormKind::of(&headers)
    }

    #[test]
    fn content_types_of_forms_are_recognized() {
        for (text, expected) in [
            ("application/x-www-form-urlencoded", Some(FormKind::UrlEncoded)),
            ("Application/X-WWW-Form-URLencoded ;a=b", Some(FormKind::UrlEncoded)),
            ("application/json; charset=utf-8", Some(FormKind::Json)),
            ("multipart/form-data; boundary=----x1", Some(FormKind::Multipart("----x1".into()))),
            ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some(FormKind::Multipart("a b".into()))),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/mixed; boundary=x", None),
            ("application/x-www-form-urlencoded2", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        assert_eq!(FormKind::of(&HeaderMap::new()), None);
    }

    #[test]
    fn json_object_is_read_as_parameters() {
        let read =
            |text: &str| FormKind::Json.parse(text.as_bytes()).map(|params| params.into_iter().collect());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read(
                r#" {"client":"\u5c0f","id":12345678901234567890123,"x":1.50,"t":true,"f":false,"n":null,"e":""} "#
            ),
            Ok(vec![
                pair("client", "小"),
                pair("id", "12345678901234567890123"),
                pair("x", "1.50"),
                pair("t", "1"),
                pair("f", "0"),
                pair("e", ""),
            ])
        );
        assert_eq!(read("{}"), Ok(vec![]));
        for text in ["", "[]", "1", "{", "{\"a\":1}x", "{a:1}", "\u{feff}{}"] {
            assert_eq!(read(text), Err(ParamError::NotAnObject), "{text}");
        }
        assert_eq!(read(r#"{"a":1,"a":1}"#), Err(ParamError::Twice("a".into())));
        assert_eq!(read(r#"{"a":[1]}"#), Err(ParamError::NotText("a".into())));
        assert_eq!(read(r#"{"a":{}}"#), Err(ParamError::NotText("a".into())));
        assert_eq!(
            read(r#"{"segments": [{"a": "小"}], "params":{}}"#),
            Ok(vec![pair("segments", r#"[{"a": "小"}]"#), pair("params", "{}")])
        );
        assert_eq!(read(r#"{"a":"\ud83d"}"#), Err(ParamError::NotUtf8("a".into())));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).is_err());
        let many: Vec<String> = (0..100).map(|n| format!("\"p{n}\":1")).collect();
        assert!(read(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn parameter_is_taken_out_of_form() {
        let (value, rest) =
            FormKind::Json.take(br#"{"content":"a&b 1","client":"x","id":5}"#, "client").unwrap();
        assert_eq!(
            (value.as_deref(), rest),
            (Some("x"), RemainingForm::UrlEncoded("content=a%26b+1&id=5".into()))
        );
        let part = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let multipart = FormKind::Multipart("B".into());
        let (a, b) = (part("content", "client"), part("x", ""));
        let body = [&a, &part("client", "小"), &b, "--B--\r\n"].concat();
        let (value, rest) = multipart.take(body.as_bytes(), "client").unwrap();
        let left = [&a, &b, "--B--\r\n"].concat();
        assert_eq!((value.as_deref(), &rest), (Some("小"), &RemainingForm::Same(left.as_bytes().into())));
        assert_eq!(
            multipart.take(left.as_bytes(), "client"),
            Ok((None, RemainingForm::Same(left.as_bytes().into())))
        );
        let twice = [part("client", "x"), part("client", "x"), "--B--".into()].concat();
        assert_eq!(multipart.take(twice.as_bytes(), "client"), Err(ParamError::Twice("client".into())));
        assert_eq!(multipart.parse(twice.as_bytes()), Err(ParamError::Twice("client".into())));
        assert_eq!(multipart.take(b"client=a", "client"), Err(ParamError::Malformed));
    }
}
