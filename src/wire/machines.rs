//! What a door answers about other machines, in the words of both APIs.

use super::Reply;
use super::v1::problem::Problem;

/// A refusal that has to do with machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineRefusal {
    /// The account's machine can't be reached.
    Unreachable {
        /// The machine.
        machine: String,
        /// Since when, in Unix seconds.
        since: u64,
        /// Why.
        why: String,
    },
    /// Several machines have an account of this name; the full names of all of them.
    Ambiguous(Vec<String>),
    /// A name can't be that of a new account here: why.
    Taken(String),
    /// There is no such machine.
    NoSuchMachine(String),
    /// The account is on its way from one machine to another.
    Moving {
        /// Where it lived.
        from: String,
        /// Where it will live.
        to: String,
    },
    /// The machine is not asked to pass calls on to others.
    NoDoor,
}

impl MachineRefusal {
    /// For people.
    fn text(&self) -> String {
        match self {
            Self::Unreachable { machine, why, .. } => {
                format!("its machine {machine} can't be reached: {why}")
            }
            Self::Ambiguous(names) => {
                format!("several machines have an account of this name: call one of {}", names.join(", "))
            }
            Self::Taken(why) => why.clone(),
            Self::NoSuchMachine(machine) => {
                format!(
                    "there is no machine {machine:?} in the configuration of this controller ([machines])"
                )
            }
            Self::Moving { from, to } => format!("it is being moved from the machine {from} to {to}"),
            Self::NoDoor => "this controller takes no calls through another one (auth.doors)".to_owned(),
        }
    }
}

impl From<&MachineRefusal> for Reply {
    fn from(refusal: &MachineRefusal) -> Self {
        let text = refusal.text();
        match refusal {
            MachineRefusal::Unreachable { machine, since, .. } => Self::new(503, 503, text)
                .with("machine", machine.as_str())
                .with("machine_since", *since)
                .retry_after(2),
            MachineRefusal::Ambiguous(_) => Self::new(409, 409, text),
            MachineRefusal::Moving { .. } => Self::new(503, 503, text).retry_after(5),
            MachineRefusal::Taken(_) | MachineRefusal::NoSuchMachine(_) => Self::invalid(text),
            MachineRefusal::NoDoor => Self::new(403, 403, text),
        }
    }
}

impl From<&MachineRefusal> for Problem {
    fn from(refusal: &MachineRefusal) -> Self {
        let (status, code, title) = match refusal {
            MachineRefusal::Unreachable { .. } => {
                (503, "machine_unreachable", "The machine of the account can't be reached")
            }
            MachineRefusal::Moving { .. } => (503, "moving", "The account is being moved"),
            MachineRefusal::Ambiguous(_) => (409, "ambiguous_name", "Several machines have such an account"),
            MachineRefusal::Taken(_) => (409, "name_taken", "The name is taken"),
            MachineRefusal::NoSuchMachine(_) => (400, "no_such_machine", "There is no such machine"),
            MachineRefusal::NoDoor => (403, "not_allowed", "The call is not allowed"),
        };
        let retry_after = match refusal {
            MachineRefusal::Unreachable { .. } => Some(2),
            MachineRefusal::Moving { .. } => Some(5),
            _ => None,
        };
        Self { code, title, status, detail: refusal.text(), allow: None, retry_after }
    }
}
