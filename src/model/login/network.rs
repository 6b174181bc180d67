//! [`NetworkGuard`]: whether the network is gone for all accounts, so that new starts would not help.

use std::collections::BTreeMap;

use super::LoginState;
use crate::model::name::ClientName;

/// Losses within this time, in seconds, belong together.
const TOGETHER: u64 = 30;
/// How long losses that belong together are taken for a loss of the network, in seconds. What is still offline then is started
/// anew, a few at a time.
const AT_MOST: u64 = 300;

/// Watches over all accounts.
#[derive(Clone, Debug, Default)]
pub struct NetworkGuard {
    /// When each account that is offline was lost.
    lost: BTreeMap<ClientName, u64>,
    /// Whether the default route was missing when it was looked at last.
    without_route: bool,
    /// Since when the network is gone, for all that is known.
    gone_since: Option<u64>,
    /// Since when it is there.
    there_since: u64,
}

impl NetworkGuard {
    /// Takes note of a change of an account.
    pub fn changed(&mut self, now: u64, name: &ClientName, from: LoginState, to: LoginState) {
        match (from, to) {
            (LoginState::Online, LoginState::Offline) => {
                self.lost.insert(name.clone(), now);
            }
            (_, LoginState::Offline) => {}
            _ => {
                self.lost.remove(name);
            }
        }
    }

    /// An account has left the list.
    pub fn forget(&mut self, name: &ClientName) {
        self.lost.remove(name);
    }

    /// Since when the network is there; none while it is gone. `accounts` is how many there are, `has_route` whether the machine has
    /// a default route.
    pub fn there_since(&mut self, now: u64, accounts: usize, has_route: bool) -> Option<u64> {
        if has_route && std::mem::take(&mut self.without_route) {
            // The losses so far were this one, which is over.
            self.lost.clear();
        }
        self.without_route = !has_route;
        let newest = self.lost.values().copied().max().unwrap_or(0);
        let together = self.lost.values().filter(|at| newest - **at <= TOGETHER).count();
        let many = accounts >= 2 && together * 2 > accounts && now.saturating_sub(newest) < AT_MOST;
        if has_route && !many {
            if self.gone_since.take().is_some() {
                self.there_since = now;
            }
            return Some(self.there_since);
        }
        self.gone_since.get_or_insert(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lose(guard: &mut NetworkGuard, now: u64, who: &str) {
        guard.changed(now, &ClientName::new(who).unwrap(), LoginState::Online, LoginState::Offline);
    }

    fn regain(guard: &mut NetworkGuard, now: u64, who: &str) {
        guard.changed(now, &ClientName::new(who).unwrap(), LoginState::Offline, LoginState::Online);
    }

    #[test]
    fn losses_of_most_accounts_at_once_are_a_loss_of_the_network() {
        let mut guard = NetworkGuard::default();
        lose(&mut guard, 1_000, "a");
        lose(&mut guard, 1_020, "b");
        assert_eq!(guard.there_since(1_020, 4, true), Some(0), "half of them is not most of them");
        lose(&mut guard, 1_030, "c");
        assert_eq!(guard.there_since(1_030, 4, true), None);
        regain(&mut guard, 1_100, "b");
        assert_eq!(guard.there_since(1_100, 4, true), Some(1_100));
        // Losses that are far from each other are each account's own.
        for (at, who) in [(2_000, "a"), (2_031, "b"), (2_062, "c")] {
            lose(&mut guard, at, who);
            assert_eq!(guard.there_since(at, 4, true), Some(1_100), "{who}");
        }
    }

    #[test]
    fn loss_of_the_network_is_believed_for_five_minutes() {
        let mut guard = NetworkGuard::default();
        lose(&mut guard, 1_000, "a");
        assert_eq!(guard.there_since(1_000, 1, true), Some(0), "one account alone tells nothing");
        lose(&mut guard, 1_000, "b");
        assert_eq!(guard.there_since(1_299, 2, true), None);
        assert_eq!(guard.there_since(1_300, 2, true), Some(1_300));
        guard.forget(&ClientName::new("b").unwrap());
        assert_eq!(guard.there_since(1_301, 1, true), Some(1_300));
    }

    #[test]
    fn return_of_the_default_route_ends_a_loss_of_many() {
        let mut guard = NetworkGuard::default();
        lose(&mut guard, 1_000, "a");
        lose(&mut guard, 1_000, "b");
        assert_eq!(guard.there_since(1_005, 2, false), None);
        assert_eq!(guard.there_since(1_010, 2, true), Some(1_010), "five minutes are not waited for");
        // What is lost later counts anew.
        for who in ["a", "b"] {
            regain(&mut guard, 1_015, who);
            lose(&mut guard, 1_020, who);
        }
        assert_eq!(guard.there_since(1_020, 2, true), None);
    }

    #[test]
    fn without_a_default_route_there_is_no_network() {
        let mut guard = NetworkGuard::default();
        assert_eq!(guard.there_since(10, 1, false), None);
        assert_eq!(guard.there_since(20, 1, true), Some(20));
    }
}
