//! [`Told`]: what systemd said about a unit, and what that means. Nothing here asks anybody.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::{OwnedVariant, Structure};

use crate::model::client::Exit;

/// What every unit has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfUnit {
    /// Whether there is, or may be, a process.
    pub alive: bool,
    /// Its state in systemd's words.
    pub state: String,
    /// Which of its runs this is; none where it never ran.
    pub invocation: Option<Arc<str>>,
    /// Whether a job for it is queued or under way.
    pub has_job: bool,
    /// Whether it is frozen, where that was told.
    pub frozen: Option<bool>,
}

/// What a service has besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfService {
    /// The main process; 0 where there is none.
    pub main_pid: u32,
    /// The main process that there is or was last.
    pub last_pid: u32,
    /// Why the service ended: a word of systemd.
    pub result: String,
    /// How the main process ended: `si_code` of waitid(2).
    pub code: i32,
    /// Its status or signal.
    pub status: i32,
}

/// What was last said. A half is none where it is not known, or may be out of date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub unit: Option<OfUnit>,
    pub service: Option<OfService>,
}

/// `CLD_EXITED`.
const EXITED: i32 = 1;
/// `CLD_KILLED`.
const KILLED: i32 = 2;
/// `CLD_DUMPED`.
const DUMPED: i32 = 3;

impl OfUnit {
    pub(super) fn read(properties: &HashMap<String, OwnedVariant>) -> Option<Self> {
        let state = text(properties, "ActiveState")?;
        let job = properties.get("Job").and_then(|job| Structure::try_from(job.try_clone().ok()?).ok());
        let job = job.and_then(|job| u32::try_from(job.fields().first()?).ok());
        Some(Self {
            alive: is_alive(&state),
            state,
            invocation: properties.get("InvocationID").and_then(invocation),
            has_job: job.is_some_and(|job| job != 0),
            frozen: text(properties, "FreezerState").map(|state| state == "frozen"),
        })
    }
}

impl OfService {
    pub(super) fn read(properties: &HashMap<String, OwnedVariant>) -> Option<Self> {
        let number = |name| properties.get(name).and_then(|value| i32::try_from(value).ok());
        Some(Self {
            main_pid: properties.get("MainPID").and_then(|value| u32::try_from(value).ok())?,
            last_pid: properties.get("ExecMainPID").and_then(|value| u32::try_from(value).ok())?,
            result: text(properties, "Result")?,
            code: number("ExecMainCode")?,
            status: number("ExecMainStatus")?,
        })
    }

    /// How it ended.
    pub(super) fn exit(&self) -> Exit {
        match (self.result.as_str(), self.code) {
            ("oom-kill", _) => Exit::OutOfMemory,
            ("watchdog", _) => Exit::Watchdog,
            ("timeout", _) => Exit::Timeout,
            (_, EXITED) => Exit::Code(self.status),
            (_, KILLED | DUMPED) => Exit::Signal(self.status),
            // Nothing is left of a unit that did not fail, not even how it ended.
            ("success", _) => Exit::Clean,
            _ => Exit::Unknown,
        }
    }

    /// Whether its own program ran: systemd's preparations end with a status from 200 on, and so does our launcher when it
    /// can't execute the template.
    pub(super) fn ran(&self) -> bool {
        // A start that took too long is none, whatever ran meanwhile.
        let ended = matches!(self.code, KILLED | DUMPED) || self.code == EXITED && self.status < 200;
        ended && self.result != "timeout"
    }

    /// Why it did not start, in words.
    pub(super) fn failure(&self) -> String {
        match (self.code, step(self.status)) {
            (EXITED, Some(step)) => {
                format!(
                    "systemd could not prepare it ({step}, status {}); its journal says more",
                    self.status
                )
            }
            _ if self.exit() == Exit::Unknown || self.exit() == Exit::Clean => {
                format!("systemd says {}", self.result)
            }
            _ => format!("it {}", self.exit()),
        }
    }
}

/// Whether there is, or may be, a process in this state.
pub(super) fn is_alive(state: &str) -> bool {
    !matches!(state, "inactive" | "failed")
}

/// An invocation ID as systemd prints it.
pub(super) fn invocation(value: &OwnedVariant) -> Option<Arc<str>> {
    let bytes = Vec::<u8>::try_from(value.try_clone().ok()?).ok()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (!text.is_empty()).then(|| text.into())
}

fn text(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<String> {
    properties.get(name).and_then(|value| <&str>::try_from(value).ok()).map(str::to_owned)
}

/// The step of systemd's preparations that an exit status stands for: systemd.exec(5).
fn step(status: i32) -> Option<&'static str> {
    Some(match status {
        200 => "CHDIR",
        202 => "FDS",
        203 => "EXEC",
        205 => "LIMITS",
        206 => "OOM_ADJUST",
        208 => "STDIN",
        209 => "STDOUT",
        214 => "SETSCHEDULER",
        216 => "GROUP",
        217 => "USER",
        218 => "CAPABILITIES",
        219 => "CGROUP",
        222 => "STDERR",
        224 => "PAM",
        226 => "NAMESPACE",
        227 => "NO_NEW_PRIVILEGES",
        228 => "SECCOMP",
        233 => "RUNTIME_DIRECTORY",
        235 => "CHOWN",
        237 => "KEYRING",
        238 => "STATE_DIRECTORY",
        243 => "CREDENTIALS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::{ObjectPath, Variant};

    fn service(result: &str, code: i32, status: i32) -> OfService {
        OfService { main_pid: 0, last_pid: 77, result: result.into(), code, status }
    }

    #[test]
    fn how_a_service_ended() {
        for (result, code, status, exit) in [
            ("success", 1, 0, Exit::Code(0)),
            ("exit-code", 1, 7, Exit::Code(7)),
            ("success", 2, 15, Exit::Signal(15)),
            ("signal", 2, 9, Exit::Signal(9)),
            ("core-dump", 3, 11, Exit::Signal(11)),
            ("oom-kill", 2, 9, Exit::OutOfMemory),
            ("watchdog", 3, 6, Exit::Watchdog),
            ("timeout", 2, 9, Exit::Timeout),
            ("success", 0, 0, Exit::Clean),
            ("resources", 0, 0, Exit::Unknown),
        ] {
            assert_eq!(service(result, code, status).exit(), exit, "{result} {code} {status}");
        }
    }

    #[test]
    fn what_did_not_start_says_why() {
        let broken = service("exit-code", 1, 243);
        assert!(!broken.ran() && broken.failure().contains("CREDENTIALS"), "{}", broken.failure());
        assert!(service("exit-code", 1, 7).ran() && service("signal", 2, 9).ran());
        assert!(!service("timeout", 2, 15).ran());
        assert_eq!(service("resources", 0, 0).failure(), "systemd says resources");
        assert_eq!(service("timeout", 2, 9).failure(), "it was killed because it did not end in time");
    }

    #[test]
    fn properties_are_read() {
        let job = |number: u32| (number, ObjectPath::try_from("/").unwrap());
        let all = |job_number, id: Vec<u8>| -> HashMap<String, OwnedVariant> {
            [
                ("ActiveState", Variant::from("deactivating")),
                ("InvocationID", Variant::from(id)),
                ("Job", Variant::from(job(job_number))),
                ("FreezerState", Variant::from("frozen")),
                ("MainPID", Variant::from(77u32)),
                ("ExecMainPID", Variant::from(77u32)),
                ("Result", Variant::from("success")),
                ("ExecMainCode", Variant::from(0i32)),
                ("ExecMainStatus", Variant::from(0i32)),
            ]
            .map(|(name, value)| (name.to_owned(), value.try_into_owned().unwrap()))
            .into()
        };
        let unit = OfUnit::read(&all(5, vec![0xab, 0x01])).unwrap();
        assert_eq!((unit.alive, unit.has_job, unit.frozen), (true, true, Some(true)));
        assert_eq!(unit.invocation.as_deref(), Some("ab01"));
        let unit = OfUnit::read(&all(0, vec![])).unwrap();
        assert_eq!((unit.has_job, unit.invocation), (false, None));
        assert_eq!(OfService::read(&all(0, vec![])).unwrap().main_pid, 77);
        assert_eq!(OfUnit::read(&HashMap::new()), None);
    }
}
