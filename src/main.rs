//! The executable: daemon and built-in client in one, so that no two parts differ in version.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wqcontroller::config::{ConfigError, Loaded, Settings};
use wqcontroller::http::auth::TokenError;
use wqcontroller::model::chain::Chain;
use wqcontroller::service::activation::Activated;
use wqcontroller::service::reload::{self, Outcome};
use wqcontroller::service::{activation, events, journal, notify};
use wqcontroller::store::StoreError;
use wqcontroller::supervisor::systemd::launch;
use wqcontroller::{client, daemon};

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
        /// The ID of the unit. It may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Have a controller read its configuration again, and wait until it has: what wqcontroller.service executes.
    #[command(hide = true)]
    Reload {
        /// The controller's main process.
        pid: i32,
    },
}

/// `EX_CONFIG` of sysexits.h: starting again will not help.
const CONFIGURATION_ERROR: u8 = 78;

fn main() -> ExitCode {
    // Under its own name the client gets no arguments that could be parsed.
    if client::is_invoked(std::env::args_os()) {
        return client::run();
    }
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Client) => return client::run(),
        Some(Command::Launch { id }) => return launch::run(&id),
        Some(Command::Reload { pid }) => return have_reloaded(pid),
        None => {}
    }
    let load = move || Settings::load(Path::new("/"), arguments.config.as_deref());
    if arguments.check_config {
        return check(load());
    }
    let activated = match activation::take() {
        Ok(activated) => activated,
        Err(error) => {
            notify::failed(&Chain(&error).to_string(), None);
            complain(Some(events::CONFIGURATION_REFUSED), &format!("wqcontroller: {}", Chain(&error)));
            return ExitCode::from(CONFIGURATION_ERROR);
        }
    };
    // Whoever waits there is to hear of it if this controller does not start. Without a copy they wait on.
    let doors = || activated.iter().filter_map(|door| door.try_clone().ok()).collect();
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(error) => {
            notify::failed(&format!("the configuration is refused: {}", Chain(&error)), None);
            let status = refuse(&error);
            // While callers were answered somebody may have mended it, and started the service: systemd made that one with
            // the start that is under way, which is ours.
            match turn_away(doors()).then(&load) {
                Some(Ok(loaded)) => loaded,
                _ => return status,
            }
        }
    };
    let doors = doors();
    let runtime = match runtime(loaded.settings.http.worker_threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(None, &format!("wqcontroller: can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(daemon::run(loaded, activated, load));
    // Not dropped, which would wait for a name that is being looked up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (event, status) = blame(&error);
            complain(event, &format!("wqcontroller: {}", Chain(error.as_ref())));
            // When it had started, the next one answers, which comes at once.
            if !error.is::<daemon::BrokeDown>() {
                turn_away(doors);
            }
            status
        }
    }
}

/// Answers callers who wait at the sockets of the service manager. Whether there were any, which takes a second.
fn turn_away(doors: Vec<Activated>) -> bool {
    daemon::answer_callers(doors).unwrap_or_else(|error| {
        complain(None, &format!("wqcontroller: callers who wait can't be told: {error}"));
        false
    })
}

/// What kind of end this is. What starting again will not help is told from what it may.
fn blame(error: &anyhow::Error) -> (Option<&'static str>, ExitCode) {
    if error.is::<ConfigError>() || error.is::<TokenError>() {
        return (Some(events::CONFIGURATION_REFUSED), ExitCode::from(CONFIGURATION_ERROR));
    }
    let event = error.is::<StoreError>().then_some(events::REGISTRY_REFUSED);
    (event, ExitCode::FAILURE)
}

/// Waits until a controller has read its configuration again, and tells by our status what came of it.
fn have_reloaded(pid: i32) -> ExitCode {
    match reload::run(pid) {
        Ok(Outcome::Taken) => ExitCode::SUCCESS,
        // The controller has said why.
        Ok(Outcome::Refused) => ExitCode::from(CONFIGURATION_ERROR),
        Err(error) => {
            complain(None, &format!("wqcontroller: {}", Chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// A single thread needs no scheduler from which others can take work.
fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

fn check(loaded: Result<Loaded, ConfigError>) -> ExitCode {
    let said = match loaded {
        Ok(loaded) if loaded.files.is_empty() => {
            "There is no configuration file; the defaults hold.\n".to_owned()
        }
        Ok(loaded) => {
            let files = loaded.files.iter().map(|file| format!("  {}\n", file.display()));
            format!("The configuration is in order. It was read from:\n{}", files.collect::<String>())
        }
        Err(error) => return refuse(&error),
    };
    // As in `complain`.
    let _ = io::stdout().write_all(said.as_bytes());
    ExitCode::SUCCESS
}

fn refuse(error: &ConfigError) -> ExitCode {
    let text = match error {
        // Many lines, and each begins with a file and a line, as editors want it.
        ConfigError::Invalid(_) => error.to_string(),
        ConfigError::Read { .. } | ConfigError::List { .. } | ConfigError::Open(_) => {
            format!("wqcontroller: {}", Chain(error))
        }
    };
    complain(Some(events::CONFIGURATION_REFUSED), &text);
    ExitCode::from(CONFIGURATION_ERROR)
}

/// Writes to standard error, if somebody reads it (`eprintln` panics where nobody does); to the journal, where that is the
/// same, with the kind of event.
fn complain(event: Option<&str>, text: &str) {
    if journal::is_stderr() {
        journal::complain(event, text);
    } else {
        let _ = writeln!(io::stderr(), "{text}");
    }
}
