//! [`SocketOwners`]: looks up the user of the other end of a connection, by netlink or in `/proc/net`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::timeout;
use tracing::debug;

use super::netlink::{Routes, SockDiag, SocketOwner};
use super::{loopback_pair, own_uid, proc_net};
use crate::blocking::BlockingTurns;

/// How many look-ups in the tables of `/proc/net` run at a time. Each reads the table from its beginning, so on a machine with
/// many sockets more at a time only take the processors from everything else.
const MAX_TABLE_READS: usize = 4;
/// How long a look-up may take, with the wait for its turn. A caller that waits longer is refused, and so told.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerUser {
    /// A user of this machine.
    User(u32),
    /// A user of this machine who is not known.
    Unknown,
    /// Another machine.
    Remote,
    /// Not looked up: too many look-ups wait already.
    Busy,
}

/// Neither way of looking up the owner of a socket works here.
#[derive(Debug, thiserror::Error)]
#[error("by netlink: {netlink}; in /proc/net/tcp: {table}")]
pub struct OwnersUnavailable {
    netlink: io::Error,
    table: io::Error,
}

/// Looks up the owners of sockets.
#[derive(Debug)]
pub(super) enum SocketOwners {
    Netlink {
        sockets: SockDiag,
        routes: Routes,
    },
    ProcNet {
        /// Why it is not netlink.
        reason: Arc<io::Error>,
        /// The turns of the look-ups.
        turns: BlockingTurns,
    },
}

impl SocketOwners {
    /// Chooses the first way that works.
    pub(super) fn open() -> Result<Self, OwnersUnavailable> {
        let netlink = match Self::netlink() {
            Ok(netlink) => return Ok(netlink),
            Err(error) => error,
        };
        match self_test(proc_net::owner) {
            Ok(()) => Ok(Self::proc_net(netlink)),
            Err(table) => Err(OwnersUnavailable { netlink, table }),
        }
    }

    fn netlink() -> io::Result<Self> {
        let (sockets, routes) = (SockDiag::open()?, Routes::open()?);
        // Opening a socket proves nothing: without the module `tcp_diag` only the look-up fails.
        self_test(|local, remote| sockets.owner(local, remote))?;
        Ok(Self::Netlink { sockets, routes })
    }

    pub(super) fn proc_net(reason: io::Error) -> Self {
        Self::ProcNet { reason: Arc::new(reason), turns: BlockingTurns::new(MAX_TABLE_READS) }
    }

    /// The user who has the end `remote` of a connection to `local`. Both addresses are canonical.
    pub(super) async fn of(&self, remote: SocketAddr, local: SocketAddr) -> PeerUser {
        match self.look_up(remote, local).await {
            // The process has closed the socket; the kernel reports such a socket as root's.
            Ok(Some(SocketOwner { inode: 0, .. })) => PeerUser::Unknown,
            Ok(Some(SocketOwner { uid, .. })) => PeerUser::User(uid),
            Ok(None) if self.is_remote(remote, local) => PeerUser::Remote,
            Ok(None) => PeerUser::Unknown,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => PeerUser::Busy,
            Err(error) => {
                debug!(%remote, %error, "cannot look up the owner of the connection from {remote}: {error}");
                // Without an answer only callers of this machine are refused: another machine has no socket here.
                if self.is_remote(remote, local) { PeerUser::Remote } else { PeerUser::Unknown }
            }
        }
    }

    /// The user who has the end `remote` of a connection that we opened from `local`. None where no process has accepted it yet.
    pub(super) async fn of_acceptor(&self, remote: SocketAddr, local: SocketAddr) -> Option<PeerUser> {
        match self.look_up(remote, local).await {
            Ok(Some(owner)) if owner.is_unaccepted() => None,
            Ok(Some(SocketOwner { inode: 0, .. })) => Some(PeerUser::Unknown),
            Ok(Some(SocketOwner { uid, .. })) => Some(PeerUser::User(uid)),
            // The handshake is not complete at that end (`TCP_DEFER_ACCEPT`), or the connection is gone.
            Ok(None) => None,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Some(PeerUser::Busy),
            Err(error) => {
                debug!(%remote, %error, "cannot look up the owner of the connection to {remote}: {error}");
                Some(PeerUser::Unknown)
            }
        }
    }

    /// The user whose socket listens for connections to `called`.
    pub(super) async fn of_listener(&self, called: SocketAddr) -> PeerUser {
        // Port 0 at the other end asks for a listening socket (`is_sought`).
        let (nobody, port) = (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), called.port());
        let mut addresses = vec![called];
        if let Self::ProcNet { .. } = self {
            // By netlink the kernel finds a wildcard socket by itself.
            addresses.push((Ipv4Addr::UNSPECIFIED, port).into());
            addresses.push((Ipv6Addr::UNSPECIFIED, port).into());
        }
        for address in addresses {
            let other = if address.is_ipv4() { nobody } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
            match self.look_up(address, other).await {
                Ok(Some(SocketOwner { uid, inode, .. })) if inode != 0 => return PeerUser::User(uid),
                // No socket here, or one that no process has: the wildcard addresses are next.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return PeerUser::Busy,
                Err(error) => {
                    debug!(%called, %error, "cannot look up who listens at {called}: {error}");
                }
            }
        }
        PeerUser::Unknown
    }

    /// The owner of the socket at `socket` that is connected to `other`.
    async fn look_up(&self, socket: SocketAddr, other: SocketAddr) -> io::Result<Option<SocketOwner>> {
        match self {
            // Needs no thread: the kernel answers within send(2).
            Self::Netlink { sockets, .. } => sockets.owner(socket, other),
            Self::ProcNet { turns, .. } => {
                let look_up = turns.run(move || proc_net::owner(socket, other));
                // A read that is given up goes on and keeps its turn, so slow reads can't pile up.
                match timeout(LOOK_UP_TIMEOUT, look_up).await {
                    Ok(found) => found.map_err(io::Error::other)?,
                    Err(_) => Err(io::ErrorKind::ResourceBusy.into()),
                }
            }
        }
    }

    /// Whether `remote` is certainly an address of another machine.
    fn is_remote(&self, remote: SocketAddr, local: SocketAddr) -> bool {
        // No other machine can have such a connection, whatever the routes say.
        if remote.ip().is_loopback() || local.ip().is_loopback() || remote.ip() == local.ip() {
            return false;
        }
        let is_own = match self {
            Self::Netlink { routes, .. } => routes.is_own(remote),
            Self::ProcNet { .. } => bind(remote).map(|_| true),
        };
        if let Err(error) = &is_own {
            debug!(%remote, %error, "cannot tell whether {remote} is an address of this machine: {error}");
        }
        is_other_machine(&is_own)
    }

    pub(super) fn source(&self) -> impl fmt::Display + use<> {
        match self {
            Self::Netlink { .. } => "netlink".to_owned(),
            Self::ProcNet { reason, .. } => {
                format!("/proc/net/tcp, because netlink cannot be used: {reason}")
            }
        }
    }
}

/// Binds to the address of `remote`, which works only for addresses of this machine, unless net.ipv4.ip_nonlocal_bind is set.
fn bind(mut remote: SocketAddr) -> io::Result<UdpSocket> {
    remote.set_port(0);
    UdpSocket::bind(remote)
}

/// Whether an address is another machine's, by the result of the check whether it is ours. Only errors that say that the kernel has
/// no route to the address, or does not have the address, prove that it is not.
fn is_other_machine(is_own: &io::Result<bool>) -> bool {
    match is_own {
        Ok(is_own) => !is_own,
        Err(error) => matches!(
            Errno::from_io_error(error),
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::ADDRNOTAVAIL)
        ),
    }
}

/// Looks up the owner of a connection of this process.
fn self_test(
    owner: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<Option<SocketOwner>>,
) -> io::Result<()> {
    let (ours, _accepted) = loopback_pair()?;
    match owner(ours.local_addr()?, ours.peer_addr()?)? {
        Some(SocketOwner { uid, inode, .. }) if uid == own_uid() && inode != 0 => Ok(()),
        Some(_) => Err(io::Error::other("the owner that is told is not the right one")),
        None => Err(io::Error::other("a socket that is there is not found; is the module tcp_diag missing?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_remote_only_if_kernel_says_so() {
        for (is_own, elsewhere) in [(true, false), (false, true)] {
            assert_eq!(is_other_machine(&Ok(is_own)), elsewhere);
        }
        for errno in [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::ADDRNOTAVAIL] {
            assert!(is_other_machine(&Err(errno.into())), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NOBUFS, Errno::INVAL, Errno::AGAIN, Errno::PERM] {
            assert!(!is_other_machine(&Err(errno.into())), "{errno}");
        }
        assert!(!is_other_machine(&Err(io::Error::other("the kernel answers other questions"))));
        assert!(is_other_machine(&bind(([192, 0, 2, 1], 4000).into()).map(|_| true)));
    }
}
