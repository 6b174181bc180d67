//! Decoding of the properties of units, and what they mean. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::{OwnedVariant, Structure};

use crate::model::client::Exit;
use crate::model::state::ClientState;

/// The properties of `org.freedesktop.systemd1.Unit` that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnitProps {
    /// Whether there is, or may be, a process.
    pub alive: bool,
    /// `ActiveState`.
    pub state: String,
    /// `InvocationID` in hexadecimal digits; None where the unit never ran.
    pub invocation: Option<Arc<str>>,
    /// Whether a job for it is queued or under way.
    pub has_job: bool,
    /// Whether it is frozen, where that is known.
    pub frozen: Option<bool>,
}

/// The properties of `org.freedesktop.systemd1.Service` that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceProps {
    /// `MainPID`: 0 where there is no process.
    pub main_pid: u32,
    /// `ExecMainPID`: the main process that runs or ran last.
    pub last_pid: u32,
    /// `Result`: why the service ended.
    pub result: String,
    /// `ExecMainCode`: how the main process ended, `si_code` of waitid(2).
    pub code: i32,
    /// `ExecMainStatus`: the exit status or the signal.
    pub status: i32,
    /// `StatusText`, unless it is only the state of a client.
    pub status_text: Option<Arc<str>>,
}

/// The last known properties of a unit. A half is None where it is not known or outdated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CachedProps {
    pub unit: Option<UnitProps>,
    pub service: Option<ServiceProps>,
}

/// `CLD_EXITED`.
const EXITED: i32 = 1;
/// `CLD_KILLED`.
const KILLED: i32 = 2;
/// `CLD_DUMPED`.
const DUMPED: i32 = 3;

impl UnitProps {
    pub(super) fn read(properties: &HashMap<String, OwnedVariant>) -> Option<Self> {
        // A signal has only what changed. Without the state it says nothing that counts here.
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

impl ServiceProps {
    pub(super) fn read(properties: &HashMap<String, OwnedVariant>) -> Option<Self> {
        let number = |name| properties.get(name).and_then(|value| i32::try_from(value).ok());
        Some(Self {
            // All or nothing, so that values of two signals are never mixed.
            main_pid: properties.get("MainPID").and_then(|value| u32::try_from(value).ok())?,
            last_pid: properties.get("ExecMainPID").and_then(|value| u32::try_from(value).ok())?,
            result: text(properties, "Result")?,
            code: number("ExecMainCode")?,
            status: number("ExecMainStatus")?,
            status_text: text(properties, "StatusText").filter(|text| is_telling(text)).map(Into::into),
        })
    }

    /// How the main process ended.
    pub(super) fn exit(&self) -> Exit {
        match (self.result.as_str(), self.code) {
            // The result first: here the code is only the signal that the kernel or systemd sent.
            ("oom-kill", _) => Exit::OutOfMemory,
            ("watchdog", _) => Exit::Watchdog,
            ("timeout", _) => Exit::Timeout,
            (_, EXITED) => Exit::Code(self.status),
            (_, KILLED | DUMPED) => Exit::Signal(self.status),
            // systemd keeps nothing of a unit that ended without a failure, not even the exit status.
            ("success", _) => Exit::Clean,
            _ => Exit::Unknown,
        }
    }

    /// Whether the client's program ran. systemd uses exit statuses from 200 for the steps before it, and so does the launcher
    /// where it cannot execute the template.
    pub(super) fn ran(&self) -> bool {
        // A start that timed out counts as none, even if the program ran.
        let ended = matches!(self.code, KILLED | DUMPED) || self.code == EXITED && self.status < 200;
        ended && self.result != "timeout"
    }

    /// Why it did not start, as text.
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
            _ => match &self.status_text {
                Some(words) => format!("it {}: {words}", self.exit()),
                None => format!("it {}", self.exit()),
            },
        }
    }
}

/// Whether a status text says more than the state of a client, which the built-in client always sets.
fn is_telling(status: &str) -> bool {
    !status.is_empty() && matches!(ClientState::from_word(status), ClientState::Other(_))
}

/// Whether a unit in this `ActiveState` has, or may have, a process.
pub(super) fn is_alive(state: &str) -> bool {
    // A state that this version does not know counts as alive: the opposite could start a client twice.
    !matches!(state, "inactive" | "failed")
}

/// An InvocationID in hexadecimal digits, as systemd prints it.
pub(super) fn invocation(value: &OwnedVariant) -> Option<Arc<str>> {
    let bytes = Vec::<u8>::try_from(value.try_clone().ok()?).ok()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (!text.is_empty()).then(|| text.into())
}

fn text(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<String> {
    properties.get(name).and_then(|value| <&str>::try_from(value).ok()).map(str::to_owned)
}

/// The step before the program that an exit status from 200 stands for: systemd.exec(5).
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

    fn service(result: &str, code: i32, status: i32) -> ServiceProps {
        ServiceProps { main_pid: 0, last_pid: 77, result: result.into(), code, status, status_text: None }
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
    fn failed_start_has_reason() {
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
                ("StatusText", Variant::from(if job_number == 0 { "running" } else { "no token" })),
            ]
            .map(|(name, value)| (name.to_owned(), value.try_into_owned().unwrap()))
            .into()
        };
        let unit = UnitProps::read(&all(5, vec![0xab, 0x01])).unwrap();
        assert_eq!((unit.alive, unit.has_job, unit.frozen), (true, true, Some(true)));
        assert_eq!(unit.invocation.as_deref(), Some("ab01"));
        let unit = UnitProps::read(&all(0, vec![])).unwrap();
        assert_eq!((unit.has_job, unit.invocation), (false, None));
        let service = ServiceProps::read(&all(0, vec![])).unwrap();
        assert_eq!((service.main_pid, service.status_text), (77, None), "a state is no reason");
        assert_eq!(ServiceProps::read(&all(5, vec![])).unwrap().status_text.as_deref(), Some("no token"));
        assert_eq!(UnitProps::read(&HashMap::new()), None);
    }
}
