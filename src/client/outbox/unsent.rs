//! [`UnsentFolder`]: the queued messages without a waiting caller, on disk, so that the next client can report
//! those that a kill loses. One file each: `ID.waiting`, and `ID.begun` once it is being sent.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::SendError;
use crate::client::backend::message::Recipient;
use crate::client::backend::segment::Segment;
use crate::client::backend::{BackendError, Wording};
use crate::files::{FileError, private_folder, read_secret};
use crate::model::error_chain::ErrorChain;

/// The version of the files' format. Parts are a key that earlier programs of this version skip: they report the text.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes: a text of 1 MiB, every byte of it escaped, and parts of 5 MiB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most files that are read: twice as many as may wait.
const MAX_FILES: usize = 20_000;

/// The extension of a queued message, and of one that is being sent.
const WAITING: &str = "waiting";
const BEGUN: &str = "begun";

/// A message in a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedMessage {
    version: u32,
    id: String,
    to: Recipient,
    content: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<Segment>,
}

/// A message that an earlier client did not send, or may have sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostMessage {
    pub(crate) id: String,
    pub(crate) to: Recipient,
    pub(crate) wording: Wording,
    pub(crate) error: SendError,
}

/// The folder.
pub(crate) struct UnsentFolder {
    /// None: it cannot be used.
    path: Option<PathBuf>,
    /// Whether the last write failed; logged once.
    failing: bool,
}

impl UnsentFolder {
    /// Opens the folder, and reads the messages that an earlier client left, oldest first. Each is to be
    /// removed once it is reported. If the folder cannot be used, that is logged, and messages are queued in
    /// memory alone. The folder is created with the first message.
    pub(crate) fn open(path: &Path) -> (Self, Vec<LostMessage>) {
        match read_folder(path) {
            Ok(lost) => (Self { path: Some(path.to_owned()), failing: false }, lost),
            Err(error) => {
                error!(
                    "cannot save queued messages: {}; those that a kill loses will not be reported",
                    ErrorChain(&error)
                );
                (Self { path: None, failing: false }, Vec::new())
            }
        }
    }

    fn file(&self, id: &str, extension: &str) -> Option<PathBuf> {
        Some(self.path.as_ref()?.join(format!("{id}.{extension}")))
    }

    /// Saves a queued message. A failure is logged; the message is sent all the same.
    pub(crate) fn add(&mut self, id: &str, to: &Recipient, wording: &Wording) {
        let (Some(folder), Some(file)) = (&self.path, self.file(id, WAITING)) else { return };
        let Wording { content, segments } = wording.clone();
        let saved = SavedMessage { version: VERSION, id: id.into(), to: to.clone(), content, segments };
        match write_file(folder, &file, &saved) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                error!(
                    "cannot save queued messages in {}: {error}; those that a kill loses will not be reported",
                    folder.display()
                );
            }
            Err(_) => {}
        }
    }

    /// Notes whether a message is being sent, so that its outcome is unknown.
    pub(crate) fn note(&self, id: &str, is_begun: bool) {
        if let (Some(waiting), Some(begun)) = (self.file(id, WAITING), self.file(id, BEGUN)) {
            // The file may be missing; see `add`.
            let _ = if is_begun { fs::rename(waiting, begun) } else { fs::rename(begun, waiting) };
        }
    }

    /// Removes a message whose outcome is known.
    pub(crate) fn remove(&self, id: &str) {
        for file in [BEGUN, WAITING].iter().filter_map(|extension| self.file(id, extension)) {
            // At most one of the two exists.
            let _ = fs::remove_file(file);
        }
    }
}

fn write_file(folder: &Path, path: &Path, saved: &SavedMessage) -> io::Result<()> {
    // Made with the first message, and again if a cleaner of temporary files removed it.
    private_folder(folder).map_err(io::Error::other)?;
    let mut options = fs::OpenOptions::new();
    // `create_new` is O_EXCL, which follows no link that waits there (open(2)).
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    // Not synced: it has to outlive a kill, which the page cache does.
    file.write_all(&serde_json::to_vec(saved)?)
}

/// Reads the messages that an earlier client left.
fn read_folder(path: &Path) -> Result<Vec<LostMessage>, UnsentError> {
    let failed = |error| UnsentError::Folder(path.to_owned(), error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    // A folder that other users may write to is not read. After the listing, because this call creates a missing folder.
    private_folder(path).map_err(UnsentError::Refused)?;
    let mut lost = Vec::new();
    for entry in entries.take(MAX_FILES) {
        let file = entry.map_err(failed)?.path();
        let is_begun = match file.extension().and_then(|extension| extension.to_str()) {
            Some(WAITING) => false,
            Some(BEGUN) => true,
            _ => continue,
        };
        match read_file(&file) {
            Ok(saved) => lost.push(LostMessage {
                id: saved.id,
                to: saved.to,
                wording: Wording { content: saved.content, segments: saved.segments },
                // A begun message may have been written before the kill.
                error: if is_begun { BackendError::NoAnswer.into() } else { SendError::Killed },
            }),
            // Nothing of ours is added to the folder, so that the later version finds it as it left it.
            Err(ReadError::Newer) => return Err(UnsentError::Newer(file)),
            Err(ReadError::Failed(error)) => {
                let why = ErrorChain(&error);
                warn!("cannot read an unsent message: {why}; the next start tries again");
            }
            Err(ReadError::Unreadable(error)) => {
                warn!("dropped an unsent message: cannot read {}: {error}", file.display());
                let _ = fs::remove_file(file);
            }
        }
    }
    // Ids are increasing numbers.
    lost.sort_by(|a, b| (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id)));
    Ok(lost)
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
enum UnsentError {
    #[error("can't list the folder {}", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    #[error("the folder of messages that wait is refused")]
    Refused(#[source] FileError),
    #[error("{} was written by a later version of this program; install that, or remove the file", .0.display())]
    Newer(PathBuf),
}

enum ReadError {
    /// A later version wrote it.
    Newer,
    /// The system cannot read it now, for lack of descriptors or memory, or because the disk fails.
    Failed(FileError),
    /// What it holds is no message of ours.
    Unreadable(String),
}

fn read_file(path: &Path) -> Result<SavedMessage, ReadError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let text = read_secret(path, true, MAX_BYTES).map_err(|error| match error {
        FileError::Io { .. } => ReadError::Failed(error),
        error => ReadError::Unreadable(ErrorChain(&error).to_string()),
    })?;
    // The version alone first: a later format may lack the other fields.
    match serde_json::from_slice(&text) {
        Ok(Versioned { version }) if version > VERSION => return Err(ReadError::Newer),
        _ => {}
    }
    serde_json::from_slice(&text).map_err(|error| ReadError::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Wording {
        text.to_owned().into()
    }

    #[test]
    fn parts_of_unsent_messages_survive_and_earlier_programs_skip_them() {
        /// What programs read before messages had parts.
        #[derive(Deserialize)]
        struct Earlier {
            version: u32,
            content: String,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut unsent, _) = UnsentFolder::open(&path);
        let wording = Wording::of(vec![Segment::new("at", &[("qq", "7")]), Segment::text("你好")]);
        unsent.add("1", &Recipient::Friend("7".into()), &wording);
        let earlier: Earlier = serde_json::from_slice(&fs::read(path.join("1.waiting")).unwrap()).unwrap();
        assert_eq!((earlier.version, earlier.content), (1, wording.content.clone()));
        assert_eq!(UnsentFolder::open(&path).1[0].wording, wording);
        // And what they wrote is read.
        let old = r#"{"version":1,"id":"1","to":{"friend":"7"},"content":"x"}"#;
        fs::write(path.join("1.waiting"), old).unwrap();
        assert_eq!(UnsentFolder::open(&path).1[0].wording, text("x"));
        unsent.remove("1");
        unsent.add("1", &Recipient::Friend("7".into()), &text("x"));
        assert_eq!(fs::read_to_string(path.join("1.waiting")).unwrap(), old);
    }

    #[test]
    fn unsent_messages_survive_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let (mut unsent, lost) = UnsentFolder::open(&path);
        assert_eq!(lost, []);
        let to = Recipient::GroupMember { group: "5".into(), member: "7".into() };
        for id in ["9", "10", "11", "12", "13"] {
            unsent.add(id, &to, &text("你好"));
        }
        unsent.note("9", true);
        unsent.remove("9");
        unsent.note("10", true);
        unsent.remove("12");
        // Nothing of it was written, as it turned out.
        unsent.note("13", true);
        unsent.note("13", false);
        fs::write(path.join("14.waiting"), "half a fi").unwrap();
        let (unsent, lost) = UnsentFolder::open(&path);
        let codes: Vec<_> = lost
            .iter()
            .map(|lost| (&*lost.id, &lost.to, &*lost.wording.content, lost.error.code()))
            .collect();
        assert_eq!(codes, [("10", &to, "你好", -1), ("11", &to, "你好", -3), ("13", &to, "你好", -3)]);
        lost.iter().for_each(|lost| unsent.remove(&lost.id));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "it is reported once");
    }

    #[test]
    fn unsent_file_of_a_later_version_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        private_folder(&path).unwrap();
        let newer = path.join("1.waiting");
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&newer).unwrap();
        fs::write(&newer, r#"{"version":2,"anything":[]}"#).unwrap();
        let (mut unsent, lost) = UnsentFolder::open(&path);
        assert_eq!(lost, []);
        unsent.add("2", &Recipient::Friend("7".into()), &text("x"));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert!(newer.exists());
    }

    #[test]
    fn unsent_file_that_cannot_be_read_now_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        UnsentFolder::open(&path).0.add("1", &Recipient::Friend("7".into()), &text("x"));
        // The system call fails, as root may read everything else: a link that leads to itself.
        std::os::unix::fs::symlink("2.waiting", path.join("2.waiting")).unwrap();
        let (_, lost) = UnsentFolder::open(&path);
        assert_eq!(lost.iter().map(|lost| lost.id.as_str()).collect::<Vec<_>>(), ["1"]);
        assert!(path.join("2.waiting").is_symlink());
    }

    #[test]
    fn unsent_folder_writable_by_others_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join("1.waiting"), rustix::fs::Mode::RUSR).unwrap();
        let (mut unsent, lost) = UnsentFolder::open(&path);
        unsent.add("2", &Recipient::Friend("7".into()), &text("x"));
        assert_eq!((lost, fs::read_dir(&path).unwrap().count()), (Vec::new(), 1));
    }
}
