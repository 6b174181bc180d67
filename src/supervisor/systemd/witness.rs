//! [`Witness`]: whether a unit ran, also where systemd has forgotten that since.
//!
//! Of a unit that ended cleanly nothing is left that could be asked: it is as if nobody had started it. But whatever process it
//! had, systemd opened the launch file for that first, as its standard input.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Watches one launch file.
#[derive(Debug)]
pub(super) struct Witness(OwnedFd);

impl Witness {
    /// Watches from here on the launch file at `path`, which is there.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, path, WatchFlags::OPEN)?;
        Ok(Self(inotify))
    }

    /// Whether somebody opened the file since. In doubt somebody did.
    pub(super) fn saw_it_opened(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&at_once)) != Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn who_opens_the_file_is_seen_and_who_looks_at_the_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(Witness::of(&path).is_err());
        fs::write(&path, "x").unwrap();
        let witness = Witness::of(&path).unwrap();
        fs::read_dir(folder.path()).unwrap().for_each(drop);
        fs::metadata(&path).unwrap();
        fs::write(folder.path().join("b"), "y").unwrap();
        assert!(!witness.saw_it_opened());
        fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(witness.saw_it_opened() && witness.saw_it_opened(), "as often as it is asked");
    }
}
