//! [`LoginCodeFile`]: the implementation's own login code, an image file that it overwrites with each code and
//! never removes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::{FileOwner, read_untrusted};

/// The oldest image that is shown. A code is valid for two minutes.
const HOLDS: Duration = Duration::from_secs(180);

/// The largest image that is taken.
const MAX_IMAGE: u64 = 1024 * 1024;

/// Watches the file.
pub(crate) struct LoginCodeFile {
    path: Option<PathBuf>,
    /// The modification time of the image that is shown.
    shown: Option<SystemTime>,
    /// The modification time of the last image that served a login.
    used: Option<SystemTime>,
}

/// What the file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CodeFileState {
    /// No code that can still be scanned.
    Nothing,
    /// The code that is shown already.
    Same,
    /// A new code.
    New(Vec<u8>),
}

impl LoginCodeFile {
    /// Watches `path`.
    pub(crate) fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), shown: None, used: None }
    }

    /// Whether there is a file to watch.
    pub(crate) fn is_known(&self) -> bool {
        self.path.is_some()
    }

    /// Whether a code is shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// The code has expired, or is no longer shown.
    pub(crate) fn forget(&mut self) {
        self.shown = None;
    }

    /// A login succeeded: the code in the file is used up, though the file stays. Blocks on the file system.
    pub(crate) fn use_up(&mut self) {
        self.shown = None;
        self.used = self.written();
    }

    fn written(&self) -> Option<SystemTime> {
        // A link is not followed, as for the read.
        std::fs::symlink_metadata(self.path.as_ref()?).and_then(|metadata| metadata.modified()).ok()
    }

    /// Reads the file. Blocks on the file system.
    pub(crate) fn look(&mut self, now: SystemTime) -> CodeFileState {
        let Some(path) = &self.path else { return CodeFileState::Nothing };
        let Some(written) = self.written().filter(|written| Some(*written) != self.used) else {
            return CodeFileState::Nothing;
        };
        // If the clock was set back, the image counts as new.
        if now.duration_since(written).is_ok_and(|age| age > HOLDS) {
            return CodeFileState::Nothing;
        }
        if self.shown == Some(written) {
            return CodeFileState::Same;
        }
        // A half-written image is read again: its time counts as shown only once it is whole.
        // The implementation may run as any user; the image is only shown to the person who scans it.
        match read_untrusted(path, &FileOwner::Any, MAX_IMAGE) {
            Ok((image, _)) if is_image(&image) => {
                self.shown = Some(written);
                CodeFileState::New(image)
            }
            // The earlier code stays until the new image is whole.
            _ if self.shown.is_some() => CodeFileState::Same,
            _ => CodeFileState::Nothing,
        }
    }
}

/// Whether it is a complete PNG or JPEG.
fn is_image(content: &[u8]) -> bool {
    // The end shows that the image is whole: the chunk IEND with its checksum in PNG, the marker EOI in JPEG.
    let png = content.starts_with(b"\x89PNG\r\n\x1a\n") && content.ends_with(b"IEND\xaeB`\x82");
    png || (content.starts_with(b"\xff\xd8\xff") && content.ends_with(b"\xff\xd9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82";

    #[test]
    fn login_code_is_shown_only_if_new_and_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qrcode.png");
        let mut code = LoginCodeFile::new(Some(&path));
        let now = SystemTime::now();
        assert_eq!(code.look(now), CodeFileState::Nothing);
        let write = |content: &[u8], age: u64| {
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        write(PNG, 181);
        assert_eq!(code.look(now), CodeFileState::Nothing, "of an earlier login");
        write(&PNG[..9], 5);
        assert_eq!(code.look(now), CodeFileState::Nothing, "half of one");
        write(PNG, 5);
        assert_eq!(code.look(now), CodeFileState::New(PNG.to_vec()));
        assert_eq!(code.look(now), CodeFileState::Same);
        write(b"x", 2);
        assert_eq!(code.look(now), CodeFileState::Same, "no image");
        write(b"\xff\xd8\xff.\xff\xd9", 1);
        assert!(matches!(code.look(now), CodeFileState::New(_)));
        assert!(code.is_shown());
        code.use_up();
        assert!(!code.is_shown());
        assert_eq!(code.look(now), CodeFileState::Nothing, "it served");
        write(PNG, 0);
        assert!(matches!(code.look(now), CodeFileState::New(_)));
        assert_eq!(code.look(now + Duration::from_secs(200)), CodeFileState::Nothing);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_ne!(code.look(now), CodeFileState::New(std::fs::read("/etc/passwd").unwrap()));
        assert_eq!(LoginCodeFile::new(None).look(now), CodeFileState::Nothing);
    }
}
