//! Moves between two machines on paper. At each step the door is killed, before or after it, or a machine is away: in the end one
//! machine has all of the account, and at no time both run it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::job::{Job, Ledger, Place};
use super::journal::Entry;
use super::side::{LoginAfterwards, Seen, Side, SideError};
use super::{At, MoveFailure, Moved, Phase};
use crate::accounts::{KeptOf, KeptStream};
use crate::locks::locked;
use crate::machines::Moving;
use crate::model::machine::MachineName;
use crate::model::name::ClientName;
use crate::wire::v1::requests::Parameters;

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The door is killed before it.
    KilledBefore,
    /// The door is killed when it is done.
    KilledAfter,
    /// The machine is away for three calls, and has not heard this one.
    NotHeard,
    /// The machine is away for three calls, and has done this one.
    NotAnswered,
    /// The machine refuses.
    Refused,
    /// Before it an operator starts the account on the machine where it was.
    StartedThere,
}

const FAULTS: [Fault; 6] = [
    Fault::KilledBefore,
    Fault::KilledAfter,
    Fault::NotHeard,
    Fault::NotAnswered,
    Fault::Refused,
    Fault::StartedThere,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    is_running: bool,
    parameters: Parameters,
    files: BTreeMap<&'static str, Bytes>,
}

#[derive(Debug, Default)]
struct World {
    machines: [Option<Account>; 2],
    journal: Option<Entry>,
    moving: Option<Moving>,
    steps: usize,
    /// What happens at which steps.
    faults: Vec<(usize, Fault)>,
    /// How many more calls a machine does not hear.
    away: [usize; 2],
    is_killed: bool,
    log: Vec<String>,
}

impl World {
    fn whole() -> Account {
        Account {
            is_running: false,
            parameters: [("token".to_owned(), "secret".to_owned())].into(),
            files: [("client", "outbox".into()), ("implementation", "login".into())].into(),
        }
    }

    fn check(&self) {
        let running = self.machines.iter().flatten().filter(|account| account.is_running).count();
        assert!(running <= 1, "both machines run it: {self:#?}");
        let whole = Self::whole();
        let is_whole =
            |account: &Account| account.parameters == whole.parameters && account.files == whole.files;
        assert!(self.machines.iter().flatten().any(is_whole), "it is lost: {self:#?}");
    }
}

/// The step that writes the journal.
const WRITE: &str = "write";

#[derive(Clone)]
struct OnPaper {
    world: Arc<Mutex<World>>,
    which: usize,
}

impl OnPaper {
    /// A step of this machine.
    async fn step<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut Option<Account>) -> Result<T, SideError>,
    ) -> Result<T, SideError> {
        self.in_world(what, |world| act(&mut world.machines[self.which])).await
    }

    /// A step: what it does to the world, unless something happens.
    async fn in_world<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut World) -> Result<T, SideError>,
    ) -> Result<T, SideError> {
        let away = || SideError::Unreachable("it is away".into());
        let (done, is_killed) = {
            let mut world = locked(&self.world);
            let number = world.steps;
            world.steps += 1;
            world.log.push(format!("{number}: {what} on {}", self.which));
            let fault = world.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
            let is_disk = what == WRITE;
            let fault = match fault {
                Some(Fault::NotHeard | Fault::NotAnswered) if is_disk => Some(Fault::Refused),
                fault => fault,
            };
            if fault == Some(Fault::StartedThere)
                && let Some(account) = &mut world.machines[0]
            {
                account.is_running = true;
            }
            let is_away = world.away[self.which] > 0 && !is_disk;
            if is_away {
                world.away[self.which] -= 1;
            }
            let done = match fault {
                _ if is_away => Err(away()),
                Some(Fault::KilledBefore) => Err(away()),
                Some(Fault::NotHeard) => {
                    world.away[self.which] = 2;
                    Err(away())
                }
                Some(Fault::Refused) => Err(SideError::Refused("it does not want to".into())),
                _ => act(&mut world),
            };
            let done = match fault {
                Some(Fault::NotAnswered) => {
                    world.away[self.which] = 2;
                    done.and(Err(away()))
                }
                _ => done,
            };
            world.check();
            world.is_killed |= matches!(fault, Some(Fault::KilledBefore | Fault::KilledAfter));
            (done, world.is_killed)
        };
        if is_killed {
            std::future::pending::<()>().await;
        }
        done
    }
}

fn missing<T>(account: Option<T>) -> Result<T, SideError> {
    account.ok_or(SideError::Missing)
}

impl Side for OnPaper {
    async fn look(&self, _name: &ClientName) -> Result<Option<Seen>, SideError> {
        let login = LoginAfterwards::Carried;
        let seen = |account: &Account| Seen { is_running: account.is_running, login };
        self.step("look", |account| Ok(account.as_ref().map(seen))).await
    }

    async fn keeps(&self, _name: &ClientName, _of: KeptOf) -> Result<bool, SideError> {
        self.step("keeps", |account| Ok(account.is_some())).await
    }

    async fn stop(&self, _name: &ClientName) -> Result<(), SideError> {
        self.step("stop", |account| missing(account.as_mut()).map(|account| account.is_running = false)).await
    }

    async fn parameters(&self, _name: &ClientName) -> Result<Parameters, SideError> {
        self.step("parameters", |account| missing(account.as_ref()).map(|account| account.parameters.clone()))
            .await
    }

    async fn register(&self, _name: &ClientName, parameters: Parameters) -> Result<(), SideError> {
        self.step("register", |account| match account {
            Some(_) => Err(SideError::Exists),
            none => {
                *none = Some(Account { parameters, ..Account::default() });
                Ok(())
            }
        })
        .await
    }

    async fn take_out(&self, _name: &ClientName, of: KeptOf) -> Result<Option<KeptStream>, SideError> {
        let taken = self.step("take out", |account| match missing(account.as_ref())? {
            account if account.is_running => Err(SideError::Running),
            account => Ok(account.files.get(of.as_str()).cloned()),
        });
        let taken = taken.await?;
        Ok(taken.map(|content| Full::new(content).map_err(|never| match never {}).boxed_unsync()))
    }

    async fn put_in(&self, _name: &ClientName, of: KeptOf, content: KeptStream) -> Result<(), SideError> {
        let content = content.collect().await.unwrap().to_bytes();
        self.step("put in", |account| match missing(account.as_mut())? {
            account if account.is_running => Err(SideError::Running),
            account => {
                account.files.insert(of.as_str(), content);
                Ok(())
            }
        })
        .await
    }

    async fn forget(&self, _name: &ClientName) -> Result<(), SideError> {
        self.step("forget", |account| match account {
            Some(account) if account.is_running => Err(SideError::Running),
            account => {
                *account = None;
                Ok(())
            }
        })
        .await
    }

    async fn start(&self, _name: &ClientName) -> Result<(), SideError> {
        self.step("start", |account| missing(account.as_mut()).map(|account| account.is_running = true)).await
    }
}

#[derive(Clone)]
struct Book(Arc<Mutex<World>>);

impl Ledger for Book {
    async fn write(&self, _name: &ClientName, entry: Option<Entry>) -> Result<(), String> {
        // A step, too: the door may be killed before it is on disk, or the disk may be full.
        let side = OnPaper { world: self.0.clone(), which: 0 };
        let written = side.in_world(WRITE, |world| {
            world.journal = entry;
            Ok(())
        });
        written.await.map_err(|error| error.to_string())
    }

    fn show(&self, _name: &ClientName, moving: Option<Moving>) {
        locked(&self.0).moving = moving;
    }

    async fn arrived(&self, name: &ClientName, _from: &At, _to: &At) {
        self.show(name, None);
    }
}

fn tokyo() -> At {
    Some(MachineName::new("tokyo").unwrap())
}

fn job(world: &Arc<Mutex<World>>) -> (Job<OnPaper, Book>, oneshot::Receiver<Result<Moved, MoveFailure>>) {
    let (answer, answered) = oneshot::channel();
    let place = |at, which| Place { at, side: OnPaper { world: world.clone(), which } };
    let job = Job {
        name: ClientName::new("a").unwrap(),
        from: place(None, 0),
        to: place(tokyo(), 1),
        ledger: Book(world.clone()),
        answer: Some(answer),
    };
    (job, answered)
}

/// Long enough for all pauses.
const LONG: Duration = Duration::from_secs(3600);

/// A move with these faults, and as many runs of the door as it takes. Returns the answer to its caller, and the world at the end.
async fn moved(was_running: bool, faults: &[(usize, Fault)]) -> (Option<Result<Moved, MoveFailure>>, World) {
    let account = Account { is_running: was_running, ..World::whole() };
    let start = World { machines: [Some(account), None], faults: faults.to_vec(), ..World::default() };
    let world = Arc::new(Mutex::new(start));
    let (first, mut answered) = job(&world);
    let mut ended = timeout(LONG, first.begin()).await.is_ok();
    let said = answered.try_recv().ok();
    for _ in 0..=faults.len() {
        if ended {
            break;
        }
        let entry = {
            let mut world = locked(&world);
            assert!(world.is_killed, "it hangs: {world:#?}");
            world.is_killed = false;
            // A door that starts anew shows what is in its journal.
            world.moving = None;
            world.journal.clone()
        };
        let Some(entry) = entry else { break };
        let (next, _) = job(&world);
        ended = timeout(LONG, next.go_on(entry)).await.is_ok();
    }
    let mut world = std::mem::take(&mut *locked(&world));
    world.is_killed = false;
    (said, world)
}

/// Where it is, if on one machine alone.
fn place(world: &World) -> Option<(usize, bool)> {
    match &world.machines {
        [Some(account), None] => Some((0, account.is_running)),
        [None, Some(account)] => Some((1, account.is_running)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn account_moves_with_all_that_it_keeps() {
    for was_running in [true, false] {
        let (said, world) = moved(was_running, &[]).await;
        let login = LoginAfterwards::Carried;
        assert_eq!(said, Some(Ok(Moved { from: None, to: tokyo(), login, not_started: None })));
        let account = Account { is_running: was_running, ..World::whole() };
        assert_eq!(world.machines, [None, Some(account)]);
        assert_eq!((world.journal, world.moving), (None, None));
    }
}

/// How many steps a move has at most, with all that goes wrong.
const STEPS: usize = 40;

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_runs_twice_whatever_happens() {
    let (mut runs, mut moves) = (0, 0);
    for was_running in [true, false] {
        for first in 0..STEPS {
            for fault in FAULTS {
                let seconds = [None].into_iter().chain((first + 1..STEPS).map(Some));
                for second in seconds.flat_map(|at| match at {
                    None => vec![None],
                    Some(at) => FAULTS.map(|fault| Some((at, fault))).to_vec(),
                }) {
                    let faults: Vec<_> = [Some((first, fault)), second].into_iter().flatten().collect();
                    let (_, world) = moved(was_running, &faults).await;
                    runs += 1;
                    let happened = |wanted: Fault| {
                        faults.iter().any(|(at, fault)| *fault == wanted && *at < world.steps)
                    };
                    let is_odd = happened(Fault::Refused) || happened(Fault::StartedThere);
                    match place(&world) {
                        Some((which, is_running)) => {
                            moves += which;
                            assert!(is_running == was_running || is_odd, "{faults:?}: {world:#?}");
                        }
                        // A machine that refuses to remove what came there, or to let go what it has.
                        None => assert!(is_odd, "{faults:?}: {world:#?}"),
                    }
                    assert_eq!(world.journal, None, "{faults:?}: {world:#?}");
                    assert_eq!(world.moving, None, "{faults:?}");
                }
            }
        }
    }
    assert!(moves > 1000 && moves < runs - 1000, "{moves} of {runs} have moved it");
}

#[tokio::test(start_paused = true)]
async fn caller_is_told_how_it_is_and_not_kept_waiting() {
    // Stopping it: the sixth step of a move that begins.
    let (said, world) = moved(true, &[(5, Fault::Refused)]).await;
    assert_eq!(said, Some(Err(MoveFailure::Stays("local: it does not want to".into()))), "{:?}", world.log);
    assert_eq!(place(&world), Some((0, true)));
    let account = Account { is_running: true, ..World::whole() };
    let world = World { machines: [Some(account.clone()), Some(account)], ..World::default() };
    let (job, answered) = job(&Arc::new(Mutex::new(World {
        machines: [world.machines[0].clone(), Some(Account::default())],
        ..World::default()
    })));
    job.begin().await;
    let refused = answered.await.unwrap().unwrap_err();
    assert_eq!(refused, MoveFailure::Stays("tokyo: there is an account of this name".into()));
    // The machine where it was is away while the account leaves it.
    let away = Arc::new(Mutex::new(World {
        machines: [Some(World::whole()), Some(World::whole())],
        away: [1000, 0],
        ..World::default()
    }));
    let (job, answered) = self::job(&away);
    let entry = Entry { from: None, to: tokyo(), phase: Phase::Leaving, was_running: true };
    let waiting = tokio::spawn(job.go_on(entry));
    let told = timeout(Duration::from_secs(60), answered).await.unwrap().unwrap().unwrap_err();
    let why = "local: it is away; the move goes on when that has passed".to_owned();
    assert_eq!(told, MoveFailure::InDoubt(why));
    timeout(Duration::from_secs(100_000), waiting).await.unwrap().unwrap();
    assert_eq!(place(&locked(&away)), Some((1, true)));
}
