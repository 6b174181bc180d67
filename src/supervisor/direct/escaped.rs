//! Processes of an implementation that are in a process group of their own, so that no signal to its group reaches them: the
//! launcher of LLBot starts node that way, and ends without it when it is killed. Their environment tells whose they are.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::adopt::{is_mine, read_proc};
use crate::environ::PREFIX;
use crate::supervisor::proc;

/// A process by pid and start time.
pub(super) type Escaped = (u32, u64);

/// The processes of this user, other than zombies, that were started with this state file, which only one account has. Blocks on
/// /proc.
pub(super) fn find(state: &Path) -> Vec<Escaped> {
    let variable = [format!("{PREFIX}STATE_PATH=").as_bytes(), state.as_os_str().as_bytes()].concat();
    let has_it = |pid| {
        read_proc(pid, "environ").is_some_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable))
    };
    // Without /proc there is nothing to go by; `ProcessGroups` says so.
    let all = proc::groups().unwrap_or_default().into_iter();
    all.filter(|(pid, _)| is_mine(*pid) && has_it(*pid)).map(|(pid, stat)| (pid, stat.start_ticks)).collect()
}

/// Sends a signal to each of them that is still there.
pub(super) fn signal(found: &[Escaped], signal: Signal) {
    for (pid, start_ticks) in found {
        let Some(number) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else { continue };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        // Compared again now that the pidfd is open: the pid may be another process's since.
        if proc::stat(*pid).is_ok_and(|stat| stat.start_ticks == *start_ticks) {
            // Fails where it has just ended.
            let _ = pidfd_send_signal(&process, signal);
        }
    }
}
