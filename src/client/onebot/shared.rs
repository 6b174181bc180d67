//! [`Shared`]: what handle, sessions and worker have in common.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::debug;

use super::calls::{CallError, Calls};
use super::inbox::Inbox;
use super::roster::Roster;
use super::wire::lists::{self, Member};
use crate::client::events::Event;
use crate::locks::locked;

/// How long that is waited for which is good to know and can be done without: not every implementation answers
/// everything, and messages wait behind it.
const GOOD_TO_KNOW_TIME: Duration = Duration::from_secs(5);

/// How many own roles are asked for at a time; the other places for calls are left to callers.
const ROLES_AT_ONCE: usize = 4;

/// How many messages of ours are remembered by their numbers.
const SENT: usize = 1000;

/// What handle, sessions and worker have in common.
pub(super) struct Shared {
    pub(super) account: String,
    pub(super) calls: Arc<Calls>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sends: Sends,
    pub(super) relogin: Notify,
    /// There is a group in which the own role is not known.
    pub(super) roles_wanted: Notify,
    /// The pause between two loads of the lists.
    pub(super) refresh: Duration,
    /// Whether what the account says elsewhere is told.
    pub(super) message_sync: bool,
    roster: Mutex<Roster>,
    ready: watch::Sender<bool>,
    next_id: AtomicU64,
    categories: Mutex<HashMap<u64, String>>,
    has_categories: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        account: String,
        calls: Arc<Calls>,
        inbox: Arc<Inbox>,
        refresh: Duration,
        message_sync: bool,
        first_id: u64,
    ) -> Self {
        Self {
            account,
            calls,
            inbox,
            sends: Sends::default(),
            relogin: Notify::new(),
            roles_wanted: Notify::new(),
            refresh,
            message_sync,
            roster: Mutex::default(),
            ready: watch::Sender::new(false),
            next_id: AtomicU64::new(first_id),
            categories: Mutex::default(),
            has_categories: AtomicBool::new(true),
        }
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        locked(&self.roster)
    }

    /// The next number of a message: the implementation's own is anything, and programs want a number.
    pub(super) fn next_id(&self) -> String {
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Whether the account is logged in and the lists are there: calls can be made.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    /// Loads friends and groups; what is different from before.
    pub(super) async fn load_lists(&self) -> Result<Vec<Event>, CallError> {
        let (friends, groups, ()) = tokio::join!(
            self.calls.call("get_friend_list", json!({ "no_cache": true })),
            self.calls.call("get_group_list", json!({ "no_cache": true })),
            self.load_categories(),
        );
        let (friends, groups) = (friends?.data(), groups?.data());
        let own = self.roster().own_uid();
        let friends = {
            let categories = locked(&self.categories);
            lists::friends(&friends, &categories, own)
        };
        Ok(self.roster().take_lists(friends, lists::groups(&groups)))
    }

    /// Asks for what is good to know. None: there was no answer in time, or it was no.
    pub(super) async fn ask(&self, action: &'static str, params: Value) -> Option<Value> {
        match timeout(GOOD_TO_KNOW_TIME, self.calls.call(action, params)).await {
            Ok(Ok(answer)) => Some(answer.data()),
            Ok(Err(error)) => {
                debug!(action, %error, "Something that is good to know is not known.");
                None
            }
            Err(_) => {
                debug!(action, "Something that is good to know was not answered in time.");
                None
            }
        }
    }

    async fn load_categories(&self) {
        if !self.has_categories.load(Ordering::Relaxed) {
            return;
        }
        match self.ask("get_friends_with_category", json!({})).await {
            Some(data) => {
                let categories = lists::categories(&data);
                *locked(&self.categories) = categories;
            }
            // It is asked for once in a session, not to wait for it each time.
            None => self.has_categories.store(false, Ordering::Relaxed),
        }
    }

    /// A session begins, perhaps with another implementation.
    pub(super) fn begin(&self) {
        self.has_categories.store(true, Ordering::Relaxed);
    }

    /// Asks for a member; if that fails, what little is known.
    pub(super) async fn member(&self, group: u64, uid: u64) -> Member {
        let params = json!({ "group_id": group, "user_id": uid, "no_cache": true });
        let member = self.ask("get_group_member_info", params).await;
        let member = member.and_then(|data| Member::read(&data));
        member.filter(|member| member.uid == uid).unwrap_or_else(|| {
            let name = self.roster().name_of(None, uid).unwrap_or_default();
            Member::unknown(uid, &name)
        })
    }

    /// Finds out the own role in all groups, behind everything else, and in those that come.
    pub(super) async fn learn_roles(&self) {
        loop {
            let groups = self.roster().without_role();
            let own = self.roster().own_uid();
            let learn = async |group: u64| {
                let params = json!({ "group_id": group, "user_id": own, "no_cache": false });
                match self.calls.call("get_group_member_info", params).await {
                    Ok(answer) => {
                        if let Some(member) = Member::read(&answer.data()).filter(|member| member.uid == own)
                        {
                            self.roster().take_own_role(group, member.role);
                        }
                    }
                    Err(error) => debug!(group, %error, "The own role in a group is not known."),
                }
            };
            stream::iter(groups).map(learn).buffer_unordered(ROLES_AT_ONCE).collect::<()>().await;
            self.roles_wanted.notified().await;
        }
    }
}

/// The messages that we sent, by the implementation's numbers, so that its reports of them are known as ours.
#[derive(Default)]
pub(super) struct Sends {
    numbers: Mutex<(VecDeque<String>, HashSet<String>)>,
    /// How many were begun, and how many of them are answered. One is sent after another.
    begun: AtomicU64,
    answered: watch::Sender<u64>,
}

impl Sends {
    /// A message is on its way until what is returned is dropped.
    pub(super) fn begin(&self) -> Sending<'_> {
        self.begun.fetch_add(1, Ordering::AcqRel);
        Sending(self)
    }

    /// A message has this number.
    pub(super) fn remember(&self, number: String) {
        let mut numbers = locked(&self.numbers);
        let (order, all) = &mut *numbers;
        if all.insert(number.clone()) {
            order.push_back(number);
        }
        if order.len() > SENT
            && let Some(oldest) = order.pop_front()
        {
            all.remove(&oldest);
        }
    }

    /// Whether one of our messages has this number.
    pub(super) fn have(&self, number: &str) -> bool {
        locked(&self.numbers).1.contains(number)
    }

    /// Waits until those that are on their way now are answered.
    pub(super) async fn all_answered(&self) {
        let begun = self.begun.load(Ordering::Acquire);
        // The sender is our own.
        let _ = self.answered.subscribe().wait_for(|answered| *answered >= begun).await;
    }
}

/// A message that is on its way.
pub(super) struct Sending<'a>(&'a Sends);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.answered.send_modify(|answered| *answered += 1);
    }
}

/// The data of the own account.
pub(super) async fn own_account(shared: &Shared) -> Result<Option<crate::client::objects::User>, CallError> {
    let login = shared.calls.call("get_login_info", json!({})).await?.data();
    let Some(uid) = super::wire::value::id(&login["user_id"]) else { return Ok(None) };
    // Without it only the sex is not known.
    let stranger = shared.ask("get_stranger_info", json!({ "user_id": uid, "no_cache": false })).await;
    Ok(lists::user(&shared.account, &login, &stranger.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_we_sent_is_known_once_it_is_answered() {
        let sends = Sends::default();
        sends.all_answered().await;
        let sending = sends.begin();
        assert!(timeout(Duration::from_secs(1), sends.all_answered()).await.is_err());
        sends.remember("-7".into());
        drop(sending);
        sends.all_answered().await;
        assert!(sends.have("-7") && !sends.have("7"));
        for number in 0..SENT {
            sends.remember(number.to_string());
        }
        assert!(!sends.have("-7") && sends.have("0"));
    }
}
