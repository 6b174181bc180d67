//! The D-Bus members of systemd that are used, as org.freedesktop.systemd1(5) describes them, and the paths of units.

use zbus::{OwnedObjectPath, OwnedVariant, Variant, proxy};

use std::collections::HashMap;

/// systemd's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// What the paths of all units begin with.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";
/// The interface of what every unit has.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of what a service has besides.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Properties and their values.
pub(super) type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

/// A line of `ListUnitsByPatterns`: name, description, load state, active state, sub state, unit that is followed, path,
/// and the job that is queued: number, type and path.
pub(super) type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    /// Signals about units are sent only while somebody subscribed.
    fn subscribe(&self) -> zbus::Result<()>;
    /// Returns the job, at once.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
}

#[proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
pub(super) trait UnitProperties {
    fn get(&self, interface: &str, name: &str) -> zbus::Result<OwnedVariant>;
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// The path of a unit: every byte but letters and digits as `_` and two hexadecimal digits.
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

/// The unit of a path, if it can be one of ours: `wqclient` is followed by `@` or `-`.
pub(super) fn unit_of(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS)?;
    if !label.starts_with("wqclient_40") && !label.starts_with("wqclient_2d") {
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
        assert_eq!(unit_of(path).as_deref(), Some("wqclient@ab-d44362d67d921091.service"));
        assert_eq!(path_of("wqclient-a_b.service").rsplit('/').next(), Some("wqclient_2da_5fb_2eservice"));
        for other in ["/org/freedesktop/systemd1/unit/wqcontroller_2eservice", "/", "", "wqclient_40a"] {
            assert_eq!(unit_of(other), None, "{other}");
        }
        for broken in ["wqclient_40a_2", "wqclient_40_zz", "wqclient_40_ff"] {
            let found = unit_of(&format!("{UNITS}{broken}"));
            assert!(found.is_none() || broken.ends_with("_2"), "{broken}: {found:?}");
        }
    }
}
