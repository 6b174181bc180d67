//! [`RemoteState`]: the state that handle, sessions and event worker share.

pub(super) mod roster;
mod sent_messages;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::dialect::{Dialect, List};
use super::lists::{self, Member};
use super::transport::calls::{ActionError, Calls};
use super::transport::inbox::Inbox;
use crate::client::account::binding::AccountBinding;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::objects::User;
use crate::locks::locked;
use roster::Roster;
use sent_messages::SentMessages;

/// The timeout of optional calls: not every implementation answers all of them, and messages wait behind them.
const OPTIONAL_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How many roles are queried at a time; the other call slots are left to callers.
const CONCURRENT_ROLE_CALLS: usize = 4;

/// How long a message waits for an implementation that does not listen, which may take forever.
pub(crate) const UNREACHABLE_TIME: Duration = Duration::from_secs(5);

/// How many changes of the account are remembered. Each takes a call of `relogin?forget=1`.
const MAX_ACCOUNTS: usize = 64;

/// The state that handle, sessions and event worker share.
pub(crate) struct RemoteState {
    pub(crate) account: String,
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) calls: Arc<Calls>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) binding: Arc<AccountBinding>,
    pub(crate) sent_messages: SentMessages,
    pub(crate) relogin: Notify,
    /// Wakes the task that queries the account's roles.
    pub(crate) role_refresh: Notify,
    /// The time between two loads of the lists.
    pub(crate) refresh: Duration,
    /// Whether messages that the account sends from other devices are reported.
    pub(crate) message_sync: bool,
    roster: Mutex<Roster>,
    ready: watch::Sender<bool>,
    /// Since when nothing listens at the address of the implementation.
    unreachable: watch::Sender<Option<Instant>>,
    next_id: AtomicU64,
    /// The accounts of this run: the first message id of each, and its number. Oldest first.
    accounts: Mutex<VecDeque<(u64, u64)>>,
    categories: Mutex<HashMap<u64, String>>,
    has_categories: AtomicBool,
    /// Whether roles that may have changed unseen are to be queried again.
    roles_stale: AtomicBool,
}

impl RemoteState {
    pub(crate) fn new(
        account: String,
        calls: Arc<Calls>,
        inbox: Arc<Inbox>,
        binding: Arc<AccountBinding>,
        refresh: Duration,
        message_sync: bool,
        first_id: u64,
    ) -> Self {
        Self {
            account,
            dialect: inbox.dialect(),
            calls,
            inbox,
            binding,
            sent_messages: SentMessages::default(),
            relogin: Notify::new(),
            role_refresh: Notify::new(),
            refresh,
            message_sync,
            roster: Mutex::default(),
            ready: watch::Sender::new(false),
            unreachable: watch::Sender::default(),
            next_id: AtomicU64::new(first_id),
            accounts: Mutex::default(),
            categories: Mutex::default(),
            has_categories: AtomicBool::new(true),
            roles_stale: AtomicBool::new(false),
        }
    }

    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        locked(&self.roster)
    }

    /// The next message id. Ids of implementations have many forms, and programs expect a number.
    pub(crate) fn next_id(&self) -> String {
        // Relaxed: ids have to differ, and nothing else is ordered by them.
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The account that was logged in when a message id was given out. A message keeps it while it waits, even
    /// if another account logs in meanwhile. None: there was no login before, or the account is no longer
    /// remembered.
    pub(crate) fn account_of(&self, id: &str) -> Option<u64> {
        let id: u64 = id.parse().ok()?;
        locked(&self.accounts).iter().rev().find(|(first, _)| *first <= id).map(|(_, uid)| *uid)
    }

    /// Sets the account of the login. Events that were queued for another account are dropped.
    pub(crate) fn set_account(&self, user: User) {
        let mut roster = self.roster();
        let before = roster.own_uid();
        roster.set_user(user);
        // Joins and departures between two logins bring no event.
        roster.invalidate_members();
        let uid = roster.own_uid();
        if before == uid {
            return;
        }
        // At the first login there is no earlier account whose events could wait.
        if before != 0 {
            self.inbox.change_account();
        }
        let mut accounts = locked(&self.accounts);
        accounts.push_back((self.next_id.load(Ordering::Relaxed), uid));
        if accounts.len() > MAX_ACCOUNTS {
            accounts.pop_front();
        }
    }

    /// Whether the account is logged in and its lists are loaded, so that calls can be made.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
        if ready {
            self.unreachable.send_replace(None);
        }
    }

    /// Notes that nothing listens at the address of the implementation.
    pub(crate) fn note_unreachable(&self) {
        self.unreachable.send_modify(|since| {
            // Each failed attempt comes here; the first one begins the time that messages wait.
            since.get_or_insert_with(Instant::now);
        });
    }

    /// Notes that the implementation answers.
    pub(crate) fn note_reachable(&self) {
        self.unreachable.send_replace(None);
    }

    /// Waits for a login. False: there is none in time, or nothing listens where the implementation should be.
    pub(crate) async fn wait_ready(&self, until: Instant) -> bool {
        let (mut ready, mut unreachable) = (self.ready(), self.unreachable.subscribe());
        let gone = async {
            loop {
                let since = *unreachable.borrow_and_update();
                let changed = unreachable.changed();
                let is_over = match since {
                    Some(since) => timeout_at(since + UNREACHABLE_TIME, changed).await.is_err(),
                    None => changed.await.is_err(),
                };
                if is_over {
                    return;
                }
            }
        };
        tokio::select! {
            // The login first: a message that can be sent is not given up.
            biased;
            ready = timeout_at(until, ready.wait_for(|ready| *ready)) => matches!(ready, Ok(Ok(_))),
            () = gone => false,
        }
    }

    /// Loads friends and groups, and returns the differences.
    pub(crate) async fn load_lists(&self) -> Result<Vec<AccountEvent>, ActionError> {
        let (friends, groups, ()) = tokio::join!(
            self.calls.call("get_friend_list", json!({ "no_cache": true })),
            self.calls.call("get_group_list", json!({ "no_cache": true })),
            self.load_categories(),
        );
        let (friends, groups) = (friends?.data(), groups?.data());
        let own = self.roster().own_uid();
        // A block, so that only one of the two locks is held at a time.
        let friends = {
            let categories = locked(&self.categories);
            lists::friends(self.dialect.list(&friends, List::Friends), &categories, own)
        };
        let events =
            self.roster().update_lists(friends, lists::groups(self.dialect.list(&groups, List::Groups)));
        for event in &events {
            if let AccountEvent::NewFriend(friend) = event
                && let Ok(uid) = friend.uid.parse()
                && let Some(told) = self.dialect.friend_added(own, uid)
            {
                self.inbox.tell_applications(&told);
            }
        }
        Ok(events)
    }

    /// Makes a call that the client can do without. None: it failed, or was not answered in time.
    pub(crate) async fn query_optional(&self, action: &'static str, params: Value) -> Option<Value> {
        match timeout(OPTIONAL_CALL_TIMEOUT, self.calls.call(action, params)).await {
            Ok(Ok(answer)) => Some(answer.data()),
            Ok(Err(error)) => {
                debug!("optional call {action} failed: {error}");
                None
            }
            Err(_) => {
                debug!("optional call {action} was not answered in time");
                None
            }
        }
    }

    async fn load_categories(&self) {
        if !self.has_categories.load(Ordering::Relaxed) {
            return;
        }
        let Some((action, params)) = self.dialect.categories() else { return };
        match self.query_optional(action, params).await {
            Some(data) => {
                let categories = lists::categories(&data);
                *locked(&self.categories) = categories;
            }
            // A failure counts for the whole session, so that later loads do not wait for it.
            None => self.has_categories.store(false, Ordering::Relaxed),
        }
    }

    /// Requests the account's roles that may have changed unseen.
    pub(crate) fn request_own_roles(&self) {
        // Before the wake-up, which reads it.
        self.roles_stale.store(true, Ordering::Relaxed);
        self.role_refresh.notify_one();
    }

    /// Resets what depends on the implementation, as a session begins.
    pub(crate) fn begin(&self) {
        self.has_categories.store(true, Ordering::Relaxed);
    }

    /// Queries a member. None: there is no answer, or none about it.
    pub(crate) async fn query_member(&self, group: u64, uid: u64) -> Option<Member> {
        let params = json!({ "group_id": group, "user_id": uid, "no_cache": true });
        let member = self.query_optional("get_group_member_info", params).await;
        member.and_then(|data| Member::read(self.dialect.member(&data))).filter(|member| member.uid == uid)
    }

    /// Queries a member; if that fails, returns what little is known.
    pub(crate) async fn member(&self, group: u64, uid: u64) -> Member {
        self.query_member(group, uid).await.unwrap_or_else(|| {
            let name = self.roster().name_of(None, uid).unwrap_or_default();
            Member::unknown(uid, &name)
        })
    }

    /// Queries the account's role in all groups, in the background, and in new groups as they come. A role
    /// known from before the login is only queried again when a caller wants to see it: with hundreds of
    /// groups, each login would cost as many calls.
    pub(crate) async fn fetch_own_roles(&self) {
        loop {
            let groups = {
                let roster = self.roster();
                if self.roles_stale.swap(false, Ordering::Relaxed) {
                    roster.groups_with_stale_role()
                } else {
                    roster.groups_without_role()
                }
            };
            let own = self.roster().own_uid();
            let learn = async |group: u64| {
                let params = json!({ "group_id": group, "user_id": own, "no_cache": false });
                match self.calls.call("get_group_member_info", params).await {
                    Ok(answer) => {
                        let member = Member::read(self.dialect.member(&answer.data()));
                        if let Some(member) = member.filter(|member| member.uid == own) {
                            self.roster().set_own_role(group, member.role);
                        }
                    }
                    Err(error) => debug!("cannot find out the own role in group {group}: {error}"),
                }
            };
            stream::iter(groups).map(learn).buffer_unordered(CONCURRENT_ROLE_CALLS).collect::<()>().await;
            // A wake-up during the calls is kept, so no request is lost.
            self.role_refresh.notified().await;
        }
    }
}

/// Queries the own account. None: it is not logged in.
pub(crate) async fn own_account(state: &RemoteState) -> Result<Option<User>, ActionError> {
    let (action, params) = state.dialect.login_info();
    let login = state.calls.call(action, params).await?.data();
    let Some(uid) = state.dialect.own_uid(&login) else { return Ok(None) };
    // Only the sex depends on this call.
    let (action, params) = state.dialect.profile(uid, false);
    let profile = state.query_optional(action, params).await;
    Ok(Some(lists::user(&state.account, uid, &login, &profile.unwrap_or_default())))
}
