//! A launch in systemd's terms: names and properties of units. Nothing here asks anybody.

use std::path::Path;
use std::sync::Arc;

use zbus::Variant;

use super::manager::Properties;
use crate::config::{LimitSettings, ManagerKind, UnitKind};
use crate::model::name::UnitId;

/// Every unit that can be a client.
pub(super) const PATTERNS: [&str; 2] = ["wqclient@*.service", "wqclient-*.service"];

/// The properties that are limits.
const LIMITS: [&str; 4] = ["MemoryMax", "MemoryHigh", "CPUQuotaPerSecUSec", "TasksMax"];

/// What is mounted below a folder comes with it, as it does by `BindPaths=` of a unit file (mount(2)).
const MS_REC: u64 = 0x4000;

/// The name of a client's unit.
pub(super) fn name_of(kind: UnitKind, id: &str) -> Arc<str> {
    match kind {
        UnitKind::Template => format!("wqclient@{id}.service").into(),
        UnitKind::Transient => format!("wqclient-{id}.service").into(),
    }
}

/// Which kind of unit has this name.
pub fn kind_of(unit: &str) -> Option<UnitKind> {
    let rest = unit.strip_suffix(".service")?.strip_prefix("wqclient")?;
    match rest.as_bytes().first()? {
        b'@' => Some(UnitKind::Template),
        b'-' => Some(UnitKind::Transient),
        _ => None,
    }
}

/// What a client may use. All of it each time: what was set once stays set for all later starts.
pub(super) fn limits(limits: LimitSettings) -> Properties<'static> {
    let amount = |limit: Option<u64>| Variant::from(limit.unwrap_or(u64::MAX));
    let all = [limits.memory_max, limits.memory_high, limits.cpu_quota, limits.tasks_max];
    let limits = LIMITS.into_iter().zip(all.map(amount));
    #[cfg(debug_assertions)]
    let limits = limits.chain(unknown_if_told());
    limits.collect()
}

/// For the test of properties that a systemd does not have, and not in a release: one that none has.
#[cfg(debug_assertions)]
fn unknown_if_told() -> Option<(&'static str, Variant<'static>)> {
    std::env::var_os("WQCONTROLLER_TEST_PROPERTY").map(|_| ("NoSuchLimit", Variant::from(1u64)))
}

/// What a transient unit is made of.
pub(super) struct Transient<'a> {
    pub id: &'a UnitId,
    pub manager: ManagerKind,
    pub slice: &'a str,
    /// The program that is the launcher.
    pub executable: &'a Path,
    /// The launch file.
    pub launch_file: &'a Path,
}

impl Transient<'_> {
    /// The properties of the unit: those of `systemd/wqclient@.service`, as far as the manager has them.
    pub fn properties(&self, limit: LimitSettings) -> Properties<'static> {
        let text = |text: &str| Variant::from(text.to_owned());
        let list =
            |items: &[&str]| Variant::from(items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        let (id, launcher) = (self.id.as_str(), self.executable.to_string_lossy().into_owned());
        let command = vec![launcher.clone(), "launch".to_owned(), id.to_owned()];
        let folder = format!("wqclient/{id}");
        let mut all = vec![
            ("Description", text(&format!("Chat account {id}"))),
            ("After", list(&["network.target"])),
            // The controller alone decides about new starts, and how many.
            ("StartLimitIntervalUSec", Variant::from(0u64)),
            ("ExecStart", Variant::from(vec![(launcher, command, false)])),
            ("Type", text("exec")),
            ("NotifyAccess", text("main")),
            ("Restart", text("no")),
            ("StandardInputFile", text(&self.launch_file.to_string_lossy())),
            ("UMask", Variant::from(0o027u32)),
            ("RuntimeDirectory", list(&[&folder])),
            ("RuntimeDirectoryMode", Variant::from(0o750u32)),
            ("StateDirectory", list(&[&folder])),
            ("StateDirectoryMode", Variant::from(0o700u32)),
            ("SyslogIdentifier", text("wqclient")),
            ("LogExtraFields", Variant::from(vec![format!("WQ_CLIENT={id}").into_bytes()])),
            ("Slice", text(self.slice)),
            ("NoNewPrivileges", Variant::from(true)),
            ("KeyringMode", text("private")),
            ("LockPersonality", Variant::from(true)),
            ("RestrictRealtime", Variant::from(true)),
            ("RestrictSUIDSGID", Variant::from(true)),
            ("RestrictNamespaces", Variant::from(0u64)),
            ("RestrictAddressFamilies", allowed(&["AF_UNIX", "AF_INET", "AF_INET6"])),
            ("SystemCallFilter", allowed(&["@system-service"])),
            ("SystemCallErrorNumber", Variant::from(1i32)),
            ("SystemCallArchitectures", list(&["native"])),
        ];
        if self.manager == ManagerKind::System {
            all.extend(self.confinement(&folder));
        }
        all.extend(limits(limit));
        all
    }

    /// What only the machine's manager can do.
    fn confinement(&self, folder: &str) -> Properties<'static> {
        let text = |text: &str| Variant::from(text.to_owned());
        let on = |name| (name, Variant::from(true));
        let hidden = |path: &str| (path.to_owned(), "ro".to_owned());
        // Source, target, whether it may be missing, and flags.
        let shown = |path: String| (path.clone(), path, false, MS_REC);
        vec![
            ("PartOf", Variant::from(vec!["wqclients.target".to_owned()])),
            on("DynamicUser"),
            ("User", text(&format!("wqc-{}", self.id))),
            ("Group", text("wqclients")),
            (
                "TemporaryFileSystem",
                Variant::from(vec![hidden("/run/wqclient"), hidden("/var/lib/private/wqclient")]),
            ),
            (
                "BindPaths",
                Variant::from(vec![shown(format!("/run/{folder}")), shown("/run/wqclient-world".to_owned())]),
            ),
            ("InaccessiblePaths", Variant::from(vec!["-/run/wqcontroller".to_owned()])),
            ("CapabilityBoundingSet", Variant::from(0u64)),
            ("ProtectSystem", text("strict")),
            ("ProtectHome", text("yes")),
            ("ProtectProc", text("invisible")),
            on("PrivateDevices"),
            on("ProtectClock"),
            on("ProtectControlGroups"),
            on("ProtectHostname"),
            on("ProtectKernelLogs"),
            on("ProtectKernelModules"),
            on("ProtectKernelTunables"),
        ]
    }
}

/// A list of what is allowed, all else being forbidden.
fn allowed(items: &[&str]) -> Variant<'static> {
    Variant::from((true, items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ClientName;

    fn id(name: &str) -> UnitId {
        ClientName::new(name).unwrap().unit_id()
    }

    fn transient(manager: ManagerKind) -> Properties<'static> {
        let unit = Transient {
            id: &id("a-b"),
            manager,
            slice: "x.slice",
            executable: Path::new("/usr/sbin/wqcontroller"),
            launch_file: Path::new("/run/wqcontroller/launch/ab-d44362d67d921091"),
        };
        unit.properties(LimitSettings { memory_max: Some(1 << 30), ..LimitSettings::default() })
    }

    fn signatures(properties: &Properties<'_>) -> Vec<(String, String)> {
        properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.value_signature().to_string()))
            .collect()
    }

    #[test]
    fn names() {
        assert_eq!(&*name_of(UnitKind::Template, id("alice").as_str()), "wqclient@alice.service");
        assert_eq!(
            &*name_of(UnitKind::Transient, id("a-b").as_str()),
            "wqclient-ab-d44362d67d921091.service"
        );
        assert_eq!(kind_of("wqclient@alice.service"), Some(UnitKind::Template));
        assert_eq!(kind_of("wqclient-alice.service"), Some(UnitKind::Transient));
        for other in ["wqclient.slice", "wqclient.service", "wqcontroller.service", "wqclient@a.socket"] {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_limit_is_set_each_time() {
        let set = |limits_set| {
            let all = limits(limits_set);
            all.into_iter().map(|(name, value)| (name, u64::try_from(value).unwrap())).collect::<Vec<_>>()
        };
        let none = LimitSettings { memory_max: None, memory_high: None, cpu_quota: None, tasks_max: None };
        let infinity = LIMITS.map(|name| (name, u64::MAX));
        assert_eq!(set(none), infinity);
        let some = LimitSettings {
            memory_max: Some(1),
            memory_high: Some(2),
            cpu_quota: Some(500_000),
            tasks_max: Some(4),
        };
        assert_eq!(set(some).iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 2, 500_000, 4]);
    }

    #[test]
    fn a_transient_unit_has_the_types_that_systemd_wants() {
        let of = |wanted: &str| {
            let all = signatures(&transient(ManagerKind::System));
            all.into_iter().find(|(name, _)| name == wanted).unwrap().1
        };
        for (name, signature) in [
            ("ExecStart", "a(sasb)"),
            ("StandardInputFile", "s"),
            ("StartLimitIntervalUSec", "t"),
            ("RuntimeDirectory", "as"),
            ("LogExtraFields", "aay"),
            ("SystemCallFilter", "(bas)"),
            ("RestrictAddressFamilies", "(bas)"),
            ("RestrictNamespaces", "t"),
            ("TemporaryFileSystem", "a(ss)"),
            ("BindPaths", "a(ssbt)"),
            ("UMask", "u"),
            ("MemoryMax", "t"),
            ("DynamicUser", "b"),
            ("PartOf", "as"),
        ] {
            assert_eq!(of(name), signature, "{name}");
        }
    }

    #[test]
    fn the_managers_of_users_are_asked_for_nothing_they_cannot_do() {
        let (system, user) =
            (signatures(&transient(ManagerKind::System)), signatures(&transient(ManagerKind::User)));
        for name in ["DynamicUser", "User", "Group", "CapabilityBoundingSet", "TemporaryFileSystem", "PartOf"]
        {
            assert!(system.iter().any(|(there, _)| there == name), "{name}");
            assert!(user.iter().all(|(there, _)| there != name), "{name}");
        }
        for name in ["NoNewPrivileges", "StandardInputFile", "SystemCallFilter", "RuntimeDirectory"] {
            assert!(user.iter().any(|(there, _)| there == name), "{name}");
        }
    }
}
