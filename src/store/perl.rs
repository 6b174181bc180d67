//! The registry of Mojo::Webqq's Perl controller, where it has the path of the registry file.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tracing::warn;

use crate::files::{FileOwner, read_untrusted};
use crate::model::storable::names;

/// The largest pid file that is read.
const MAX_PID_BYTES: u64 = 64;
/// How many names are logged.
const MAX_SHOWN: usize = 100;

/// The pid of a Perl controller that still uses the registry file at `path`: its pid file is beside it by default. It takes no
/// lock, and writes the file again every few seconds.
pub(super) fn running(path: &Path) -> Option<u32> {
    let file = path.with_file_name("mojo_webqq_controller_process.pid");
    let (pid, _) = read_untrusted(&file, &FileOwner::Any, MAX_PID_BYTES).ok()?;
    let pid: u32 = str::from_utf8(&pid).ok()?.trim().parse().ok()?;
    // The pid may have been reused. The Perl controller calls itself wqcontroller.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (pid != std::process::id() && matches!(name.trim_end(), "wqcontroller" | "perl")).then_some(pid)
}

/// Moves the file to an unused name, and logs that with the names of its clients.
pub(super) fn move_aside(path: &Path, content: &[u8]) -> io::Result<()> {
    let moved_to = rename(path)?;
    // It has start parameters, and so passwords. The Perl controller leaves it readable for everyone.
    fs::set_permissions(&moved_to, Permissions::from_mode(0o600))?;
    if let Some(folder) = path.parent() {
        // The rename is on the disk before the new registry takes the name.
        File::open(folder)?.sync_all()?;
    }
    let found = names(content);
    let shown = found.names.get(..MAX_SHOWN).unwrap_or(&found.names);
    let more = found.names.len() - shown.len();
    let bytes = content.len();
    let lost = match (found.complete, more) {
        (true, 0) => "",
        (true, _) => " and others",
        (false, _) if shown.is_empty() => "their names can't be read",
        (false, _) => ", further names can't be read",
    };
    let (path, moved_to) = (path.display(), moved_to.display());
    let names = shown.join(", ");
    warn!(
        %path, %moved_to, bytes, clients = ?shown,
        "moved the registry file of the Perl controller of Mojo::Webqq to {moved_to} ({bytes} bytes); its clients are not taken \
         over, start each with start_client: {names}{lost}"
    );
    Ok(())
}

fn rename(path: &Path) -> io::Result<PathBuf> {
    const TRIES: u32 = 1000;
    for number in 0..TRIES {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 0 { ".perl".to_owned() } else { format!(".perl-{number}") });
        // Never over a file that an earlier start moved aside: it may be the only record of those accounts.
        match renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(name.into()),
            Err(Errno::EXIST) => {}
            // The file system does not support RENAME_NOREPLACE, such as an old NFS.
            Err(Errno::INVAL | Errno::NOSYS) if !Path::new(&name).exists() => {
                fs::rename(path, &name)?;
                return Ok(name.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_registry_is_moved_without_replacing_and_made_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backend.dat");
        for (content, name) in [("pst0 one", "backend.dat.perl"), ("pst0 two", "backend.dat.perl-1")] {
            fs::write(&path, content).unwrap();
            move_aside(&path, content.as_bytes()).unwrap();
            assert!(!path.exists());
            let moved = folder.path().join(name);
            assert_eq!(fs::read_to_string(&moved).unwrap(), content);
            assert_eq!(fs::metadata(&moved).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
