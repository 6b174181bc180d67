//! The template: the program that starts a client, and how it is executed. A template of the operator may be any program or
//! script; where there is none, the built-in one is written.

mod built_in;
mod unit;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::files::{FileError, check_trusted};
use crate::model::name::ClientName;
pub use built_in::{ensure, executes_built_in, is_built_in, runs_built_in};
use rustix::fs::Access;
pub use unit::check_for_unit;

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
    /// It is missing, or belongs to another user, or others may write it.
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
    /// Only its owner may run it, and units have users of their own.
    #[error(
        "{} has mode {mode:04o}, so clients, which are units with users of their own, may not run the template: chmod 755 it",
        path.display()
    )]
    OwnersOnly {
        /// The template, or a folder above it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no way to run it.
    #[error("the template {} is not executable, has no #! line and does not end in .pl: chmod 755 it", path.display())]
    NotRunnable {
        /// The template.
        path: PathBuf,
    },
}

/// The longest `#!` line that is read, in bytes; the kernel has the same limit.
const SHEBANG_MAX: usize = 256;

/// Finds out how to execute the template at `path`: an executable as it is, a script without the x bit by its `#!` line, and
/// a file that ends in `.pl` by `perl`.
///
/// The process is called `wqclient(NAME)` where that is possible. Linux names the process of an executable script after its
/// interpreter, and programs such as `env` and `busybox` depend on their name, so those keep theirs.
pub fn command(path: &Path, name: &ClientName) -> Result<TemplateCommand, TemplateError> {
    check_trusted(path).map_err(TemplateError::Refused)?;
    let called = Some(OsString::from(format!("wqclient({name})")));
    // By access(2) and not by the mode, as the file may be another user's.
    if rustix::fs::access(path, Access::EXEC_OK).is_ok() {
        return Ok(TemplateCommand { program: path.to_owned(), arg0: called, args: Vec::new() });
    }
    let (program, mut args) = match interpreter(path)? {
        Some(found) => found,
        // Found by the PATH of the client's environment.
        None if is_perl(path) => (PathBuf::from("perl"), Vec::new()),
        None => return Err(TemplateError::NotRunnable { path: path.to_owned() }),
    };
    // With a version in its name, too: perl5.36.
    let is_perl = program.file_name().is_some_and(|file| file.as_bytes().starts_with(b"perl"));
    args.push(path.into());
    Ok(TemplateCommand { program, arg0: called.filter(|_| is_perl), args })
}

fn is_perl(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pl")
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn name() -> ClientName {
        ClientName::new("小明").unwrap()
    }

    /// A template with this content, in a folder of its own.
    pub(super) fn template(content: &str, file: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn executable_template_is_run_as_it_is() {
        let (_folder, path) = template("#!/usr/bin/perl\n", "x.pl", 0o755);
        let expected =
            TemplateCommand { program: path.clone(), arg0: Some("wqclient(小明)".into()), args: vec![] };
        assert_eq!(command(&path, &name()).unwrap(), expected);
    }

    #[test]
    fn template_without_x_bit_is_run_by_its_shebang_or_its_ending() {
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
    fn template_that_others_may_write_is_refused() {
        let (_folder, path) = template("", "x.pl", 0o666);
        assert!(matches!(command(&path, &name()), Err(TemplateError::Refused(FileError::Writable { .. }))));
    }
}
