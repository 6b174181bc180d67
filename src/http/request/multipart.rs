//! `multipart/form-data` bodies (RFC 7578) in one piece, as PHP sends arrays, and curl with `-F`.
//!
//! A streaming parser can't cut one field out and leave the others unchanged byte for byte.

use std::ops::Range;

/// The most parts that are accepted.
const MAX_PARTS: usize = 256;

/// The most headers of a part.
const MAX_HEADERS: usize = 16;

/// The body is not what its type says, or has more than `MAX_PARTS` parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the multipart body is malformed")]
pub struct MalformedMultipart;

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part with the delimiter before it. The body without these bytes is a body without this part.
    pub place: Range<usize>,
    /// The content.
    pub content: Range<usize>,
    /// The name of the field, unless it has none or is a file.
    pub field: Option<Vec<u8>>,
}

/// The parts of `body`.
pub fn parts(body: &[u8], boundary: &str) -> Result<Vec<Part>, MalformedMultipart> {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut parts = Vec::new();
    // Text before the first delimiter is ignored.
    let (mut start, mut inside, mut is_last) =
        next_delimiter(body, 0, &delimiter).ok_or(MalformedMultipart)?;
    while !is_last {
        if parts.len() == MAX_PARTS {
            return Err(MalformedMultipart);
        }
        let (next, next_inside, next_is_last) =
            next_delimiter(body, inside, &delimiter).ok_or(MalformedMultipart)?;
        // The line end before a delimiter belongs to the delimiter. In an empty part it is that of the delimiter
        // before.
        let part = &body[inside..next.saturating_sub(2).max(inside)];
        let (headers, field) = field(part)?;
        parts.push(Part { place: start..next, content: inside + headers..inside + part.len(), field });
        (start, inside, is_last) = (next, next_inside, next_is_last);
    }
    Ok(parts)
}

/// The first delimiter in `body[from..]`, at the beginning of a line: where it begins and ends, and whether it is the last.
fn next_delimiter(body: &[u8], from: usize, delimiter: &[u8]) -> Option<(usize, usize, bool)> {
    let mut at = from;
    loop {
        if let Some(after) = body[at..].strip_prefix(delimiter) {
            // White space may follow a delimiter (RFC 2046, 5.1.1, "transport-padding").
            let padding = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            if after.starts_with(b"--") {
                return Some((at, body.len(), true));
            }
            if after[padding..].starts_with(b"\r\n") {
                return Some((at, at + delimiter.len() + padding + 2, false));
            }
        }
        // A line that only begins like a delimiter is content.
        at += body[at..].windows(2).position(|two| two == b"\r\n")? + 2;
    }
}

/// The size of a part's headers, and the name of the field that it is.
fn field(part: &[u8]) -> Result<(usize, Option<Vec<u8>>), MalformedMultipart> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let Ok(httparse::Status::Complete((size, headers))) = httparse::parse_headers(part, &mut headers) else {
        return Err(MalformedMultipart);
    };
    let disposition = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-disposition"));
    let parameters = parameters(disposition.map_or(b"", |header| header.value));
    let value = |name: &[u8]| parameters.iter().find(|(there, _)| there.eq_ignore_ascii_case(name));
    let is_file = value(b"filename").is_some() || value(b"filename*").is_some();
    Ok((size, value(b"name").filter(|_| !is_file).map(|(_, name)| name.clone())))
}

/// The parameters after the first semicolon of a header's value (RFC 9110, 5.6.6).
pub fn parameters(value: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut parameters = Vec::new();
    let mut rest = value;
    while let Some(semicolon) = rest.iter().position(|byte| *byte == b';') {
        rest = rest[semicolon + 1..].trim_ascii_start();
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.strip_prefix(b"=") else {
            rest = after;
            continue;
        };
        let mut text = Vec::new();
        match after.strip_prefix(b"\"") {
            Some(quoted) => {
                let mut bytes = quoted.iter().enumerate();
                // Without a closing quote there is nothing after the value, and the loop ends.
                rest = b"";
                while let Some((at, byte)) = bytes.next() {
                    match byte {
                        b'"' => {
                            rest = &quoted[at + 1..];
                            break;
                        }
                        b'\\' => text.extend(bytes.next().map(|(_, escaped)| *escaped)),
                        _ => text.push(*byte),
                    }
                }
            }
            None => {
                let end = after.iter().position(|byte| *byte == b';').unwrap_or(after.len());
                text.extend_from_slice(after[..end].trim_ascii_end());
                rest = &after[end..];
            }
        }
        parameters.push((name.trim_ascii_end(), text));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(body: &str) -> Result<Vec<(Option<String>, String)>, MalformedMultipart> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let parts = parts(body.as_bytes(), "B")?;
        Ok(parts
            .into_iter()
            .map(|part| (part.field.map(|name| text(&name)), body[part.content].to_owned()))
            .collect())
    }

    const NAME: &str = "Content-Disposition: form-data; name=";

    #[test]
    fn multipart_fields_of_browsers_and_curl_are_read() {
        let some = |name: &str, value: &str| (Some(name.to_owned()), value.to_owned());
        for (body, expected) in [
            (format!("--B\r\n{NAME}\"a\"\r\n\r\n1\r\n--B--\r\n"), vec![some("a", "1")]),
            (format!("--B\r\n{NAME}a\r\n\r\n\r\n--B--"), vec![some("a", "")]),
            (
                format!(
                    "preamble\r\n--B \t\r\ncontent-type: text/plain\r\n{NAME}\"a\\\"b;c\"\r\n\r\n\r\n--Bx\r\n--\r\n\r\n--B--epilogue"
                ),
                vec![some("a\"b;c", "\r\n--Bx\r\n--\r\n")],
            ),
            (
                format!(
                    "--B\r\n{NAME}\"f\"; filename=\"client\"\r\n\r\n1\r\n--B\r\n\r\n2\r\n--B\r\n{NAME}\"小\"\r\n\r\n3\r\n--B--"
                ),
                vec![(None, "1".into()), (None, "2".into()), some("小", "3")],
            ),
            ("--B--".into(), vec![]),
        ] {
            assert_eq!(fields(&body).as_deref(), Ok(&expected[..]), "{body:?}");
        }
        for bad in
            ["", "x", "--B\r\n", "--B\r\n\r\nx", "--B\n\n--B--", "--B\r\nno header\r\n--B--", "--B\r\n--B--"]
        {
            assert_eq!(fields(bad), Err(MalformedMultipart), "{bad:?}");
        }
        let many = |count| format!("{}--B--", format!("--B\r\n{NAME}a\r\n\r\n\r\n").repeat(count));
        assert_eq!(fields(&many(MAX_PARTS)).unwrap().len(), MAX_PARTS);
        assert_eq!(fields(&many(MAX_PARTS + 1)), Err(MalformedMultipart));
    }

    proptest! {
        #[test]
        fn multipart_part_can_be_cut_out(contents in proptest::collection::vec("[-B\r\n a]{0,12}", 1..5), cut in 0usize..5) {
            // What looks like a delimiter is none of its own.
            prop_assume!(contents.iter().all(|content| !content.contains("--B")));
            let body: String = contents.iter().map(|content| format!("--B\r\n{NAME}x\r\n\r\n{content}\r\n")).collect();
            let body = body + "--B--\r\n";
            let found = parts(body.as_bytes(), "B").unwrap();
            let texts: Vec<_> = found.iter().map(|part| &body[part.content.clone()]).collect();
            prop_assert_eq!(&texts, &contents);
            let cut = cut % contents.len();
            let (before, after) = (&body[..found[cut].place.start], &body[found[cut].place.end..]);
            let mut left = contents.clone();
            left.remove(cut);
            let found = fields(&format!("{before}{after}")).unwrap();
            prop_assert_eq!(found.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), left);
        }
    }
}
