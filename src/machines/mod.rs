//! Other machines with a controller, to which this one is the door: what is known of their accounts, and the connections to them.
//!
//! Each machine's controller is the master of its accounts. The door keeps a table of them, which their event streams keep up to date,
//! and asks nothing when it is called.
//!
//! - [`Machines`]: the handle of all of it; `table`: what is known; `remote_account`: an account as its machine tells it
//! - `link`: keeps the connection to one machine; `ssh`: the tunnel to its socket; `target`, `exchange`: a connection to its controller;
//!   `follow`: what it tells; `bounds`: how much that may be
//! - `moving`: accounts that are on their way from one machine to another
//! - `remembered`: which account lives where, on disk

mod bounds;
mod exchange;
mod follow;
mod link;
mod moving;
mod remembered;
mod remote_account;
mod ssh;
mod ssh_words;
mod table;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use link::Link;
pub use moving::Moving;
pub use remembered::Remembered;
pub use remote_account::RemoteAccount;
pub use ssh::become_ssh;
pub use table::{LinkState, ListedElsewhere, Location, Machine, MachineTable, NameTaken};
pub use target::{AnyStream, CallFailure, Place, Stream, Target};

use crate::accounts::{ChangeKind, OutsideChange};
use crate::config::{self, MachineSettings, Settings};
use crate::locks::locked;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::wire::machines::MachineRefusal;

/// How many changes of other machines may wait to be told.
pub const NEWS: usize = 1024;

/// How long a call waits for the first answer of a machine. One far away takes about two seconds; one that is switched off never answers.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// How many lists of machines are read at a time.
const LISTS: usize = 4;

/// The other machines. Clones share them.
#[derive(Clone, Debug)]
pub struct Machines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<MachineTable>,
    /// Where each machine is reached just now.
    targets: Mutex<BTreeMap<MachineName, Arc<Target>>>,
    /// Those that are being connected to for the first time, so that it is not known yet whether they can be reached.
    new: watch::Sender<BTreeSet<MachineName>>,
    /// How often an account has come to a machine or left one, so that it is written down.
    places: watch::Sender<u64>,
    news: mpsc::Sender<OutsideChange>,
    /// Lists of machines that may be read at a time. While one is read, it takes several times the memory of what is kept of it, and all
    /// machines are read when the controller starts.
    lists: Semaphore,
}

/// What a machine tells.
#[derive(Debug)]
enum Heard {
    /// It answers.
    Reachable,
    /// It does not: why.
    Unreachable(String),
    /// All its accounts.
    All(Vec<RemoteAccount>),
    /// An account as it is now.
    Account(RemoteAccount),
    /// An account has left its list.
    Gone(ClientName),
    /// How much of its memory is free, in bytes.
    FreeMemory(Option<u64>),
}

/// What becomes of a name that is taken for the start of an account. When this is dropped, the name is free again, unless the account has
/// come about.
#[derive(Debug)]
pub struct Reservation {
    machines: Machines,
    name: ClientName,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        locked(&self.machines.0.table).release(&self.name);
    }
}

impl Reservation {
    /// The start on a machine is answered. An account that came about is known before its machine tells of it.
    pub fn settle(self, machine: &MachineName, is_started: bool) {
        let mut table = locked(&self.machines.0.table);
        let is_known = |known: &Machine| known.accounts.contains_key(&self.name);
        if is_started && !table.machines().get(machine).is_some_and(is_known) {
            table.insert(machine, RemoteAccount::of_name(self.name.clone()));
        }
        // `self` is dropped after the guard, which its drop takes again.
        drop(table);
    }
}

impl Machines {
    /// Those of the settings, with the names of accounts that are remembered. `news` takes what changes.
    pub fn new(
        settings: &Settings,
        remembered: &BTreeMap<MachineName, Vec<ClientName>>,
        news: mpsc::Sender<OutsideChange>,
    ) -> Self {
        let (mut table, now) = (MachineTable::default(), unix_seconds());
        for name in settings.machines.keys() {
            table.add(name, remembered.get(name).into_iter().flatten().cloned(), now);
        }
        let machines = Self::of(table, news);
        machines.0.new.send_replace(settings.machines.keys().cloned().collect());
        machines
    }

    fn of(table: MachineTable, news: mpsc::Sender<OutsideChange>) -> Self {
        let (table, targets) = (Mutex::new(table), Mutex::default());
        let (places, lists) = (watch::Sender::new(0), Semaphore::new(LISTS));
        Self(Arc::new(Shared { table, targets, new: watch::Sender::default(), places, news, lists }))
    }

    /// Looks at the table. The lock is held meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&MachineTable) -> T) -> T {
        look(&locked(&self.0.table))
    }

    /// Where the account is that a caller names. `is_here` says whether this machine has one of a name.
    pub fn locate(&self, named: &ClientName, is_here: impl Fn(&ClientName) -> bool) -> Location {
        locked(&self.0.table).locate(named, is_here)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        locked(&self.0.table).machines().is_empty()
    }

    /// Whether another machine has an account of this name.
    pub fn knows(&self, name: &ClientName) -> bool {
        locked(&self.0.table).knows(name)
    }

    /// What a call about an account has to wait for: after a start or a reload it is not known at once which machines can be reached, and
    /// the account may be on one of those. `at` is where it is as far as is known; none: anywhere.
    pub fn first_answer(&self, at: Option<MachineName>) -> impl Future<Output = ()> + Send + use<> {
        let mut new = self.0.new.subscribe();
        async move {
            let is_known = |new: &BTreeSet<MachineName>| match &at {
                Some(machine) => !new.contains(machine),
                None => new.is_empty(),
            };
            // Whatever comes of it: what is known then answers the call.
            let _ = timeout(FIRST_ANSWER, new.wait_for(is_known)).await;
        }
    }

    /// Whether it is known of each machine if it can be reached.
    pub fn are_known(&self) -> bool {
        self.0.new.borrow().is_empty()
    }

    /// How the controller of a machine is reached.
    ///
    /// # Errors
    /// It can't be, or there is no such machine.
    pub fn target(&self, machine: &MachineName) -> Result<Arc<Target>, MachineRefusal> {
        let unreachable = |since, why: &str| MachineRefusal::Unreachable {
            machine: machine.as_str().to_owned(),
            since,
            why: why.to_owned(),
        };
        match locked(&self.0.table).machines().get(machine).map(|machine| machine.link.clone()) {
            None => return Err(MachineRefusal::NoSuchMachine(machine.as_str().to_owned())),
            Some(LinkState::Unreachable { since, why }) => return Err(unreachable(since, &why)),
            Some(LinkState::Reachable { .. }) => {}
        }
        let target = locked(&self.0.targets).get(machine).cloned();
        target.ok_or_else(|| unreachable(unix_seconds(), "its connection has just ended"))
    }

    /// Notes that an account is on its way; none: that it is so no more.
    pub fn set_moving(&self, name: &ClientName, moving: Option<Moving>) {
        locked(&self.0.table).set_moving(name, moving);
    }

    /// Whether this account is still on its way to this machine, and so not shown as one of it.
    pub fn hides_own(&self, name: &ClientName) -> bool {
        locked(&self.0.table).hides_own(name)
    }

    /// Notes an account of a machine, before that tells of it. None: it has left there.
    pub async fn note(&self, machine: &MachineName, name: &ClientName, account: Option<RemoteAccount>) {
        let news = MachineNews { machines: self.clone(), name: machine.clone() };
        news.hear(account.map_or(Heard::Gone(name.clone()), Heard::Account)).await;
    }

    /// Takes a name for an account that is to be started on this machine; none: on the machine that is called.
    ///
    /// # Errors
    /// It is taken, or may be.
    pub fn reserve(&self, name: &ClientName, on: Option<&MachineName>) -> Result<Reservation, NameTaken> {
        locked(&self.0.table).reserve(name, on)?;
        Ok(Reservation { machines: self.clone(), name: name.clone() })
    }

    /// The accounts of each machine, by name.
    fn places(&self) -> BTreeMap<MachineName, Vec<ClientName>> {
        let table = locked(&self.0.table);
        let of = |(name, machine): (&MachineName, &Machine)| {
            (name.clone(), machine.accounts.keys().cloned().collect())
        };
        table.machines().iter().map(of).collect()
    }

    /// Keeps the connections to the machines of the settings, as they are and become. Runs as long as the controller. Sockets of tunnels
    /// are in `folder`, which exists.
    pub async fn run(self, mut settings: watch::Receiver<Arc<Settings>>, folder: Arc<Path>) {
        let mut links: BTreeMap<MachineName, (MachineSettings, AbortOnDropHandle<()>)> = BTreeMap::new();
        loop {
            let wanted = settings.borrow_and_update().machines.clone();
            links.retain(|name, (connected, _)| wanted.get(name) == Some(connected));
            self.forget_others(&wanted).await;
            for (name, own) in wanted {
                links.entry(name.clone()).or_insert_with(|| {
                    locked(&self.0.table).add(&name, [], unix_seconds());
                    self.0.new.send_if_modified(|new| new.insert(name.clone()));
                    let news = MachineNews { machines: self.clone(), name };
                    let link = Link { settings: own.clone(), news, folder: folder.clone() };
                    (own, AbortOnDropHandle::new(tokio::spawn(link.run())))
                });
            }
            if settings.changed().await.is_err() {
                return;
            }
        }
    }

    /// Forgets the machines that the settings name no more, and their accounts.
    async fn forget_others(&self, wanted: &config::Machines) {
        for (name, accounts) in self.places().into_iter().filter(|(name, _)| !wanted.contains_key(name)) {
            locked(&self.0.table).remove(&name);
            locked(&self.0.targets).remove(&name);
            self.note_known(&name);
            for account in accounts {
                let text = json!({ "name": account, "machine": name.as_str() }).to_string();
                self.tell(ChangeKind::GoneElsewhere, text).await;
            }
        }
        self.note_places();
    }

    /// Notes that it is known whether a machine can be reached.
    fn note_known(&self, name: &MachineName) {
        self.0.new.send_if_modified(|new| new.remove(name));
    }

    /// Has it written down which account lives where, if that has changed.
    fn note_places(&self) {
        let moves = locked(&self.0.table).moves();
        self.0.places.send_if_modified(|noted| std::mem::replace(noted, moves) != moves);
    }

    async fn tell(&self, kind: ChangeKind, text: String) {
        // Its receiver lives as long as the controller.
        let _ = self.0.news.send(OutsideChange { kind, text: Bytes::from(text) }).await;
    }
}

/// What one machine tells goes here.
#[derive(Clone, Debug)]
struct MachineNews {
    machines: Machines,
    name: MachineName,
}

impl MachineNews {
    /// Notes what the machine tells, and tells those who listen what of it is news. Returns whether anything is.
    async fn hear(&self, heard: Heard) -> bool {
        let (gone, changed) = match heard {
            Heard::Reachable => {
                let is_news = self.note_link(LinkState::Reachable { since: unix_seconds() }).await;
                self.machines.note_known(&self.name);
                return is_news;
            }
            Heard::Unreachable(why) => {
                let why = bounds::reason(&why).into();
                let link = LinkState::Unreachable { since: unix_seconds(), why };
                let is_news = self.note_link(link).await;
                self.machines.note_known(&self.name);
                return is_news;
            }
            Heard::FreeMemory(bytes) => {
                locked(&self.machines.0.table).set_free_memory(&self.name, bytes);
                return false;
            }
            Heard::All(accounts) => locked(&self.machines.0.table).replace(&self.name, accounts),
            Heard::Account(account) => {
                let key = account.name.clone();
                let is_news = locked(&self.machines.0.table).insert(&self.name, account);
                (Vec::new(), is_news.then_some(key).into_iter().collect())
            }
            Heard::Gone(account) => {
                let is_news = locked(&self.machines.0.table).delete(&self.name, &account);
                (is_news.then_some(account).into_iter().collect(), Vec::new())
            }
        };
        for account in &gone {
            let text = json!({ "name": account, "machine": self.name.as_str() }).to_string();
            self.machines.tell(ChangeKind::GoneElsewhere, text).await;
        }
        for account in &changed {
            let text = self.machines.look(|table| table.shown(&self.name, account));
            if let Some(text) = text {
                self.machines.tell(ChangeKind::Elsewhere, text).await;
            }
        }
        self.machines.note_places();
        !gone.is_empty() || !changed.is_empty()
    }

    /// Whether the machine may tell of this account as well.
    fn has_room(&self, account: &RemoteAccount) -> bool {
        self.machines.look(|table| {
            let Some(machine) = table.machines().get(&self.name) else { return true };
            let is_known = machine.accounts.contains_key(&account.name);
            let text = || machine.accounts.values().map(|known| known.text_len()).sum::<usize>();
            (is_known || machine.accounts.len() < bounds::MAX_ACCOUNTS)
                && (account.text_len() <= bounds::SMALL || text() + account.text_len() <= bounds::MAX_TEXT)
        })
    }

    /// Notes whether the machine can be reached. Returns whether that is news.
    async fn note_link(&self, link: LinkState) -> bool {
        let name = &self.name;
        let noted = {
            let mut table = locked(&self.machines.0.table);
            let is_news = table.set_link(name, link);
            table.machines().get(name).filter(|_| is_news).map(|machine| machine.link.clone())
        };
        let text = match noted {
            None => return false,
            Some(LinkState::Reachable { .. }) => {
                info!(machine = name.as_str(), "{name}: its controller is reached");
                json!({ "name": name.as_str(), "state": "reachable" })
            }
            Some(LinkState::Unreachable { since, why }) => {
                warn!(machine = name.as_str(), "{name}: its controller can't be reached: {why}");
                json!({ "name": name.as_str(), "state": "unreachable", "since": since, "reason": &*why })
            }
        };
        self.machines.tell(ChangeKind::Machine, text.to_string()).await;
        true
    }
}

/// How much memory of this machine is free for more programs, in bytes: `MemAvailable` of proc_meminfo(5). None where that can't be read.
pub fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The time, in Unix seconds.
fn unix_seconds() -> u64 {
    // A clock before 1970 is no clock.
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}
