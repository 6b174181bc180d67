//! What the controller promises about the processes of its clients: how they begin, what they say, how they end.

mod concurrency;
mod exits;
mod output;
mod process;
mod reboot;
mod shutdown;

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fixture::Controller;

/// What `/proc/PID/stat` says.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// One letter; `Z` is a zombie.
    state: char,
    parent: u32,
    group: u32,
}

impl Process {
    /// None where there is no such process.
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self { pid, state, parent: number()?, group: number()? })
    }

    fn all() -> impl Iterator<Item = Self> {
        let entries = std::fs::read_dir("/proc").unwrap();
        entries.filter_map(|entry| Self::of(entry.unwrap().file_name().to_str()?.parse().ok()?))
    }
}

/// Whether the process still does something. Without a parent that waits for it, it stays a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    Process::of(pid).is_some_and(|process| process.state != 'Z')
}

/// The processes of a group. Zombies are left out: who lost its parent waits for init.
fn group(leader: u32) -> Vec<Process> {
    Process::all().filter(|process| process.group == leader && process.state != 'Z').collect()
}

/// The controller's child processes.
fn children(controller: &Controller) -> Vec<Process> {
    Process::all().filter(|process| process.parent == controller.pid()).collect()
}

/// The pid in a reply or in the list of clients.
fn pid(object: &Value) -> u32 {
    object["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {object}")).try_into().unwrap()
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// A template that does `lines` and then becomes the fake client.
fn template(lines: &str) -> String {
    crate::fake::template().replace("#!/bin/sh\n", &format!("#!/bin/sh\n{lines}\n"))
}

/// A file that a template writes as a whole.
fn read_when_there(path: &Path) -> Vec<u8> {
    crate::fixture::wait_until(&format!("{} is there", path.display()), || path.exists());
    std::fs::read(path).unwrap()
}

/// The list of clients is the list of processes, each with a port of its own.
fn check_list_against_processes(controller: &Controller) {
    let clients = controller.clients();
    let mut listed: Vec<u32> = clients.iter().map(pid).collect();
    let mut there: Vec<u32> = children(controller).iter().map(|process| process.pid).collect();
    listed.sort_unstable();
    there.sort_unstable();
    assert_eq!(listed, there, "{clients:?}");
    let mut ports: Vec<u64> = clients.iter().map(|client| client["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), clients.len(), "{clients:?}");
}
