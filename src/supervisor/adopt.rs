//! Finding the processes that an earlier controller left.
//!
//! Most are known by pid, start time and boot. A controller that was killed between a launch and the writing of the
//! registry file leaves one that is known by nothing but its environment, or by its own pid file.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::proc;
use crate::environ::PREFIX;
use crate::model::client::Handle;
use crate::model::saved::{Found, SavedClient};

/// As much of an environment or command line is read: more than the kernel lets one argument have.
const MAX_READ: u64 = 256 * 1024;

/// Looks for the process of each client. Blocks on /proc.
pub(super) fn look(saved: Vec<SavedClient>, boot_id: &Arc<str>) -> Vec<(SavedClient, Found)> {
    let mut strays =
        if saved.iter().any(|client| client.handle.is_none()) { strays(boot_id) } else { HashMap::new() };
    let found = |client: SavedClient| {
        let found = match &client.handle {
            Some(handle) => known(handle, boot_id),
            None => stray(&client, &mut strays, boot_id),
        };
        (client, found)
    };
    saved.into_iter().map(found).collect()
}

fn known(handle: &Handle, boot_id: &Arc<str>) -> Found {
    let Handle::Direct { pid, start_ticks, boot_id: its_boot } = handle;
    if its_boot != boot_id {
        return Found::Gone { rebooted: true };
    }
    match proc::stat(*pid) {
        Ok(stat) if stat.start_ticks == *start_ticks && stat.state != b'Z' => Found::Running(handle.clone()),
        _ => Found::Gone { rebooted: false },
    }
}

/// What tells a client without a handle: account, port and state file together belong to nobody else.
type Identity = (Vec<u8>, Vec<u8>, Vec<u8>);

fn stray(client: &SavedClient, strays: &mut HashMap<Identity, Handle>, boot_id: &Arc<str>) -> Found {
    use std::os::unix::ffi::OsStrExt;
    let name = &client.spec.name;
    let state = client.spec.files.state.as_os_str().as_bytes().to_vec();
    let identity = (name.as_str().as_bytes().to_vec(), client.port.to_string().into_bytes(), state);
    let by_pid_file = || by_pid_file(&client.spec.files.pid, &format!("wqclient({name})"), boot_id);
    match strays.remove(&identity).or_else(by_pid_file) {
        Some(handle) => Found::Running(handle),
        None => Found::Gone { rebooted: false },
    }
}

/// Our own processes that lead a group and have the environment of a client.
fn strays(boot_id: &Arc<str>) -> HashMap<Identity, Handle> {
    let me = rustix::process::geteuid().as_raw();
    let all = proc::groups().unwrap_or_default();
    let leaders = all.into_iter().filter(|(pid, stat)| *pid == stat.group);
    let ours =
        leaders.filter(|(pid, _)| fs::metadata(format!("/proc/{pid}")).is_ok_and(|entry| entry.uid() == me));
    let identify = |(pid, stat): (u32, proc::Stat)| {
        let environ = read(Path::new(&format!("/proc/{pid}/environ")))?;
        let value = |name: &str| {
            let start = format!("{PREFIX}{name}=").into_bytes();
            environ
                .split(|b| *b == 0)
                .find_map(|variable| variable.strip_prefix(&start[..]))
                .map(<[u8]>::to_vec)
        };
        let identity = (value("ACCOUNT")?, value("PLUGIN_OPENQQ_PORT")?, value("STATE_PATH")?);
        Some((identity, Handle::Direct { pid, start_ticks: stat.start_ticks, boot_id: boot_id.clone() }))
    };
    ours.filter_map(identify).collect()
}

/// The process that a client's pid file names, if it calls itself by the client's name: Perl overwrites the environment
/// that can be seen when a program gives itself a title.
fn by_pid_file(path: &Path, title: &str, boot_id: &Arc<str>) -> Option<Handle> {
    let pid: u32 = std::str::from_utf8(&read(path)?).ok()?.trim().parse().ok()?;
    let stat = proc::stat(pid).ok().filter(|stat| stat.group == pid && stat.state != b'Z')?;
    let command = read(Path::new(&format!("/proc/{pid}/cmdline")))?;
    let is_it = command.split(|b| *b == 0).next() == Some(title.as_bytes());
    is_it.then(|| Handle::Direct { pid, start_ticks: stat.start_ticks, boot_id: boot_id.clone() })
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path).ok()?.take(MAX_READ).read_to_end(&mut content).ok()?;
    Some(content)
}
