//! The files that take the output of clients who outlive their controller. Nobody reads along, so they are kept small:
//! a client that floods must not fill the disk that the registry file is on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::files::{FileError, replace};
use crate::model::chain::Chain;

/// How often the files are looked at: often enough for a flood, and with a thousand clients not worth mentioning.
const INTERVAL: Duration = Duration::from_secs(15);
/// A file that is larger than this, in bytes, is emptied.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How much of its end, in bytes, is kept beside it under the name with `.old`.
const KEPT_BYTES: u64 = 1024 * 1024;

/// Opens such files, and keeps them small.
#[derive(Debug)]
pub(super) struct OutputFiles {
    open: Arc<Mutex<Vec<Weak<OutputFile>>>>,
    _keeper: AbortOnDropHandle<()>,
}

/// One of them; kept small as long as this lives.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFiles {
    /// Starts the task that looks at them.
    pub(super) fn new() -> Self {
        let open = Arc::<Mutex<Vec<Weak<OutputFile>>>>::default();
        let keeper = tokio::spawn(keep_small(open.clone()));
        Self { open, _keeper: AbortOnDropHandle::new(keeper) }
    }

    /// Opens the file at `path`, or makes it, to write at its end.
    pub(super) fn open(&self, path: &Path) -> io::Result<Arc<OutputFile>> {
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        // Read when it is emptied.
        options.read(true).append(true).create(true).mode(0o600).custom_flags(no_link);
        let file = Arc::new(OutputFile { path: path.to_owned(), file: options.open(path)? });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&file));
        Ok(file)
    }
}

impl OutputFile {
    /// Another handle, for a process to write to.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Empties it when it is too large, and keeps its end. As with logrotate's `copytruncate`, what is written between the
    /// two is lost.
    fn cut(&self) -> Result<(), FileError> {
        let failed = |source| FileError::Io { path: self.path.clone(), source };
        let size = self.file.metadata().map_err(failed)?.len();
        if size <= MAX_BYTES {
            return Ok(());
        }
        let mut end = vec![0; usize::try_from(KEPT_BYTES).unwrap_or(0)];
        self.file.read_exact_at(&mut end, size - KEPT_BYTES).map_err(failed)?;
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        // First emptied: on a full disk that makes the room. Its writers append, so they go on at its new end.
        self.file.set_len(0).map_err(failed)?;
        replace(Path::new(&old), &end, 0o600)
    }
}

async fn keep_small(open: Arc<Mutex<Vec<Weak<OutputFile>>>>) {
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let files: Vec<Arc<OutputFile>> = {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|file| file.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).collect()
        };
        if files.is_empty() {
            continue;
        }
        // It only ever fails when the runtime ends.
        let _ = tokio::task::spawn_blocking(move || {
            for file in files {
                if let Err(error) = file.cut() {
                    warn!(error = %Chain(&error), "a client's output is too large, and can't be made smaller");
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[tokio::test]
    async fn a_flood_keeps_its_end_and_writers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let files = OutputFiles::new();
        let file = files.open(&path).unwrap();
        let mut writer = file.handle().unwrap();
        writer.write_all(b"small\n").unwrap();
        file.cut().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "small\n");

        let flood = [b"x".repeat(usize::try_from(MAX_BYTES).unwrap()), b"the end\n".to_vec()].concat();
        writer.write_all(&flood).unwrap();
        file.cut().unwrap();
        writer.write_all(b"goes on\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "goes on\n");
        let old = fs::read(folder.path().join("output.log.old")).unwrap();
        assert_eq!(old.len() as u64, KEPT_BYTES);
        assert!(old.ends_with(b"xthe end\n"));
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(OutputFiles::new().open(&path).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_looked_at_from_time_to_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let files = OutputFiles::new();
        let file = files.open(&path).unwrap();
        file.handle().unwrap().set_len(MAX_BYTES + 1).unwrap();
        // A paused clock goes on whenever everybody waits.
        while fs::metadata(&path).unwrap().len() > 0 {
            tokio::time::sleep(INTERVAL).await;
        }
        drop(file);
        tokio::time::sleep(2 * INTERVAL).await;
        assert!(files.open.lock().unwrap().is_empty(), "nobody has it any more");
    }
}
