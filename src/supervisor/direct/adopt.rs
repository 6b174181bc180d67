//! Finds the child processes of an earlier controller.
//!
//! Most are identified by pid, start time and boot. If the controller was killed between a launch and the writing of the registry
//! file, the process is identified by its environment, or by its own pid file.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::environ::PREFIX;
use crate::files::{FileOwner, read_untrusted};
use crate::model::client::Handle;
use crate::model::persisted::{PersistedClient, ProcessStatus};
use crate::supervisor::proc;
use crate::tasks::on_blocking_thread;

/// How much of an environment or command line is read: more than the kernel allows for one argument.
const MAX_READ: u64 = 256 * 1024;
/// The largest pid file, in bytes.
const MAX_PID_FILE: u64 = 64;

/// How long a process may take from fork to exec on an overloaded machine.
const EXECUTED: Duration = Duration::from_secs(5);

/// Finds the process of each client. Blocks on /proc.
pub(super) fn look(saved: Vec<PersistedClient>, boot_id: &Arc<str>) -> Vec<(PersistedClient, ProcessStatus)> {
    let mut strays = HashMap::new();
    if saved.iter().any(|client| client.handle.is_none()) {
        // First, because the environment of a fork is the controller's own until it calls exec.
        await_executed();
        strays = find_strays(boot_id);
    }
    let found = |client: PersistedClient| {
        let found = match &client.handle {
            Some(handle) => known(handle, boot_id),
            None => stray(&client, &mut strays, boot_id),
        };
        (client, found)
    };
    saved.into_iter().map(found).collect()
}

/// Whether any of these clients still has the process of its handle.
pub(in crate::supervisor) async fn any_alive(saved: Vec<PersistedClient>, boot_id: Arc<str>) -> bool {
    let look = move || {
        saved
            .iter()
            .filter_map(|client| client.handle.as_ref())
            .any(|handle| matches!(known(handle, &boot_id), ProcessStatus::Running(_)))
    };
    on_blocking_thread(look).await
}

fn known(handle: &Handle, boot_id: &Arc<str>) -> ProcessStatus {
    // Units do not run here: `detect` would have chosen them.
    let Handle::Direct { pid, start_ticks, boot_id: its_boot } = handle else {
        return ProcessStatus::Gone { rebooted: false };
    };
    if its_boot != boot_id {
        return ProcessStatus::Gone { rebooted: true };
    }
    match proc::stat(*pid) {
        // A zombie has ended already; its exit status is for its parent alone.
        Ok(stat) if stat.start_ticks == *start_ticks && stat.state != b'Z' => {
            ProcessStatus::Running(handle.clone())
        }
        _ => ProcessStatus::Gone { rebooted: false },
    }
}

/// What identifies a client without a handle: account, port and state file together are unique.
type Identity = (Vec<u8>, Vec<u8>, Vec<u8>);

fn stray(
    client: &PersistedClient,
    strays: &mut HashMap<Identity, Handle>,
    boot_id: &Arc<str>,
) -> ProcessStatus {
    let name = &client.spec.name;
    let state = client.spec.files.state.as_os_str().as_bytes().to_vec();
    let identity = (name.as_str().as_bytes().to_vec(), client.port.to_string().into_bytes(), state);
    let by_pid_file = || by_pid_file(&client.spec.files.pid, &format!("wqclient({name})"), boot_id);
    // Removed, so that no process is given to two clients.
    match strays.remove(&identity).or_else(by_pid_file) {
        Some(handle) => ProcessStatus::Running(handle),
        None => ProcessStatus::Gone { rebooted: false },
    }
}

/// Waits until every fork of a controller has called exec. A controller that was killed between the two leaves a child that looks
/// like the controller itself, and that is about to execute the client. Bounded, as other processes may fork at any time.
fn await_executed() {
    let Some(controller) = program_name(std::process::id()) else { return };
    let give_up = Instant::now() + EXECUTED;
    while is_only_forked(&controller) && Instant::now() < give_up {
        sleep(Duration::from_millis(2));
    }
}

/// Whether some process of this program was forked and has not called exec yet.
fn is_only_forked(program: &OsStr) -> bool {
    let all = proc::groups().unwrap_or_default();
    all.iter().any(|(pid, stat)| stat.only_forked && program_name(*pid).as_deref() == Some(program))
}

/// The file name of a process's program, even if an upgrade has removed it since.
fn program_name(pid: u32) -> Option<OsString> {
    let name = proc::program(pid)?.file_name()?.to_owned();
    let removed = name.as_bytes().strip_suffix(b" (deleted)").map(|name| OsStr::from_bytes(name).to_owned());
    Some(removed.unwrap_or(name))
}

/// The processes of this user that lead a process group and have the environment of a client.
fn find_strays(boot_id: &Arc<str>) -> HashMap<Identity, Handle> {
    let all = proc::groups().unwrap_or_default();
    // What a client starts has its environment as well, and is no leader.
    let leaders = all.into_iter().filter(|(pid, stat)| *pid == stat.group);
    let ours = leaders.filter(|(pid, _)| is_mine(*pid));
    let identify = |(pid, stat): (u32, proc::Stat)| {
        let environ = read_proc(pid, "environ")?;
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

/// The process in a client's pid file, if its title is that of the client. A Perl program that sets its title overwrites the
/// visible environment.
fn by_pid_file(path: &Path, title: &str, boot_id: &Arc<str>) -> Option<Handle> {
    // The client has written it, and may have put anything else there.
    let (content, _) = read_untrusted(path, &FileOwner::me(), MAX_PID_FILE).ok()?;
    let pid: u32 = std::str::from_utf8(&content).ok()?.trim().parse().ok()?;
    let stat = proc::stat(pid).ok().filter(|stat| stat.group == pid && stat.state != b'Z' && is_mine(pid))?;
    let command = read_proc(pid, "cmdline")?;
    // The pid file may be old, and its pid that of any process by now. argv[0] comes first in the command line.
    let is_it = command.split(|b| *b == 0).next() == Some(title.as_bytes());
    is_it.then(|| Handle::Direct { pid, start_ticks: stat.start_ticks, boot_id: boot_id.clone() })
}

/// Whether the process is of this user. Another user could give a process the same variables or the same title, to have it taken for
/// a client.
pub(super) fn is_mine(pid: u32) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|entry| entry.uid() == me)
}

/// Reads a file of `/proc` about a process.
pub(super) fn read_proc(pid: u32, file: &str) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(format!("/proc/{pid}/{file}")).ok()?.take(MAX_READ).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::ClientSpec;
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// A process that ends with the test.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Process {
        /// A process with this title and only these variables; in a group of its own if `leads`.
        fn new(title: &str, env: &[(&str, &str)], leads: bool) -> Self {
            let mut command = Command::new("/bin/sleep");
            command.arg0(title).arg("600").env_clear().envs(env.iter().copied());
            if leads {
                command.process_group(0);
            }
            let process = Self(command.spawn().unwrap());
            // Before exec its title and variables are those of the test.
            while fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap().split(|b| *b == 0).next()
                != Some(title.as_bytes())
            {
                std::thread::yield_now();
            }
            process
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        fn handle(&self) -> Handle {
            let start_ticks = proc::stat(self.pid()).unwrap().start_ticks;
            Handle::Direct { pid: self.pid(), start_ticks, boot_id: proc::boot_id().unwrap() }
        }
    }

    /// A saved client with its files in `folder`.
    fn saved(folder: &Path, port: u16, handle: Option<Handle>) -> PersistedClient {
        PersistedClient { port, ..PersistedClient::example(ClientSpec::example("小明", folder), handle) }
    }

    fn found(client: PersistedClient) -> ProcessStatus {
        look(vec![client], &proc::boot_id().unwrap()).remove(0).1
    }

    const GONE: ProcessStatus = ProcessStatus::Gone { rebooted: false };

    #[test]
    fn process_is_identified_by_pid_start_and_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::new("x", &[], true);
        let handle = process.handle();
        let Handle::Direct { pid, start_ticks, boot_id } = handle.clone() else { panic!("{handle:?}") };
        let look_for = |handle| found(saved(folder.path(), 5000, Some(handle)));
        assert_eq!(look_for(handle.clone()), ProcessStatus::Running(handle.clone()));
        for ticks in [start_ticks - 1, start_ticks + 1] {
            let recycled = Handle::Direct { pid, start_ticks: ticks, boot_id: boot_id.clone() };
            assert_eq!(look_for(recycled), GONE);
        }
        let of_another_boot = Handle::Direct { pid, start_ticks, boot_id: "another".into() };
        assert_eq!(look_for(of_another_boot), ProcessStatus::Gone { rebooted: true });
        process.0.kill().unwrap();
        while proc::stat(pid).unwrap().state != b'Z' {
            std::thread::yield_now();
        }
        assert_eq!(look_for(handle), GONE, "a zombie does nothing any more");
    }

    #[test]
    fn process_without_handle_is_identified_by_environment() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("mojo_webqq_state_小明.json");
        let state = state.to_str().unwrap();
        let variables = |account, port, state| {
            [
                ("MOJO_WEBQQ_ACCOUNT", account),
                ("MOJO_WEBQQ_PLUGIN_OPENQQ_PORT", port),
                ("MOJO_WEBQQ_STATE_PATH", state),
            ]
        };
        let others = [
            (variables("小", "5000", state), true),
            (variables("小明", "5001", state), true),
            (variables("小明", "5000", "/elsewhere"), true),
            // A child of the client has the same environment.
            (variables("小明", "5000", state), false),
        ];
        let _others = others.map(|(variables, leads)| Process::new("x", &variables, leads));
        assert_eq!(found(saved(folder.path(), 5000, None)), GONE);
        let process = Process::new("x", &variables("小明", "5000", state), true);
        assert_eq!(found(saved(folder.path(), 5000, None)), ProcessStatus::Running(process.handle()));
    }

    #[test]
    fn fork_is_seen_until_exec() {
        let folder = tempfile::tempdir().unwrap();
        // A name that no other test uses.
        let shell = folder.path().join("wq-forking-shell");
        assert!(Command::new("cp").arg("/bin/sh").arg(&shell).status().unwrap().success());
        let is_only_forked = || is_only_forked(OsStr::new("wq-forking-shell"));
        assert!(!is_only_forked());
        let mut command = Command::new(&shell);
        // The shell forks for the pipe, and the fork calls exec only after it has read a line.
        command.args(["-c", "{ read gate; exec sleep 600; } | cat"]).stdin(Stdio::piped()).process_group(0);
        let mut process = Process(command.spawn().unwrap());
        let until = |forked| {
            while is_only_forked() != forked {
                std::thread::yield_now();
            }
        };
        until(true);
        fs::remove_file(&shell).unwrap();
        assert!(is_only_forked());
        process.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        until(false);
        rustix::process::kill_process_group(
            rustix::process::Pid::from_child(&process.0),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }

    #[test]
    fn process_without_environment_is_identified_by_pid_file_and_title() {
        let folder = tempfile::tempdir().unwrap();
        let client = saved(folder.path(), 5000, None);
        let name_in_pid_file = |process: &Process| {
            fs::write(&client.spec.files.pid, format!("{}\n", process.pid())).unwrap();
            found(client.clone())
        };
        let ours = Process::new("wqclient(小明)", &[], true);
        assert_eq!(found(client.clone()), GONE, "without its pid file nobody knows it");
        assert_eq!(name_in_pid_file(&ours), ProcessStatus::Running(ours.handle()));
        for (title, leads) in [("wqclient(小)", true), ("sleep", true), ("wqclient(小明)", false)] {
            assert_eq!(name_in_pid_file(&Process::new(title, &[], leads)), GONE, "{title}");
        }
        for content in ["", "x", "0", "-1", "99999999999"] {
            fs::write(&client.spec.files.pid, content).unwrap();
            assert_eq!(found(client.clone()), GONE, "{content}");
        }
    }

    #[test]
    fn pid_file_that_is_a_pipe_holds_up_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let client = saved(folder.path(), 5000, None);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &client.spec.files.pid, mode).unwrap();
        assert_eq!(found(client), GONE);
    }

    #[test]
    fn process_of_another_user_is_not_taken_for_a_client() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT RUN: only root can start a process of another user");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let client = saved(folder.path(), 5000, None);
        let mut command = Command::new("/bin/sleep");
        command.arg0("wqclient(小明)").arg("600").process_group(0).uid(65_534);
        let process = Process(command.spawn().unwrap());
        // Its user changes before exec, and its title at exec.
        while read_proc(process.pid(), "cmdline").unwrap().split(|b| *b == 0).next()
            != Some("wqclient(小明)".as_bytes())
        {
            std::thread::yield_now();
        }
        fs::write(&client.spec.files.pid, process.pid().to_string()).unwrap();
        assert_eq!(found(client), GONE);
    }
}
