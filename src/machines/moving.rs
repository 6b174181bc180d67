//! Accounts that are on their way from one machine to another. They stand in the lists of both meanwhile.

use std::collections::BTreeMap;

use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;
use crate::wire::machines::MachineRefusal;

/// An account on its way. `None` is the machine that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Where it lives.
    pub from: Option<MachineName>,
    /// Where it comes to, and is not shown yet.
    pub to: Option<MachineName>,
    /// Whether calls to it are refused. No more when the move has failed, and only what came to the other machine is to be removed yet.
    pub is_closed: bool,
}

impl Moving {
    /// Why calls to it are refused.
    pub fn refusal(&self) -> MachineRefusal {
        let place =
            |machine: &Option<MachineName>| machine.as_ref().map_or(LOCAL, MachineName::as_str).to_owned();
        MachineRefusal::Moving { from: place(&self.from), to: place(&self.to) }
    }
}

/// Those accounts.
#[derive(Clone, Debug, Default)]
pub(super) struct MovingAccounts(BTreeMap<ClientName, Moving>);

impl MovingAccounts {
    pub(super) fn set(&mut self, name: ClientName, moving: Moving) {
        self.0.insert(name, moving);
    }

    pub(super) fn remove(&mut self, name: &ClientName) {
        self.0.remove(name);
    }

    /// Whether an account is still on its way to this machine, and so not shown there.
    pub(super) fn hides(&self, name: &ClientName, on: Option<&MachineName>) -> bool {
        self.0.get(name).is_some_and(|moving| moving.to.as_ref() == on)
    }

    /// The move for which calls to an account are refused: by its name, or by its full name.
    pub(super) fn closed(&self, named: &ClientName) -> Option<&Moving> {
        if self.0.is_empty() {
            return None;
        }
        let bare = named.as_str().rsplit_once('@').and_then(|(name, _)| ClientName::new(name).ok());
        let found = self.0.get(named).or_else(|| self.0.get(&bare?));
        found.filter(|moving| moving.is_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_hidden_where_it_comes_to_and_closed_until_it_is_there() {
        let name = |text: &str| ClientName::new(text).unwrap();
        let tokyo = MachineName::new("tokyo").unwrap();
        let mut all = MovingAccounts::default();
        assert_eq!((all.closed(&name("a")), all.hides(&name("a"), Some(&tokyo))), (None, false));
        let mut moving = Moving { from: None, to: Some(tokyo.clone()), is_closed: true };
        all.set(name("a"), moving.clone());
        for named in ["a", "a@local", "a@tokyo"] {
            assert_eq!(all.closed(&name(named)), Some(&moving), "{named}");
        }
        assert!(all.hides(&name("a"), Some(&tokyo)) && !all.hides(&name("a"), None));
        assert_eq!((all.closed(&name("b")), all.closed(&name("b@tokyo"))), (None, None));
        moving.is_closed = false;
        all.set(name("a"), moving);
        assert!(all.closed(&name("a")).is_none() && all.hides(&name("a"), Some(&tokyo)));
        all.remove(&name("a"));
        assert!(!all.hides(&name("a"), Some(&tokyo)));
    }
}
