//! The executable: daemon, built-in client and `wqctl` in one, so that no two parts differ in version.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use wqcontroller::archive;
use wqcontroller::config::{ConfigError, Loaded, Settings};
use wqcontroller::daemon::Preflight;
use wqcontroller::http::auth::TokenError;
use wqcontroller::machines::become_ssh;
use wqcontroller::model::error_chain::ErrorChain;
use wqcontroller::service::activation::Activated;
use wqcontroller::service::reload::{self, Outcome};
use wqcontroller::service::{activation, events, journal, notify};
use wqcontroller::store::StoreError;
use wqcontroller::supervisor::relay::RelayOf;
use wqcontroller::supervisor::systemd::{SocketsError, launch};
use wqcontroller::supervisor::{implementation, relay};
use wqcontroller::{client, ctl, daemon};

/// Runs many chat accounts on one machine: starts, watches and stops their client processes, and is the one HTTP door
/// to all of them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Read this file instead of those in /usr/lib, /run and /etc.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one client instead: what the template runs, with the account and all else in MOJO_WEBQQ_* variables.
    Client,
    /// Become the client of a unit of systemd: what wqclient@.service executes.
    #[command(hide = true)]
    Launch {
        /// Execute nothing: write the secrets of the launch file, as it is now, to the files of the unit that runs.
        #[arg(long)]
        reload: bool,
        /// The ID of the unit. It may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Become the program that holds an account: what wqimpl@.service executes.
    #[command(hide = true)]
    LaunchImplementation {
        /// The ID of the unit. It may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Send or take what an account keeps in the unit's state directory: what wqmove-client@.service and wqmove-impl@.service execute.
    #[command(hide = true)]
    Carry,
    /// Note in the registry that the units named on standard input are stopped by the removal of the package, not by an operator.
    #[command(hide = true)]
    NoteRemoval,
    /// Put the name of an account on each line of what it prints in its unit: what `launch` executes where systemd can't.
    #[command(hide = true)]
    Relay {
        /// The name of the account. It may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        name: String,
        /// The client's process.
        pid: u32,
        /// Be the relay, instead of starting it.
        #[arg(long)]
        detached: bool,
        /// It is the output of the account's implementation.
        #[arg(long)]
        implementation: bool,
    },
    /// Become ssh, and end with the controller: how it opens its tunnels.
    #[command(hide = true)]
    Ssh {
        /// The controller's main process.
        parent: u32,
        /// What ssh gets.
        #[arg(last = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Have a controller read its configuration again, and wait until it has: what wqcontroller.service executes.
    #[command(hide = true)]
    Reload {
        /// The controller's main process.
        pid: i32,
    },
}

impl Arguments {
    /// The option that its command would not heed, with the command.
    fn misplaced(&self) -> Option<(&'static str, &'static str)> {
        let (command, reads_configuration) = match self.command.as_ref()? {
            Command::Client => ("client", false),
            Command::Carry => ("carry", false),
            Command::Launch { .. } => ("launch", false),
            Command::Relay { .. } => ("relay", false),
            Command::Reload { .. } => ("reload", false),
            Command::Ssh { .. } => ("ssh", false),
            Command::LaunchImplementation { .. } => ("launch-implementation", true),
            Command::NoteRemoval => ("note-removal", true),
        };
        match &self.config {
            _ if self.check_config => Some(("--check-config", command)),
            Some(_) if !reads_configuration => Some(("--config", command)),
            _ => None,
        }
    }
}

/// `EX_CONFIG` of sysexits.h: starting again will not help.
const CONFIGURATION_ERROR: u8 = 78;

fn main() -> ExitCode {
    if ctl::is_invoked(std::env::args_os()) {
        return ctl::run();
    }
    // Under its own name the client gets no arguments that could be parsed.
    if client::is_invoked(std::env::args_os()) {
        return client::run();
    }
    let arguments = Arguments::parse();
    if let Some((option, command)) = arguments.misplaced() {
        let why = format!("the option '{option}' cannot be used with the command '{command}'");
        Arguments::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    match arguments.command {
        Some(Command::Client) => return client::run(),
        Some(Command::Launch { id, reload: false }) => return launch::run(&id),
        Some(Command::Launch { id, reload: true }) => return launch::reload(&id),
        Some(Command::LaunchImplementation { id }) => {
            return implementation::run(&id, arguments.config.as_deref());
        }
        Some(Command::Relay { name, pid, detached, implementation }) => {
            let of = if implementation { RelayOf::Implementation } else { RelayOf::Client };
            return relay::run(&name, pid, of, detached);
        }
        Some(Command::Carry) => return archive::run(),
        Some(Command::Ssh { parent, arguments }) => return become_ssh(parent, &arguments),
        Some(Command::Reload { pid }) => return have_reloaded(pid),
        Some(Command::NoteRemoval) => return note_removal(arguments.config.as_deref()),
        None => {}
    }
    if arguments.check_config {
        return check(arguments.config.as_deref());
    }
    let load = move || Settings::load(Path::new("/"), arguments.config.as_deref());
    // Before the first thread, as this changes the environment. Before the configuration, as callers at these sockets get an
    // answer also if that is refused.
    let activated = match activation::take() {
        Ok(activated) => activated,
        Err(error) => {
            notify::failed(&ErrorChain(&error).to_string(), None);
            complain(Some(events::CONFIGURATION_REFUSED), &format!("wqcontroller: {}", ErrorChain(&error)));
            return ExitCode::from(CONFIGURATION_ERROR);
        }
    };
    // Callers that wait there are answered if this controller does not start. Without a copy they keep waiting.
    let doors = || activated.iter().filter_map(|door| door.try_clone().ok()).collect();
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(error) => {
            notify::failed(&format!("the configuration is refused: {}", ErrorChain(&error)), None);
            let status = refuse(&error);
            // An operator may have fixed the configuration meanwhile, and started the service: systemd joined that start with
            // the one in progress, which is ours.
            match turn_away(doors()).then(&load) {
                Some(Ok(loaded)) => loaded,
                _ => return status,
            }
        }
    };
    // `daemon::run` takes the sockets themselves, and closes them when it fails.
    let doors = doors();
    let runtime = match runtime(loaded.settings.http.worker_threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(None, &format!("wqcontroller: can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(daemon::run(loaded, activated, load));
    // Dropping it would wait for a name look-up in progress.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (event, status) = blame(&error);
            complain(event, &format!("wqcontroller: {}", ErrorChain(error.as_ref())));
            // After a start that worked, systemd starts the next controller at once, which answers.
            if !error.is::<daemon::PartStopped>() {
                turn_away(doors);
            }
            status
        }
    }
}

/// Answers callers that wait at the sockets of the service manager. Returns whether there were any, which takes a second.
fn turn_away(doors: Vec<Activated>) -> bool {
    daemon::answer_callers(doors).unwrap_or_else(|error| {
        complain(None, &format!("wqcontroller: callers who wait can't be told: {error}"));
        false
    })
}

/// The event and the exit status of an error: whether a restart can help depends on its kind.
fn blame(error: &anyhow::Error) -> (Option<&'static str>, ExitCode) {
    // Status 78 is in `RestartPreventExitStatus=` of wqcontroller.service: systemd does not start it again and again.
    if error.is::<ConfigError>() || error.is::<TokenError>() {
        return (Some(events::CONFIGURATION_REFUSED), ExitCode::from(CONFIGURATION_ERROR));
    }
    if error.downcast_ref::<SocketsError>().is_some_and(|error| !error.may_pass()) {
        return (Some(events::CONFIGURATION_REFUSED), ExitCode::from(CONFIGURATION_ERROR));
    }
    let event = error.is::<StoreError>().then_some(events::REGISTRY_REFUSED);
    (event, ExitCode::FAILURE)
}

/// Tells a controller to reload, and exits with its result.
fn have_reloaded(pid: i32) -> ExitCode {
    match reload::run(pid) {
        Ok(Outcome::Taken) => ExitCode::SUCCESS,
        // The controller has logged why.
        Ok(Outcome::Refused) => ExitCode::from(CONFIGURATION_ERROR),
        Err(error) => {
            complain(None, &format!("wqcontroller: {}", ErrorChain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Notes in the registry which clients run while the package is removed.
fn note_removal(config: Option<&Path>) -> ExitCode {
    // If the configuration is refused, the registry is most likely at its default place.
    let settings = Settings::load(Path::new("/"), config).map(|loaded| loaded.settings).unwrap_or_default();
    match daemon::note_removal(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(
                None,
                &format!("wqcontroller: clients that run now will be held: {}", ErrorChain(error.as_ref())),
            );
            ExitCode::FAILURE
        }
    }
}

/// Makes the runtime. One thread needs no scheduler that shares work.
fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

/// Checks everything that a start needs, as far as this user may, and prints the result.
fn check(explicit: Option<&Path>) -> ExitCode {
    // The service's files are checked as its user. A file that is named may belong to a controller of any user.
    let judged_as = match explicit {
        None => daemon::become_service_user(),
        Some(_) => Ok(None),
    };
    let judged_as = match judged_as {
        Ok(judged_as) => judged_as,
        Err(error) => {
            complain(None, &format!("wqcontroller: can't become the user of wqcontroller.service: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (Loaded { settings, files, overridden, .. }, left_out) =
        match Settings::load_readable(Path::new("/"), explicit) {
            Ok(loaded) => loaded,
            Err(error) => return refuse(&error),
        };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let found = Preflight::run(&settings, &left_out, credentials.as_deref());
    let list = |heading: &str, lines: &mut dyn Iterator<Item = String>| {
        let lines: String = lines.map(|line| format!("  {line}\n")).collect();
        if lines.is_empty() { lines } else { format!("{heading}\n{lines}") }
    };
    let mut said = String::new();
    if found.problems.is_empty() {
        let read = match files.is_empty() {
            true => "There is no configuration file; the defaults hold.\n",
            false => "It was read from:\n",
        };
        said = match (found.unchecked.is_empty(), files.is_empty()) {
            (true, true) => read.to_owned(),
            (true, false) => format!("The configuration is in order. {read}"),
            (false, _) => format!("No mistake was found, but not all could be checked. {read}"),
        };
        said.extend(files.iter().map(|file| format!("  {}\n", file.display())));
    }
    if let Some(user) = judged_as {
        said += &format!("All was tried as {user}, the user of wqcontroller.service.\n");
    }
    said +=
        &list("Later files replace values of earlier ones:", &mut overridden.iter().map(ToString::to_string));
    said += &list("Without effect here:", &mut found.ineffective.into_iter());
    said += &list("Not checked, or only as far as this user may:", &mut found.unchecked.into_iter());
    // As in `complain`.
    let _ = io::stdout().write_all(said.as_bytes());
    if found.problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    for problem in &found.problems {
        complain(Some(events::CONFIGURATION_REFUSED), &format!("wqcontroller: {problem}"));
    }
    ExitCode::from(CONFIGURATION_ERROR)
}

fn refuse(error: &ConfigError) -> ExitCode {
    let text = match error {
        // Many lines, each with a file and a line number at the front, which editors can follow.
        ConfigError::Invalid(_) if journal::is_stderr() => {
            format!("the configuration is refused, so the controller does not start:\n{error}")
        }
        ConfigError::Invalid(_) => error.to_string(),
        ConfigError::Read { .. } | ConfigError::List { .. } | ConfigError::Open(_) => {
            format!("wqcontroller: {}", ErrorChain(error))
        }
    };
    complain(Some(events::CONFIGURATION_REFUSED), &text);
    ExitCode::from(CONFIGURATION_ERROR)
}

/// Writes an error to standard error, or to the journal with the kind of event. Unlike `eprintln`, it does not panic if standard error
/// is closed.
fn complain(event: Option<&str>, text: &str) {
    if journal::is_stderr() {
        journal::complain(event, text);
    } else {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
