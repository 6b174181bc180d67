use std::collections::BTreeMap;

use super::*;

fn id(name: &str) -> UnitId {
    UnitId::of(&ClientName::new(name).unwrap())
}

fn example<'a>(id: &'a UnitId, name: &'a ClientName, manager: ManagerKind) -> Transient<'a> {
    Transient {
        role: UnitRole::Client,
        config: None,
        id,
        name,
        manager,
        slice: "x.slice",
        executable: Path::new("/usr/sbin/wqcontroller"),
        launch_file: Path::new("/run/wqcontroller/launch/a-b"),
    }
}

fn transient(manager: ManagerKind) -> Properties<'static> {
    let (id, name) = (id("a-b"), ClientName::new("a-b").unwrap());
    let unit = example(&id, &name, manager);
    unit.properties(LimitSettings { memory_max: Some(1 << 30), ..LimitSettings::default() })
}

fn signatures(properties: &Properties<'_>) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| ((*name).to_owned(), value.value_signature().to_string())).collect()
}

#[test]
fn names() {
    assert_eq!(
        &*name_of(UnitRole::Client, UnitKind::Template, id("alice").as_str()),
        "wqclient@alice.service"
    );
    assert_eq!(&*name_of(UnitRole::Client, UnitKind::Transient, id("a-b").as_str()), "wqclient-a-b.service");
    for name in ["alice", "a-b", "-a", "小明"] {
        for kind in [UnitKind::Template, UnitKind::Transient] {
            assert_eq!(
                id_of(UnitRole::Client, &name_of(UnitRole::Client, kind, id(name).as_str())),
                Some(id(name))
            );
        }
    }
    assert_eq!(id_of(UnitRole::Client, "wqclient@a.b.service"), None);
    assert_eq!(kind_of("wqclient@alice.service"), Some(UnitKind::Template));
    assert_eq!(kind_of("wqclient-alice.service"), Some(UnitKind::Transient));
    for other in ["wqclient.slice", "wqclient.service", "wqcontroller.service", "wqclient@a.socket"] {
        assert_eq!(kind_of(other), None, "{other}");
    }
}

#[test]
fn all_limits_are_set_each_time() {
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
fn transient_properties_have_dbus_types_of_systemd() {
    let of = |wanted: &str| {
        let all = signatures(&transient(ManagerKind::System));
        all.into_iter().find(|(name, _)| name == wanted).unwrap().1
    };
    for (name, signature) in [
        ("ExecStart", "a(sasb)"),
        ("ExecReload", "a(sasb)"),
        ("StandardInputFile", "s"),
        ("SuccessExitStatus", "(aiai)"),
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
fn user_manager_gets_only_supported_properties() {
    let (system, user) =
        (signatures(&transient(ManagerKind::System)), signatures(&transient(ManagerKind::User)));
    for name in ["DynamicUser", "User", "Group", "CapabilityBoundingSet", "TemporaryFileSystem", "PartOf"] {
        assert!(system.iter().any(|(there, _)| there == name), "{name}");
        assert!(user.iter().all(|(there, _)| there != name), "{name}");
    }
    for name in ["NoNewPrivileges", "ExecReload", "StandardInputFile", "SystemCallFilter", "RuntimeDirectory"]
    {
        assert!(user.iter().any(|(there, _)| there == name), "{name}");
    }
}

/// The settings of a unit file as the properties that systemd makes of them, each with its values in one text. Left out is what has no
/// part in how the process runs, and what follows from another setting.
fn properties_of(file: &str, id: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for line in file.lines() {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
        let value = &value.replace("%i", id);
        let octal = || u32::from_str_radix(value, 8).unwrap().to_string();
        let (name, value) = match key {
            // DynamicUser= implies RemoveIPC=, and no user of a unit has ambient capabilities (systemd.exec(5)).
            "Documentation" | "AssertPathExists" | "RemoveIPC" | "AmbientCapabilities" => continue,
            "StartLimitIntervalSec" => ("StartLimitIntervalUSec", value.clone()),
            "TimeoutStopSec" => ("TimeoutStopUSec", format!("{value}000000")),
            "LogRateLimitIntervalSec" => ("LogRateLimitIntervalUSec", value.replace('s', "000000")),
            "StandardInput" => ("StandardInputFile", value.replace("file:", "")),
            "UMask" | "RuntimeDirectoryMode" | "StateDirectoryMode" => (key, octal()),
            "ExecStart" | "ExecReload" => {
                (key, format!("{} {value} false", value.split(' ').next().unwrap()))
            }
            "KillSignal" => (key, value.replace("SIGINT", "2")),
            "SystemCallErrorNumber" => (key, value.replace("EPERM", "1")),
            "SystemCallFilter" | "RestrictAddressFamilies" => (key, format!("true {value}")),
            // Masks of what is allowed.
            "RestrictNamespaces" | "CapabilityBoundingSet" => (key, "0".to_owned()),
            "TemporaryFileSystem" => (key, value.replace(':', " ")),
            "BindPaths" => (key, format!("{value} {value} false {MS_REC}")),
            "ProtectHome" => (key, value.clone()),
            _ if value == "yes" => (key, "true".to_owned()),
            _ => (key, value.clone()),
        };
        properties
            .entry(name.to_owned())
            .and_modify(|earlier: &mut String| *earlier = format!("{earlier} {value}"))
            .or_insert(value);
    }
    properties
}

/// All values in a property, in their order.
fn shown(value: &Variant<'_>) -> String {
    let all = |parts: &[Variant<'_>]| {
        let parts: Vec<_> = parts.iter().map(shown).filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    };
    match value {
        Variant::Array(bytes) if matches!(bytes.inner().first(), Some(Variant::U8(_))) => {
            let bytes = bytes.inner().iter().map(|byte| u8::try_from(byte).unwrap()).collect();
            String::from_utf8(bytes).unwrap()
        }
        Variant::Array(parts) => all(parts.inner()),
        Variant::Structure(parts) => all(parts.fields()),
        Variant::Str(text) => text.to_string(),
        Variant::Bool(flag) => flag.to_string(),
        Variant::I32(number) => number.to_string(),
        Variant::U32(number) => number.to_string(),
        Variant::U64(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn transient_unit_has_the_settings_of_the_unit_file() {
    let files = [
        (UnitRole::Client, include_str!("../../../../systemd/wqclient@.service")),
        (UnitRole::Implementation, include_str!("../../../../systemd/wqimpl@.service")),
    ];
    let (id, name) = (id("a-b"), ClientName::new("a-b").unwrap());
    for (role, file) in files {
        let launch_file = format!("/run/wqcontroller/{}/a-b", role.launches());
        let unit = Transient {
            role,
            slice: "wqclient.slice",
            launch_file: Path::new(&launch_file),
            ..example(&id, &name, ManagerKind::System)
        };
        let of_transient = unit.properties(LimitSettings::default()).into_iter();
        let of_transient: BTreeMap<_, _> =
            of_transient.map(|(name, value)| (name.to_owned(), shown(&value))).collect();
        let mut of_file = properties_of(file, "a-b");
        // The limits that the file leaves to the configuration.
        for unlimited in LIMITS.into_iter().filter(|name| *name != "TasksMax") {
            of_file.insert(unlimited.to_owned(), u64::MAX.to_string());
        }
        assert_eq!(of_transient, of_file, "{role:?}");
    }
}
