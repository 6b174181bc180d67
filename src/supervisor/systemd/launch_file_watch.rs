//! [`LaunchFileWatch`]: whether a unit ran, also where systemd has unloaded it since.
//!
//! systemd keeps nothing of a unit that ended cleanly: its properties are those of one that was never started. But before it
//! starts a process it opens the launch file as standard input, which inotify shows.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// An inotify watch on one launch file.
#[derive(Debug)]
pub(super) struct LaunchFileWatch(OwnedFd);

impl LaunchFileWatch {
    /// Watches the existing launch file at `path` from now on.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, path, WatchFlags::OPEN)?;
        Ok(Self(inotify))
    }

    /// Whether the file was opened since. True in doubt.
    pub(super) fn was_opened(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The event is left unread, so the answer stays the same for each later call.
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&at_once)) != Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn open_of_launch_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(LaunchFileWatch::of(&path).is_err());
        fs::write(&path, "x").unwrap();
        let watch = LaunchFileWatch::of(&path).unwrap();
        fs::read_dir(folder.path()).unwrap().for_each(drop);
        fs::metadata(&path).unwrap();
        fs::write(folder.path().join("b"), "y").unwrap();
        assert!(!watch.was_opened());
        fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(watch.was_opened() && watch.was_opened(), "as often as it is asked");
    }
}
