//! What is in a state file, and whether it is to be believed.

use std::path::Path;
use std::sync::Arc;

use tracing::{debug, warn};

use super::{Occasion, Watched};
use crate::files::{FileError, Fingerprint, Owner, read_untrusted};
use crate::model::chain::Chain;
use crate::model::state::{ReportError, StateReport};

/// What a client's state file says now, if it is to be believed. Blocks on the file system.
pub fn read(path: &Path, owner: &Owner) -> Option<Arc<StateReport>> {
    let (content, _) = read_untrusted(path, owner, StateReport::MAX_BYTES).ok()?;
    StateReport::parse(&content).ok().map(Arc::new)
}

/// Why a state file is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable<'a> {
    #[error(transparent)]
    File(&'a FileError),
    #[error(transparent)]
    Content(ReportError),
}

impl Watched {
    pub(super) fn learn(
        &mut self,
        path: &Path,
        there: Fingerprint,
        content: &Result<(Vec<u8>, Fingerprint), FileError>,
        occasion: Occasion,
    ) -> Option<Arc<StateReport>> {
        let parsed = match content {
            Ok((_, print)) if self.baseline == Some(*print) => return None,
            Ok((text, print)) => {
                StateReport::parse(text).map(|report| (report, *print)).map_err(Unusable::Content)
            }
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
            // While a client writes, its file is broken for a moment; so this is said only of one that stays so.
            Err(error) => {
                let stays =
                    occasion == Occasion::Rescan && self.broken.is_some_and(|(print, _)| print == there);
                if stays {
                    warn!(
                        client = %self.launch.name, path = %path.display(), error = %Chain(&error),
                        "the client's state file can't be used; what it said before still holds"
                    );
                } else {
                    debug!(client = %self.launch.name, path = %path.display(), error = %Chain(&error), "state file");
                }
                self.broken = Some((there, stays));
                None
            }
        }
    }
}
