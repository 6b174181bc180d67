//! The accounts of other machines as callers of the door see them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::json;

use super::{LinkState, MachineTable};
use crate::machines::remote_account::{RemoteAccount, bare};
use crate::model::machine::MachineName;
use crate::model::name::ClientName;

/// An account of another machine as the door lists it.
#[derive(Clone, Debug)]
pub struct ListedElsewhere<'a> {
    /// What the door calls it: with its machine where the name alone is ambiguous.
    pub name: Cow<'a, str>,
    /// Its machine.
    pub machine: &'a MachineName,
    /// What its machine tells of it.
    pub account: &'a RemoteAccount,
    of_machine: &'a str,
}

impl ListedElsewhere<'_> {
    /// Writes what `/v1` says of it, as JSON: with its machine, and whether that can be reached.
    pub fn write_json(&self, text: &mut String) {
        self.account.write_json(text, &self.name, self.of_machine);
    }
}

impl MachineTable {
    /// Goes through all accounts of other machines. `own` are the names of those of the machine that is called.
    pub fn each_account<'a>(
        &'a self,
        own: impl IntoIterator<Item = &'a ClientName>,
        mut take: impl FnMut(ListedElsewhere<'a>),
    ) {
        // Few: a name is one in all machines. A look-up for each of ten thousand accounts would be most of what a list costs.
        let mut ambiguous: BTreeSet<&ClientName> =
            own.into_iter().filter(|name| self.knows(name) && !self.hides_own(name)).collect();
        ambiguous.extend(&self.shared);
        for (machine, known) in &self.machines {
            for (name, account) in &known.accounts {
                let name = match !ambiguous.is_empty() && ambiguous.contains(name) {
                    true => format!("{name}@{machine}").into(),
                    false => name.as_str().into(),
                };
                take(ListedElsewhere { name, machine, account, of_machine: &known.shown });
            }
        }
    }

    /// What `/v1` says of an account, as JSON.
    pub fn shown(&self, machine: &MachineName, name: &ClientName) -> Option<String> {
        let known = self.machines.get(machine)?;
        let mut text = String::new();
        known.accounts.get(name)?.write_json(&mut text, name.as_str(), &known.shown);
        Some(text)
    }

    /// What `check_client` says of an account, as JSON.
    pub fn checked(&self, machine: &MachineName, name: &ClientName) -> Option<String> {
        let known = self.machines.get(machine)?;
        let mut text = String::new();
        known.accounts.get(name)?.write_checked(&mut text, name.as_str(), &known.shown);
        Some(text)
    }

    /// What `check_client` says of all accounts, as JSON, with commas between. `own` are the names of those of the machine that is called.
    pub fn all_checked<'a>(&'a self, own: impl IntoIterator<Item = &'a ClientName>) -> String {
        let mut all = String::new();
        self.each_account(own, |listed| {
            if !all.is_empty() {
                all.push(',');
            }
            listed.account.write_checked(&mut all, &listed.name, listed.of_machine);
        });
        all
    }
}

/// What callers see of a machine with each of its accounts: members of a JSON object.
pub(super) fn of_machine(machine: &MachineName, link: &LinkState) -> Box<str> {
    let shown = match link {
        LinkState::Reachable { .. } => json!({ "machine": machine.as_str() }),
        LinkState::Unreachable { since, why } => json!({
            "machine": machine.as_str(), "machine_state": "unreachable", "machine_since": since,
            "machine_reason": &**why,
        }),
    };
    bare(&shown.to_string()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::{account, machine, told, two};
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn accounts_are_shown_with_their_machine_and_whether_it_can_be_reached() {
        let (mut table, tokyo) = (two(), machine("tokyo"));
        table.insert(&tokyo, told("bot", "running"));
        let shown = parsed(&table.shown(&tokyo, &account("bot")).unwrap());
        assert_eq!(
            (&shown["name"], &shown["machine"], shown.get("machine_state")),
            (&json!("bot"), &json!("tokyo"), None)
        );
        table.set_link(&tokyo, LinkState::Unreachable { since: 9, why: "no \"route\"".into() });
        for text in [table.shown(&tokyo, &account("bot")), table.checked(&tokyo, &account("bot"))] {
            let shown = parsed(&text.unwrap());
            assert_eq!((&shown["machine"], &shown["state"]), (&json!("tokyo"), &json!("running")));
            assert_eq!(
                (&shown["machine_state"], &shown["machine_since"], &shown["machine_reason"]),
                (&json!("unreachable"), &json!(9), &json!("no \"route\""))
            );
        }
        table.set_link(&tokyo, LinkState::Reachable { since: 10 });
        assert!(parsed(&table.shown(&tokyo, &account("bot")).unwrap()).get("machine_state").is_none());
    }

    #[test]
    fn names_of_several_accounts_are_listed_with_their_machine() {
        let (mut table, tokyo, osaka) = (two(), machine("tokyo"), machine("osaka"));
        for (machine, name) in [(&tokyo, "a"), (&tokyo, "twin"), (&osaka, "b"), (&osaka, "twin")] {
            table.insert(machine, told(name, "running"));
        }
        let listed = |table: &MachineTable, own: &[ClientName]| {
            let mut names = Vec::new();
            table.each_account(own, |listed| names.push(listed.name.into_owned()));
            names
        };
        assert_eq!(listed(&table, &[account("x")]), ["b", "twin@osaka", "a", "twin@tokyo"]);
        assert_eq!(listed(&table, &[account("a")]), ["b", "twin@osaka", "a@tokyo", "twin@tokyo"]);
        let checked = parsed(&format!("[{}]", table.all_checked(&[account("a")])));
        assert_eq!(checked[2]["account"], "a@tokyo");
        table.delete(&osaka, &account("twin"));
        assert_eq!(listed(&table, &[]), ["b", "a", "twin"]);
    }
}
