//! What the clients of one world say to each other: frames of JSON, each after its length in four bytes. Nothing of
//! it is trusted: frames are bounded and parsed strictly.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::view::{Place, Ruling};

/// The longest frame, in bytes: a message of 1 MiB, escaped at its worst, and what goes with it.
const MAX_FRAME: u32 = 6 * 1024 * 1024 + 4096;

/// One thing that is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Frame {
    /// Always the first: who speaks, and what it knows of kicks and mutes.
    Hello { account: String, rulings: Vec<Ruling> },
    /// A message, by a number that the answer repeats.
    Message { number: u64, place: Place, content: String },
    /// The answer to a message: why it is not taken, if so.
    Answer { number: u64, refused: Option<String> },
    /// Somebody decided something.
    Ruling(Ruling),
}

impl Frame {
    /// The frame as bytes.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len()).ok().filter(|length| *length <= MAX_FRAME);
        let length = length.ok_or_else(|| io::Error::other("the frame is too long"))?;
        Ok([length.to_be_bytes().as_slice(), &json].concat())
    }

    /// Reads the next frame.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let length = from.read_u32().await?;
        if length > MAX_FRAME {
            return Err(io::Error::other("the frame is too long"));
        }
        // Grows with what really comes, not with what is announced.
        let mut json = Vec::new();
        from.take(length.into()).read_to_end(&mut json).await?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Writes the frame.
    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&self.encode()?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_whole_frames_of_our_kind() {
        let read = async |bytes: &[u8]| Frame::read(&mut &*bytes).await;
        let good = Frame::Answer { number: 7, refused: None }.encode().unwrap();
        assert!(matches!(read(&good).await, Ok(Frame::Answer { number: 7, refused: None })));
        assert!(read(&good[..good.len() - 1]).await.is_err());
        for json in ["{}", "[]", "{\"answer\":{\"number\":-1}}", "{\"hello\":{\"account\":\"a\",\"x\":1}}"] {
            let length = u32::try_from(json.len()).unwrap().to_be_bytes();
            assert!(read(&[&length, json.as_bytes()].concat()).await.is_err(), "{json}");
        }
        // Refused for what it announces, before anything of it came.
        let said = read(&(MAX_FRAME + 1).to_be_bytes()).await.unwrap_err().to_string();
        assert_eq!(said, "the frame is too long");
    }
}
