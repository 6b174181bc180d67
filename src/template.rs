//! The template: the program that starts a client. One is written where there is none, and what is there is turned
//! into something that can be executed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use tracing::info;

use crate::files::{FileError, check_trusted, replace};
use crate::model::name::ClientName;

/// How to execute a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateCommand {
    /// The file to execute.
    pub program: PathBuf,
    /// `argv[0]`, where it is not the program.
    pub arg0: Option<OsString>,
    /// The arguments after it.
    pub args: Vec<OsString>,
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is not there, not ours, or others may write it.
    #[error("the template is refused")]
    Refused(#[source] FileError),
    /// It cannot be written.
    #[error("can't write the template")]
    Write(#[source] FileError),
    /// It cannot be read.
    #[error("can't read the template {}", path.display())]
    Read {
        /// The template.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing says how to run it.
    #[error("the template {} is not executable, has no #! line and does not end in .pl", path.display())]
    NotRunnable {
        /// The template.
        path: PathBuf,
    },
}

/// Everybody may read and run it: it holds no secret, and clients may run as other users.
const MODE: u32 = 0o755;

/// The longest `#!` line that is read; the kernel's own limit is 256 bytes.
const SHEBANG_MAX: usize = 256;

/// Finds out how to execute the template at `path`: executable, as it is; else by its `#!` line; else, ending in
/// `.pl`, by `perl`.
///
/// The process is called `wqclient(NAME)` wherever that can be said: Linux gives an executable script the name of its
/// interpreter, and programs such as `env` and `busybox` go by their name, so they keep it.
pub fn command(path: &Path, name: &ClientName) -> Result<TemplateCommand, TemplateError> {
    check_trusted(path).map_err(TemplateError::Refused)?;
    let called = Some(OsString::from(format!("wqclient({name})")));
    if rustix::fs::access(path, Access::EXEC_OK).is_ok() {
        return Ok(TemplateCommand { program: path.to_owned(), arg0: called, args: Vec::new() });
    }
    let (program, mut args) = match interpreter(path)? {
        Some(found) => found,
        None if path.extension().is_some_and(|extension| extension == "pl") => {
            (PathBuf::from("perl"), Vec::new())
        }
        None => return Err(TemplateError::NotRunnable { path: path.to_owned() }),
    };
    let is_perl = program.file_name().is_some_and(|file| file.as_bytes().starts_with(b"perl"));
    args.push(path.into());
    Ok(TemplateCommand { program, arg0: called.filter(|_| is_perl), args })
}

/// The interpreter and the one argument that a `#!` line can hold, as execve(2) reads it.
fn interpreter(path: &Path) -> Result<Option<(PathBuf, Vec<OsString>)>, TemplateError> {
    let io_error = |source| TemplateError::Read { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = fs::File::open(path).map_err(io_error)?;
    io::Read::read_to_end(&mut io::Read::take(file, SHEBANG_MAX as u64), &mut start).map_err(io_error)?;
    let Some(rest) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = rest.split(|b| *b == b'\n').next().unwrap_or(rest).trim_ascii();
    let split = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (program, argument) = (&line[..split], line[split..].trim_ascii());
    if program.is_empty() {
        return Ok(None);
    }
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let args = if argument.is_empty() { Vec::new() } else { vec![text(argument)] };
    Ok(Some((PathBuf::from(text(program)), args)))
}

/// Writes the built-in template to `path` where there is none. One that was written before, for an executable that
/// stood elsewhere, and that nobody changed since, is written anew, so that client and controller stay one version.
pub fn ensure(path: &Path, executable: &Path) -> Result<(), TemplateError> {
    let io_error = |source| TemplateError::Read { path: path.to_owned(), source };
    let wanted = text_for(executable);
    match fs::read(path) {
        Ok(content) if content == wanted || !is_untouched(&content) => Ok(()),
        Ok(_) => {
            check_trusted(path).map_err(TemplateError::Refused)?;
            replace(path, &wanted, MODE).map_err(TemplateError::Write)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(path, &wanted, MODE).map_err(TemplateError::Write)?;
            info!(path = %path.display(), "a template for clients was written; it runs the built-in client");
            Ok(())
        }
        Err(error) => Err(io_error(error)),
    }
}

fn text_for(executable: &Path) -> Vec<u8> {
    // A path with a quote in it is closed, quoted by a backslash, and opened again, as shells want it.
    let quoted =
        executable.as_os_str().as_bytes().split(|b| *b == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    [TEXT.0.as_bytes(), &quoted, TEXT.1.as_bytes()].concat()
}

/// Whether this is what [`text_for`] made for some executable.
fn is_untouched(content: &[u8]) -> bool {
    content.starts_with(TEXT.0.as_bytes()) && content.ends_with(TEXT.1.as_bytes()) && {
        let quoted = &content[TEXT.0.len()..content.len() - TEXT.1.len()];
        !quoted.contains(&b'\n')
    }
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
    use std::os::unix::fs::PermissionsExt;

    fn name() -> ClientName {
        ClientName::new("小明").unwrap()
    }

    fn template(content: &str, file: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn an_executable_is_run_as_it_is() {
        let (_folder, path) = template("#!/usr/bin/perl\n", "x.pl", 0o755);
        let expected =
            TemplateCommand { program: path.clone(), arg0: Some("wqclient(小明)".into()), args: vec![] };
        assert_eq!(command(&path, &name()).unwrap(), expected);
    }

    #[test]
    fn else_its_first_line_counts_and_then_its_ending() {
        let run = |content, file| {
            let (folder, path) = template(content, file, 0o644);
            let command = command(&path, &name()).map(|command| {
                let args: Vec<_> = command.args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect();
                (command.program.to_str().unwrap().to_owned(), args.join(" "), command.arg0.is_some())
            });
            let folder = format!("{}/", folder.path().display());
            command.map(|(program, args, named)| (program, args.replace(&folder, ""), named))
        };
        let is = |program: &str, args: &str, named| (program.to_owned(), args.to_owned(), named);
        assert_eq!(
            run("#! /usr/bin/env  perl \nprint", "x.pl").unwrap(),
            is("/usr/bin/env", "perl x.pl", false)
        );
        assert_eq!(run("#!/opt/perl5 -w\n", "x").unwrap(), is("/opt/perl5", "-w x", true));
        assert_eq!(run("#!/bin/sh", "x.pl").unwrap(), is("/bin/sh", "x.pl", false));
        assert_eq!(run("use Mojo::Webqq;", "x.pl").unwrap(), is("perl", "x.pl", true));
        assert_eq!(run("#!\n", "x.pl").unwrap(), is("perl", "x.pl", true));
        assert!(matches!(run("use Mojo::Webqq;", "x.txt"), Err(TemplateError::NotRunnable { .. })));
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let (_folder, path) = template("", "x.pl", 0o666);
        assert!(matches!(command(&path, &name()), Err(TemplateError::Refused(FileError::Writable { .. }))));
    }

    #[test]
    fn one_is_written_and_follows_the_executable_until_somebody_changes_it() {
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
    fn the_written_one_survives_any_path() {
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
