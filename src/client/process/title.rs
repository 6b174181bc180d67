//! The process title that `ps` shows: `wqclient(NAME)`, as with the original.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::model::name::ClientName;

/// Holds the pid of a process that was executed again already. An interpreter (qemu, a wrapper) may set the
/// title on every execution; without this mark the process would execute itself forever.
const MARK: &str = "WQCLIENT_TITLED";

/// Makes `wqclient(NAME)` the title of this process. If necessary it executes the program again under that
/// name, and does not return.
///
/// # Errors
/// The program cannot be executed. Nothing has changed then, and everything but `ps` works as well.
pub(crate) fn set_process_title(account: &ClientName) -> io::Result<()> {
    let title = OsString::from(format!("wqclient({account})"));
    let own_pid = OsString::from(std::process::id().to_string());
    // The pid survives execve(2). A child that inherits the mark has another pid, so it still gets its title.
    if std::env::args_os().next().as_ref() == Some(&title) || std::env::var_os(MARK) == Some(own_pid.clone())
    {
        // The short name, which `ps -o comm`, `top` and `pgrep` show, would be that of the link: "exe". The
        // kernel cuts it to 15 bytes. It is cosmetic, so a failure is ignored.
        let _ = std::fs::write("/proc/self/comm", title.as_encoded_bytes());
        return Ok(());
    }
    // The link, not its target, which is gone after an upgrade. Without arguments: the title alone selects the
    // client, and `ps` shows the same as for the original.
    Err(Command::new("/proc/self/exe").arg0(title).env(MARK, own_pid).exec())
}
