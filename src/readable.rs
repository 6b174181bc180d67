//! [`ReadableFd`]: waits until a file descriptor that tokio has no type for (a pidfd, an inotify instance) can be
//! read; [`unread`]: what its receiver has not read of a socket. The only module that may hold `unsafe`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{Getter, ioctl};
use tokio::io::unix::AsyncFd;

/// A file descriptor in tokio's reactor.
#[derive(Debug)]
pub struct ReadableFd(AsyncFd<OwnedFd>);

impl ReadableFd {
    /// Registers `fd`, which must be in non-blocking mode to be read until it is empty. Must be called within a tokio
    /// runtime.
    #[allow(unsafe_code)]
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: asked for is a file descriptor that stays the same and open for as long as it is registered. An
        // `OwnedFd` owns one and closes it when it is dropped, which `AsyncFd` does after it took it off the reactor;
        // and nothing here hands out the `OwnedFd` mutably or by value.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Waits until it is readable. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Runs `read` when the file descriptor is readable; where `read` says [`io::ErrorKind::WouldBlock`] waits again.
    pub async fn read_with<T>(&self, mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
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

/// How much of what was sent through a Unix socket nobody has read yet, in bytes of the kernel's own count: 0 when all was read.
/// Fails on architectures where `SIOCOUTQ` (unix(7)) has another number than on most.
#[allow(unsafe_code)]
pub fn unread(socket: impl AsFd) -> io::Result<i32> {
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
        assert_eq!(unread(&sender).unwrap(), 0);
        sender.send(b"a word").unwrap();
        assert!(unread(&sender).unwrap() > 0);
        receiver.recv(&mut [0; 16]).unwrap();
        assert_eq!(unread(&sender).unwrap(), 0);
    }
}
