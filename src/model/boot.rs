//! [`Boot`]: identifies a boot of the machine or container.
//!
//! The kernel's boot ID is not enough. A rebooted container keeps that of its host, and a machine keeps it over `systemctl
//! soft-reboot`. The start time of the service manager changes in both cases, and stays the same over `systemctl daemon-reexec`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::client::ManagerKind;

/// A boot of the machine or container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's: `/proc/sys/kernel/random/boot_id`; none where it is not known.
    pub id: Option<Arc<str>>,
    /// The first process. None if it is not known, as in files of version 0.1.0.
    pub started: Option<Started>,
}

/// The first process of the machine or container, by its start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Started {
    /// A service manager: `UserspaceTimestampMonotonic` and `SoftRebootsCount` of org.freedesktop.systemd1(5).
    Manager {
        /// Whose.
        kind: ManagerKind,
        /// When it started, in microseconds since the kernel did.
        microseconds: u64,
        /// How often userspace was rebooted under the same kernel; none before systemd 256.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soft_reboots: Option<u32>,
    },
    /// Where there is no systemd, the first process of our PID namespace, as in a container.
    Init {
        /// When it started, in clock ticks since the kernel did.
        ticks: u64,
    },
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// No reboot.
    SameBoot,
    /// A reboot, so exits are no failures of the clients.
    Reboot,
    /// Unknown.
    Unknown,
}

impl Boot {
    /// What happened since `earlier`.
    pub fn since(&self, earlier: &Self) -> Since {
        // Another ID proves a boot. The same one proves nothing, so the start times decide below.
        if let (Some(id), Some(earlier)) = (&self.id, &earlier.id)
            && id != earlier
        {
            return Since::Reboot;
        }
        let (Some(now), Some(then)) = (&self.started, &earlier.started) else { return Since::Unknown };
        match (now, then) {
            (Started::Init { .. }, Started::Init { .. }) => {}
            (Started::Manager { kind: now, .. }, Started::Manager { kind: then, .. }) if now == then => {}
            // The one says nothing about the other.
            _ => return Since::Unknown,
        }
        if now.is_same(then) { Since::SameBoot } else { Since::Reboot }
    }
}

impl Started {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Manager { microseconds, soft_reboots, .. },
                Self::Manager { microseconds: other, soft_reboots: others, .. },
            ) => {
                // An upgrade of systemd can bring the count.
                microseconds == other
                    && soft_reboots.zip(*others).is_none_or(|(count, others)| count == others)
            }
            _ => self == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(id: &str, started: Option<Started>) -> Boot {
        Boot { id: Some(id.into()), started }
    }

    fn manager(kind: ManagerKind, microseconds: u64, soft_reboots: Option<u32>) -> Option<Started> {
        Some(Started::Manager { kind, microseconds, soft_reboots })
    }

    #[test]
    fn reboot_is_recognised_by_any_difference() {
        use ManagerKind::{System, User};
        let since = |now: Option<Started>, then| boot("a", now).since(&boot("a", then));
        let same = manager(System, 7, None);
        assert_eq!(since(same.clone(), same.clone()), Since::SameBoot);
        assert_eq!(since(manager(System, 7, Some(0)), same.clone()), Since::SameBoot);
        assert_eq!(since(manager(System, 8, None), same.clone()), Since::Reboot, "a container");
        assert_eq!(since(manager(System, 7, Some(1)), manager(System, 7, Some(0))), Since::Reboot);
        assert_eq!(since(manager(User, 8, None), manager(User, 7, None)), Since::Reboot, "a logout");
        assert_eq!(since(Some(Started::Init { ticks: 8 }), Some(Started::Init { ticks: 7 })), Since::Reboot);
        assert_eq!(
            since(Some(Started::Init { ticks: 7 }), Some(Started::Init { ticks: 7 })),
            Since::SameBoot
        );
        let other_kernel = boot("b", same.clone());
        assert_eq!(other_kernel.since(&boot("a", same)), Since::Reboot);
        assert_eq!(boot("b", None).since(&boot("a", None)), Since::Reboot);
    }

    #[test]
    fn boots_that_cannot_be_compared_are_unknown() {
        use ManagerKind::{System, User};
        let known = [manager(System, 7, None), manager(User, 8, None), Some(Started::Init { ticks: 9 })];
        for (at, now) in known.iter().enumerate() {
            for (other, then) in known.iter().enumerate().filter(|(other, _)| *other != at) {
                let since = boot("a", now.clone()).since(&boot("a", then.clone()));
                assert_eq!(since, Since::Unknown, "{at} {other}");
            }
            // What version 0.1.0 wrote.
            assert_eq!(boot("a", now.clone()).since(&boot("a", None)), Since::Unknown);
            assert_eq!(boot("a", now.clone()).since(&Boot::default()), Since::Unknown);
        }
    }
}
