//! What the controller and its clients can't do, as systemd sees it.

use std::collections::BTreeSet;

use super::Machine;

/// What both could be denied and are not, each for a reason.
const BOTH: [&str; 8] = [
    // Templates are programs of this system.
    "RootDirectory=/RootImage=",
    // A client may be a program with a just-in-time compiler.
    "MemoryDenyWriteExecute=",
    // The one calls the other, and both are servers.
    "RestrictAddressFamilies=~AF_(INET|INET6)",
    "RestrictAddressFamilies=~AF_UNIX",
    "PrivateNetwork=",
    "IPAddressDeny=",
    // The ID of the boot, and what programs read of memory and processors.
    "ProcSubset=",
    // All users but root and its own would be nobody for it.
    "PrivateUsers=",
];

/// What of the clock `ProtectClock=` leaves: reading it.
const CLOCK: &str = "DeviceAllow=";

/// What the controller keeps besides: looking a name up asks the kernel for the addresses of this machine.
const CONTROLLER: [&str; 1] = ["RestrictAddressFamilies=~AF_NETLINK"];

/// What a client keeps: it may be any program, and the controller reads some of its files through their group.
const CLIENT: [&str; 3] = ["SystemCallFilter=~@resources", "SystemCallFilter=~@privileged", "UMask="];

impl Machine {
    /// Checks that the unit of the controller and that of a client can do no more than they have to.
    pub(super) fn check_confinement(&self, controller: &str, client: &str) {
        for (unit, more, most) in [(controller, &CONTROLLER[..], 1.5), (client, &CLIENT[..], 2.0)] {
            let told = self.run("systemd-analyze", &["security", "--no-pager", unit]);
            let open: BTreeSet<&str> = told
                .lines()
                .filter_map(|line| line.strip_prefix("✗ "))
                .map(|line| line.split_whitespace().next().unwrap())
                .collect();
            let known = BOTH.iter().chain(more).chain([&CLOCK]).copied().collect();
            assert_eq!(open.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "{unit}");
            let line = told.lines().find(|line| line.contains("Overall exposure level")).unwrap();
            let exposure: f64 = line.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert!(exposure <= most, "{line}");
            println!("{line}");
        }
    }
}
