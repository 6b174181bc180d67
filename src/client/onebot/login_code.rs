//! The implementation's own login code: an image file that it writes anew each time, and never removes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::{Owner, read_untrusted};

/// How old an image may be: a code holds for two minutes.
const HOLDS: Duration = Duration::from_secs(180);

/// The largest image that is taken.
const MAX_IMAGE: u64 = 1024 * 1024;

/// Looks for new images.
pub(super) struct LoginCode {
    path: Option<PathBuf>,
    /// The time of the one that is shown.
    shown: Option<SystemTime>,
    /// The time of the last one that served a login.
    used: Option<SystemTime>,
}

/// What there is to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// No code that could still be scanned.
    Nothing,
    /// The same as before.
    Same,
    /// Another one.
    New(Vec<u8>),
}

impl LoginCode {
    /// Looks at `path`.
    pub(super) fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), shown: None, used: None }
    }

    /// Whether there is anything to look at.
    pub(super) fn is_known(&self) -> bool {
        self.path.is_some()
    }

    /// Whether one was shown, and may have been scanned.
    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// The one that is shown holds no more, or is no longer shown.
    pub(super) fn forget(&mut self) {
        self.shown = None;
    }

    /// There is a login: the one in the file has served, though it stays there. Blocks on the file system.
    pub(super) fn use_up(&mut self) {
        self.shown = None;
        self.used = self.written();
    }

    fn written(&self) -> Option<SystemTime> {
        std::fs::symlink_metadata(self.path.as_ref()?).and_then(|metadata| metadata.modified()).ok()
    }

    /// Looks. Blocks on the file system.
    pub(super) fn look(&mut self, now: SystemTime) -> Look {
        let Some(path) = &self.path else { return Look::Nothing };
        let Some(written) = self.written().filter(|written| Some(*written) != self.used) else {
            return Look::Nothing;
        };
        // A clock that was set back makes it new.
        if now.duration_since(written).is_ok_and(|age| age > HOLDS) {
            return Look::Nothing;
        }
        if self.shown == Some(written) {
            return Look::Same;
        }
        // Half-written, it is looked at again: only then its time counts as shown.
        match read_untrusted(path, &Owner::Anybody, MAX_IMAGE) {
            Ok((image, _)) if is_image(&image) => {
                self.shown = Some(written);
                Look::New(image)
            }
            _ if self.shown.is_some() => Look::Same,
            _ => Look::Nothing,
        }
    }
}

/// Whether it is a whole PNG or a JPEG.
fn is_image(content: &[u8]) -> bool {
    let png = content.starts_with(b"\x89PNG\r\n\x1a\n") && content.ends_with(b"IEND\xaeB`\x82");
    png || (content.starts_with(b"\xff\xd8\xff") && content.ends_with(b"\xff\xd9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82";

    #[test]
    fn only_what_is_new_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qrcode.png");
        let mut code = LoginCode::new(Some(&path));
        let now = SystemTime::now();
        assert_eq!(code.look(now), Look::Nothing);
        let write = |content: &[u8], age: u64| {
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        write(PNG, 181);
        assert_eq!(code.look(now), Look::Nothing, "of an earlier login");
        write(&PNG[..9], 5);
        assert_eq!(code.look(now), Look::Nothing, "half of one");
        write(PNG, 5);
        assert_eq!(code.look(now), Look::New(PNG.to_vec()));
        assert_eq!(code.look(now), Look::Same);
        write(b"x", 2);
        assert_eq!(code.look(now), Look::Same, "no image");
        write(b"\xff\xd8\xff.\xff\xd9", 1);
        assert!(matches!(code.look(now), Look::New(_)));
        assert!(code.is_shown());
        code.use_up();
        assert!(!code.is_shown());
        assert_eq!(code.look(now), Look::Nothing, "it served");
        write(PNG, 0);
        assert!(matches!(code.look(now), Look::New(_)));
        assert_eq!(code.look(now + Duration::from_secs(200)), Look::Nothing);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_ne!(code.look(now), Look::New(std::fs::read("/etc/passwd").unwrap()));
        assert_eq!(LoginCode::new(None).look(now), Look::Nothing);
    }
}
