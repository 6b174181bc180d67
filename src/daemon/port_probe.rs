//! What `--check-config` finds out about a port: whether it is free and, if not, whether a controller has it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

/// How long the program that holds a port may take to show that it is a controller.
const PROBE: Duration = Duration::from_secs(2);
/// The most bytes of its answer that are read.
const MAX_ANSWER: usize = 4096;

/// Whether the address could be listened on. Unlike a listener, it lets no caller connect meanwhile.
pub(super) fn bind(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // As tokio's listener does it. Otherwise connections in TIME_WAIT would look like a program that has the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(rustix::net::bind(&socket, &address)?)
}

/// Whether a controller has the port: one that runs is no mistake of its configuration.
pub(super) fn is_controller(address: SocketAddr) -> bool {
    answers_as_controller(address, PROBE)
}

fn answers_as_controller(address: SocketAddr, time: Duration) -> bool {
    let until = Instant::now() + time;
    // Never zero, which would mean no limit (std).
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, time)?;
        stream.set_write_timeout(Some(left()))?;
        stream.write_all(
            format!("GET /openqq/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = [0; MAX_ANSWER];
        let mut length = 0;
        // The time bounds all reads together: a program may send a byte now and then.
        while Instant::now() < until {
            stream.set_read_timeout(Some(left()))?;
            let Some(free) = answer.get_mut(length..).filter(|free| !free.is_empty()) else { break };
            match stream.read(free)? {
                0 => break,
                read => length += read,
            }
        }
        Ok::<_, io::Error>(answer.get(..length).unwrap_or_default().to_vec())
    };
    // Its refusal in its own words, for the path or for want of a token.
    ask().is_ok_and(|answer| String::from_utf8_lossy(&answer).contains("\r\n\r\n{\"code\":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn program_that_sends_a_byte_now_and_then_is_no_controller() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends when the probe has closed its connection.
        let slow = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = 0;
            while stream.write_all(b"x").is_ok() {
                sent += 1;
                thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        assert!(!answers_as_controller(address, Duration::from_millis(100)));
        let sent = slow.join().unwrap();
        assert!(sent < MAX_ANSWER, "it was not heard to its end, but sent {sent} bytes");
    }
}
