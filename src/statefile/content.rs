//! Reads a state file, and decides whether its content counts.

use std::path::Path;
use std::sync::Arc;

use tracing::{debug, warn};

use super::{ReadReason, WatchedFile};
use crate::files::{FileError, FileOwner, Fingerprint, read_untrusted};
use crate::model::error_chain::ErrorChain;
use crate::model::state::{ReportError, StateReport};

/// The content of a client's state file, if it is complete and has the right owner. Blocks on the file system.
pub fn read(path: &Path, owner: &FileOwner) -> Option<Arc<StateReport>> {
    let (content, _) = read_untrusted(path, owner, StateReport::MAX_BYTES).ok()?;
    StateReport::parse(&content).ok().map(Arc::new)
}

/// Why the content of a state file does not count.
#[derive(Debug, thiserror::Error)]
enum Unusable<'a> {
    #[error(transparent)]
    File(&'a FileError),
    #[error(transparent)]
    Content(ReportError),
}

impl WatchedFile {
    pub(super) fn accept(
        &mut self,
        path: &Path,
        there: Fingerprint,
        content: &Result<(Vec<u8>, Fingerprint), FileError>,
        reason: ReadReason,
    ) -> Option<Arc<StateReport>> {
        let parsed = match content {
            Ok((_, print)) if self.baseline == Some(*print) => return None,
            Ok((text, print)) => {
                StateReport::parse(text).map(|report| (report, *print)).map_err(Unusable::Content)
            }
            // It was removed or is being replaced, and its next change is reported by itself.
            Err(error) if error.is_missing() => return None,
            Err(error) => Err(Unusable::File(error)),
        };
        match parsed {
            Ok((report, print)) => {
                self.baseline = None;
                self.seen = Some(print);
                self.broken = None;
                Some(Arc::new(report))
            }
            // A file is broken for a moment while its client writes, so a warning comes only if it stays broken.
            Err(error) => {
                let stays =
                    reason == ReadReason::Rescan && self.broken.is_some_and(|(print, _)| print == there);
                let (client, path, error) = (&self.launch.name, path.display(), ErrorChain(&error));
                if stays {
                    warn!(%client, %path, %error, "its state file {path} can't be used: {error}; keeping the last state");
                } else {
                    debug!(%client, %path, %error, "its state file can't be used yet: {error}");
                }
                self.broken = Some((there, stays));
                None
            }
        }
    }
}
