//! The folders of state files, watched by inotify.

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

use super::{COLLECT, WatchState, WatchTable};

#[derive(Debug, Default)]
pub(super) struct WatchedFolder {
    /// Its watch descriptor; none if it could not be watched.
    pub(super) descriptor: Option<i32>,
    /// How many files in it are watched.
    pub(super) files: usize,
    /// Whether it was logged that it cannot be watched.
    said: bool,
}

impl WatchState {
    pub(super) fn watch_folder(&self, path: &Path, folder: &mut WatchedFolder) {
        let Some(inotify) = &self.inotify else { return };
        if folder.descriptor.is_some() {
            return;
        }
        let changes =
            WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        match inotify::add_watch(inotify, path, changes | WatchFlags::ONLYDIR) {
            Ok(descriptor) => (folder.descriptor, folder.said) = (Some(descriptor), false),
            // The folder of a unit is gone during a restart. Rescans try again until it is there.
            Err(Errno::NOENT) => {}
            Err(error) => {
                if !std::mem::replace(&mut folder.said, true) {
                    let folder = path.display();
                    warn!(%folder, %error, "cannot watch {folder} ({error}); reading state files in it every check_interval");
                }
            }
        }
    }

    /// Waits for changes; returns the changed files, or none if inotify's queue overflowed.
    pub(super) async fn changed_files(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<HashSet<PathBuf>> {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        loop {
            match inotify.read_with(|fd| self.read_events(fd, buffer)).await {
                // Other files of the folder changed. The pause bounds what a busy client can cost by that.
                Ok(Some(paths)) if paths.is_empty() => sleep(COLLECT).await,
                // No await between reading and returning: `run` drops this future whenever another branch is ready, and events
                // that were read can't be read again.
                Ok(paths) => return paths,
                Err(error) => {
                    warn!(%error, "cannot read inotify events ({error}); reading all state files");
                    // An error that stays would keep a core busy otherwise.
                    sleep(Duration::from_secs(1)).await;
                    return None;
                }
            }
        }
    }

    /// As [`WatchState::changed_files`], but does not wait. None also if a folder has no watch.
    pub(super) fn changed_so_far(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<HashSet<PathBuf>> {
        let inotify = self.inotify.as_ref()?;
        let mut all = HashSet::new();
        loop {
            match self.read_events(inotify.as_fd(), buffer) {
                Ok(paths) => all.extend(paths?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(%error, "cannot read inotify events ({error}); reading all state files");
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
        let WatchTable { files, folders } = &mut *table;
        let mut folders: HashMap<i32, (&PathBuf, &mut WatchedFolder)> = folders
            .iter_mut()
            .filter_map(|(path, folder)| Some((folder.descriptor?, (path, folder))))
            .collect();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                // Without any event the error goes to the caller, for which it means to wait or to stop.
                Err(Errno::AGAIN) if any => return Ok(Some(paths)),
                Err(error) => return Err(error.into()),
            };
            any = true;
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Ok(None);
            }
            // Events of a watch that was removed may still be in the queue (inotify(7)).
            let Some((path, folder)) = folders.get_mut(&event.wd()) else { continue };
            if event.events().contains(ReadFlags::IGNORED) {
                // The folder is gone, like that of a unit that stops. Another one may have taken its place.
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
