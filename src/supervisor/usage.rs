//! [`ProcessUsage`]: what processes use. Of child processes it is read from `/proc`, each with its process group.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::model::client::Handle;

/// What a process uses, with what it has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Memory, in bytes: of a unit what the kernel counts for its cgroup, caches included; of child processes what is resident.
    pub memory: u64,
    /// Processor time since it was started, also of those of its processes that have ended.
    pub cpu: Duration,
}

impl std::ops::Add for ProcessUsage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { memory: self.memory.saturating_add(other.memory), cpu: self.cpu.saturating_add(other.cpu) }
    }
}

/// The fields of `/proc/PID/stat` (proc_pid_stat(5)) that count here.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    group: u32,
    /// Clock ticks from boot to its start.
    start: u64,
    /// Clock ticks of processor time, with those of children that were waited for.
    ticks: u64,
    /// Resident pages.
    pages: u64,
}

/// What these child processes use, in their order; none where a process is gone. One walk over `/proc` for all of them. Blocks.
pub(super) fn of_children(handles: &[Handle]) -> Vec<Option<ProcessUsage>> {
    let wanted = handles.iter().filter_map(|handle| match handle {
        Handle::Direct { pid, start_ticks, .. } => Some((*pid, *start_ticks)),
        Handle::Unit { .. } => None,
    });
    // A child leads a process group of its own number.
    let mut leaders: HashMap<u32, (u64, bool, ProcessUsage)> =
        wanted.map(|(pid, start)| (pid, (start, false, ProcessUsage::default()))).collect();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that exits meanwhile is left out.
        let Some(found) = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| parse(&text)) else {
            continue;
        };
        if let Some((start, is_there, sum)) = leaders.get_mut(&found.group) {
            // A later process may have the pid by now; its start time tells them apart.
            *is_there |= pid == found.group && found.start == *start;
            *sum = *sum + found.usage();
        }
    }
    let found = |handle: &Handle| leaders.get(&handle.pid()).filter(|(_, is_there, _)| *is_there);
    handles.iter().map(|handle| found(handle).map(|(.., sum)| *sum)).collect()
}

/// The same of one child process, without a look at all others: of its group, only those are found whose parents are alive. None as
/// well where the kernel does not list children (`CONFIG_PROC_CHILDREN`). Blocks.
pub(super) fn of_child(handle: &Handle) -> Option<ProcessUsage> {
    let Handle::Direct { pid, start_ticks, .. } = handle else { return None };
    let leader = fs::read(format!("/proc/{pid}/stat")).ok().and_then(|text| parse(&text))?;
    // A later process may have the pid by now.
    if leader.start != *start_ticks || leader.group != *pid {
        return None;
    }
    let mut sum = leader.usage();
    let mut parents = vec![*pid];
    while let Some(parent) = parents.pop() {
        for child in children(parent)? {
            // One that exits meanwhile is left out.
            let Some(found) = fs::read(format!("/proc/{child}/stat")).ok().and_then(|text| parse(&text))
            else {
                continue;
            };
            if found.group == *pid {
                sum = sum + found.usage();
                parents.push(child);
            }
        }
    }
    Some(sum)
}

/// The children of a process, which each of its threads lists for itself. None where the kernel does not list them.
fn children(pid: u32) -> Option<Vec<u32>> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(Vec::new()) };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // Gone meanwhile, or never there.
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(found)
}

impl Counted {
    fn usage(&self) -> ProcessUsage {
        let millis = self.ticks.saturating_mul(1000) / clock_ticks_per_second().max(1);
        let page = u64::try_from(page_size()).unwrap_or(u64::MAX);
        ProcessUsage { memory: self.pages.saturating_mul(page), cpu: Duration::from_millis(millis) }
    }
}

/// The name of the process may have spaces and parentheses, so the fields are counted from the last `)`.
fn parse(content: &[u8]) -> Option<Counted> {
    let end_of_name = content.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&content[end_of_name + 1..]).ok()?;
    // The state, which comes first, is field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Counted {
        group: u32::try_from(number(5)?).ok()?,
        start: number(22)?,
        ticks: [14, 15, 16, 17].into_iter().map(number).sum::<Option<u64>>()?,
        pages: number(24)?,
    })
}

/// What the processes of a cgroup use; none where it is gone, or the kernel does not count. `root` is where cgroups are mounted.
/// Blocks.
pub(super) fn of_cgroup(root: &str, group: &str) -> Option<ProcessUsage> {
    let read = |paths: [String; 2]| paths.into_iter().find_map(|path| fs::read_to_string(path).ok());
    // In systemd's hybrid mode memory is a hierarchy of its own, and what is counted without a controller is in `unified`.
    let memory = read([
        format!("{root}{group}/memory.current"),
        format!("{root}/memory{group}/memory.usage_in_bytes"),
    ])?;
    let cpu = read([format!("{root}{group}/cpu.stat"), format!("{root}/unified{group}/cpu.stat")])?;
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())?;
    Some(ProcessUsage { memory: memory.trim().parse().ok()?, cpu: Duration::from_micros(cpu) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn stat_line_with_any_process_name() {
        let line = b"77 (a) b (c) S 1 42 42 0 -1 4194560 123 0 0 0 10 20 3 4 20 0 1 0 987654 2703360 217 18";
        assert_eq!(parse(line), Some(Counted { group: 42, start: 987_654, ticks: 37, pages: 217 }));
        assert_eq!((parse(b"77 (a S 1"), parse(b"")), (None, None));
    }

    #[test]
    fn children_are_counted_with_their_groups() {
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 3600 & echo; wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        let pid = child.id();
        let start_ticks = super::super::proc::stat(pid).unwrap().start_ticks;
        let handle = |start_ticks| Handle::Direct { pid, start_ticks, boot_id: "".into() };
        let other = of_children(&[handle(start_ticks + 1)]);
        let alone = || parse(&fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap().usage();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        // A process in the middle of execve(2) has no memory of its own.
        let (usage, alone) = loop {
            let found = of_children(&[handle(start_ticks), handle(start_ticks)]);
            let (usage, alone) = (found[0].unwrap(), alone());
            if usage.memory > alone.memory || std::time::Instant::now() > end {
                break (usage, alone);
            }
            std::thread::yield_now();
        };
        let one = of_child(&handle(start_ticks)).unwrap();
        assert!(one.memory > alone.memory, "{one:?} {alone:?}");
        assert_eq!(of_child(&handle(start_ticks + 1)), None);
        rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        child.wait().unwrap();
        assert!(usage.memory > alone.memory && usage.cpu > Duration::ZERO, "{usage:?} {alone:?}");
        assert_eq!((other, of_children(&[handle(start_ticks)])), (vec![None], vec![None]));
        assert_eq!(of_child(&handle(start_ticks)), None);
    }

    #[test]
    fn cgroups_of_both_kinds_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let read = |group| of_cgroup(root.path().to_str().unwrap(), group);
        write("a/memory.current", "4096\n");
        assert_eq!(read("/a"), None);
        write("a/cpu.stat", "nr_periods 0\nusage_usec 1500000\n");
        let usage = ProcessUsage { memory: 4096, cpu: Duration::from_millis(1500) };
        assert_eq!(read("/a"), Some(usage));
        write("memory/b/memory.usage_in_bytes", "4096\n");
        write("unified/b/cpu.stat", "usage_usec 1500000\n");
        assert_eq!((read("/b"), read("/c")), (Some(usage), None));
    }
}
