//! The relay: a process in a client's unit that sends each line of the client's output to the journal, with the account's name.
//!
//! `LogExtraFields=` of a template unit can have only the ID, and a user's manager ignores it. A stream of the journal has no
//! fields of its own, and the controller may be away. So the lines go through a process in the unit, which exits when all writers
//! of its pipe are gone. That of an implementation then tells systemd the last line, from which the controller has the reason of the
//! exit: unlike the built-in client, an implementation tells systemd nothing.

use std::io::{self, PipeWriter, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::output::{keep, printable, split_priority, take_lines};
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use crate::service::journal::{ClientEntries, LogSource};
use crate::service::notify;

/// What the relay writes when its signal handlers are set.
const READY: &[u8] = b"\n";

/// The option of the relay of an implementation.
const OF_IMPLEMENTATION: &str = "--implementation";

/// Whose output a relay passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayOf {
    /// A client.
    Client,
    /// The implementation of an account.
    Implementation,
}

impl RelayOf {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Client => &[],
            Self::Implementation => &[OF_IMPLEMENTATION],
        }
    }
}

/// Starts a relay for the calling process, which becomes the client `name`, or its implementation. Returns the pipe for its output.
///
/// The relay is not a child of the client, as the client may wait for all its children.
pub(super) fn start(executable: &Path, name: &ClientName, of: RelayOf) -> io::Result<PipeWriter> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(executable);
    command.arg("relay").args(of.arguments()).args([name.as_str(), &std::process::id().to_string()]);
    // Returns as soon as the relay is ready: the process that is waited for only detaches it. So no line comes before the
    // signals are ignored.
    let status = command.stdin(reader).stdout(Stdio::null()).status()?;
    if status.success() { Ok(writer) } else { Err(io::Error::other(format!("the relay failed: {status}"))) }
}

/// Starts the relay as a detached process, or, with `detached`, is the relay. `pid` is the client's.
pub fn run(name: &str, pid: u32, of: RelayOf, detached: bool) -> ExitCode {
    let done = if detached { relay(name, pid, of) } else { detach(name, pid, of) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln!, which panics if standard error is closed.
            let _ = writeln!(io::stderr(), "<3>wqcontroller relay: {}", ErrorChain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Returns when the relay is ready. When this process exits, the relay is reparented to the subreaper, which reaps it.
fn detach(name: &str, pid: u32, of: RelayOf) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["relay", "--detached"]).args(of.arguments()).args([name, &pid.to_string()]);
    command.stdout(Stdio::piped());
    let mut relay = command.spawn()?;
    let mut ready = [0];
    match relay.stdout.take() {
        // If the relay fails, its end of the pipe is closed, and that is an error here.
        Some(mut stdout) => stdout.read_exact(&mut ready),
        None => Ok(()),
    }
}

fn relay(name: &str, pid: u32, of: RelayOf) -> io::Result<()> {
    let source = match of {
        RelayOf::Client => LogSource::Client,
        RelayOf::Implementation => LogSource::Implementation,
    };
    let mut entries = ClientEntries::open(name, pid, source)?;
    // Signals are ignored: systemd sends them to all processes of a unit, and the client's last lines are still to come.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    let mut buffer = BytesMut::new();
    let (mut chunk, mut last) = ([0; 8192], Vec::new());
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        take_lines(&mut buffer, |line| {
            keep(&mut last, line);
            send(&mut entries, line);
        });
    }
    // The client ended within a line.
    if !buffer.is_empty() {
        keep(&mut last, &buffer);
        send(&mut entries, &buffer);
    }
    if of == RelayOf::Implementation && !last.is_empty() {
        notify::last_words(&printable(&last));
    }
    entries.flush()
}

fn send(entries: &mut ClientEntries, line: &[u8]) {
    let (priority, text) = split_priority(line);
    entries.send(priority, &printable(text));
}
