//! `wqctl`: what people type. It knows a controller by its HTTP API alone, as any caller does.
//!
//! - `arguments`: the command line as it is given
//! - `failure`: why a command failed, what to type next, and the exit status
//! - `door`, `token`: where the controller is, and what it is shown
//! - `client`, `events`: requests with their answers, and streams of events
//! - `account`: an account as the API tells it
//! - `screen`, `table`, `time`: what is printed, and how wide that is
//! - `scene`: tests of bots: files of scenes, and what is expected
//! - `commands`: the commands, a file for each group
//!
//! A command is a process that lives for a moment: one thread, a connection for each request, and everything bounded in time and
//! size.

mod account;
mod arguments;
mod client;
mod commands;
mod door;
mod events;
mod failure;
mod scene;
mod screen;
mod table;
mod time;
mod token;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::Arguments;
use failure::{Failure, Kind, Outcome};

/// The name under which the executable is this program.
const NAME: &str = "wqctl";

/// Whether these arguments call for this program, which they do by its name.
pub fn is_invoked(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let program = arguments.into_iter().next().unwrap_or_default();
    Path::new(&program).file_name().is_some_and(|name| name == NAME)
}

/// Does what the command line says. Returns 0 if that went well, 1 if the controller refused or it failed, 2 for wrong usage, 3 if no
/// controller can be reached, 4 if it does not let this user in, and 5 if there is no such account.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return say_usage(&error),
    };
    match run_parsed(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind != Kind::Unheard {
                // Unlike `eprintln`, it does not panic if standard error is closed.
                let _ = writeln!(io::stderr(), "{failure}");
            }
            ExitCode::from(failure.kind as u8)
        }
    }
}

fn run_parsed(arguments: Arguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format!("no runtime can be made: {error}")))?;
    let ended = runtime.block_on(commands::run(arguments));
    // Dropping it would wait for a name look-up in progress, or for a key that is never pressed.
    runtime.shutdown_background();
    ended
}

/// Prints what clap has to say: the help, or what is wrong with the command line.
fn say_usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        _ => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let _ = write!(io::stderr(), "wqctl: {text}");
            ExitCode::from(Kind::Usage as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wqctl_is_invoked_by_its_name_alone() {
        let invoked = |words: &[&str]| is_invoked(words.iter().map(OsString::from));
        assert!(invoked(&["wqctl"]) && invoked(&["/usr/bin/wqctl", "list"]));
        assert!(!invoked(&["wqcontroller", "wqctl"]) && !invoked(&["wqclient"]) && !invoked(&[]));
        assert!(!invoked(&["/opt/wqctl/wqcontroller"]));
    }

    #[test]
    fn command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
