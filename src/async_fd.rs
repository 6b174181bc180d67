//! [`ReadableFd`]: waits until a file descriptor is readable for which tokio has no type, such as a pidfd or an inotify instance.
//! [`unread_bytes`]: how much a receiver has not read yet. The only module with `unsafe`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{Getter, ioctl};
use tokio::io::unix::AsyncFd;

/// A file descriptor in tokio's reactor.
#[derive(Debug)]
pub struct ReadableFd(AsyncFd<OwnedFd>);

impl ReadableFd {
    /// Registers `fd`, which must be non-blocking for [`ReadableFd::read_with`]. Must be called within a tokio runtime.
    #[allow(unsafe_code)]
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the file descriptor must stay the same and open while it is registered. `OwnedFd` owns it and closes it when
        // dropped, which `AsyncFd` does after deregistering it. Nothing here gives out the `OwnedFd` mutably or by value.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Waits until it is readable. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        // Readiness is kept: nothing is read here, and a pidfd stays readable once its process has ended (pidfd_open(2)).
        self.0.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Runs `read` when the file descriptor is readable, and again after [`io::ErrorKind::WouldBlock`].
    pub async fn read_with<T>(&self, mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            // An error means WouldBlock: the readiness was stale and is cleared, so the next round waits for a new event.
            if let Ok(result) = guard.try_io(|fd| read(fd.get_ref().as_fd())) {
                return result;
            }
        }
    }
}

impl AsFd for ReadableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// How much of what was sent through a Unix socket is unread, in bytes as the kernel counts them: 0 if everything was read. Fails
/// on architectures where `SIOCOUTQ` (unix(7)) has an unusual number.
#[allow(unsafe_code)]
pub fn unread_bytes(socket: impl AsFd) -> io::Result<i32> {
    const SIOCOUTQ: u32 = 0x5411;
    // SAFETY: of sockets and terminals, which are all that know this number, it is asked for an `int`, as `Getter` has it.
    let unread = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) };
    Ok(unread?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn what_was_sent_is_unread_until_it_was_read() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        assert_eq!(unread_bytes(&sender).unwrap(), 0);
        sender.send(b"a word").unwrap();
        assert!(unread_bytes(&sender).unwrap() > 0);
        receiver.recv(&mut [0; 16]).unwrap();
        assert_eq!(unread_bytes(&sender).unwrap(), 0);
    }
}
