//! The launcher of implementations, which their units execute, and children of the controller, too: it reads the launch file
//! from standard input, takes the program from the operator's configuration, writes what the program reads, and becomes it.
//!
//! The launch file has values only. Who can write launch files, or call `start_client`, chooses among the programs that the
//! configuration names, and can neither name another one nor add an argument or a variable.
//!
//! - `values`: what the launch file says
//! - `folders`: the files and links of a start

mod folders;
mod values;

pub use values::{ImplementationChild, LaunchValues};

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::{ConfigError, Settings};
use crate::environ::without_private;
use crate::files::{FileError, check_trusted};
use crate::implementations::{ConfigFileError, ImplementationSettings, StartValues};
use crate::model::error_chain::ErrorChain;
use crate::paths::first_folder;
use crate::service::notify;
use crate::supervisor::LaunchPlan;
use crate::supervisor::relay::RelayOf;
use crate::supervisor::systemd::launch::{self, LaunchError, NOT_EXECUTED};
use crate::supervisor::systemd::launch_file::LaunchFile;

/// Why an implementation is not executed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    LaunchFile(#[from] LaunchError),
    #[error("the launch file does not say {0}")]
    Missing(&'static str),
    #[error("the configuration can't be used")]
    Config(#[source] ConfigError),
    #[error("the configuration decides what is executed, so others must not be able to change it")]
    Untrusted(#[source] FileError),
    #[error(
        "the configuration that this user can read has no [implementations.{0}]; its files must be readable for every user"
    )]
    Unknown(String),
    #[error("there is no folder for its {0}")]
    NoFolder(&'static str),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Content(#[from] ConfigFileError),
    #[error("can't remove the old login code {}", .0.display())]
    OldCode(PathBuf, #[source] io::Error),
    #[error("can't make {}", .0.display())]
    Link(PathBuf, #[source] io::Error),
    #[error("can't drop the saved login: {}", .0.display())]
    Forget(PathBuf, #[source] io::Error),
    #[error("can't execute {}", .0.display())]
    Execute(PathBuf, #[source] io::Error),
}

/// Becomes the implementation of the account `id`. Returns only where that fails. `config` is the only file of the
/// configuration, where the controller has one.
pub fn run(id: &str, config: Option<&Path>) -> ExitCode {
    let Err(error) = become_implementation(id, config);
    let text = ErrorChain(&error).to_string();
    // The priority is read by the journal, and by the controller where this is its child. `eprintln!` would panic where standard
    // error is closed.
    let _ = writeln!(io::stderr(), "<3>can't start: {text}");
    // Shown by `systemctl status`.
    notify::failed(&text, None);
    ExitCode::from(NOT_EXECUTED)
}

fn become_implementation(id: &str, config: Option<&Path>) -> Result<std::convert::Infallible, Error> {
    let (file, name) = launch::from_stdin(id, &mut None)?;
    let given = LaunchValues::from_env(&file.env).map_err(Error::Missing)?;
    let settings = configured(config, &given.implementation)?;
    let folder = |variable| first_folder(&std::env::var_os(variable)?);
    let values = StartValues {
        port: given.port,
        token: given.token,
        uin: given.uin,
        auth_token: given.auth_token,
        home: folder("STATE_DIRECTORY").ok_or(Error::NoFolder("login"))?,
        runtime: folder("RUNTIME_DIRECTORY").ok_or(Error::NoFolder("login code"))?,
    };
    folders::forget(&settings, &values, &given.forget)?;
    folders::prepare(&settings, &values)?;
    let line = settings.kind.contract().command_line(&settings, &values);
    let mut command = Command::new(&line.program);
    // Standard input is the launch file, and some of them ask there.
    command.args(&line.arguments).stdin(Stdio::null()).current_dir(&values.home).env("HOME", &values.home);
    // The relay speaks to systemd, and the program does not.
    command.env_remove("NOTIFY_SOCKET").envs(line.environment);
    let executable = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    launch::relay(&mut command, &executable, &name, RelayOf::Implementation);
    Err(Error::Execute(line.program, command.exec()))
}

/// The operator's settings for the implementation. A file that users other than root and the user of this process can change is
/// refused. In a unit of the system manager this excludes whatever the controller's user could write.
fn configured(config: Option<&Path>, name: &str) -> Result<ImplementationSettings, Error> {
    // Files that the unit's user may not read are left out; `Error::Unknown` says so where that matters.
    let (loaded, _) = Settings::load_readable(Path::new("/"), config).map_err(Error::Config)?;
    for file in &loaded.files {
        check_trusted(file).map_err(Error::Untrusted)?;
    }
    loaded.settings.implementations.get(name).cloned().ok_or_else(|| Error::Unknown(name.to_owned()))
}

/// The hidden subcommand that is this launcher.
pub const SUBCOMMAND: &str = "launch-implementation";

/// The command of this launcher as a child process. What is a launch file for a unit is a file without a name here.
pub(super) fn command(child: &ImplementationChild, plan: &LaunchPlan) -> io::Result<Command> {
    let content =
        LaunchFile::new(plan.launch.generation, (plan.id.clone(), false), None, plan.env.iter().cloned());
    // `launch::from_stdin` takes regular files only, and a memfd is one. Nothing of it is in the file system or in a command
    // line.
    let mut input = File::from(memfd_create("launch", MemfdFlags::CLOEXEC)?);
    input.write_all(&content.to_bytes())?;
    // The child shares the offset with this descriptor.
    input.rewind()?;
    let mut command = Command::new(&child.executable);
    if let Some(config) = &child.config {
        command.arg("--config").arg(config);
    }
    command.args([SUBCOMMAND, plan.id.as_str()]).stdin(input);
    command.env_clear().envs(without_private(std::env::vars_os())).envs(child.identity.iter().cloned());
    command.env("STATE_DIRECTORY", &child.state).env("RUNTIME_DIRECTORY", &child.runtime);
    Ok(command)
}
