//! [`MachineTable`]: what is known of the accounts of other machines. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;

use super::moving::{Moving, MovingAccounts};
use super::remote_account::RemoteAccount;

/// Whether the controller of a machine can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It can, since this time in Unix seconds.
    Reachable {
        /// Since when.
        since: u64,
    },
    /// It can't.
    Unreachable {
        /// Since when, in Unix seconds.
        since: u64,
        /// Why, for people.
        why: Arc<str>,
    },
}

/// Another machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Whether it can be reached.
    pub link: LinkState,
    /// Its accounts, as it told them last. Of an unreachable one that did not tell them to this run of the door, only the names.
    pub accounts: BTreeMap<ClientName, Arc<RemoteAccount>>,
    /// How much of its memory is free, in bytes, if it said so.
    pub free_memory: Option<u64>,
}

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

/// The other machines.
#[derive(Clone, Debug, Default)]
pub struct MachineTable {
    machines: BTreeMap<MachineName, Machine>,
    /// The names of accounts, each with the machines that have one.
    places: BTreeMap<ClientName, BTreeSet<MachineName>>,
    /// The names of accounts that are being started.
    reserved: BTreeMap<ClientName, String>,
    moving: MovingAccounts,
}

impl MachineTable {
    /// Adds a machine with the accounts that are remembered, unless it is there already.
    pub fn add(&mut self, name: &MachineName, remembered: impl IntoIterator<Item = ClientName>, now: u64) {
        if self.machines.contains_key(name) {
            return;
        }
        let why: Arc<str> = "it is not connected yet".into();
        let link = LinkState::Unreachable { since: now, why };
        let new = Machine { link, accounts: BTreeMap::new(), free_memory: None };
        self.machines.insert(name.clone(), new);
        for account in remembered {
            self.insert(name, RemoteAccount::of_name(account));
        }
    }

    /// Removes a machine, which the configuration names no more.
    pub fn remove(&mut self, name: &MachineName) {
        for account in
            self.machines.remove(name).map(|machine| machine.accounts).unwrap_or_default().into_keys()
        {
            self.leave(name, &account);
        }
    }

    /// All machines, by name.
    pub fn machines(&self) -> &BTreeMap<MachineName, Machine> {
        &self.machines
    }

    /// Notes whether a machine can be reached. Returns whether that is news.
    pub fn set_link(&mut self, name: &MachineName, link: LinkState) -> bool {
        let Some(machine) = self.machines.get_mut(name) else { return false };
        let is_same = match (&machine.link, &link) {
            (LinkState::Reachable { .. }, LinkState::Reachable { .. }) => true,
            (LinkState::Unreachable { why: before, .. }, LinkState::Unreachable { why, .. }) => before == why,
            _ => false,
        };
        if is_same {
            return false;
        }
        // It is unreachable since it was so first, whatever the reason is by now.
        machine.link = match (&machine.link, link) {
            (LinkState::Unreachable { since, .. }, LinkState::Unreachable { why, .. }) => {
                LinkState::Unreachable { since: *since, why }
            }
            (_, link) => link,
        };
        true
    }

    /// Notes how much memory of a machine is free, in bytes.
    pub fn set_free_memory(&mut self, name: &MachineName, bytes: Option<u64>) {
        if let Some(machine) = self.machines.get_mut(name) {
            machine.free_memory = bytes;
        }
    }

    /// Notes an account of a machine as it is now. Returns whether that is news.
    pub fn insert(&mut self, name: &MachineName, account: RemoteAccount) -> bool {
        let Some(machine) = self.machines.get_mut(name) else { return false };
        let key = account.name.clone();
        if self.moving.hides(&key, Some(name)) {
            return false;
        }
        match machine.accounts.get_mut(&key) {
            Some(known) if **known == account => return false,
            Some(known) => *known = Arc::new(account),
            None => {
                machine.accounts.insert(key.clone(), Arc::new(account));
                self.places.entry(key).or_default().insert(name.clone());
            }
        }
        true
    }

    /// Notes that an account has left the list of its machine. Returns whether that is news.
    pub fn delete(&mut self, name: &MachineName, account: &ClientName) -> bool {
        let gone = self.machines.get_mut(name).and_then(|machine| machine.accounts.remove(account));
        self.leave(name, account);
        gone.is_some()
    }

    /// Notes all accounts of a machine. Returns those that are gone, and those that are new or other than before.
    pub fn replace(
        &mut self,
        name: &MachineName,
        accounts: Vec<RemoteAccount>,
    ) -> (Vec<ClientName>, Vec<ClientName>) {
        let there: BTreeSet<&ClientName> = accounts.iter().map(|account| &account.name).collect();
        let known = self.machines.get(name).map(|machine| machine.accounts.keys());
        let gone: Vec<_> =
            known.into_iter().flatten().filter(|account| !there.contains(account)).cloned().collect();
        for account in &gone {
            self.delete(name, account);
        }
        let changed = accounts.into_iter().filter_map(|account| {
            let key = account.name.clone();
            self.insert(name, account).then_some(key)
        });
        let changed = changed.collect();
        (gone, changed)
    }

    fn leave(&mut self, machine: &MachineName, account: &ClientName) {
        if let Some(places) = self.places.get_mut(account) {
            places.remove(machine);
            if places.is_empty() {
                self.places.remove(account);
            }
        }
    }

    /// Where the account is that a caller names: by its name, or as `NAME@MACHINE`. `is_here` says whether the machine that is called has
    /// one of a name.
    pub fn locate(&self, named: &ClientName, is_here: impl Fn(&ClientName) -> bool) -> Location {
        if let Some(moving) = self.moving.closed(named) {
            return Location::Moving(moving.clone());
        }
        let is_here = |name: &ClientName| is_here(name) && !self.moving.hides(name, None);
        let own = is_here(named);
        let mut places = self.places.get(named).into_iter().flatten();
        match (places.next(), places.next()) {
            (None, _) if own => Location::Here,
            (None, _) => self.by_full_name(named, is_here).unwrap_or(Location::Here),
            (Some(machine), None) if !own => Location::On(machine.clone(), named.clone()),
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

    /// What an account of a machine is called by callers of the door: with its machine where the name alone is ambiguous.
    fn shown_name(
        &self,
        machine: &MachineName,
        name: &ClientName,
        is_here: &impl Fn(&ClientName) -> bool,
    ) -> String {
        let is_here = is_here(name) && !self.moving.hides(name, None);
        let is_one = self.places.get(name).is_none_or(|places| places.len() == 1) && !is_here;
        if is_one { name.to_string() } else { format!("{name}@{machine}") }
    }

    /// All accounts of other machines, each with its machine and what it is called. `is_here` says whether the machine that is called has
    /// one of a name.
    pub fn accounts(
        &self,
        is_here: impl Fn(&ClientName) -> bool,
    ) -> impl Iterator<Item = (String, &MachineName, &Machine, &RemoteAccount)> {
        self.machines.iter().flat_map(move |(machine, known)| {
            let named = known.accounts.iter().map(|(name, account)| {
                (self.shown_name(machine, name, &is_here), machine, known, &**account)
            });
            named.collect::<Vec<_>>()
        })
    }

    /// What `/v1` says of an account, as JSON.
    pub fn shown(&self, machine: &MachineName, name: &ClientName) -> Option<String> {
        let known = self.machines.get(machine)?;
        Some(known.accounts.get(name)?.to_json(name.as_str(), machine, &known.link))
    }

    /// What `check_client` says of an account, as JSON.
    pub fn checked(&self, machine: &MachineName, name: &ClientName) -> Option<String> {
        let known = self.machines.get(machine)?;
        Some(known.accounts.get(name)?.to_checked(name.as_str(), machine, &known.link))
    }

    /// What `check_client` says of all accounts, as JSON.
    pub fn all_checked(&self, is_here: impl Fn(&ClientName) -> bool) -> Vec<String> {
        self.accounts(is_here)
            .map(|(name, machine, known, account)| account.to_checked(&name, machine, &known.link))
            .collect()
    }

    /// Notes that an account is on its way; none: that it is so no more.
    pub fn set_moving(&mut self, account: &ClientName, moving: Option<Moving>) {
        match moving {
            Some(moving) => self.moving.set(account.clone(), moving),
            None => self.moving.remove(account),
        }
    }

    /// Whether an account of the machine that is called is one that is still to come there.
    pub fn hides_own(&self, account: &ClientName) -> bool {
        self.moving.hides(account, None)
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

    /// The machine for a new account: one of those that can be reached where the most memory is free for each account, this machine included,
    /// whose figures are given. None: this machine.
    pub fn most_room(&self, own_free_memory: Option<u64>, own_accounts: usize) -> Option<&MachineName> {
        // An account that was just started has not taken its memory yet, so accounts count, too.
        let room = |free: Option<u64>, accounts: usize| free.unwrap_or(0) / (accounts as u64 + 1);
        let own = room(own_free_memory, own_accounts);
        let reachable =
            self.machines.iter().filter(|(_, machine)| matches!(machine.link, LinkState::Reachable { .. }));
        let best = reachable.max_by_key(|(name, machine)| {
            // Of two with the same room the first one by name.
            (room(machine.free_memory, machine.accounts.len()), std::cmp::Reverse(*name))
        });
        best.filter(|(_, machine)| room(machine.free_memory, machine.accounts.len()) > own)
            .map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> MachineName {
        MachineName::new(name).unwrap()
    }

    fn account(name: &str) -> ClientName {
        ClientName::new(name).unwrap()
    }

    fn told(name: &str, state: &str) -> RemoteAccount {
        RemoteAccount::of_json(format!(r#"{{"name":"{name}","state":"{state}"}}"#).as_bytes()).unwrap()
    }

    fn nothing(_: &ClientName) -> bool {
        false
    }

    fn reachable() -> LinkState {
        LinkState::Reachable { since: 1 }
    }

    fn two() -> MachineTable {
        let mut table = MachineTable::default();
        for name in ["osaka", "tokyo"] {
            table.add(&machine(name), [], 0);
            table.set_link(&machine(name), reachable());
        }
        table
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
        let here = |name: &ClientName| name.as_str() == "bot";
        assert_eq!(table.locate(&account("bot@local"), here), Location::HereAs(account("bot")));
        assert!(table.delete(&osaka, &account("bot")) && !table.delete(&osaka, &account("bot")));
        assert_eq!(table.locate(&account("bot"), nothing), on(&tokyo));
        table.remove(&tokyo);
        assert!(!table.knows(&account("bot")));
    }

    #[test]
    fn list_of_a_machine_replaces_what_was_known() {
        let (mut table, tokyo) = (two(), machine("tokyo"));
        table.replace(&tokyo, vec![told("a", "running"), told("b", "running")]);
        let (gone, changed) = table.replace(&tokyo, vec![told("b", "running"), told("c", "init")]);
        assert_eq!((gone, changed), (vec![account("a")], vec![account("c")]));
        assert!(!table.knows(&account("a")) && table.knows(&account("c")));
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

    #[test]
    fn machine_is_away_since_it_was_away_first() {
        let (mut table, tokyo) = (two(), machine("tokyo"));
        let away = |since, why: &str| LinkState::Unreachable { since, why: why.into() };
        assert!(table.set_link(&tokyo, away(5, "a")) && !table.set_link(&tokyo, away(6, "a")));
        assert!(table.set_link(&tokyo, away(7, "b")));
        assert_eq!(table.machines()[&tokyo].link, away(5, "b"));
        assert!(table.set_link(&tokyo, LinkState::Reachable { since: 8 }));
        assert!(!table.set_link(&tokyo, LinkState::Reachable { since: 9 }));
        assert_eq!(table.machines()[&tokyo].link, LinkState::Reachable { since: 8 });
    }

    #[test]
    fn remembered_names_are_kept_until_the_machine_says_otherwise() {
        let (mut table, tokyo) = (MachineTable::default(), machine("tokyo"));
        table.add(&tokyo, [account("a"), account("b")], 0);
        table.add(&tokyo, [account("c")], 0);
        assert!(table.knows(&account("a")) && !table.knows(&account("c")));
        let (gone, changed) = table.replace(&tokyo, vec![told("a", "running")]);
        assert_eq!((gone, changed), (vec![account("b")], vec![account("a")]));
    }

    #[test]
    fn new_accounts_go_where_there_is_room() {
        let (mut table, tokyo, osaka) = (two(), machine("tokyo"), machine("osaka"));
        assert_eq!(table.most_room(Some(100), 0), None);
        table.set_free_memory(&tokyo, Some(400));
        table.set_free_memory(&osaka, Some(400));
        assert_eq!(table.most_room(Some(100), 0), Some(&osaka));
        table.insert(&osaka, told("a", "running"));
        assert_eq!(table.most_room(Some(100), 0), Some(&tokyo));
        assert_eq!(table.most_room(Some(400), 0), None, "this machine, where it is as good");
        table.set_link(&tokyo, LinkState::Unreachable { since: 2, why: "gone".into() });
        assert_eq!(table.most_room(Some(100), 0), Some(&osaka));
    }
}
