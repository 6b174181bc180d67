//! What a door answers about other machines, in the words of both APIs.

use http::HeaderMap;

use super::Reply;
use super::door::{REFUSED, Refused};
use super::v1::problem::Problem;
use crate::model::machine::MachineName;

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
    /// The machine refuses what this controller asks.
    Refuses(MachineName, Refused),
}

impl MachineRefusal {
    /// Whether a machine that answered with these headers has refused the door.
    pub fn of_answer(machine: &MachineName, headers: &HeaderMap) -> Option<Self> {
        let refused = Refused::of(headers.get(REFUSED)?.to_str().ok()?)?;
        Some(Self::Refuses(machine.clone(), refused))
    }

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
            Self::Refuses(machine, Refused::Token) => format!(
                "the machine {machine} does not know the token that this controller shows there: put the right one into its token_file \
                 ([machines.{machine}])"
            ),
            Self::Refuses(machine, Refused::ReadOnly) => format!(
                "the token that this controller has for the machine {machine} is read-only there: do it on {machine}, or give that token \
                 access = \"read-write\" there"
            ),
            Self::Refuses(machine, Refused::Door) => format!(
                "the machine {machine} takes no calls through another controller (auth.doors = false there): do it on {machine}"
            ),
        }
    }
}

/// Code and title where a machine refuses the door.
pub(super) const REFUSES: (&str, &str) = ("machine_refuses", "The machine of the account does not allow it");

/// A token that is wrong is the door's, so its caller is not asked for one.
fn refused_status(refused: Refused) -> u16 {
    match refused {
        Refused::Token => 502,
        Refused::ReadOnly | Refused::Door => 403,
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
            MachineRefusal::Refuses(machine, refused) => {
                let status = refused_status(*refused);
                Self::new(status, status.into(), text).with("machine", machine.as_str())
            }
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
            MachineRefusal::Refuses(_, refused) => (refused_status(*refused), REFUSES.0, REFUSES.1),
        };
        let retry_after = match refusal {
            MachineRefusal::Unreachable { .. } => Some(2),
            MachineRefusal::Moving { .. } => Some(5),
            _ => None,
        };
        Self { code, title, status, detail: refusal.text(), allow: None, retry_after }
    }
}
