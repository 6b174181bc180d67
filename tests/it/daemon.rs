//! The daemon: its sockets, folders, log and signals.

mod environment;
mod folders;
mod log;
mod notify;
mod reload;
mod removed;
mod sockets;
mod terminal;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{PATIENCE, wait_until};

/// The answer to a GET request through a Unix socket, as it comes; none where no program listens.
fn unix_get(socket: &Path, path: &str) -> Option<String> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(get(stream, path))
}

fn get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until a controller answers on its Unix socket.
fn wait_for_socket(socket: &Path) {
    wait_until("it answers", || unix_get(socket, "/openqq/check_client").is_some());
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn signal(&self, signal: Signal) {
        send(self.0.id(), signal);
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process is gone", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}
