//! What inotify tells of the folders that state files are in.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::time::sleep;
use tracing::warn;

use super::{COLLECT, Shared, Table};

#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Inotify's number for it; none where it could not be watched.
    pub(super) descriptor: Option<i32>,
    /// How many files in it are watched.
    pub(super) files: usize,
    /// Whether it was said that it cannot be watched.
    said: bool,
}

impl Shared {
    pub(super) fn watch_folder(&self, path: &Path, folder: &mut Folder) {
        let Some(inotify) = &self.inotify else { return };
        if folder.descriptor.is_some() {
            return;
        }
        let changes =
            WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        match inotify::add_watch(inotify, path, changes | WatchFlags::ONLYDIR) {
            Ok(descriptor) => (folder.descriptor, folder.said) = (Some(descriptor), false),
            // That of a unit is gone while that is started anew, and looked for until it is there.
            Err(Errno::NOENT) => {}
            Err(error) => {
                if !std::mem::replace(&mut folder.said, true) {
                    warn!(
                        folder = %path.display(), %error,
                        "this folder can't be watched, so states in it are noticed only every check_interval"
                    );
                }
            }
        }
    }

    /// Waits for changes: the watched files that were touched, or none where too much happened to tell.
    pub(super) async fn touched(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<HashSet<PathBuf>> {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        loop {
            match inotify.read_with(|fd| self.read_events(fd, buffer)).await {
                Ok(Some(paths)) if paths.is_empty() => sleep(COLLECT).await,
                Ok(paths) => return paths,
                Err(error) => {
                    warn!(%error, "inotify can't be read");
                    sleep(Duration::from_secs(1)).await;
                    return None;
                }
            }
        }
    }

    /// As [`Shared::touched`], but what there is now, if there is any. None also where a folder is not watched.
    pub(super) fn touched_so_far(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<HashSet<PathBuf>> {
        let inotify = self.inotify.as_ref()?;
        let mut all = HashSet::new();
        loop {
            match self.read_events(inotify.as_fd(), buffer) {
                Ok(paths) => all.extend(paths?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(%error, "inotify can't be read");
                    return None;
                }
            }
        }
        self.table().folders.values().all(|folder| folder.descriptor.is_some()).then_some(all)
    }

    fn read_events(
        &self,
        fd: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> io::Result<Option<HashSet<PathBuf>>> {
        let mut reader = inotify::Reader::new(fd, buffer);
        let mut paths = HashSet::new();
        let mut any = false;
        let mut table = self.table();
        let Table { files, folders } = &mut *table;
        let mut folders: HashMap<i32, (&PathBuf, &mut Folder)> = folders
            .iter_mut()
            .filter_map(|(path, folder)| Some((folder.descriptor?, (path, folder))))
            .collect();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) if any => return Ok(Some(paths)),
                Err(error) => return Err(error.into()),
            };
            any = true;
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Ok(None);
            }
            let Some((path, folder)) = folders.get_mut(&event.wd()) else { continue };
            if event.events().contains(ReadFlags::IGNORED) {
                // The folder is gone, as a unit's is whenever that stops; another may be in its place by now.
                folder.descriptor = None;
                self.look_again.notify_one();
                continue;
            }
            let Some(file) = event.file_name() else { continue };
            let path = path.join(OsStr::from_bytes(file.to_bytes()));
            if files.contains_key(&path) {
                paths.insert(path);
            }
            if reader.is_buffer_empty() {
                return Ok(Some(paths));
            }
        }
    }
}
