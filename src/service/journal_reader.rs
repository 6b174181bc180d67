//! [`JournalReader`]: the log of an account from the journal, by journalctl(1).
//!
//! A client can send the journal any field, so `WQ_CLIENT` alone proves nothing. journald itself adds `_SYSTEMD_UNIT`
//! (systemd.journal-fields(7)): the units of the account say whose their lines are, and `WQ_CLIENT` counts in those of the controller.

mod entry;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::model::client::ManagerKind;
use crate::model::name::ClientName;
use crate::wire::v1::log::LogEntry;
use entry::Origins;

/// Where journalctl is: not looked up in `$PATH`, which may be anything.
const PROGRAMS: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];
/// Where journald keeps its files, in a folder of the machine's ID.
const FOLDERS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// What is read of an entry.
const FIELDS: &str = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,WQ_FIELDS,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT";
/// The longest entry, as JSON, in bytes: journald takes 48 KiB of a line (journald.conf(5), `LineMax=`), and a byte may become six.
const MAX_ENTRY: usize = 512 * 1024;
/// The most that is read for one answer, in bytes. Of more only the newest entries are shown.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long an answer may take: of a large journal on a slow disk each file is looked at.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many answers are read at a time. Each is a process.
const AT_ONCE: usize = 4;

/// Reads the journal.
#[derive(Debug)]
pub struct JournalReader {
    program: PathBuf,
    /// The controller's own unit, where it writes to the journal.
    own: Option<OwnUnit>,
    turns: Semaphore,
}

/// The unit of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnUnit {
    manager: ManagerKind,
    name: String,
}

/// Whose entries are read.
#[derive(Clone, Debug)]
pub struct JournalOf {
    /// The account.
    pub account: ClientName,
    /// The units of its client and of its implementation, and their manager, where they are units.
    pub units: Option<(ManagerKind, [Arc<str>; 2])>,
}

/// Why the journal is not read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// journalctl can't be executed, or read from.
    #[error("can't run journalctl")]
    Run(#[source] io::Error),
    /// It takes too long.
    #[error("the journal is slow just now")]
    Slow,
}

impl JournalReader {
    /// The reader, if this user may read the journal. `is_own_log` says whether the controller writes there.
    pub fn find(is_own_log: bool) -> Option<Self> {
        let program = PROGRAMS.iter().map(Path::new).find(|program| program.is_file())?;
        let uid = rustix::process::geteuid().as_raw();
        let id = std::fs::read_to_string("/etc/machine-id").ok()?;
        let files = ["system.journal".to_owned(), format!("user-{uid}.journal")];
        let paths = FOLDERS.iter().flat_map(|folder| files.iter().map(move |file| (folder, file)));
        // As journalctl does it; executing it would take longer.
        let is_readable = |(folder, file): (&&str, &String)| {
            File::open(Path::new(folder).join(id.trim()).join(file)).is_ok()
        };
        if !paths.into_iter().any(is_readable) {
            return None;
        }
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = is_own_log.then(|| own_unit(&cgroup)).flatten();
        Some(Self { program: program.to_owned(), own, turns: Semaphore::new(AT_ONCE) })
    }

    /// Whether it has anything of an account.
    pub fn has(&self, of: &JournalOf) -> bool {
        self.own.is_some() || of.units.is_some()
    }

    /// The last entries of an account, at most `most`, the oldest one first.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub async fn last(&self, of: &JournalOf, most: usize) -> Result<Vec<LogEntry>, JournalError> {
        let read = async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            // The newest first, so that of too many the oldest are left out.
            let mut entries = self.run(of, most, "--reverse")?;
            let mut found = Vec::new();
            while let Some(entry) = entries.next().await {
                found.push(entry);
                if entries.read > MAX_ANSWER {
                    break;
                }
            }
            found.reverse();
            Ok(found)
        };
        timeout(PATIENCE, read).await.unwrap_or(Err(JournalError::Slow))
    }

    /// The last entries of an account, at most `most`, and those that come. journalctl ends with what is returned.
    ///
    /// # Errors
    /// It can't be executed.
    pub fn follow(&self, of: &JournalOf, most: usize) -> Result<JournalEntries, JournalError> {
        self.run(of, most, "--follow")
    }

    fn run(&self, of: &JournalOf, most: usize, how: &str) -> Result<JournalEntries, JournalError> {
        let mut command = Command::new(&self.program);
        command.args(["--quiet", "--no-pager", "--all", "--output=json", how]);
        command.args([format!("--output-fields={FIELDS}"), format!("--lines={most}")]);
        command.args(self.matches(of));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Running(Some(command.spawn().map_err(JournalError::Run)?));
        let output = child.0.as_mut().and_then(|child| child.stdout.take());
        let output = output.ok_or_else(|| JournalError::Run(io::ErrorKind::BrokenPipe.into()))?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(JournalError::Run)?;
        let units = of.units.as_ref().map(|(_, units)| units.clone());
        let origins = Origins { account: of.account.clone(), units };
        Ok(JournalEntries {
            origins,
            output: BufReader::new(output),
            line: Vec::new(),
            read: 0,
            _child: child,
        })
    }

    /// The matches: those of a group all have to hold, and one of the groups.
    fn matches(&self, of: &JournalOf) -> Vec<String> {
        let mut groups: Vec<Vec<String>> = Vec::new();
        if let Some((manager, units)) = &of.units {
            groups.extend(units.iter().map(|unit| of_unit(*manager, unit)));
        }
        if let Some(OwnUnit { manager, name }) = &self.own {
            let mut group = of_unit(*manager, name);
            group.push(format!("WQ_CLIENT={}", of.account));
            groups.push(group);
        }
        groups.join(&"+".to_owned())
    }
}

/// What only entries of this unit have. Units of the same name of other users have another user.
fn of_unit(manager: ManagerKind, unit: &str) -> Vec<String> {
    match manager {
        ManagerKind::System => vec![format!("_SYSTEMD_UNIT={unit}")],
        ManagerKind::User => {
            let uid = rustix::process::geteuid().as_raw();
            vec![format!("_SYSTEMD_USER_UNIT={unit}"), format!("_UID={uid}")]
        }
    }
}

/// The unit that a process is in, by `/proc/PID/cgroup`.
fn own_unit(cgroup: &str) -> Option<OwnUnit> {
    // The hierarchy of systemd: that of cgroup v2, or the one with its name.
    let path = cgroup.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })?;
    let manager = if path.contains("/user@") { ManagerKind::User } else { ManagerKind::System };
    let name = path.split('/').rfind(|part| part.ends_with(".service"))?;
    Some(OwnUnit { manager, name: name.to_owned() })
}

/// journalctl. Dropped it is killed.
#[derive(Debug)]
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // Fails where it has ended.
        let _ = child.kill();
        if matches!(child.try_wait(), Ok(None)) {
            // It ends in a moment, for which no task is to wait. Where the runtime ends it is init's.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn_blocking(move || child.wait());
            }
        }
    }
}

/// Entries of the journal as they come.
#[derive(Debug)]
pub struct JournalEntries {
    origins: Origins,
    output: BufReader<pipe::Receiver>,
    /// A line that has not come to its end yet.
    line: Vec<u8>,
    /// How much was read, in bytes.
    read: usize,
    _child: Running,
}

impl JournalEntries {
    /// The next entry; none where journalctl has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<LogEntry> {
        loop {
            let buffer = self.output.fill_buf().await.ok().filter(|buffer| !buffer.is_empty())?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            // Of one that is too long the rest is read and dropped.
            self.line
                .extend_from_slice(&part[..part.len().min((MAX_ENTRY + 1).saturating_sub(self.line.len()))]);
            let taken = end.map_or(part.len(), |end| end + 1);
            self.read += taken;
            self.output.consume(taken);
            if end.is_some() {
                let entry = (self.line.len() <= MAX_ENTRY).then(|| self.origins.read(&self.line)).flatten();
                self.line.clear();
                if entry.is_some() {
                    return entry;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_unit_is_found() {
        let found = |cgroup: &str| own_unit(cgroup).map(|own| (own.manager, own.name));
        let system = Some((ManagerKind::System, "wqcontroller.service".to_owned()));
        assert_eq!(found("0::/system.slice/wqcontroller.service\n"), system);
        let hybrid = "5:memory:/x\n1:name=systemd:/system.slice/wqcontroller.service\n";
        assert_eq!(found(hybrid), system);
        let user = "0::/user.slice/user-7.slice/user@7.service/app.slice/wq.service";
        assert_eq!(found(user), Some((ManagerKind::User, "wq.service".to_owned())));
        assert_eq!(found("0::/user.slice/session-1.scope"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn entries_of_other_units_do_not_match() {
        let own = OwnUnit { manager: ManagerKind::System, name: "wqcontroller.service".into() };
        let reader = JournalReader { program: "/x".into(), own: Some(own), turns: Semaphore::new(1) };
        let account = ClientName::new("小红").unwrap();
        let of = JournalOf {
            account: account.clone(),
            units: Some((ManagerKind::System, ["wqclient@a.service".into(), "wqimpl@a.service".into()])),
        };
        assert_eq!(
            reader.matches(&of),
            [
                "_SYSTEMD_UNIT=wqclient@a.service",
                "+",
                "_SYSTEMD_UNIT=wqimpl@a.service",
                "+",
                "_SYSTEMD_UNIT=wqcontroller.service",
                "WQ_CLIENT=小红",
            ]
        );
        let without = JournalReader { own: None, ..reader };
        assert!(without.has(&of) && !without.has(&JournalOf { account, units: None }));
    }
}
