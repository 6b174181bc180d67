//! Netlink: who owns a TCP socket (sock_diag(7)), and which addresses are this machine's (rtnetlink(7)).
//!
//! The kernel puts the reply into the socket before send(2) returns, so nothing here blocks. Numbers are in native byte order,
//! ports and addresses in network byte order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::locks::locked;

/// `linux/netlink.h`: the length of a header, the flag of a request, and the type of an error.
const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;

/// `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `linux/inet_diag.h`: the size of `struct inet_diag_msg`, and the offsets of its fields.
const DIAG_LENGTH: usize = 72;
const DIAG_STATE: usize = 1;
const DIAG_PORTS: usize = 4;
const DIAG_UID: usize = 64;
const DIAG_INODE: usize = 68;

/// `linux/rtnetlink.h`.
const RTM_GETROUTE: u16 = 26;
const RTM_NEWROUTE: u16 = 24;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTM_TYPE: usize = 7;
const RTN_LOCAL: u8 = 2;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// `net/flow.h`: the index of `lo` in every network namespace.
const LOOPBACK_INTERFACE: u32 = 1;

/// `net/tcp_states.h`: `TCP_ESTABLISHED`, `TCP_LISTEN`, and the states of a connected socket that a process has.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];

/// More than the size of any reply.
const MAX_ANSWER: usize = 8192;

/// How many stale replies, to requests whose reply was not read, are skipped.
const MAX_SKIPPED: usize = 8;

/// Who owns a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketOwner {
    pub(super) uid: u32,
    /// 0 where no process has the socket: not yet, as it waits to be accepted, or not any more.
    pub(super) inode: u32,
    /// Its state, as in `net/tcp_states.h`.
    pub(super) state: u8,
}

impl SocketOwner {
    /// Whether this end of a connection waits in the queue of a listening socket.
    pub(super) fn is_unaccepted(self) -> bool {
        self.inode == 0 && self.state == ESTABLISHED
    }
}

/// Whether a socket in this state can be the wanted one: listening where there is no remote port, else connected. A socket in
/// another state, such as SYN_SENT, proves nothing about a connection.
pub(super) fn is_sought(state: u8, remote: SocketAddr) -> bool {
    if remote.port() == 0 { state == LISTEN } else { CONNECTED.contains(&state) }
}

/// A netlink socket for one protocol.
#[derive(Debug)]
struct Netlink {
    socket: Mutex<(OwnedFd, u32)>,
}

impl Netlink {
    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        // Nonblocking: if a reply is missing after all, `recv` fails at once and does not hang a thread of the runtime.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        Ok(Self { socket: Mutex::new((socket, 0)) })
    }

    /// Sends a request, and returns the type and the payload of the reply.
    fn ask(&self, kind: u16, content: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        // Held until the reply is read, so that no other task takes it. The kernel has it ready within send(2).
        let mut socket = locked(&self.socket);
        let (socket, number) = &mut *socket;
        *number = number.wrapping_add(1);
        let mut request = Vec::with_capacity(HEADER + content.len());
        let length = u32::try_from(HEADER + content.len()).map_err(io::Error::other)?;
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend(number.to_ne_bytes());
        // `nlmsg_pid`: the kernel answers the socket that asked, whatever is here.
        request.extend(0u32.to_ne_bytes());
        request.extend(content);
        send(&*socket, &request, SendFlags::empty())?;
        let mut buffer = [0; MAX_ANSWER];
        for _ in 0..MAX_SKIPPED {
            let (length, _) = recv(&*socket, &mut buffer[..], RecvFlags::empty())?;
            let answer = buffer.get(..length).unwrap_or_default();
            if u32_at(answer, 8) == Some(*number) {
                return read_answer(answer);
            }
        }
        Err(io::Error::other("the kernel answers other questions"))
    }
}

/// The type and the payload of a reply.
fn read_answer(answer: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let short = || io::Error::other("the kernel's answer is too short");
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let (kind, content) = kind.zip(answer.get(HEADER..)).ok_or_else(short)?;
    if kind != NLMSG_ERROR {
        return Ok((kind, content.to_owned()));
    }
    let errno = u32_at(content, 0).ok_or_else(short)?.cast_signed();
    // `nlmsgerr` has the number negated (netlink(7)). Wrapping, as no reply may cause a panic.
    Err(Errno::from_raw_os_error(errno.wrapping_neg()).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Looks up the owners of TCP sockets.
#[derive(Debug)]
pub(super) struct SockDiag(Netlink);

impl SockDiag {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(Some(SOCK_DIAG)).map(Self)
    }

    /// Who owns the socket at `local` that is connected to `remote`. None where there is no such socket on this machine, or the
    /// kernel has no `tcp_diag` (it gives the same error).
    pub(super) fn owner(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<SocketOwner>> {
        // The look-up includes the interface for link-local addresses and for sockets bound to a device.
        let interface = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
        match self.owner_on(interface, local, remote)? {
            // Local traffic goes through `lo`, so that is the device such a socket is bound to.
            None if interface == 0 => self.owner_on(LOOPBACK_INTERFACE, local, remote),
            found => Ok(found),
        }
    }

    fn owner_on(
        &self,
        interface: u32,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<SocketOwner>> {
        match self.0.ask(SOCK_DIAG_BY_FAMILY, &owner_request(interface, local, remote)) {
            Ok((SOCK_DIAG_BY_FAMILY, content)) => Ok(read_owner(&content, local, remote)),
            Ok((other, _)) => Err(io::Error::other(format!("the kernel answers with type {other}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `struct inet_diag_req_v2`.
fn owner_request(interface: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut request = vec![family, IPPROTO_TCP, 0, 0];
    // `idiag_states`: all, as `read_owner` checks the state of what is found.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for ip in [local.ip(), remote.ip()] {
        let mut field = [0; 16];
        match ip {
            IpAddr::V4(ip) => field[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => field = ip.octets(),
        }
        request.extend(field);
    }
    request.extend(interface.to_ne_bytes());
    // No cookie.
    request.extend([0xff; 8]);
    request
}

/// The owner, if the reply is about that connection. Without one the kernel may reply with a listening socket.
fn read_owner(content: &[u8], local: SocketAddr, remote: SocketAddr) -> Option<SocketOwner> {
    let content = content.get(..DIAG_LENGTH)?;
    let port =
        |at: usize| content.get(at..at + 2).and_then(|port| port.try_into().ok()).map(u16::from_be_bytes);
    let state = content.get(DIAG_STATE).copied().filter(|state| is_sought(*state, remote))?;
    // The kernel has compared the addresses. A listening socket in place of a connected one differs in its remote port.
    if (port(DIAG_PORTS), port(DIAG_PORTS + 2)) != (Some(local.port()), Some(remote.port())) {
        return None;
    }
    Some(SocketOwner { uid: u32_at(content, DIAG_UID)?, inode: u32_at(content, DIAG_INODE)?, state })
}

/// Looks up which addresses are this machine's.
#[derive(Debug)]
pub(super) struct Routes(Netlink);

impl Routes {
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(None).map(Self)
    }

    /// Whether an address is assigned to this machine.
    pub(super) fn is_own(&self, address: SocketAddr) -> io::Result<bool> {
        let (kind, content) = self.0.ask(RTM_GETROUTE, &route_request(address))?;
        Ok(kind == RTM_NEWROUTE && content.get(RTM_TYPE) == Some(&RTN_LOCAL))
    }
}

/// `struct rtmsg`, the address, and the interface of a link-local one.
fn route_request(address: SocketAddr) -> Vec<u8> {
    let interface = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
    let (family, address) = match address.ip() {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    // At most 16.
    let length = u8::try_from(address.len()).unwrap_or(0);
    let mut request = vec![family, length * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    request.extend((u16::from(length) + 4).to_ne_bytes());
    request.extend(RTA_DST.to_ne_bytes());
    request.extend(address);
    if interface != 0 {
        request.extend(8u16.to_ne_bytes());
        request.extend(RTA_OIF.to_ne_bytes());
        request.extend(interface.to_ne_bytes());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_netlink_replies_are_errors() {
        for length in 0..HEADER {
            assert!(read_answer(&vec![0; length]).is_err());
        }
        let mut error = vec![0; HEADER];
        error[4] = 2;
        assert!(read_answer(&error).is_err());
        error.extend((-2i32).to_ne_bytes());
        assert_eq!(read_answer(&error).unwrap_err().kind(), io::ErrorKind::NotFound);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for length in 0..DIAG_LENGTH {
            assert_eq!(read_owner(&vec![0; length], address, address), None);
        }
    }

    #[test]
    fn only_connected_socket_counts_as_owner() {
        let (local, remote) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        for state in 0..=13 {
            let found = |remote: SocketAddr| {
                let mut content = vec![0; DIAG_LENGTH];
                content[DIAG_STATE] = state;
                content[DIAG_PORTS..][..2].copy_from_slice(&local.port().to_be_bytes());
                content[DIAG_PORTS + 2..][..2].copy_from_slice(&remote.port().to_be_bytes());
                read_owner(&content, local, remote).is_some()
            };
            assert_eq!(found(remote), CONNECTED.contains(&state), "{state}");
            assert_eq!(found(nobody), state == LISTEN, "{state}");
        }
    }

    #[test]
    fn own_addresses_are_recognised() {
        let routes = Routes::open().unwrap();
        assert!(routes.is_own(([127, 0, 0, 1], 1).into()).unwrap());
        assert!(routes.is_own(([127, 8, 9, 1], 1).into()).unwrap());
        // An address for documentation, which no machine has. Without a network the kernel has no route to it.
        assert!(!routes.is_own(([192, 0, 2, 1], 1).into()).unwrap_or(false));
    }
}
