//! The D-Bus interfaces of systemd, as far as they are used (org.freedesktop.systemd1(5)), and the object paths of units.

use zbus::{OwnedObjectPath, OwnedVariant, Variant, proxy};

use std::collections::HashMap;

/// The well-known bus name of systemd.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The object path of the manager.
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// The interface of the manager.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The prefix of the object paths of units.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
/// The interface of every unit.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of services.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// The interface of socket units.
pub(super) const SOCKET: &str = "org.freedesktop.systemd1.Socket";

/// Properties and their values.
pub(super) type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

/// An entry of `ListUnitsByPatterns`: name, description, load state, active state, sub state, followed unit, object path, and
/// the queued job: number, type and object path.
pub(super) type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    /// Without a subscriber systemd sends no signals about units.
    fn subscribe(&self) -> zbus::Result<()>;
    /// Returns the job without waiting for its end.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
    /// Removes folders of an inactive unit. Returns while it is being done.
    fn clean_unit(&self, name: &str, what: &[&str]) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
}

#[proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
pub(super) trait UnitProperties {
    fn get(&self, interface: &str, name: &str) -> zbus::Result<OwnedVariant>;
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// The object path of a unit: every byte but letters and digits is `_` and two hexadecimal digits.
pub(super) fn path_of(unit: &str) -> String {
    let mut path = UNITS.to_owned();
    for byte in unit.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(char::from(byte)),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

/// The unit with this object path, if its name can be that of an account: `prefix` is followed by `@` or `-`.
pub(super) fn unit_of(prefix: &str, path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS)?;
    let sign = label.strip_prefix(prefix)?;
    // `@` and `-` as `path_of` writes them. Compared first, because signals of all units of the machine come here.
    if !sign.starts_with("_40") && !sign.starts_with("_2d") {
        return None;
    }
    let mut unit = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'_', high, low, rest @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                unit.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest
            }
            [byte, rest @ ..] => {
                unit.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_units() {
        let path = "/org/freedesktop/systemd1/unit/wqclient_40ab_2dd44362d67d921091_2eservice";
        assert_eq!(path_of("wqclient@ab-d44362d67d921091.service"), path);
        assert_eq!(unit_of("wqclient", path).as_deref(), Some("wqclient@ab-d44362d67d921091.service"));
        assert_eq!(path_of("wqclient-a_b.service").rsplit('/').next(), Some("wqclient_2da_5fb_2eservice"));
        for other in ["/org/freedesktop/systemd1/unit/wqcontroller_2eservice", "/", "", "wqclient_40a"] {
            assert_eq!(unit_of("wqclient", other), None, "{other}");
        }
        for broken in ["wqclient_40a_2", "wqclient_40_zz", "wqclient_40_ff"] {
            let found = unit_of("wqclient", &format!("{UNITS}{broken}"));
            assert!(found.is_none() || broken.ends_with("_2"), "{broken}: {found:?}");
        }
    }
}
