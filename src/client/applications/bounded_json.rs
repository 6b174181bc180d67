//! JSON of applications, read within bounds. A few bytes of JSON can be a value of many: `{"":0},` is a map, which takes a hundred
//! times as much memory. So its parts are counted before it is read.

use serde::de::DeserializeOwned;

/// How many lists and maps there may be: many times as many as in the longest list of messages that a network takes.
const MAX_NESTS: usize = 20_000;

/// How many commas there may be, those in texts included.
const MAX_COMMAS: usize = 200_000;

/// Why it can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum JsonError {
    /// It has too many parts.
    #[error("it has too many parts: there may be {MAX_NESTS} lists and objects, and {MAX_COMMAS} commas")]
    TooManyParts,
    /// It is none, or another.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

/// Reads JSON.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    let (mut nests, mut commas) = (0_usize, 0_usize);
    for byte in text {
        // Those in texts count as well, which keeps this short. Images in base64 have none of them.
        nests += usize::from(matches!(byte, b'{' | b'['));
        commas += usize::from(*byte == b',');
    }
    if nests > MAX_NESTS || commas > MAX_COMMAS {
        return Err(JsonError::TooManyParts);
    }
    Ok(serde_json::from_slice(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn large_texts_are_read_and_small_ones_with_too_many_parts_are_not() {
        let image = json!({ "file": "A".repeat(1 << 20) });
        assert_eq!(read::<Value>(image.to_string().as_bytes()).unwrap(), image);
        let segments = json!(vec![json!({ "type": "text", "data": { "text": "x" } }); 5000]);
        assert_eq!(read::<Value>(segments.to_string().as_bytes()).unwrap(), segments);
        for part in ["{\"\":0},", "[],", "0,", "[0,0,0,0,0,0,0,0,0,0],", "[", "[CQ:a]"] {
            let text = part.repeat(300_000);
            assert!(matches!(read::<Value>(text.as_bytes()), Err(JsonError::TooManyParts)), "{part}");
        }
        assert!(matches!(read::<Value>(b"{"), Err(JsonError::Malformed(_))));
        // The library's limit of depth.
        assert!(matches!(read::<Value>("[".repeat(MAX_NESTS).as_bytes()), Err(JsonError::Malformed(_))));
    }
}
