//! What the controller and its clients can't do, as systemd sees it.

use std::collections::BTreeSet;

use super::Machine;

/// What both could be denied and are not, each for a reason.
const BOTH: [&str; 9] = [
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
    // It would see all users but root and its own as the user nobody.
    "PrivateUsers=",
    // The kernel is asked whose a connection is, and the controller, for a name, which addresses this machine has.
    "RestrictAddressFamilies=~AF_NETLINK",
];

/// What of the clock `ProtectClock=` leaves: reading it.
const CLOCK: &str = "DeviceAllow=";

/// What a client keeps: it may be any program, and the controller reads some of its files through their group.
const CLIENT: [&str; 3] = ["SystemCallFilter=~@resources", "SystemCallFilter=~@privileged", "UMask="];

/// What keeps a client where it belongs, and how it is run. The two kinds of units have it from different places.
const OF_A_UNIT: [&str; 45] = [
    "AmbientCapabilities",
    "BindPaths",
    "CapabilityBoundingSet",
    "DynamicUser",
    "Group",
    "InaccessiblePaths",
    "KeyringMode",
    "LockPersonality",
    "LogExtraFields",
    "LogRateLimitBurst",
    "LogRateLimitIntervalUSec",
    "NoNewPrivileges",
    "NotifyAccess",
    "PartOf",
    "PrivateDevices",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "RemoveIPC",
    "Restart",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "Slice",
    "StartLimitIntervalUSec",
    "StateDirectory",
    "StateDirectoryMode",
    "SyslogIdentifier",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TemporaryFileSystem",
    "Type",
    "UMask",
    "User",
];

impl Machine {
    /// What keeps the client where it belongs that is this unit, line by line.
    pub(super) fn confinement(&self, unit: &str) -> BTreeSet<String> {
        let told = self.systemctl(&["show", "--all", "--property", &OF_A_UNIT.join(","), unit]);
        let told: BTreeSet<String> = told.lines().map(str::to_owned).collect();
        let after = self.property(unit, "After");
        assert!(after.split(' ').any(|other| other == "network.target"), "{after}");
        assert_eq!(told.len(), OF_A_UNIT.len(), "one of them is unknown here: {told:?}");
        told
    }

    /// Checks that the unit of the controller and that of a client can do no more than they have to.
    pub(super) fn check_confinement(&self, controller: &str, client: &str) {
        // The controller reads the journal.
        let of_controller = ["SupplementaryGroups="];
        for (unit, more, most) in [(controller, &of_controller[..], 1.5), (client, &CLIENT[..], 2.0)] {
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
