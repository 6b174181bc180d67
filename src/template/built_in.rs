//! The built-in template, a script that runs the built-in client: how it is written, and how it is recognised.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tracing::info;

use super::{TemplateCommand, TemplateError};
use crate::files::{check_trusted, replace};

/// The mode of the built-in template. It contains no secret, and clients may run as other users.
const MODE: u32 = 0o755;

/// The most that is read of a template to find out what it runs, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Whether this command runs the built-in client: by a link to this program, or by a template that ends as the built-in one
/// does, changed or not. Blocks on the file system.
pub fn runs_built_in(command: &TemplateCommand) -> bool {
    [Some(command.program.as_path()), command.args.last().map(Path::new)]
        .into_iter()
        .flatten()
        .any(executes_built_in)
}

/// Whether the template at `path` runs the built-in client, as [`runs_built_in`].
pub fn executes_built_in(path: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
    let own = std::env::current_exe().ok().and_then(|own| identity(&own));
    // Two files that can't be looked at are not the same one.
    if own.is_some() && identity(path) == own {
        return true;
    }
    let mut content = Vec::new();
    // A longer script is cut, so its last line is none, and it counts as another program.
    let read = fs::File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES), &mut content));
    let last = content.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    read.is_ok() && last == TEXT.1.trim_ascii_end().lines().last().map(str::as_bytes)
}

/// Whether the template at `path` runs the built-in client and nothing else: it is the built-in one, unchanged, or will be
/// written, since it is missing or empty, or is the `executable` itself.
pub fn is_built_in(path: &Path, executable: &Path) -> bool {
    let mut content = Vec::new();
    match fs::File::open(path) {
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
        Ok(file) => {
            if io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES), &mut content).is_err() {
                return false;
            }
        }
    }
    let is_executable = || Some(fs::canonicalize(path).ok()? == fs::canonicalize(executable).ok()?);
    content.is_empty() || is_untouched(&content) || is_executable().unwrap_or(false)
}

/// Writes the built-in template to `path` where there is none, or an empty one, as the original does. An unchanged one that
/// runs an executable elsewhere is written again, so that client and controller stay of one version.
pub fn ensure(path: &Path, executable: &Path) -> Result<(), TemplateError> {
    let io_error = |source| TemplateError::Read { path: path.to_owned(), source };
    let wanted = text_for(executable);
    match fs::read(path) {
        Ok(content) if content == wanted || !(content.is_empty() || is_untouched(&content)) => Ok(()),
        Ok(content) => {
            check_trusted(path).map_err(TemplateError::Refused)?;
            replace(path, &wanted, MODE).map_err(TemplateError::Write)?;
            if content.is_empty() {
                log_written(path);
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(path, &wanted, MODE).map_err(TemplateError::Write)?;
            log_written(path);
            Ok(())
        }
        Err(error) => Err(io_error(error)),
    }
}

fn log_written(path: &Path) {
    info!(path = %path.display(), "wrote the template {}, which runs the built-in client", path.display());
}

fn text_for(executable: &Path) -> Vec<u8> {
    // A path with a quote in it is closed, quoted by a backslash, and opened again, as shells want it.
    let quoted =
        executable.as_os_str().as_bytes().split(|b| *b == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    [TEXT.0.as_bytes(), &quoted, TEXT.1.as_bytes()].concat()
}

/// Whether this is what [`text_for`] made for some executable.
fn is_untouched(content: &[u8]) -> bool {
    // One after the other: both parts have a quote where they meet, so in a file without a path both match the same one.
    let quoted =
        content.strip_prefix(TEXT.0.as_bytes()).and_then(|rest| rest.strip_suffix(TEXT.1.as_bytes()));
    // A line break in between would be a line that the operator has added.
    quoted.is_some_and(|quoted| !quoted.contains(&b'\n'))
}

/// The built-in template, before and after the path of the executable.
const TEXT: (&str, &str) = (
    "#!/bin/sh
# The program that wqcontroller runs to start a client. Each client is one process; its settings come as
# environment variables: MOJO_WEBQQ_ACCOUNT is its name, MOJO_WEBQQ_PLUGIN_OPENQQ_PORT the port that its HTTP API
# must listen on, MOJO_WEBQQ_STATE_PATH the file to write its state to, and MOJO_WEBQQ_<NAME> each parameter of
# the call that starts it.
#
# This file was written by wqcontroller and runs the client that is built into it. Change it to run another one, or
# to set defaults for all clients, for example:
#   export MOJO_WEBQQ_LOG_LEVEL=\"${MOJO_WEBQQ_LOG_LEVEL:-debug}\"
# A Perl template of Mojo::Webqq works here as it is. A changed file is never overwritten.

program='",
    "'
[ -x \"$program\" ] || program=wqcontroller
exec \"$program\" client
",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileError;
    use crate::template::command;
    use crate::template::tests::{name, template};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn changed_template_is_not_built_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template");
        let executable = Path::new("/bin/true");
        assert!(is_built_in(&path, executable), "it is still to be written");
        ensure(&path, executable).unwrap();
        assert!(is_built_in(&path, executable));
        let changed = fs::read_to_string(&path).unwrap().replace("exec", "export MOJO_WEBQQ_X=1\nexec");
        fs::write(&path, changed).unwrap();
        assert!(!is_built_in(&path, executable), "it may set what it likes");
        let link = folder.path().join("wqclient");
        std::os::unix::fs::symlink(executable, &link).unwrap();
        assert!(is_built_in(&link, executable));
    }

    #[test]
    fn template_whose_path_was_deleted_is_a_changed_one() {
        let one_quote = format!("{}{}", TEXT.0, &TEXT.1[1..]);
        let (_folder, path) = template(&one_quote, "x.pl", 0o755);
        assert!(!is_built_in(&path, Path::new("/bin/true")));
        ensure(&path, Path::new("/bin/true")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), one_quote);
    }

    #[test]
    fn written_template_follows_the_executable_until_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mojo_webqq_controller_template.pl");
        ensure(&path, Path::new("/bin/it's true")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("it'\\''s true"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        ensure(&path, Path::new("/bin/true")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text_for(Path::new("/bin/true")));
        let changed = fs::read_to_string(&path).unwrap().replace("exec", "export MOJO_WEBQQ_X=1\nexec");
        fs::write(&path, &changed).unwrap();
        ensure(&path, Path::new("/bin/false")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    }

    #[test]
    fn empty_template_is_filled() {
        let (_folder, path) = template("", "x.pl", 0o644);
        ensure(&path, Path::new("/bin/true")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text_for(Path::new("/bin/true")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        let (_folder, path) = template("", "x.pl", 0o666);
        let refused = ensure(&path, Path::new("/bin/true"));
        assert!(matches!(refused, Err(TemplateError::Refused(FileError::Writable { .. }))), "{refused:?}");
    }

    #[test]
    fn built_in_client_is_recognised_by_link_and_by_template() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("written");
        ensure(&path, Path::new("/usr/sbin/wqcontroller")).unwrap();
        assert!(executes_built_in(&path) && runs_built_in(&command(&path, &name()).unwrap()));
        let changed = fs::read_to_string(&path).unwrap().replace("exec", "export MOJO_WEBQQ_X=1\nexec");
        fs::write(&path, changed).unwrap();
        assert!(executes_built_in(&path), "with defaults of the operator's");
        let link = folder.path().join("wqclient");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
        assert!(executes_built_in(&link));
        let interpreted =
            TemplateCommand { program: "/bin/sh".into(), arg0: None, args: vec![path.into_os_string()] };
        assert!(runs_built_in(&interpreted));
        for foreign in ["#!/usr/bin/perl\ndie", "", "exec other client\n"] {
            let (_folder, path) = template(foreign, "x.pl", 0o755);
            assert!(!executes_built_in(&path), "{foreign}");
        }
        assert!(!executes_built_in(&folder.path().join("none")));
    }

    #[test]
    fn written_template_quotes_the_path_of_the_executable() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("it's `a` $PATH \"x\"");
        fs::write(&program, "#!/bin/sh\necho \"$0 $*\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("template");
        ensure(&path, &program).unwrap();
        let output = std::process::Command::new(&path).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{} client\n", program.display()));
    }
}
