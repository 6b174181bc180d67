//! [`MachineTable`]: what is known of the accounts of other machines. Pure.
//!
//! - `names`: where an account lives, and which names are taken
//! - `listed`: its accounts as callers see them

mod listed;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use listed::ListedElsewhere;
pub use names::{Location, NameTaken};

use crate::model::machine::MachineName;
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
    pub accounts: BTreeMap<ClientName, Box<RemoteAccount>>,
    /// How much of its memory is free, in bytes, if it said so.
    pub free_memory: Option<u64>,
    /// What callers see of it with each of its accounts: members of a JSON object, made once for all of them.
    shown: Box<str>,
}

/// The other machines.
#[derive(Clone, Debug, Default)]
pub struct MachineTable {
    machines: BTreeMap<MachineName, Machine>,
    /// The names of accounts, each with the machines that have one, in their order. A list, as nearly always there is one.
    places: BTreeMap<ClientName, Vec<MachineName>>,
    /// The names that several machines have.
    shared: BTreeSet<ClientName>,
    /// How often an account came to a machine or left one.
    moves: u64,
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
        let shown = listed::of_machine(name, &link);
        let new = Machine { link, accounts: BTreeMap::new(), free_memory: None, shown };
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
        machine.shown = listed::of_machine(name, &machine.link);
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
            Some(known) => **known = account,
            None => {
                machine.accounts.insert(key.clone(), Box::new(account));
                self.come(name, key);
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

    fn come(&mut self, machine: &MachineName, account: ClientName) {
        self.moves += 1;
        let places = self.places.entry(account.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = places.binary_search(machine) {
            places.insert(at, machine.clone());
        }
        if places.len() > 1 {
            self.shared.insert(account);
        }
    }

    fn leave(&mut self, machine: &MachineName, account: &ClientName) {
        let Some(places) = self.places.get_mut(account) else { return };
        self.moves += 1;
        places.retain(|place| place != machine);
        if places.len() < 2 {
            self.shared.remove(account);
        }
        if places.is_empty() {
            self.places.remove(account);
        }
    }

    /// Notes that an account is on its way; none: that it is so no more.
    pub fn set_moving(&mut self, account: &ClientName, moving: Option<Moving>) {
        match moving {
            Some(moving) => self.moving.set(account.clone(), moving),
            None => self.moving.remove(account),
        }
    }

    /// Whether an account is still on its way to the machine that is called, and so not shown there.
    pub fn hides_own(&self, account: &ClientName) -> bool {
        self.moving.hides(account, None)
    }

    /// How often an account came to a machine or left one: as long as it is the same number, all live where they lived.
    pub fn moves(&self) -> u64 {
        self.moves
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

    pub(super) fn machine(name: &str) -> MachineName {
        MachineName::new(name).unwrap()
    }

    pub(super) fn account(name: &str) -> ClientName {
        ClientName::new(name).unwrap()
    }

    pub(super) fn told(name: &str, state: &str) -> RemoteAccount {
        RemoteAccount::of_json(format!(r#"{{"name":"{name}","state":"{state}"}}"#).as_bytes()).unwrap()
    }

    fn reachable() -> LinkState {
        LinkState::Reachable { since: 1 }
    }

    pub(super) fn two() -> MachineTable {
        let mut table = MachineTable::default();
        for name in ["osaka", "tokyo"] {
            table.add(&machine(name), [], 0);
            table.set_link(&machine(name), reachable());
        }
        table
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
    fn accounts_that_come_and_go_are_counted_and_changes_are_not() {
        let (mut table, tokyo) = (two(), machine("tokyo"));
        let mut count_after = |change: &dyn Fn(&mut MachineTable)| {
            change(&mut table);
            table.moves()
        };
        assert_eq!(
            count_after(&|table| {
                table.insert(&tokyo, told("a", "init"));
            }),
            1
        );
        assert_eq!(
            count_after(&|table| {
                table.insert(&tokyo, told("a", "running"));
            }),
            1
        );
        assert_eq!(
            count_after(&|table| {
                table.replace(&tokyo, vec![told("a", "stop")]);
            }),
            1
        );
        assert_eq!(
            count_after(&|table| {
                table.delete(&tokyo, &account("a"));
            }),
            2
        );
        assert_eq!(
            count_after(&|table| {
                table.delete(&tokyo, &account("a"));
            }),
            2
        );
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
        // One that takes no accounts tells of no memory.
        table.set_free_memory(&osaka, None);
        assert_eq!((table.most_room(Some(100), 0), table.most_room(None, 0)), (None, None));
    }
}
