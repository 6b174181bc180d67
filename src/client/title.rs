//! What `ps` shows: `wqclient(NAME)`, as with the original.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::model::name::ClientName;

/// Says that we were executed anew already, by this process ID. An interpreter between us and the kernel (qemu, a
/// wrapper) may set the title anew each time; without the mark we would go round for ever.
const MARK: &str = "WQCLIENT_TITLED";

/// Makes `wqclient(NAME)` the title of this process: executes our own program once more under that name, if
/// need be. Then it does not return.
///
/// # Errors
/// The program cannot be executed. Nothing has changed then, and all but `ps` works as well.
pub(super) fn wear(account: &ClientName) -> io::Result<()> {
    let title = OsString::from(format!("wqclient({account})"));
    let own_pid = OsString::from(std::process::id().to_string());
    if std::env::args_os().next().as_ref() == Some(&title) || std::env::var_os(MARK) == Some(own_pid.clone())
    {
        // Else the short name, which `ps -o comm`, `top` and `pgrep` show, would be that of the link: "exe".
        // The kernel cuts it to 15 bytes. Where there is no /proc, nobody looks for it either.
        let _ = std::fs::write("/proc/self/comm", title.as_encoded_bytes());
        return Ok(());
    }
    // The link, not its target: after an upgrade the target is gone, the link still leads to what we are. No
    // arguments: the title alone says that this is the client, and `ps` shows just what the original shows.
    Err(Command::new("/proc/self/exe").arg0(title).env(MARK, own_pid).exec())
}
