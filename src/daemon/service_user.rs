//! The user that wqcontroller.service runs as. `--check-config` judges what that user may do, also where root calls it.

use std::ffi::CString;
use std::io;
use std::process::{Command, Stdio};

use nix::unistd::{User, initgroups, setgid, setuid};

/// The user's usual name, which the packages have.
const USUAL: &str = "wqcontroller";

/// The user that the service is configured to run as, with drop-ins. None where there is no such service, where it runs as
/// root, or where systemd can't be asked.
pub(super) fn configured() -> Option<User> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--property=User", "--value", "wqcontroller.service"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    // The text is empty where the unit has no `User=`, and then no user has that name.
    let user = User::from_name(name.trim_end()).ok()??;
    (!user.uid.is_root()).then_some(user)
}

/// Whether this process runs as the user of the service.
pub(super) fn is_me() -> bool {
    // Where systemd can't be asked, the name that the packages use is the best guess.
    let user = configured().or_else(|| User::from_name(USUAL).ok()?);
    user.is_some_and(|user| user.uid.as_raw() == rustix::process::geteuid().as_raw())
}

/// Where this process is root's, it becomes that of the service's user, for the rest of its life. Returns the name of that
/// user, or none where nothing changed.
///
/// # Errors
/// Only some of its IDs could be changed. What it may do then is that of no user.
pub fn become_service_user() -> io::Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let Some(user) = configured() else { return Ok(None) };
    let name = CString::new(user.name.as_str())?;
    // Without the capability, as in some containers, this is the call that fails, and root goes on as root.
    if initgroups(&name, user.gid).is_err() {
        return Ok(None);
    }
    // The user last: afterwards the group can't be changed any more.
    setgid(user.gid).and_then(|()| setuid(user.uid))?;
    Ok(Some(user.name))
}
