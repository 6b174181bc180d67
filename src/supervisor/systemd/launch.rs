//! The launch file, and the launcher: what a unit executes.
//!
//! The environment of a client holds passwords, and on the bus everybody can read what a unit is made of. So the controller
//! writes it to a file that is only its own, systemd opens that as the unit's standard input, and the launcher in the unit
//! turns it into variables. (A credential would be a mount for each client, and with 200 of them starts took four times as
//! long, for the namespace of each unit is made of all mounts there are.) It takes nothing but `MOJO_WEBQQ_*`: who can write that file, that is who takes over the
//! controller, must not be able to load programs of his own into what systemd executes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::FileType;

use crate::environ::{PREFIX, TOKEN, TOKEN_FILE};
use crate::files::{FileError, private_folder, replace};
use crate::model::chain::Chain;
use crate::model::client::Generation;
use crate::model::name::{ClientName, NameError, UnitId};
use crate::template::{self, TemplateCommand, TemplateError};

/// No launch file is larger, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The line with the template.
const TEMPLATE: &str = "TEMPLATE";
/// The line with the launch, for the next controller.
const GENERATION: &str = "GENERATION";
/// Our exit status where nothing could be executed; systemd's own for the same.
const NOT_EXECUTED: u8 = 203;

/// What a launch file holds: lines that end with NUL, each `NAME=VALUE`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LaunchFile {
    /// Which launch it is for.
    pub generation: Generation,
    /// What to execute; none: the built-in client.
    pub template: Option<PathBuf>,
    /// The variables.
    pub env: BTreeMap<OsString, OsString>,
}

/// Why nothing is launched.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("this is not a unit of wqcontroller: its standard input is no launch file")]
    NoLaunchFile,
    #[error("can't read the launch file")]
    Read(#[source] io::Error),
    #[error("the launch file is damaged")]
    Damaged,
    #[error("the launch file has {0:?}, and only {PREFIX}* may be set by it")]
    Foreign(OsString),
    #[error("the launch file is for no account")]
    NoAccount,
    #[error("the launch file is for no account")]
    Account(#[source] NameError),
    #[error("the launch file is for {0}, and this unit is for {1}")]
    OtherAccount(UnitId, String),
    #[error("the unit has no RuntimeDirectory=, where the token would be")]
    NoFolder,
    #[error("can't write the token")]
    Token(#[from] FileError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("can't execute {}", .0.display())]
    Execute(PathBuf, #[source] io::Error),
}

impl LaunchFile {
    /// The part of `env` that a client in a unit is given: the rest is the unit's own.
    pub(super) fn new(
        generation: Generation,
        template: Option<PathBuf>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let ours = |(name, _): &(OsString, OsString)| name.as_bytes().starts_with(PREFIX.as_bytes());
        Self { generation, template, env: env.into_iter().filter(ours).collect() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{GENERATION}={}\0", self.generation).into_bytes();
        let mut line = |name: &OsStr, value: &OsStr| {
            for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
                bytes.extend_from_slice(part);
            }
        };
        if let Some(template) = &self.template {
            line(OsStr::new(TEMPLATE), template.as_os_str());
        }
        for (name, value) in &self.env {
            line(name, value);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, LaunchError> {
        let mut file = Self::default();
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let lines = bytes.strip_suffix(b"\0").ok_or(LaunchError::Damaged)?;
        for line in lines.split(|byte| *byte == 0) {
            let at = line.iter().position(|byte| *byte == b'=').ok_or(LaunchError::Damaged)?;
            let (name, value) = (&line[..at], &line[at + 1..]);
            if name == TEMPLATE.as_bytes() {
                file.template = Some(text(value).into());
            } else if name == GENERATION.as_bytes() {
                let number = std::str::from_utf8(value).ok().and_then(|number| number.parse().ok());
                file.generation = Generation(number.ok_or(LaunchError::Damaged)?);
            } else if name.starts_with(PREFIX.as_bytes())
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            {
                file.env.insert(text(name), text(value));
            } else {
                return Err(LaunchError::Foreign(text(name)));
            }
        }
        Ok(file)
    }

    /// Writes it for the unit with this ID. Blocks on the file system.
    pub(super) fn write(&self, folder: &Path, id: &UnitId) -> Result<(), FileError> {
        private_folder(folder)?;
        replace(&folder.join(id.as_str()), &self.to_bytes(), 0o600)
    }

    /// The launch that the file in `folder` is for, if there is one.
    pub(super) fn generation_in(folder: &Path, id: &UnitId) -> Option<Generation> {
        let content = fs::read(folder.join(id.as_str())).ok()?;
        Some(Self::parse(&content).ok()?.generation)
    }
}

/// Becomes the client of the unit `id`. Returns only where that is not possible.
pub fn run(id: &str) -> ExitCode {
    let Err(error) = launch(id);
    // Not eprintln, which panics where standard error is gone.
    let _ = writeln!(io::stderr(), "<3>wqcontroller launch: {}", Chain(&error));
    ExitCode::from(NOT_EXECUTED)
}

fn launch(id: &str) -> Result<std::convert::Infallible, LaunchError> {
    let stdin = io::stdin();
    let kind = rustix::fs::fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::RegularFile)) {
        return Err(LaunchError::NoLaunchFile);
    }
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(stdin, MAX_BYTES), &mut content).map_err(LaunchError::Read)?;
    let mut file = LaunchFile::parse(&content)?;
    let token = put_token(&mut file.env, std::env::var_os("RUNTIME_DIRECTORY").as_deref())?;
    let name = account(&file)?;
    if name.unit_id().as_str() != id {
        return Err(LaunchError::OtherAccount(name.unit_id(), id.to_owned()));
    }
    let TemplateCommand { program, arg0, args } = match &file.template {
        Some(path) => template::command(path, &name)?,
        None => TemplateCommand {
            program: std::env::current_exe()
                .map_err(|error| LaunchError::Execute("/proc/self/exe".into(), error))?,
            arg0: Some(format!("wqclient({name})").into()),
            // By that name the program knows what it is to be.
            args: Vec::new(),
        },
    };
    let mut command = Command::new(&program);
    if let Some(arg0) = arg0 {
        command.arg0(arg0);
    }
    // What the unit has is the client's, but for what is read here.
    command.args(args).stdin(Stdio::null());
    command.envs(token.map(|path| (TOKEN_FILE, path)));
    command.envs(lasting(std::env::var_os("STATE_DIRECTORY").as_deref(), &name, &file.env)).envs(&file.env);
    Err(LaunchError::Execute(program, command.exec()))
}

/// Puts the token of a OneBot implementation, where there is one, into a file of the unit's own, for variables can be seen
/// in more places; where that is.
fn put_token(
    env: &mut BTreeMap<OsString, OsString>,
    runtime: Option<&OsStr>,
) -> Result<Option<PathBuf>, LaunchError> {
    let Some(token) = env.remove(OsStr::new(TOKEN)) else { return Ok(None) };
    let folder = runtime.and_then(|list| std::env::split_paths(list).next());
    let folder = folder.filter(|folder| folder.is_absolute()).ok_or(LaunchError::NoFolder)?;
    let path = folder.join("onebot_token");
    replace(&path, token.as_bytes(), 0o600)?;
    Ok(Some(path))
}

fn account(file: &LaunchFile) -> Result<ClientName, LaunchError> {
    let name = file.env.get(OsStr::new(&format!("{PREFIX}ACCOUNT"))).ok_or(LaunchError::NoAccount)?;
    ClientName::new(name.to_string_lossy()).map_err(LaunchError::Account)
}

/// What only the unit knows: where that is which lasts, such as what spares a login its scan.
fn lasting(
    state: Option<&OsStr>,
    name: &ClientName,
    given: &BTreeMap<OsString, OsString>,
) -> Vec<(OsString, OsString)> {
    let folder = state.and_then(|list| std::env::split_paths(list).next());
    let Some(folder) = folder.filter(|folder| folder.is_absolute()) else { return Vec::new() };
    let cookie = folder.join(format!("mojo_webqq_cookie_{name}.dat"));
    let all = [("STATE_DIRECTORY", folder), ("COOKIE_PATH", cookie)];
    let all = all.map(|(name, path)| (OsString::from(format!("{PREFIX}{name}")), path.into_os_string()));
    all.into_iter().filter(|(name, _)| !given.contains_key(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn what_is_written_is_read_and_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("launch");
        let name = ClientName::new("小明").unwrap();
        let file = LaunchFile {
            generation: Generation(7),
            template: Some("/etc/wq/a=b".into()),
            env: env(&[("MOJO_WEBQQ_ACCOUNT", "小明"), ("MOJO_WEBQQ_PWD", "a=b \"c\" $d")]),
        };
        file.write(&folder, &name.unit_id()).unwrap();
        let path = folder.join(name.unit_id().as_str());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LaunchFile::parse(&fs::read(path).unwrap()).unwrap(), file);
        assert_eq!(LaunchFile::generation_in(&folder, &name.unit_id()), Some(Generation(7)));
        assert_eq!(account(&file).unwrap(), name);
    }

    #[test]
    fn nothing_but_the_contract_is_taken() {
        for foreign in
            ["LD_PRELOAD=/x", "PATH=/x", "mojo_webqq_x=1", "MOJO_WEBQQ_A-B=1", "=x", "PERL5OPT=-Mx"]
        {
            let error = LaunchFile::parse(format!("GENERATION=1\0{foreign}\0").as_bytes()).unwrap_err();
            assert!(matches!(error, LaunchError::Foreign(_)), "{foreign}");
        }
        for damaged in ["", "GENERATION=1", "GENERATION=x\0", "MOJO_WEBQQ_X\0"] {
            let error = LaunchFile::parse(damaged.as_bytes()).unwrap_err();
            assert!(matches!(error, LaunchError::Damaged), "{damaged}");
        }
        let nobody = LaunchFile::parse(b"GENERATION=1\0").unwrap();
        assert!(matches!(account(&nobody), Err(LaunchError::NoAccount)));
    }

    #[test]
    fn a_token_is_in_no_variable_but_in_a_file_that_is_the_units_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mut env = env(&[("MOJO_WEBQQ_ACCOUNT", "a"), (TOKEN, "geheim")]);
        let list = OsString::from(format!("{}:/other", folder.path().display()));
        let path = put_token(&mut env, Some(&list)).unwrap().unwrap();
        assert!(path.starts_with(folder.path()) && !env.contains_key(OsStr::new(TOKEN)));
        assert_eq!(fs::read(&path).unwrap(), b"geheim");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(put_token(&mut env, None).unwrap(), None);
        env.insert(TOKEN.into(), "geheim".into());
        assert!(matches!(put_token(&mut env, None), Err(LaunchError::NoFolder)));
    }

    #[test]
    fn what_lasts_is_where_systemd_says_unless_the_call_says_otherwise() {
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
