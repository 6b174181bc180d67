//! [`WorldWatch`]: waits for changes of the file of the world, by inotify.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::async_fd::ReadableFd;

/// The file, watched.
pub(crate) struct WorldWatch {
    inotify: ReadableFd,
    name: OsString,
}

impl WorldWatch {
    /// Watches the folder of `path`, since editors replace files.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The parent of a bare file name is the empty path, which inotify refuses.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Not IN_MODIFY, which comes for each write: half a file would be read and refused.
        inotify::add_watch(&inotify, folder, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Self { inotify: ReadableFd::new(inotify)?, name })
    }

    /// Waits until the file is written or replaced.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let touched = self.inotify.read_with(|fd| {
                let mut reader = inotify::Reader::new(fd, &mut buffer);
                let mut touched = false;
                loop {
                    match reader.next() {
                        Ok(event) => {
                            let name = event.file_name().map(|name| name.to_bytes() == self.name.as_bytes());
                            // An event without a name is about the queue, such as an overflow that lost others (inotify(7)).
                            touched |= name.unwrap_or(true);
                            // The next call would read again, and its EAGAIN would discard what was seen.
                            if reader.is_buffer_empty() {
                                return Ok(touched);
                            }
                        }
                        Err(Errno::INTR) => {}
                        // EAGAIN, too, by which `read_with` knows that it has to wait.
                        Err(error) => return Err(io::Error::from(error)),
                    }
                }
            });
            if touched.await? {
                return Ok(());
            }
        }
    }
}
