//! Which user is at the other end of a connection on this machine, and whether that user may call.
//!
//! Each client that is a unit of the machine's manager has a user of its own, `wqc-ID`. Every user can connect to loopback, so
//! [`PeerPolicy`] keeps the clients away from the controller and from each other. It decides by the name of the user. The range
//! of dynamic user IDs says nothing: an operator's bot may have one.
//!
//! `netlink` asks the kernel, `proc_net` reads its tables where netlink cannot be used, `owners` chooses between the two, and
//! `users` looks up the names.

mod netlink;
mod owners;
mod proc_net;
mod users;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::getpeername;
use rustix::net::sockopt::socket_peercred;
use tokio::net::TcpStream;

pub use owners::OwnersUnavailable;
use owners::{PeerUser, SocketOwners};
use users::{UserName, Users};

/// The prefix of the name of each client's user; the ID of the unit follows.
pub const ACCOUNT_USER: &str = "wqc-";
/// What the users of implementations begin with: `wqimpl@.service` sets them.
pub const IMPLEMENTATION_USER: &str = "wqi-";

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// The caller is the client of another account; the name of its user.
    #[error("it is from the client of another account, user {0}")]
    OtherAccount(String),
    /// The caller is on this machine, and its user cannot be found: it closed the connection before it was accepted, or it used
    /// an address that the kernel translates (NAT).
    #[error(
        "its user is unknown; a caller on this machine has to keep the connection open until it is answered"
    )]
    Unknown,
    /// Too many callers wait to be looked up.
    #[error("too many callers wait for the look-up of their user")]
    Busy,
}

/// Why the port of a client or of a receiver is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerRefusal {
    /// The client of another account has it; the name of its user.
    #[error("the client of another account, user {0}, listens at its port")]
    OtherAccount(String),
    /// The program that had it is gone, or its user is.
    #[error("nobody listens at its port any more")]
    Unknown,
    /// Too many look-ups wait.
    #[error("too many look-ups of users wait")]
    Busy,
}

/// Why a token is not shown to what listens at a port of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRefusal {
    /// It is of another user.
    #[error("a program of user {0} listens there, which must not see the token")]
    OtherUser(u32),
    /// It can't be told whose it is.
    #[error("it is not known whose program listens there, so it is not shown the token")]
    Unknown,
}

/// Decides which users of this machine may connect. It lets in all other machines.
#[derive(Debug)]
pub struct PeerPolicy {
    owners: SocketOwners,
    users: Users,
    own: u32,
}

impl PeerPolicy {
    /// The policy of a controller whose clients are units of the machine's manager.
    ///
    /// # Errors
    /// The kernel does not tell who owns a socket.
    pub fn of_controller() -> Result<Self, OwnersUnavailable> {
        Ok(Self { owners: SocketOwners::open()?, users: Users::default(), own: own_uid() })
    }

    /// The policy of a client. None where the client has no user of its own, because its siblings have the same one then.
    ///
    /// # Errors
    /// The kernel does not tell who owns a socket.
    pub fn of_client() -> Result<Option<Self>, OwnersUnavailable> {
        let (users, own) = (Users::default(), own_uid());
        match users.name_blocking(own) {
            UserName::Known(name) if !is_account(&name) => Ok(None),
            UserName::NotDynamic => Ok(None),
            // A dynamic user whose name cannot be read. Then the names of its siblings cannot be read either.
            UserName::Known(_) | UserName::Gone => {
                Ok(Some(Self { owners: SocketOwners::open()?, users, own }))
            }
        }
    }

    /// How the owners of sockets are found, for the log.
    pub fn source(&self) -> impl fmt::Display {
        self.owners.source()
    }

    /// Decides about a TCP connection that was accepted: `remote` is its other end, `local` ours.
    ///
    /// # Errors
    /// The connection is refused.
    pub async fn check_tcp(
        &self,
        stream: impl AsFd,
        remote: SocketAddr,
        local: SocketAddr,
    ) -> Result<(), PeerRefusal> {
        let (remote, local) = (canonical(remote), canonical(local));
        let owner = self.owners.of(remote, local).await;
        // Two connections cannot have the same pair of addresses while our end is open. But a caller that has reset this one may
        // have left its address to another program, whose socket was found.
        if matches!(owner, PeerUser::User(_)) && getpeername(stream).is_err() {
            return Err(PeerRefusal::Unknown);
        }
        self.check(owner).await
    }

    /// Decides about a connection through a Unix socket.
    ///
    /// # Errors
    /// The connection is refused.
    pub async fn check_unix(&self, stream: impl AsFd) -> Result<(), PeerRefusal> {
        let owner =
            // The credentials at the time of connect(2) (unix(7), SO_PEERCRED): they stay when the socket is handed on.
            socket_peercred(stream).map_or(PeerUser::Unknown, |peer| PeerUser::User(peer.uid.as_raw()));
        self.check(owner).await
    }

    /// Decides whether a connection that we opened to a port of this machine leads to the client that is `unit`: not where it
    /// leads to the client of another account.
    ///
    /// # Errors
    /// Nothing is to be sent on it.
    pub async fn check_upstream(&self, stream: &TcpStream, unit: &str) -> Result<(), ListenerRefusal> {
        let acceptor = self.acceptor(stream).await;
        self.check_owner(acceptor, unit).await
    }

    /// Decides whether a connection that the client of an account opened to its implementation may be used: not where it leads to
    /// a process of another account. While the implementation is away, any user may listen at its port, and would be shown its
    /// token. Lets in all other machines.
    ///
    /// # Errors
    /// Nothing is to be sent on it.
    pub async fn check_implementation(&self, stream: &TcpStream) -> Result<(), ListenerRefusal> {
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return Err(ListenerRefusal::Unknown);
        };
        let (local, remote) = (canonical(local), canonical(remote));
        // An address of this machine calls itself by the same one.
        match remote.ip().is_loopback() || remote.ip() == local.ip() {
            true => self.check_upstream(stream, &self.own_implementation().await).await,
            false => Ok(()),
        }
    }

    /// As [`PeerPolicy::check_implementation`], before there is a connection: decides by the program that listens at the loopback
    /// `address`. It may be called where no program listens.
    ///
    /// # Errors
    /// The address must not be called.
    pub async fn check_implementation_at(&self, address: SocketAddr) -> Result<(), ListenerRefusal> {
        match self.owners.of_listener(canonical(address)).await {
            PeerUser::Unknown => Ok(()),
            owner => self.check_owner(owner, &self.own_implementation().await).await,
        }
    }

    /// Decides whether a connection that a caller opened to a port of this machine may be shown a token: where it leads to a process of
    /// root, of the caller's own user, or of the user with this name.
    ///
    /// # Errors
    /// A process of another user has the port, or it is not known whose it is.
    pub async fn check_service(&self, stream: &TcpStream, user: &str) -> Result<(), ServiceRefusal> {
        match self.acceptor(stream).await {
            PeerUser::User(uid) if uid == 0 || uid == self.own => Ok(()),
            PeerUser::User(uid) => {
                let service = nix::unistd::User::from_name(user).ok().flatten();
                match service.is_some_and(|service| service.uid.as_raw() == uid) {
                    true => Ok(()),
                    false => Err(ServiceRefusal::OtherUser(uid)),
                }
            }
            PeerUser::Busy | PeerUser::Unknown | PeerUser::Remote => Err(ServiceRefusal::Unknown),
        }
    }

    /// The unit of the implementation of the client that this process is. Empty, as that of no unit, where it is none.
    async fn own_implementation(&self) -> String {
        match self.users.name(self.own).await {
            UserName::Known(user) => user.strip_prefix(ACCOUNT_USER).map(|id| format!("wqimpl@{id}.service")),
            UserName::NotDynamic | UserName::Gone => None,
        }
        .unwrap_or_default()
    }

    /// Decides whether what `owner` listens with is a process of `unit`, or of no account.
    async fn check_owner(&self, owner: PeerUser, unit: &str) -> Result<(), ListenerRefusal> {
        let uid = match owner {
            PeerUser::User(uid) => uid,
            PeerUser::Busy => return Err(ListenerRefusal::Busy),
            PeerUser::Unknown | PeerUser::Remote => return Err(ListenerRefusal::Unknown),
        };
        // Root, and every process of our own user, can do what we can: to refuse them would protect nothing.
        if uid == 0 || uid == self.own {
            return Ok(());
        }
        match self.users.name(uid).await {
            UserName::Known(name) if is_account(&name) && !is_user_of(&name, unit) => {
                Err(ListenerRefusal::OtherAccount(name))
            }
            UserName::Known(_) | UserName::NotDynamic => Ok(()),
            UserName::Gone if self.users.are_readable() => Err(ListenerRefusal::Unknown),
            // Where no name can be read at all, a refusal would cut off every client.
            UserName::Gone => Ok(()),
        }
    }

    /// The user who has the other end of a connection that we opened.
    ///
    /// A program can accept a connection and stop listening, and then another one listens at the port. So it is the
    /// connection that counts. While it waits to be accepted, it belongs to the listener.
    async fn acceptor(&self, stream: &TcpStream) -> PeerUser {
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else {
            return PeerUser::Unknown;
        };
        let (local, remote) = (canonical(local), canonical(remote));
        if let Some(user) = self.owners.of_acceptor(remote, local).await {
            return user;
        }
        let listener = self.owners.of_listener(remote).await;
        match self.owners.of_acceptor(remote, local).await {
            Some(user) => user,
            // It has waited all the time, so it is in the queue of the socket that was looked up: the kernel resets what is in
            // the queue when a listening socket is closed.
            None if stream.peer_addr().is_ok() => listener,
            None => PeerUser::Unknown,
        }
    }

    /// Decides whether the program that listens at the loopback `address` may be called as a receiver: not where it is the client of
    /// an account. It may be called where no program listens, or where the user is not known.
    ///
    /// # Errors
    /// The address must not be called.
    pub async fn check_receiver(&self, address: SocketAddr) -> Result<(), ListenerRefusal> {
        let owner = self.owners.of_listener(canonical(address)).await;
        self.check_receiver_of(owner).await
    }

    async fn check_receiver_of(&self, owner: PeerUser) -> Result<(), ListenerRefusal> {
        match owner {
            PeerUser::User(uid) if uid != 0 && uid != self.own => match self.users.name(uid).await {
                UserName::Known(name) if is_account(&name) => Err(ListenerRefusal::OtherAccount(name)),
                UserName::Known(_) | UserName::NotDynamic => Ok(()),
                UserName::Gone if self.users.are_readable() => Err(ListenerRefusal::Unknown),
                UserName::Gone => Ok(()),
            },
            PeerUser::Busy => Err(ListenerRefusal::Busy),
            PeerUser::User(_) | PeerUser::Unknown | PeerUser::Remote => Ok(()),
        }
    }

    async fn check(&self, owner: PeerUser) -> Result<(), PeerRefusal> {
        match owner {
            PeerUser::Remote => Ok(()),
            PeerUser::Unknown => Err(PeerRefusal::Unknown),
            PeerUser::Busy => Err(PeerRefusal::Busy),
            PeerUser::User(uid) if uid == 0 || uid == self.own => Ok(()),
            PeerUser::User(uid) => match self.users.name(uid).await {
                UserName::Known(name) if is_account(&name) => Err(PeerRefusal::OtherAccount(name)),
                UserName::Known(_) | UserName::NotDynamic => Ok(()),
                // Also where no names can be read, unlike in `check_upstream`: this may be a client whose unit has handed the
                // socket on and ended.
                UserName::Gone => Err(PeerRefusal::Unknown),
            },
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_account(user: &str) -> bool {
    [ACCOUNT_USER, IMPLEMENTATION_USER].iter().any(|prefix| user.starts_with(prefix))
}

/// Whether this is the user of `wqclient@ID.service` or `wqclient-ID.service`, or of such a unit of `wqimpl`.
fn is_user_of(user: &str, unit: &str) -> bool {
    [("wqclient", ACCOUNT_USER), ("wqimpl", IMPLEMENTATION_USER)].iter().any(|(unit_prefix, user_prefix)| {
        let id = unit.strip_prefix(unit_prefix).and_then(|unit| unit.strip_suffix(".service")?.get(1..));
        // A unit without ID and a user without the prefix would be equal, as None.
        id.is_some() && id == user.strip_prefix(user_prefix)
    })
}

/// Unmaps an IPv4-mapped IPv6 address, as the kernel does for its look-up.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// A connection of this process to itself, for the self-test: both its ends.
fn loopback_pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    Ok((ours, accepted))
}

#[cfg(test)]
mod tests;
