//! [`Job`]: one move, step by step.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{info, warn};

use super::flow::watched;
use super::journal::{Entry, Phase};
use super::side::{LoginAfterwards, Seen, Side, SideError};
use super::{At, MoveFailure, Moved, shown};
use crate::accounts::KeptOf;
use crate::machines::Moving;
use crate::model::name::ClientName;

/// The pause before a machine that can't be reached is asked again, and the longest one.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the caller waits for a machine that is away, before it gets an answer and the move goes on without it.
const CALLER_WAITS: Duration = Duration::from_secs(20);

/// Where a move is written down, and shown.
pub(super) trait Ledger: Send + Sync {
    /// Writes how far a move is; none: that it is over. Returns when that is on disk.
    fn write(
        &self,
        name: &ClientName,
        entry: Option<Entry>,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// Says that an account is on its way; none: that it is so no more.
    fn show(&self, name: &ClientName, moving: Option<Moving>);
    /// It has left one machine and is shown on the other.
    fn arrived(&self, name: &ClientName, from: &At, to: &At) -> impl Future<Output = ()> + Send;
}

/// A machine.
pub(super) struct Place<S> {
    pub(super) at: At,
    pub(super) side: S,
}

/// A move.
pub(super) struct Job<S, L> {
    pub(super) name: ClientName,
    pub(super) from: Place<S>,
    pub(super) to: Place<S>,
    pub(super) ledger: L,
    /// Of the caller, until it has its answer.
    pub(super) answer: Option<oneshot::Sender<Result<Moved, MoveFailure>>>,
}

impl<S: Side, L: Ledger> Job<S, L> {
    /// Moves the account.
    pub(super) async fn begin(mut self) {
        match self.look().await {
            Err(failure) => self.tell(Err(failure)),
            Ok(seen) => {
                let entry = self.entry(Phase::Copying, seen.is_running);
                // What is not on disk is not begun.
                if let Err(why) = self.ledger.write(&self.name, Some(entry)).await {
                    return self.tell(Err(MoveFailure::Stays(why)));
                }
                let (name, from, to) = (&self.name, shown(&self.from.at), shown(&self.to.at));
                info!(client = %name, "it is being moved from {from} to {to}; it is stopped meanwhile");
                self.close(true);
                if let Err(CopyFailure { why, is_ours }) = self.copy().await {
                    return self.go_back(seen.is_running, is_ours, why).await;
                }
                // From then on only the other machine is sure to have all of it.
                let entry = self.entry(Phase::Leaving, seen.is_running);
                match self.ledger.write(&self.name, Some(entry)).await {
                    Ok(()) => self.leave(seen).await,
                    Err(why) => self.go_back(seen.is_running, true, why).await,
                }
            }
        }
    }

    /// Goes on with a move of an earlier run.
    pub(super) async fn go_on(self, entry: Entry) {
        match entry.phase {
            Phase::Copying => {
                let why = "the controller ended meanwhile".to_owned();
                self.go_back(entry.was_running, true, why).await;
            }
            Phase::Leaving => {
                let login = LoginAfterwards::MayNeedScan;
                self.leave(Seen { is_running: entry.was_running, login }).await;
            }
        }
    }

    /// The account as it is, if it can be moved.
    async fn look(&self) -> Result<Seen, MoveFailure> {
        let (from, to) = (shown(&self.from.at), shown(&self.to.at));
        let stays = |at: &str, error: &SideError| MoveFailure::Stays(format!("{at}: {error}"));
        let seen = self.from.side.look(&self.name).await.map_err(|error| stays(from, &error))?;
        let seen = seen.ok_or(MoveFailure::Unknown)?;
        if self.to.side.look(&self.name).await.map_err(|error| stays(to, &error))?.is_some() {
            return Err(stays(to, &SideError::Exists));
        }
        for of in KeptOf::ALL {
            if self.to.side.keeps(&self.name, of).await.map_err(|error| stays(to, &error))? {
                return Err(MoveFailure::Stays(format!(
                    "{to}: files of an earlier account of this name are there; wqctl forget on that machine removes them"
                )));
            }
        }
        Ok(seen)
    }

    /// Stops it, and brings all of it to the other machine.
    async fn copy(&self) -> Result<(), CopyFailure> {
        let (name, from, to) = (&self.name, &self.from.side, &self.to.side);
        let at_from = |error: SideError| CopyFailure::new(format!("{}: {error}", shown(&self.from.at)));
        let at_to = |error: SideError| CopyFailure {
            is_ours: error != SideError::Exists,
            why: format!("{}: {error}", shown(&self.to.at)),
        };
        from.stop(name).await.map_err(at_from)?;
        let parameters = from.parameters(name).await.map_err(at_from)?;
        to.register(name, parameters).await.map_err(at_to)?;
        for of in KeptOf::ALL {
            if let Some(content) = from.take_out(name, of).await.map_err(at_from)? {
                let put = watched(content, |content| to.put_in(name, of, content));
                put.await.map_err(CopyFailure::new)?.map_err(at_to)?;
            }
        }
        Ok(())
    }

    /// All of it is on the other machine. It leaves this one, and starts there.
    async fn leave(mut self, seen: Seen) {
        let mut waits = Waits::that("the move goes on when that has passed");
        loop {
            let waits_for = match self.try_leave().await {
                Ok(Left::Gone) => break,
                Ok(Left::Stays(why)) => return self.go_back(seen.is_running, true, why).await,
                Err(why) => why,
            };
            self.wait(&mut waits, &waits_for).await;
        }
        self.ledger.arrived(&self.name, &self.from.at, &self.to.at).await;
        let not_started = match seen.is_running {
            true => self.start(Which::To, &mut waits).await.err(),
            false => None,
        };
        let (name, from, to) = (&self.name, shown(&self.from.at), shown(&self.to.at));
        match &not_started {
            None => info!(client = %name, "it has been moved from {from} to {to}"),
            Some(why) => {
                warn!(client = %name, "it has been moved from {from} to {to}, and could not be started there: {why}")
            }
        }
        let moved =
            Moved { from: self.from.at.clone(), to: self.to.at.clone(), login: seen.login, not_started };
        self.end(Ok(moved)).await;
    }

    /// Takes it off the machine where it was, if the other one has it.
    ///
    /// # Errors
    /// It can't be done yet: why.
    async fn try_leave(&self) -> Result<Left, String> {
        let (name, from, to) = (&self.name, shown(&self.from.at), shown(&self.to.at));
        let Some(there) = self.from.side.look(name).await.map_err(|error| format!("{from}: {error}"))? else {
            return Ok(Left::Gone);
        };
        // Not even a caller of that machine is to lose it.
        if there.is_running {
            return Ok(Left::Stays(format!("it was started on {from} meanwhile")));
        }
        if self.to.side.look(name).await.map_err(|error| format!("{to}: {error}"))?.is_none() {
            return Ok(Left::Stays(format!("it is on {to} no more")));
        }
        // Once this was begun, only the other machine is sure to have all of it.
        self.from.side.forget(name).await.map(|()| Left::Gone).map_err(|error| format!("{from}: {error}"))
    }

    /// It stays where it was. `is_ours` says whether what is on the other machine came there by this move.
    async fn go_back(mut self, was_running: bool, is_ours: bool, why: String) {
        let (name, from, to) =
            (self.name.clone(), shown(&self.from.at).to_owned(), shown(&self.to.at).to_owned());
        warn!(client = %name, "it is not moved to {to} and stays on {from}: {why}");
        let mut waits = Waits::that("it is not moved, and goes on there when that has passed");
        let mut stays = why;
        if was_running && let Err(error) = self.start(Which::From, &mut waits).await {
            warn!(client = %name, "could not be started again on {from}: {error}");
            stays = format!("{stays}; and it could not be started again: {error}");
        }
        self.close(false);
        self.tell(Err(MoveFailure::Stays(stays.clone())));
        if is_ours && let Err(error) = self.undo(&mut waits).await {
            warn!(client = %name, "what came to {to} is still there: {error}");
        }
        self.end(Err(MoveFailure::Stays(stays))).await;
        self.ledger.show(&name, None);
    }

    /// Removes what came to the other machine. Not without a look at the one where all of it has to be.
    async fn undo(&mut self, waits: &mut Waits) -> Result<(), SideError> {
        loop {
            let undone = match self.from.side.look(&self.name).await {
                Ok(Some(_)) => self.to.side.forget(&self.name).await,
                Ok(None) => Err(SideError::Missing),
                Err(error) => Err(error),
            };
            match undone {
                Err(SideError::Unreachable(why)) => self.wait(waits, &why).await,
                undone => return undone,
            }
        }
    }

    /// Starts it on one of the machines, as soon as that can be reached.
    ///
    /// # Errors
    /// It does not start: why.
    async fn start(&mut self, which: Which, waits: &mut Waits) -> Result<(), String> {
        loop {
            let place = match which {
                Which::From => &self.from,
                Which::To => &self.to,
            };
            match place.side.start(&self.name).await {
                Ok(()) => return Ok(()),
                Err(SideError::Unreachable(why)) => {
                    let why = format!("{}: {why}", shown(&place.at));
                    self.wait(waits, &why).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Waits until a machine is asked again. The caller waits only so long.
    async fn wait(&mut self, waits: &mut Waits, why: &str) {
        let name = &self.name;
        if waits.last.as_deref() != Some(why) {
            warn!(client = %name, "its move waits: {why}");
            waits.last = Some(why.to_owned());
        }
        if waits.waited >= CALLER_WAITS {
            self.tell(Err(MoveFailure::InDoubt(format!("{why}; {}", waits.then))));
        }
        let pause = (PAUSE + waits.waited / 4).min(LONGEST_PAUSE);
        sleep(pause).await;
        waits.waited += pause;
    }

    /// It is over, and the caller gets its answer. Returns when that is on disk, or the next run of the controller would go on with it.
    async fn end(&mut self, outcome: Result<Moved, MoveFailure>) {
        let mut waits = Waits::that("the move is over all the same");
        loop {
            let written = self.ledger.write(&self.name, None).await;
            self.tell(outcome.clone());
            match written {
                Ok(()) => return,
                Err(why) => self.wait(&mut waits, &why).await,
            }
        }
    }

    fn close(&self, is_closed: bool) {
        let moving = Moving { from: self.from.at.clone(), to: self.to.at.clone(), is_closed };
        self.ledger.show(&self.name, Some(moving));
    }

    fn entry(&self, phase: Phase, was_running: bool) -> Entry {
        Entry { from: self.from.at.clone(), to: self.to.at.clone(), phase, was_running }
    }

    /// Tells the caller, once.
    fn tell(&mut self, outcome: Result<Moved, MoveFailure>) {
        if let Some(answer) = self.answer.take() {
            // The caller may have gone.
            let _ = answer.send(outcome);
        }
    }
}

/// One of the two machines.
#[derive(Clone, Copy)]
enum Which {
    From,
    To,
}

/// Whether an account has left the machine where it was.
enum Left {
    Gone,
    /// It is not to leave: why.
    Stays(String),
}

/// How long a move has waited for machines.
struct Waits {
    waited: Duration,
    last: Option<String>,
    /// What follows, for the answer to a caller who waits no longer.
    then: &'static str,
}

impl Waits {
    fn that(then: &'static str) -> Self {
        Self { waited: Duration::ZERO, last: None, then }
    }
}

/// Why the other machine has not got all of it.
struct CopyFailure {
    why: String,
    /// Whether what is on the other machine came there by this move.
    is_ours: bool,
}

impl CopyFailure {
    fn new(why: String) -> Self {
        Self { why, is_ours: true }
    }
}
