//! Whether this machine has a default route.

use std::fs;

/// Whether there is a default route of IPv4 or IPv6. True where the kernel does not tell.
pub(super) fn is_there() -> bool {
    #[cfg(debug_assertions)]
    if let Some(answer) = answer_of_test() {
        return answer;
    }
    // Files of the kernel (proc_pid_net(5)), which no disk can delay.
    let tables = (fs::read_to_string("/proc/net/route"), fs::read_to_string("/proc/net/ipv6_route"));
    match tables {
        (Ok(v4), v6) => has_default_v4(&v4) || v6.is_ok_and(|v6| has_default_v6(&v6)),
        (Err(_), _) => true,
    }
}

/// In tests the network is there while this file is, whatever machine they run on.
#[cfg(debug_assertions)]
fn answer_of_test() -> Option<bool> {
    std::env::var_os("WQCONTROLLER_TEST_ROUTE").map(|file| std::path::Path::new(&file).exists())
}

/// `RTF_UP` and `RTF_REJECT` of `linux/route.h` and `linux/ipv6_route.h`.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask …
fn has_default_v4(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        matches!(columns[..], [_, "00000000", _, flags, _, _, _, "00000000", ..] if is_usable(flags))
    })
}

/// Columns: destination, its length, source, its length, next hop, metric, references, uses, flags, interface. The kernel
/// always has one that rejects on `lo`.
fn has_default_v6(table: &str) -> bool {
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        match columns[..] {
            [destination, "00", _, _, _, _, _, _, flags, interface] => {
                destination.bytes().all(|byte| byte == b'0') && interface != "lo" && is_usable(flags)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let lan = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let default = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert!(has_default_v4(&format!("{header}{lan}{default}")));
        assert!(!has_default_v4(&format!("{header}{lan}")) && !has_default_v4(header) && !has_default_v4(""));
        assert!(!has_default_v4(&format!("{header}{}", default.replace("0003", "0203"))), "it rejects");

        let zero = "0".repeat(32);
        let route = |length: &str, flags: &str, interface: &str| {
            format!("{zero} {length} {zero} 00 {zero} ffffffff 00000001 00000000 {flags} {interface}\n")
        };
        assert!(has_default_v6(&route("00", "00450003", "eth0")));
        assert!(
            !has_default_v6(&route("00", "00200200", "lo"))
                && !has_default_v6(&route("40", "00000001", "eth0"))
        );
    }

    #[test]
    fn kernel_is_asked() {
        // Whatever the answer is: it does not panic, and `lo` alone is no way out.
        let _ = is_there();
    }
}
