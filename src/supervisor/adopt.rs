//! Finding the processes that an earlier controller left.
//!
//! Most are known by pid, start time and boot. A controller that was killed between a launch and the writing of the
//! registry file leaves one that is known by nothing but its environment, or by its own pid file.

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

use super::proc;
use crate::environ::PREFIX;
use crate::model::client::Handle;
use crate::model::saved::{Found, SavedClient};

/// As much of an environment or command line is read: more than the kernel lets one argument have.
const MAX_READ: u64 = 256 * 1024;

/// How long may pass between a fork and what it is for, on a machine that hardly gets on.
const EXECUTED: Duration = Duration::from_secs(5);

/// Looks for the process of each client. Blocks on /proc.
pub(super) fn look(saved: Vec<SavedClient>, boot_id: &Arc<str>) -> Vec<(SavedClient, Found)> {
    let mut strays = HashMap::new();
    if saved.iter().any(|client| client.handle.is_none()) {
        await_executed();
        strays = find_strays(boot_id);
    }
    let found = |client: SavedClient| {
        let found = match &client.handle {
            Some(handle) => known(handle, boot_id),
            None => stray(&client, &mut strays, boot_id),
        };
        (client, found)
    };
    saved.into_iter().map(found).collect()
}

/// Whether any of these still has the process of its handle.
pub(super) async fn any_alive(saved: Vec<SavedClient>, boot_id: Arc<str>) -> bool {
    let look = move || {
        saved
            .iter()
            .filter_map(|client| client.handle.as_ref())
            .any(|handle| matches!(known(handle, &boot_id), Found::Running(_)))
    };
    // Fails only when the runtime is at its end.
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}

fn known(handle: &Handle, boot_id: &Arc<str>) -> Found {
    // A unit is not looked for where clients are child processes: none is chosen while units run.
    let Handle::Direct { pid, start_ticks, boot_id: its_boot } = handle else {
        return Found::Gone { rebooted: false };
    };
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
    let name = &client.spec.name;
    let state = client.spec.files.state.as_os_str().as_bytes().to_vec();
    let identity = (name.as_str().as_bytes().to_vec(), client.port.to_string().into_bytes(), state);
    let by_pid_file = || by_pid_file(&client.spec.files.pid, &format!("wqclient({name})"), boot_id);
    match strays.remove(&identity).or_else(by_pid_file) {
        Some(handle) => Found::Running(handle),
        None => Found::Gone { rebooted: false },
    }
}

/// Waits until all that a controller has forked has become what it is to be: one that was killed in that moment leaves a
/// child that nothing tells from the controller itself, and that goes on to execute the client. Others that run here may
/// fork at any time, so this is not for ever.
fn await_executed() {
    let Some(controller) = program_name(std::process::id()) else { return };
    let give_up = Instant::now() + EXECUTED;
    while is_only_forked(&controller) && Instant::now() < give_up {
        sleep(Duration::from_millis(2));
    }
}

/// Whether some process of this program was forked and has executed nothing yet.
fn is_only_forked(program: &OsStr) -> bool {
    let all = proc::groups().unwrap_or_default();
    all.iter().any(|(pid, stat)| stat.only_forked && program_name(*pid).as_deref() == Some(program))
}

/// The name of the program that a process executes, also of one that was removed since, as by an upgrade.
fn program_name(pid: u32) -> Option<OsString> {
    let name = proc::program(pid)?.file_name()?.to_owned();
    let removed = name.as_bytes().strip_suffix(b" (deleted)").map(|name| OsStr::from_bytes(name).to_owned());
    Some(removed.unwrap_or(name))
}

/// Our own processes that lead a group and have the environment of a client.
fn find_strays(boot_id: &Arc<str>) -> HashMap<Identity, Handle> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::{ClientFiles, ClientSpec, Generation, History};
    use crate::model::name::ClientName;
    use crate::model::saved::Desired;
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
        /// One that is called `title` and has these variables and no others; in a group of its own if it leads one.
        fn new(title: &str, env: &[(&str, &str)], leads: bool) -> Self {
            let mut command = Command::new("/bin/sleep");
            command.arg0(title).arg("600").env_clear().envs(env.iter().copied());
            if leads {
                command.process_group(0);
            }
            let process = Self(command.spawn().unwrap());
            // Until it is executed its title and variables are ours.
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
    fn saved(folder: &Path, port: u16, handle: Option<Handle>) -> SavedClient {
        let name = ClientName::new("小明").unwrap();
        let files = ClientFiles::in_folder(folder.to_owned(), &name);
        let spec = Arc::new(ClientSpec { name, params: [].into(), files });
        let (desired, history) = (Desired::Running, History::default());
        SavedClient { spec, port, generation: Generation(1), desired, handle, history }
    }

    fn found(client: SavedClient) -> Found {
        look(vec![client], &proc::boot_id().unwrap()).remove(0).1
    }

    const GONE: Found = Found::Gone { rebooted: false };

    #[test]
    fn a_process_is_known_by_pid_start_and_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::new("x", &[], true);
        let handle = process.handle();
        let Handle::Direct { pid, start_ticks, boot_id } = handle.clone() else { panic!("{handle:?}") };
        let look_for = |handle| found(saved(folder.path(), 5000, Some(handle)));
        assert_eq!(look_for(handle.clone()), Found::Running(handle.clone()));
        for ticks in [start_ticks - 1, start_ticks + 1] {
            let recycled = Handle::Direct { pid, start_ticks: ticks, boot_id: boot_id.clone() };
            assert_eq!(look_for(recycled), GONE);
        }
        let of_another_boot = Handle::Direct { pid, start_ticks, boot_id: "another".into() };
        assert_eq!(look_for(of_another_boot), Found::Gone { rebooted: true });
        process.0.kill().unwrap();
        while proc::stat(pid).unwrap().state != b'Z' {
            std::thread::yield_now();
        }
        assert_eq!(look_for(handle), GONE, "a zombie does nothing any more");
    }

    #[test]
    fn one_that_is_not_in_the_file_is_known_by_its_environment() {
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
            // A child of the client has all of that, too.
            (variables("小明", "5000", state), false),
        ];
        let _others = others.map(|(variables, leads)| Process::new("x", &variables, leads));
        assert_eq!(found(saved(folder.path(), 5000, None)), GONE);
        let process = Process::new("x", &variables("小明", "5000", state), true);
        assert_eq!(found(saved(folder.path(), 5000, None)), Found::Running(process.handle()));
    }

    #[test]
    fn a_fork_is_seen_until_something_is_executed() {
        let folder = tempfile::tempdir().unwrap();
        // A name that no other test has.
        let shell = folder.path().join("wq-forking-shell");
        assert!(Command::new("cp").arg("/bin/sh").arg(&shell).status().unwrap().success());
        let is_only_forked = || is_only_forked(OsStr::new("wq-forking-shell"));
        assert!(!is_only_forked());
        let mut command = Command::new(&shell);
        // What is piped is forked, and here it executes nothing until it has read a line.
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
    fn one_that_overwrote_its_environment_is_known_by_its_pid_file_and_title() {
        let folder = tempfile::tempdir().unwrap();
        let client = saved(folder.path(), 5000, None);
        let name_in_pid_file = |process: &Process| {
            fs::write(&client.spec.files.pid, format!("{}\n", process.pid())).unwrap();
            found(client.clone())
        };
        let ours = Process::new("wqclient(小明)", &[], true);
        assert_eq!(found(client.clone()), GONE, "without its pid file nobody knows it");
        assert_eq!(name_in_pid_file(&ours), Found::Running(ours.handle()));
        for (title, leads) in [("wqclient(小)", true), ("sleep", true), ("wqclient(小明)", false)] {
            assert_eq!(name_in_pid_file(&Process::new(title, &[], leads)), GONE, "{title}");
        }
        for content in ["", "x", "0", "-1", "99999999999"] {
            fs::write(&client.spec.files.pid, content).unwrap();
            assert_eq!(found(client.clone()), GONE, "{content}");
        }
    }
}
