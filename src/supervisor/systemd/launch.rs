//! The launcher, which a unit executes: it reads the launch file from standard input, sets the variables, and executes the
//! template. When the unit is reloaded, it writes the secrets of the launch file to the files of the unit, and executes nothing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::FileType;

use super::launch_file::{LaunchFile, LaunchFileError};
use crate::environ::{PREFIX, secrets};
use crate::files::{FileError, replace};
use crate::model::error_chain::ErrorChain;
use crate::model::name::{ClientName, NameError, UnitId};
use crate::paths::first_folder;
use crate::service::journal::{self, ClientEntries, LogSource};
use crate::service::notify;
use crate::supervisor::relay::{self as relay_process, RelayOf};
use crate::template::{self, TemplateCommand, TemplateError};

/// The largest launch file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The exit status where nothing could be executed; systemd uses the same (`EXIT_EXEC`).
pub(in crate::supervisor) const NOT_EXECUTED: u8 = 203;

/// Why the launcher fails.
#[derive(Debug, thiserror::Error)]
pub(in crate::supervisor) enum LaunchError {
    #[error("standard input is no launch file: `wqcontroller launch` runs only in a unit of wqcontroller")]
    NoLaunchFile,
    #[error("cannot read the launch file")]
    Read(#[source] io::Error),
    #[error(transparent)]
    File(#[from] LaunchFileError),
    #[error("the launch file names no account")]
    NoAccount,
    #[error("the launch file names no valid account")]
    Account(#[source] NameError),
    #[error("the launch file is for {0}, but this unit is for {1}")]
    OtherAccount(UnitId, String),
    #[error("the unit has no RuntimeDirectory= for the files with secrets")]
    NoFolder,
    #[error("cannot write a secret of the account to a file of the unit")]
    Secret(#[from] FileError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("cannot execute {}", .0.display())]
    Execute(PathBuf, #[source] io::Error),
}

/// Executes the client of the unit `id` in this process. Returns only where that fails.
pub fn run(id: &str) -> ExitCode {
    let mut name = None;
    let Err(error) = launch(id, &mut name);
    let text = ErrorChain(&error).to_string();
    complain(name.as_ref(), 3, &format!("wqcontroller launch: {text}"));
    // Shown by `systemctl status`.
    notify::failed(&text, None);
    ExitCode::from(NOT_EXECUTED)
}

/// Writes the secrets of the launch file to the files of the unit `id`, which runs. Executes nothing.
pub fn reload(id: &str) -> ExitCode {
    let mut name = None;
    match unpack(id, &mut name) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let text = ErrorChain(&error).to_string();
            complain(name.as_ref(), 3, &format!("wqcontroller launch --reload: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn launch(id: &str, known: &mut Option<ClientName>) -> Result<std::convert::Infallible, LaunchError> {
    let (file, name) = unpack(id, known)?;
    let executable =
        || std::env::current_exe().map_err(|error| LaunchError::Execute("/proc/self/exe".into(), error));
    let TemplateCommand { program, arg0, args } = match &file.template {
        Some(path) => template::command(path, &name)?,
        None => TemplateCommand {
            program: executable()?,
            arg0: Some(format!("wqclient({name})").into()),
            // The program recognises by this name that it is the client.
            args: Vec::new(),
        },
    };
    let mut command = Command::new(&program);
    if let Some(arg0) = arg0 {
        command.arg0(arg0);
    }
    // The client inherits all of the unit but standard input, which is the launch file.
    command.args(args).stdin(Stdio::null());
    if file.relay {
        relay(&mut command, &executable()?, &name, RelayOf::Client);
    }
    command.envs(lasting(std::env::var_os("STATE_DIRECTORY").as_deref(), &name, &file.env)).envs(&file.env);
    Err(LaunchError::Execute(program, command.exec()))
}

/// Reads the launch file of the unit `id`, and moves its secrets to the files of the unit.
fn unpack(id: &str, known: &mut Option<ClientName>) -> Result<(LaunchFile, ClientName), LaunchError> {
    let (mut file, name) = from_stdin(id, known)?;
    write_secret_files(&mut file.env, std::env::var_os("RUNTIME_DIRECTORY").as_deref())?;
    Ok((file, name))
}

/// Reads the launch file of the unit `id` from standard input.
pub(in crate::supervisor) fn from_stdin(
    id: &str,
    known: &mut Option<ClientName>,
) -> Result<(LaunchFile, ClientName), LaunchError> {
    let stdin = io::stdin();
    let kind = rustix::fs::fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    // A person who tries it has a terminal there, and reading would wait for input.
    if !matches!(kind, Ok(FileType::RegularFile)) {
        return Err(LaunchError::NoLaunchFile);
    }
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(stdin, MAX_BYTES), &mut content).map_err(LaunchError::Read)?;
    let file = LaunchFile::parse(&content)?;
    let name = account(&file)?;
    *known = Some(name.clone());
    let for_id = file.id.clone().unwrap_or_else(|| UnitId::of_version_0_1(&name));
    // With a wrong StandardInput= the client of one account would run as the user of another.
    if for_id.as_str() != id {
        return Err(LaunchError::OtherAccount(for_id, id.to_owned()));
    }
    Ok((file, name))
}

/// Writes a line of the launcher to the log of the client, in the journal with the client's name.
fn complain(name: Option<&ClientName>, priority: u8, text: &str) {
    let entries = name.filter(|_| journal::is_stderr());
    match entries
        .and_then(|name| ClientEntries::open(name.as_str(), std::process::id(), LogSource::Client).ok())
    {
        Some(mut entries) => {
            entries.send(priority, text);
            // There is nowhere else to report it.
            let _ = entries.flush();
        }
        // `eprintln!` would panic where standard error is closed.
        None => drop(writeln!(io::stderr(), "<{priority}>{text}")),
    }
}

/// Has the output of a program go through the relay, if it goes to the journal.
pub(in crate::supervisor) fn relay(command: &mut Command, executable: &Path, name: &ClientName, of: RelayOf) {
    if !journal::is_stderr() {
        return;
    }
    match relay_to(executable, name, of) {
        Ok((stdout, stderr)) => {
            // Standard error is the relay's pipe then, and no stream of the journal.
            command.stdout(stdout).stderr(stderr).env_remove("JOURNAL_STREAM");
        }
        // The program runs without the relay; only its journal entries have no name.
        Err(error) => {
            let text = format!("cannot start the relay, so what this unit prints has no WQ_CLIENT: {error}");
            complain(Some(name), 4, &text);
        }
    }
}

/// Starts the relay. Returns the standard output and the standard error for the client.
fn relay_to(executable: &Path, name: &ClientName, of: RelayOf) -> io::Result<(Stdio, Stdio)> {
    let writer = relay_process::start(executable, name, of)?;
    let (stdout, stderr) = (rustix::fs::fstat(io::stdout())?, rustix::fs::fstat(io::stderr())?);
    // A drop-in may send standard output elsewhere (`StandardOutput=`).
    let is_same = (stdout.st_dev, stdout.st_ino) == (stderr.st_dev, stderr.st_ino);
    let stdout = if is_same { writer.try_clone()?.into() } else { Stdio::inherit() };
    Ok((stdout, writer.into()))
}

/// Moves the secrets of the account's network from variables, which are visible in more places, to files in the runtime
/// directory of the unit. Variables with the paths of these files take their place.
fn write_secret_files(
    env: &mut BTreeMap<OsString, OsString>,
    runtime: Option<&OsStr>,
) -> Result<(), LaunchError> {
    let variable = |name: &str| OsString::from(format!("{PREFIX}{name}"));
    for secret in secrets() {
        let Some(value) = env.remove(&variable(secret.launch_variable)) else { continue };
        let folder = runtime.and_then(first_folder).ok_or(LaunchError::NoFolder)?;
        let path = folder.join(secret.file_name);
        replace(&path, value.as_bytes(), 0o600)?;
        env.insert(variable(secret.file_variable), path.into());
    }
    Ok(())
}

fn account(file: &LaunchFile) -> Result<ClientName, LaunchError> {
    let name = file.env.get(OsStr::new(&format!("{PREFIX}ACCOUNT"))).ok_or(LaunchError::NoAccount)?;
    ClientName::new(name.to_string_lossy()).map_err(LaunchError::Account)
}

/// The variables for the state directory, which only the unit knows: what the client keeps, such as the cookie that saves the
/// next scan of a login code.
fn lasting(
    state: Option<&OsStr>,
    name: &ClientName,
    given: &BTreeMap<OsString, OsString>,
) -> Vec<(OsString, OsString)> {
    let Some(folder) = state.and_then(first_folder) else { return Vec::new() };
    let cookie = folder.join(format!("mojo_webqq_cookie_{name}.dat"));
    let all = [("STATE_DIRECTORY", folder), ("COOKIE_PATH", cookie)];
    let all = all.map(|(name, path)| (OsString::from(format!("{PREFIX}{name}")), path.into_os_string()));
    // What the controller or a caller chose wins.
    all.into_iter().filter(|(name, _)| !given.contains_key(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn account_is_named_by_a_variable() {
        let account_in = |env| account(&LaunchFile { env, ..LaunchFile::default() });
        assert_eq!(
            account_in(env(&[("MOJO_WEBQQ_ACCOUNT", "小明")])).unwrap(),
            ClientName::new("小明").unwrap()
        );
        assert!(matches!(account_in(env(&[("MOJO_WEBQQ_ACCOUNT", "a/b")])), Err(LaunchError::Account(_))));
        assert!(matches!(account_in(BTreeMap::new()), Err(LaunchError::NoAccount)));
    }

    #[test]
    fn a_token_is_in_no_variable_but_in_a_file_that_is_the_units_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (token, token_file) =
            (OsStr::new("MOJO_WEBQQ_ONEBOT_TOKEN"), OsStr::new("MOJO_WEBQQ_ONEBOT_TOKEN_FILE"));
        let mut with = env(&[("MOJO_WEBQQ_ACCOUNT", "a"), ("MOJO_WEBQQ_ONEBOT_TOKEN", "geheim")]);
        let list = OsString::from(format!("{}:/other", folder.path().display()));
        write_secret_files(&mut with, Some(&list)).unwrap();
        let path = folder.path().join("onebot_token");
        assert_eq!((with.get(token), with.get(token_file)), (None, Some(&path.clone().into_os_string())));
        assert_eq!(fs::read(&path).unwrap(), b"geheim");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut without = env(&[("MOJO_WEBQQ_ACCOUNT", "a")]);
        write_secret_files(&mut without, None).unwrap();
        assert_eq!(without.len(), 1);
        without.insert(token.to_owned(), "geheim".into());
        assert!(matches!(write_secret_files(&mut without, None), Err(LaunchError::NoFolder)));
    }

    #[test]
    fn state_directory_is_default_for_lasting_files() {
        let name = ClientName::new("a").unwrap();
        let list = Some(OsStr::new("/var/lib/wqclient/a:/other"));
        let got = lasting(list, &name, &BTreeMap::new());
        let expected = env(&[
            ("MOJO_WEBQQ_STATE_DIRECTORY", "/var/lib/wqclient/a"),
            ("MOJO_WEBQQ_COOKIE_PATH", "/var/lib/wqclient/a/mojo_webqq_cookie_a.dat"),
        ]);
        assert_eq!(got.into_iter().collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(lasting(list, &name, &env(&[("MOJO_WEBQQ_COOKIE_PATH", "/x")])).len(), 1);
        assert!(lasting(None, &name, &BTreeMap::new()).is_empty());
        assert!(lasting(Some(OsStr::new("relative")), &name, &BTreeMap::new()).is_empty());
    }
}
