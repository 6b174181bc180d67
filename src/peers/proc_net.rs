//! The kernel's tables of TCP sockets, `/proc/net/tcp` and `tcp6` (proc(5)): slower than netlink, but always available.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::netlink::{SocketOwner, is_sought};

/// The most of a table that is read, in bytes: about 400,000 sockets.
const MAX_TABLE: u64 = 64 * 1024 * 1024;

/// Who owns the socket at `local` that is connected to `remote`. None where there is no such socket on this machine. Blocks.
pub(super) fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<SocketOwner>> {
    let found = look_up(Path::new("/proc/net/tcp"), local, remote)?;
    if found.is_some() {
        return Ok(found);
    }
    // An IPv4 connection of a dual-stack socket is in this table, with its addresses mapped into IPv6.
    match look_up(Path::new("/proc/net/tcp6"), local, remote) {
        // The kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found,
    }
}

fn look_up(table: &Path, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<SocketOwner>> {
    let mut table = BufReader::with_capacity(64 * 1024, File::open(table)?.take(MAX_TABLE));
    let mut line = String::new();
    while table.read_line(&mut line)? > 0 {
        if let Some(owner) = read_line(&line, local, remote) {
            return Ok(Some(owner));
        }
        line.clear();
    }
    Ok(None)
}

/// The owner, if a line is about this connection.
fn read_line(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<SocketOwner> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if address(fields.next()?)? != (local.ip(), local.port())
        || address(fields.next()?)? != (remote.ip(), remote.port())
    {
        return None;
    }
    let state = u8::from_str_radix(fields.next()?, 16).ok().filter(|state| is_sought(*state, remote))?;
    // Queues, timer and retransmissions.
    let mut fields = fields.skip(3);
    let uid = fields.next()?.parse().ok()?;
    // The timeout.
    let inode = fields.nth(1)?.parse().ok()?;
    Some(SocketOwner { uid, inode, state })
}

/// `0100007F:0FA0`: 32-bit words in native byte order, and the port.
fn address(field: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut octets = [0; 16];
            for (at, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(8 * at)?);
            }
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_net_tcp_line_is_parsed() {
        let (local, remote) =
            (SocketAddr::from(([127, 0, 0, 1], 46376)), SocketAddr::from(([127, 0, 0, 1], 4000)));
        let of = |ip: [&str; 2]| {
            format!(
                "  11: {}:B528 {}:0FA0 01 00000000:00000000 00:00000000 00000000 61444        0 60218 1 0 20 4 30 10 -1",
                ip[0], ip[1]
            )
        };
        let v4 = u32::from_ne_bytes([127, 0, 0, 1]);
        let (v4, mapped) = (
            format!("{v4:08X}"),
            format!("0000000000000000{:08X}{v4:08X}", u32::from_ne_bytes([0, 0, 0xff, 0xff])),
        );
        for line in [of([&v4, &v4]), of([&mapped, &mapped])] {
            assert_eq!(
                read_line(&line, local, remote),
                Some(SocketOwner { uid: 61444, inode: 60218, state: 1 })
            );
            assert_eq!(read_line(&line, remote, local), None);
            for end in 0..line.len() - 30 {
                let cut = read_line(&line[..end], local, remote);
                assert!(cut.is_none_or(|owner| owner.inode != 60218), "{cut:?}");
            }
        }
        let line = of([&v4, &v4]);
        for state in 0..=13 {
            let found = read_line(&line.replace(" 01 ", &format!(" {state:02X} ")), local, remote);
            assert_eq!(found.is_some(), [1, 4, 5, 8, 9, 11].contains(&state), "{state}");
        }
        assert_eq!(read_line("  sl  local_address rem_address   st tx_queue", local, remote), None);
        assert_eq!(address("é00007F:0FA0"), None);
    }
}
