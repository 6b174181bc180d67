//! Where an account lives that callers name, and which names are taken.

use super::{LinkState, MachineTable};
use crate::machines::moving::Moving;
use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;

/// Where the account is that a caller names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On the machine that is called, if there is one.
    Here,
    /// There, by its full name: what it is called there.
    HereAs(ClientName),
    /// On another one, where it is called so.
    On(MachineName, ClientName),
    /// More than one machine has an account of this name. Their full names.
    Ambiguous(Vec<String>),
    /// On its way to another machine.
    Moving(Moving),
}

/// Why no account may be started under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameTaken {
    /// It is an account of this machine.
    Lives(MachineName),
    /// It is being started on this machine, or on this one, which is called.
    IsStarting(String),
    /// It may be an account of a machine that can't be reached.
    MayLive(MachineName),
}

impl MachineTable {
    /// Where the account is that a caller names: by its name, or as `NAME@MACHINE`. `is_here` says whether the machine that is called has
    /// one of a name.
    pub fn locate(&self, named: &ClientName, is_here: impl Fn(&ClientName) -> bool) -> Location {
        if let Some(moving) = self.moving.closed(named) {
            return Location::Moving(moving.clone());
        }
        let is_here = |name: &ClientName| is_here(name) && !self.hides_own(name);
        let own = is_here(named);
        let mut places = self.places.get(named).into_iter().flatten();
        match (places.next(), places.next()) {
            (None, _) if own => Location::Here,
            (None, _) => self.by_full_name(named, is_here).unwrap_or(Location::Here),
            // No machine takes the calls for an account of another one by giving one of its own that account's full name.
            (Some(machine), None) if !own => match self.by_full_name(named, is_here) {
                Some(full) => full,
                None => Location::On(machine.clone(), named.clone()),
            },
            _ => Location::Ambiguous(self.full_names(named, own)),
        }
    }

    /// All accounts of a name, each with its machine.
    fn full_names(&self, name: &ClientName, is_here: bool) -> Vec<String> {
        let others = self.places.get(name).into_iter().flatten().map(MachineName::as_str);
        is_here
            .then_some(LOCAL)
            .into_iter()
            .chain(others)
            .map(|machine| format!("{name}@{machine}"))
            .collect()
    }

    fn by_full_name(&self, named: &ClientName, is_here: impl Fn(&ClientName) -> bool) -> Option<Location> {
        let (name, machine) = named.as_str().rsplit_once('@')?;
        let name = ClientName::new(name).ok()?;
        if machine == LOCAL {
            return is_here(&name).then_some(Location::HereAs(name));
        }
        let machine = MachineName::new(machine).ok()?;
        self.machines.get(&machine)?.accounts.contains_key(&name).then_some(Location::On(machine, name))
    }

    /// Whether another machine has an account of this name.
    pub fn knows(&self, name: &ClientName) -> bool {
        self.places.contains_key(name)
    }

    /// Takes a name for an account that is to be started on `machine`; none: on the machine that is called. The name is taken until
    /// [`MachineTable::release`].
    ///
    /// # Errors
    /// It is taken, or may be.
    pub fn reserve(&mut self, account: &ClientName, machine: Option<&MachineName>) -> Result<(), NameTaken> {
        let others = self.places.get(account).into_iter().flatten();
        if let Some(other) = others.into_iter().find(|place| Some(*place) != machine) {
            return Err(NameTaken::Lives(other.clone()));
        }
        if let Some(place) = self.reserved.get(account) {
            return Err(NameTaken::IsStarting(place.clone()));
        }
        let is_known = machine.is_some_and(|machine| {
            self.machines.get(machine).is_some_and(|machine| machine.accounts.contains_key(account))
        });
        if !is_known
            && let Some((away, _)) = self.machines.iter().find(|(name, other)| {
                matches!(other.link, LinkState::Unreachable { .. }) && Some(*name) != machine
            })
        {
            return Err(NameTaken::MayLive(away.clone()));
        }
        let place = machine.map_or(LOCAL, MachineName::as_str).to_owned();
        self.reserved.insert(account.clone(), place);
        Ok(())
    }

    /// The start of an account is over.
    pub fn release(&mut self, account: &ClientName) {
        self.reserved.remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{account, machine, told, two};
    use super::*;

    fn nothing(_: &ClientName) -> bool {
        false
    }

    #[test]
    fn accounts_are_found_where_they_live() {
        let (mut table, tokyo, osaka) = (two(), machine("tokyo"), machine("osaka"));
        assert!(table.insert(&tokyo, told("bot", "init")));
        assert!(
            table.insert(&tokyo, told("bot", "running")) && !table.insert(&tokyo, told("bot", "running"))
        );
        let on = |machine: &MachineName| Location::On(machine.clone(), account("bot"));
        let full =
            |names: &[&str]| Location::Ambiguous(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(table.locate(&account("bot"), nothing), on(&tokyo));
        assert_eq!(table.locate(&account("bot"), |_| true), full(&["bot@local", "bot@tokyo"]));
        assert_eq!(table.locate(&account("x"), |_| true), Location::Here);
        table.insert(&osaka, told("bot", "running"));
        assert_eq!(table.locate(&account("bot"), nothing), full(&["bot@osaka", "bot@tokyo"]));
        assert_eq!(table.locate(&account("bot@osaka"), nothing), on(&osaka));
        assert_eq!(
            table.locate(&account("bot@osaka"), |_| true),
            Location::Here,
            "an account may be called so"
        );
        assert_eq!(table.locate(&account("x@osaka"), nothing), Location::Here);
        table.insert(&tokyo, told("bot@osaka", "running"));
        assert_eq!(table.locate(&account("bot@osaka"), nothing), on(&osaka), "not the one of tokyo");
        assert_eq!(
            table.locate(&account("bot@osaka@tokyo"), nothing),
            Location::On(tokyo.clone(), account("bot@osaka"))
        );
        table.delete(&tokyo, &account("bot@osaka"));
        let here = |name: &ClientName| name.as_str() == "bot";
        assert_eq!(table.locate(&account("bot@local"), here), Location::HereAs(account("bot")));
        assert!(table.delete(&osaka, &account("bot")) && !table.delete(&osaka, &account("bot")));
        assert_eq!(table.locate(&account("bot"), nothing), on(&tokyo));
        table.remove(&tokyo);
        assert!(!table.knows(&account("bot")));
    }

    #[test]
    fn names_are_taken_once_in_all_machines() {
        let (mut table, tokyo, osaka) = (two(), machine("tokyo"), machine("osaka"));
        table.insert(&tokyo, told("bot", "running"));
        assert_eq!(table.reserve(&account("bot"), Some(&osaka)), Err(NameTaken::Lives(tokyo.clone())));
        assert_eq!(table.reserve(&account("bot"), None), Err(NameTaken::Lives(tokyo.clone())));
        assert_eq!(table.reserve(&account("bot"), Some(&tokyo)), Ok(()));
        assert_eq!(table.reserve(&account("new"), Some(&osaka)), Ok(()));
        assert_eq!(table.reserve(&account("new"), None), Err(NameTaken::IsStarting("osaka".into())));
        table.release(&account("new"));
        assert_eq!(table.reserve(&account("new"), None), Ok(()));
        assert_eq!(table.reserve(&account("new"), Some(&osaka)), Err(NameTaken::IsStarting("local".into())));
        table.release(&account("bot"));
        // One that is away may have it.
        table.set_link(&osaka, LinkState::Unreachable { since: 2, why: "gone".into() });
        assert_eq!(table.reserve(&account("other"), None), Err(NameTaken::MayLive(osaka.clone())));
        assert_eq!(table.reserve(&account("other"), Some(&tokyo)), Err(NameTaken::MayLive(osaka.clone())));
        assert_eq!(table.reserve(&account("bot"), Some(&tokyo)), Ok(()), "it is known where it lives");
    }
}
