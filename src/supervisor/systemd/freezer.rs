//! Notices frozen units. systemd emits no signal for a freeze (252 does for a thaw), but the cgroup's `events` file shows it,
//! and inotify can watch that.
//!
//! Works with the unified cgroup v2 hierarchy only, as the freezer of systemd does.

use std::collections::HashMap;
use std::fs;
use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::bus::Bus;
use super::manager::SERVICE;
use crate::async_fd::ReadableFd;
use crate::model::error_chain::ErrorChain;

/// Where the cgroup file system is mounted.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// The descriptor of the event that says that the queue was full and events were lost (inotify(7), `IN_Q_OVERFLOW`).
const OVERFLOW: i32 = -1;

/// Watches each unit that comes through `units`, until the channel is closed.
pub(super) async fn watch(bus: Arc<Bus>, mut units: mpsc::Receiver<Arc<str>>) {
    let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
    let inotify = match inotify.map_err(io::Error::from).and_then(ReadableFd::new) {
        Ok(inotify) if unified => inotify,
        // No return: it would close the queue, and each later unit would be logged as not watched.
        Ok(_) => return pending().await,
        Err(error) => {
            warn!(%error, "cannot watch for frozen units (inotify: {error}); calls to a frozen client wait until they time out");
            return pending().await;
        }
    };
    let mut watched = HashMap::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    loop {
        let touched = tokio::select! {
            unit = units.recv() => match unit {
                Some(unit) => add(&bus, &inotify, unit, &mut watched).await.into_iter().collect(),
                None => return,
            },
            touched = inotify.read_with(|fd| read(fd, &mut buffer)) => match touched {
                Ok(touched) => to_look_at(touched, &watched),
                // The runtime shuts down.
                Err(error) => return debug!(%error, "stopped watching for frozen units: {error}"),
            },
        };
        for number in touched {
            let Some((unit, path)) = watched.get::<i32>(&number) else { continue };
            // Not on a blocking thread: the kernel makes the file up, so no disk is waited for.
            let Ok(content) = fs::read_to_string(path) else {
                // The kernel has removed the watch together with the cgroup.
                watched.remove(&number);
                continue;
            };
            let events = bus.table().on_freezer_state(unit, is_frozen(&content));
            bus.tell(events).await;
        }
    }
}

/// Adds a watch for a unit. Returns its descriptor, because the unit may be frozen already.
async fn add(
    bus: &Bus,
    inotify: &ReadableFd,
    unit: Arc<str>,
    watched: &mut HashMap<i32, (Arc<str>, PathBuf)>,
) -> Option<i32> {
    let group = match bus.property(&unit, SERVICE, "ControlGroup").await {
        Ok(group) => <&str>::try_from(&group).unwrap_or_default().to_owned(),
        Err(error) => {
            let error = ErrorChain(&error);
            debug!(unit = %unit, %error, "cannot ask for the cgroup of {unit}: {error}");
            return None;
        }
    };
    let path = PathBuf::from(format!("{CGROUPS}{group}/cgroup.events"));
    let number = inotify::add_watch(inotify, &path, WatchFlags::MODIFY).ok()?;
    watched.insert(number, (unit, path));
    Some(number)
}

/// The descriptors of the watches with new events.
fn read(fd: impl std::os::fd::AsFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Vec<i32>> {
    let mut reader = Reader::new(fd, buffer);
    // Only the first read may say that there is nothing; `ReadableFd::read_with` then waits again.
    let mut touched = vec![reader.next()?.wd()];
    while !reader.is_buffer_empty() {
        touched.push(reader.next()?.wd());
    }
    touched.dedup();
    Ok(touched)
}

/// The watches whose files are read. All of them where events were lost.
fn to_look_at(touched: Vec<i32>, watched: &HashMap<i32, (Arc<str>, PathBuf)>) -> Vec<i32> {
    if touched.contains(&OVERFLOW) { watched.keys().copied().collect() } else { touched }
}

/// Reads `cgroup.events`, see "Control Group v2" in the kernel's documentation.
fn is_frozen(content: &str) -> bool {
    content.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_after_a_full_queue() {
        let folder = tempfile::tempdir().unwrap();
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let mut watched = HashMap::new();
        let files = ["a", "b"].map(|name| {
            let path = folder.path().join(name);
            let file = fs::File::create(&path).unwrap();
            let number = inotify::add_watch(&inotify, &path, WatchFlags::MODIFY).unwrap();
            watched.insert(number, (Arc::from(name), path));
            file
        });
        // One after the other, as events of one file in a row become one.
        for n in 0..=limit {
            io::Write::write_all(&mut &files[n % 2], b"x").unwrap();
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut last = Vec::new();
        while let Ok(touched) = read(&inotify, &mut buffer) {
            last = to_look_at(touched, &watched);
        }
        last.sort_unstable();
        let mut all: Vec<_> = watched.keys().copied().collect();
        all.sort_unstable();
        assert_eq!(last, all);
        assert_eq!(to_look_at(vec![all[0]], &watched), [all[0]]);
    }

    #[test]
    fn cgroup_events_show_frozen() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n") && !is_frozen("frozen 10") && !is_frozen(""));
    }
}
