//! Whether a unit, which may have a user of its own, can execute a template.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Access;

use super::{TemplateError, interpreter, is_perl};
use crate::files::{FileError, check_trusted};

/// Checks that a unit can execute the template at `path`: its launcher would fail only after the unit counts as started.
/// `as_other_user` says whether units have users other than that of the controller. A file that the controller may not see is
/// no error, since the unit may see it.
///
/// # Errors
/// It is missing, or refused, or can't be run, or only its owner may run it.
pub fn check_for_unit(path: &Path, as_other_user: bool) -> Result<(), TemplateError> {
    let hidden = |error: &FileError| matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
    match check_trusted(path) {
        Err(error) if hidden(&error) => return Ok(()),
        checked => checked.map_err(TemplateError::Refused)?,
    }
    let io_error = |source| TemplateError::Read { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(io_error)?.permissions().mode();
    // The groups of the unit are not known here, so one right of the group or of others is enough.
    let (readable, executable) = match as_other_user {
        true => (mode & 0o044 != 0, mode & 0o011 != 0),
        false => (true, rustix::fs::access(path, Access::EXEC_OK).is_ok()),
    };
    // A script must be readable for its interpreter, a program need not be.
    let interpreted = interpreter(path).is_ok_and(|found| found.is_some());
    if !readable && (interpreted || !executable) {
        return Err(TemplateError::OwnersOnly { path: path.to_owned(), mode: mode & 0o7777 });
    }
    if !executable && !interpreted && !is_perl(path) {
        return Err(TemplateError::NotRunnable { path: path.to_owned() });
    }
    let file = fs::canonicalize(path).map_err(io_error)?;
    for folder in file.ancestors().skip(1).filter(|_| as_other_user) {
        let mode = fs::metadata(folder).map_err(io_error)?.permissions().mode();
        if mode & 0o011 == 0 {
            return Err(TemplateError::OwnersOnly { path: folder.to_owned(), mode: mode & 0o7777 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_that_only_its_owner_may_run_is_refused_for_units() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let check = |content: &str, file: &str, mode: u32| {
            let path = root.path().join(file);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            check_for_unit(&path, true).map_err(|error| error.to_string())
        };
        for (content, file, mode) in [
            ("#!/bin/sh", "a", 0o755),
            ("#!/bin/sh", "a", 0o644),
            ("", "a.pl", 0o644),
            ("\x7fELF", "b", 0o711),
        ] {
            assert_eq!(check(content, file, mode), Ok(()), "{file} {mode:o}");
        }
        for (content, file, mode) in [
            ("#!/bin/sh", "a", 0o700),
            ("#!/bin/sh", "a", 0o711),
            ("", "a.pl", 0o600),
            ("\x7fELF", "b", 0o700),
        ] {
            let error = check(content, file, mode).unwrap_err();
            assert!(
                error.contains(&format!("has mode {mode:04o}")) && error.contains("chmod 755"),
                "{error}"
            );
        }
        assert!(check("exec true", "a", 0o644).unwrap_err().contains("is not executable, has no #! line"));
        assert!(check("exec true", "a", 0o744).unwrap_err().contains("is not executable, has no #! line"));
        assert!(check("#!/bin/sh", "a", 0o755).is_ok());
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = check("#!/bin/sh", "a", 0o755).unwrap_err();
        assert!(error.starts_with(&format!("{} has mode 0700", root.path().display())), "{error}");
        assert!(check_for_unit(&root.path().join("a"), false).is_ok(), "units of our own user");
        assert!(check_for_unit(&root.path().join("none"), true).is_err());
    }
}
