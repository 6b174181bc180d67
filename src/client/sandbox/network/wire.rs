//! The protocol between clients of one world: frames of JSON, each after its length in four bytes. Peers are
//! not trusted: frames are bounded and parsed strictly.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::sandbox::view::changes::WorldChange;
use crate::client::sandbox::view::{ModerationAction, PeerMessage, SandboxChat};

/// The longest frame, in bytes: a message of 1 MiB with every byte escaped, and its other fields.
const MAX_FRAME: u32 = 6 * 1024 * 1024 + 4096;

/// A frame.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PeerFrame {
    /// The first frame: the account, and its moderation actions. Earlier versions add those of others, which count for nothing.
    Hello { account: String, rulings: Vec<ModerationAction> },
    /// A message of an earlier version, with a number that the answer repeats.
    Message { number: u64, place: SandboxChat, content: String },
    /// The answer to a message: why it is refused, if it is.
    Answer { number: u64, refused: Option<String> },
    /// A moderation action of an earlier version.
    Ruling(ModerationAction),
    /// A message, with a number that the answer repeats.
    Said { number: u64, message: PeerMessage },
    /// Something that is done to the world: by this account, or by a person without a client, for whom any client may speak, as
    /// callers of all of them play the same people.
    Change(WorldChange),
    /// The changes of groups by this account so far. The second frame.
    Changes(Vec<WorldChange>),
}

/// What a greeting has among its moderation actions if its client knows the later frames. Earlier versions, which close the
/// connection at a frame or a key that they don't know, pass over actions of others than the one that greets.
pub(crate) fn marker() -> ModerationAction {
    ModerationAction { group: String::new(), member: String::new(), by: String::new(), muted_until: Some(2) }
}

impl PeerFrame {
    /// The frame as bytes.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let length = u32::try_from(json.len()).ok().filter(|length| *length <= MAX_FRAME);
        let length = length.ok_or_else(|| io::Error::other("the frame is too long"))?;
        Ok([length.to_be_bytes().as_slice(), &json].concat())
    }

    /// Reads the next frame.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let length = from.read_u32().await?;
        if length > MAX_FRAME {
            return Err(io::Error::other("the frame is too long"));
        }
        // The buffer grows with the bytes that arrive, not with the announced length.
        let mut json = Vec::new();
        // A frame that breaks off is no JSON, so the next line refuses it.
        from.take(length.into()).read_to_end(&mut json).await?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Writes the frame.
    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&self.encode()?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn malformed_frames_are_refused() {
        let read = async |bytes: &[u8]| PeerFrame::read(&mut &*bytes).await;
        let good = PeerFrame::Answer { number: 7, refused: None }.encode().unwrap();
        assert!(matches!(read(&good).await, Ok(PeerFrame::Answer { number: 7, refused: None })));
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
