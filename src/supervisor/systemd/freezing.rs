//! Whether units are frozen. systemd sends no signal when it froze one (252 does when it thaws), but the cgroup of the unit
//! says so, in a file that inotify watches.
//!
//! Only where there is nothing but cgroup v2: nowhere else does systemd freeze units.

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
use crate::model::chain::Chain;
use crate::readable::ReadableFd;

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Watches each unit that comes through `units`, until nobody sends any more.
pub(super) async fn watch(bus: Arc<Bus>, mut units: mpsc::Receiver<Arc<str>>) {
    let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
    let inotify = match inotify.map_err(io::Error::from).and_then(ReadableFd::new) {
        Ok(inotify) if unified => inotify,
        Ok(_) => return pending().await,
        Err(error) => {
            warn!(%error, "inotify is not to be had, so units that an operator freezes are not noticed");
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
                Ok(touched) => touched,
                // The runtime is at its end.
                Err(error) => return debug!(%error, "what is frozen can't be watched any more"),
            },
        };
        for number in touched {
            let Some((unit, path)) = watched.get::<i32>(&number) else { continue };
            let Ok(content) = fs::read_to_string(path) else {
                // The cgroup is gone, and with it the watch.
                watched.remove(&number);
                continue;
            };
            let events = bus.table().hear_frozen(unit, is_frozen(&content));
            bus.tell(events).await;
        }
    }
}

/// Begins to watch a unit. The number of the watch, for there may be something to see already.
async fn add(
    bus: &Bus,
    inotify: &ReadableFd,
    unit: Arc<str>,
    watched: &mut HashMap<i32, (Arc<str>, PathBuf)>,
) -> Option<i32> {
    let group = match bus.property(&unit, SERVICE, "ControlGroup").await {
        Ok(group) => <&str>::try_from(&group).unwrap_or_default().to_owned(),
        Err(error) => {
            debug!(unit = %unit, error = %Chain(&error), "the cgroup of the unit is not known");
            return None;
        }
    };
    let path = PathBuf::from(format!("{CGROUPS}{group}/cgroup.events"));
    let number = inotify::add_watch(inotify, &path, WatchFlags::MODIFY).ok()?;
    watched.insert(number, (unit, path));
    Some(number)
}

/// The numbers of the watches that something happened to.
fn read(fd: impl std::os::fd::AsFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Vec<i32>> {
    let mut reader = Reader::new(fd, buffer);
    let mut touched = vec![reader.next()?.wd()];
    while !reader.is_buffer_empty() {
        touched.push(reader.next()?.wd());
    }
    touched.dedup();
    Ok(touched)
}

/// What `cgroup.events` says: "Control Group v2" in the kernel's documentation.
fn is_frozen(content: &str) -> bool {
    content.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_says_whether_it_is_frozen() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n") && !is_frozen("frozen 10") && !is_frozen(""));
    }
}
