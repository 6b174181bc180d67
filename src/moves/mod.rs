//! Accounts on their way from one machine to another: stopped here, carried with all that they keep, started there. Whole or not at all.
//!
//! The door does it for any two of its machines. What it is about to do is on disk before it does it, so that a door that was killed goes
//! on where it was: until all of the account is on the other machine it goes back to where it was, and from then on it leaves there. At
//! no time both machines may run it: it is stopped before anything else, and started when the other one has forgotten it.
//!
//! - [`Moves`]: the handle of all of it
//! - `job`: one move, step by step; `simulation`: its tests, killed at each step
//! - `side`: what is asked of a machine; `here`, `there`: of this one and of another one
//! - `journal`: the moves that are under way, on disk
//! - `flow`: a stream that does not stand still unnoticed

mod flow;
mod here;
mod job;
mod journal;
mod side;
#[cfg(test)]
mod simulation;
mod there;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::{error, info};

use crate::accounts::Accounts;
use crate::config::Settings;
use crate::locks::locked;
use crate::machines::{Machines, Moving};
use crate::model::machine::{LOCAL, MachineName};
use crate::model::name::ClientName;
use here::Here;
use job::{Job, Ledger, Place};
use journal::Journal;
pub use journal::{Entry, Phase};
use side::AnySide;
pub use side::LoginAfterwards;
use there::There;

/// How many accounts may be on their way at a time: each may fill a link and a disk.
const MOST: usize = 4;

/// Where an account is. None is this machine.
pub type At = Option<MachineName>;

/// An account that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub from: At,
    /// Where it is.
    pub to: At,
    /// What becomes of its login.
    pub login: LoginAfterwards,
    /// Why it does not run there, though it ran before.
    pub not_started: Option<String>,
}

/// Why an account is not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveFailure {
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// There are as many moves already as may be.
    #[error("{MOST} accounts are being moved already")]
    Busy,
    /// It is where it was, and runs if it ran.
    #[error("{0}")]
    Stays(String),
    /// It goes on by itself when both machines can be reached.
    #[error("{0}")]
    InDoubt(String),
}

/// The moves. Clones share them.
#[derive(Clone, Debug)]
pub struct Moves(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    accounts: Accounts,
    machines: Machines,
    settings: watch::Receiver<Arc<Settings>>,
    journal: Journal,
    places: Arc<Semaphore>,
    under_way: Mutex<BTreeMap<ClientName, ()>>,
}

impl Moves {
    /// Those that the file at `path` names, which need not exist; they go on with [`Moves::resume`]. Blocks on the file.
    pub fn new(
        accounts: Accounts,
        machines: Machines,
        settings: watch::Receiver<Arc<Settings>>,
        path: PathBuf,
    ) -> Self {
        let journal = Journal::open(path);
        // Before the first caller, so that none finds it on two machines.
        for (name, Entry { from, to, .. }) in journal.all() {
            machines.set_moving(&name, Some(Moving { from, to, is_closed: true }));
        }
        Self(Arc::new(Shared {
            accounts,
            machines,
            settings,
            journal,
            places: Arc::new(Semaphore::new(MOST)),
            under_way: Mutex::default(),
        }))
    }

    /// Goes on with the moves of an earlier run of the controller. Runs as long as the controller.
    pub async fn resume(self) {
        for (name, entry) in self.0.journal.all() {
            info!(client = %name, "its move from {} to {} goes on", shown(&entry.from), shown(&entry.to));
            // The log says how it ends.
            drop(self.spawn(name, entry, None));
        }
        std::future::pending().await
    }

    /// Moves an account. Returns when it is there, or when that has failed. The move goes on if the caller is gone.
    ///
    /// # Errors
    /// See [`MoveFailure`].
    pub async fn start(&self, name: ClientName, from: At, to: At) -> Result<Moved, MoveFailure> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| MoveFailure::Busy)?;
        let entry = Entry { from, to, phase: Phase::Copying, was_running: false };
        let answer = self.spawn(name, entry, Some(place));
        answer.await.unwrap_or_else(|_| {
            let why = "the move broke off; see the log of the controller".to_owned();
            Err(MoveFailure::InDoubt(why))
        })
    }

    /// A move of its own task. With a place it begins, without one it goes on.
    fn spawn(
        &self,
        name: ClientName,
        entry: Entry,
        place: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Result<Moved, MoveFailure>> {
        let (answer, answered) = oneshot::channel();
        if locked(&self.0.under_way).insert(name.clone(), ()).is_some() {
            let why = format!("{name} is being moved already");
            // The receiver is below.
            let _ = answer.send(Err(MoveFailure::Stays(why)));
            return answered;
        }
        let job = Job {
            name: name.clone(),
            from: Place { at: entry.from.clone(), side: self.side(&entry.from) },
            to: Place { at: entry.to.clone(), side: self.side(&entry.to) },
            ledger: self.clone(),
            answer: Some(answer),
        };
        let moving = tokio::spawn(async move {
            match &place {
                Some(_) => job.begin().await,
                None => job.go_on(entry).await,
            }
        });
        let this = self.clone();
        // The owner of the task: it notices its end, also that of a panic.
        tokio::spawn(async move {
            if let Err(broken) = moving.await {
                error!(client = %name, "its move failed ({broken}); it goes on when the controller is started again");
                return;
            }
            locked(&this.0.under_way).remove(&name);
        });
        answered
    }

    fn side(&self, at: &At) -> AnySide {
        match at {
            None => {
                let (accounts, settings) = (self.0.accounts.clone(), self.0.settings.clone());
                AnySide::Here(Box::new(Here { accounts, settings }))
            }
            Some(machine) => {
                AnySide::There(There { machines: self.0.machines.clone(), machine: machine.clone() })
            }
        }
    }
}

impl Ledger for Moves {
    async fn write(&self, name: &ClientName, entry: Option<Entry>) -> Result<(), String> {
        self.0.journal.write(name, entry).await
    }

    fn show(&self, name: &ClientName, moving: Option<Moving>) {
        self.0.machines.set_moving(name, moving);
    }

    async fn arrived(&self, name: &ClientName, from: &At, to: &At) {
        if let Some(machine) = from {
            self.0.machines.note(machine, name, None).await;
        }
        self.show(name, None);
        if let Some(machine) = to {
            let account =
                There { machines: self.0.machines.clone(), machine: machine.clone() }.account(name).await;
            // Where it can't be asked just now, its machine tells of it when it is back.
            if let Ok(account) = account {
                self.0.machines.note(machine, name, Some(account)).await;
            }
        }
    }
}

/// A machine in a sentence.
pub fn shown(at: &At) -> &str {
    at.as_ref().map_or(LOCAL, MachineName::as_str)
}
