//! The facts of `/proc` that identify processes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Fields of `/proc/PID/stat`, see proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// One letter; `Z` is a zombie.
    pub(super) state: u8,
    /// The process group.
    pub(super) group: u32,
    /// Whether it was forked and has not called exec yet: `PF_FORKNOEXEC` of the kernel's flags.
    pub(super) only_forked: bool,
    /// Clock ticks from boot to its start.
    pub(super) start_ticks: u64,
}

/// "Forked but didn't exec", see include/linux/sched.h.
const PF_FORKNOEXEC: u32 = 0x40;

/// Reads `/proc/PID/stat`.
pub(super) fn stat(pid: u32) -> io::Result<Stat> {
    let content = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&content)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID/stat"))
}

/// The name of the process may have spaces and parentheses, so the fields are counted from the last `)`.
fn parse_stat(content: &[u8]) -> Option<Stat> {
    let end_of_name = content.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&content[end_of_name + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // `nth` counts from the field after the last one taken: pgrp is field 5, flags 9, starttime 22.
    let group = fields.nth(1)?.parse().ok()?;
    let flags: u32 = fields.nth(3)?.parse().ok()?;
    let start_ticks = fields.nth(12)?.parse().ok()?;
    Some(Stat { state, group, only_forked: flags & PF_FORKNOEXEC != 0, start_ticks })
}

/// All processes except zombies, with their process groups.
pub(super) fn groups() -> io::Result<Vec<(u32, Stat)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that exits meanwhile is left out.
        if let Ok(stat) = stat(pid)
            && stat.state != b'Z'
        {
            found.push((pid, stat));
        }
    }
    Ok(found)
}

/// The program of a process; none without permission to look into it.
pub(super) fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// When the first process of our PID namespace started, in clock ticks since the kernel did. `ProtectProc=` of a service hides it.
pub(super) fn init_start() -> io::Result<u64> {
    Ok(stat(1)?.start_ticks)
}

/// The ID of this boot.
pub(super) fn boot_id() -> io::Result<Arc<str>> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().into())
}

/// A random UUID of the kernel's.
pub(super) fn random_id() -> io::Result<Arc<str>> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_with_any_process_name() {
        let line = b"77 (a) b (c) S 1 42 42 0 -1 4194560 123 0 0 0 1 2 0 0 20 0 1 0 987654 2703360 217 18";
        let stat = Stat { state: b'S', group: 42, only_forked: false, start_ticks: 987_654 };
        assert_eq!(parse_stat(line), Some(stat));
        let line = b"77 (a) S 1 42 42 0 -1 4194624 123 0 0 0 1 2 0 0 20 0 1 0 987654 2703360 217 18";
        assert_eq!(parse_stat(line), Some(Stat { only_forked: true, ..stat }));
        assert_eq!(parse_stat(b"77 (a S 1"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn stat_of_this_process() {
        let me = stat(std::process::id()).unwrap();
        assert!(me.start_ticks > 0);
        assert!(
            groups()
                .unwrap()
                .iter()
                .any(|(pid, stat)| (*pid, stat.start_ticks) == (std::process::id(), me.start_ticks))
        );
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
