//! What the kernel says of this process, under the names that Prometheus's own libraries give it.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What is used and held just now. What can't be read is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnProcess {
    /// Processor time of all threads, those that ended included.
    pub(super) cpu: Duration,
    /// In bytes.
    pub(super) resident_memory: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl OwnProcess {
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            resident_memory: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|status| resident(&status)),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// `VmRSS` of proc_pid_status(5), which is in kB, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Since Linux 6.2 the size of the folder is the number of descriptors (proc_pid_fd(5)). Counting thousands would take longer
/// than all the rest of a scrape.
fn open_fds() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // One of them is that of the folder.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_read() {
        let now = OwnProcess::now();
        assert!(now.cpu > Duration::ZERO && now.resident_memory > Some(1 << 20), "{now:?}");
        assert!(now.open_fds > Some(2) && now.max_fds >= now.open_fds, "{now:?}");
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1000 kB\n"), Some(1_024_000));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
