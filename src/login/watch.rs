//! [`LoginWatch`]: asks all implementations about their logins.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::account::Account;
use super::probe::{Found, Prober};
use super::route;
use super::{Logins, unix_now};
use crate::config::Settings;
use crate::environ::implementation_of;
use crate::implementations::ImplementationKind;
use crate::model::client::{ClientSpec, Phase};
use crate::model::login::{Facts, LoginAction, LoginEvent, LoginState, NetworkGuard, Transition};
use crate::model::name::ClientName;
use crate::peers::PeerPolicy;
use crate::registry::{ClientView, Forgetting, Registry, Snapshot, token_file};
use crate::service::events;

/// The time from one question to the next. A lost login is shown that long after the implementation knows of it.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many are asked at the same time.
const AT_A_TIME: usize = 32;
/// How many may be started anew at the same time because of their logins.
const STARTS_AT_A_TIME: usize = 4;

/// What the watch is given.
pub struct WatchContext {
    /// The clients.
    pub clients: Registry,
    /// The implementations.
    pub implementations: Registry,
    /// The current settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The folder of the tokens.
    pub tokens: Arc<Path>,
    /// Tells whose a port is. None where all processes have the same user.
    pub policy: Option<Arc<PeerPolicy>>,
    /// The accounts whose saved login is dropped at their next start.
    pub forgetting: Forgetting,
    /// Where changes are told: to clients, and to whom the operator names.
    pub news: [mpsc::Sender<LoginNews>; 2],
    /// The controller ends: nothing that happens to a login from then on is news.
    pub ending: CancellationToken,
}

/// A change of a login that is told.
#[derive(Clone, Debug)]
pub struct LoginNews {
    /// The account.
    pub spec: Arc<ClientSpec>,
    /// What has changed.
    pub event: LoginEvent,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// Asks all implementations about their logins, and publishes what follows.
pub struct LoginWatch {
    context: WatchContext,
    accounts: BTreeMap<ClientName, Account>,
    network: NetworkGuard,
    tasks: JoinSet<Found>,
    /// The accounts that are being asked, and the process that is.
    asked: HashMap<Id, (ClientName, Option<(u64, u32)>)>,
    publish: watch::Sender<Logins>,
}

impl LoginWatch {
    /// Makes it. `publish` gets the logins.
    pub fn new(context: WatchContext, publish: watch::Sender<Logins>) -> Self {
        let (accounts, network) = (BTreeMap::new(), NetworkGuard::default());
        Self { context, accounts, network, tasks: JoinSet::new(), asked: HashMap::new(), publish }
    }

    /// Works until a registry ends.
    pub async fn run(mut self) {
        let (mut clients, mut implementations) =
            (self.context.clients.changes(), self.context.implementations.changes());
        loop {
            let (of_clients, of_implementations) =
                (clients.borrow_and_update().clone(), implementations.borrow_and_update().clone());
            self.look(&of_clients, &of_implementations).await;
            self.ask_who_is_due(&of_clients, &of_implementations);
            let idle = self.accounts.values().filter(|account| !account.is_busy);
            let next = idle.map(|account| account.due).min().filter(|_| self.tasks.len() < AT_A_TIME);
            let pause = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = clients.changed() => if changed.is_err() { return },
                changed = implementations.changed() => if changed.is_err() { return },
                Some(asked) = self.tasks.join_next_with_id() => self.answered(asked),
                () = pause => {}
                // The registries end the controller, and this does not.
                () = self.context.ending.cancelled() => std::future::pending().await,
            }
        }
    }

    /// Concludes anew for all accounts, does what follows, and publishes what has changed.
    async fn look(&mut self, clients: &Snapshot, implementations: &Snapshot) {
        let now = unix_now();
        let settings = self.context.settings.borrow().clone();
        let network = &mut self.network;
        self.accounts.retain(|name, _| {
            let stays = clients.get(name).is_some_and(|view| has_login(view));
            if !stays {
                network.forget(name);
            }
            stays
        });
        let named: Vec<_> = clients.named().filter(|(_, view)| has_login(view)).collect();
        let network_since = self.network.there_since(now, named.len(), route::is_there());
        let mut starting = self.accounts.values().filter(|account| account.policy.is_starting(now)).count();
        for (name, client) in named {
            let process = implementations.get(name);
            let account = self.accounts.entry(name.clone()).or_insert_with(|| Account::new(now));
            account.meet(process.map(|view| &view.record), &client.record);
            let is_stopping = |view: Option<&Arc<ClientView>>| {
                view.is_some_and(|view| view.record.phase == Phase::Stopping)
            };
            // What it says while it ends is no news.
            if is_stopping(Some(client)) || is_stopping(process) {
                continue;
            }
            let kind = kind_of(client, &settings);
            let change = account.conclude(now, kind, client, process.map(|view| &view.record));
            if let Some(change) = change {
                self.network.changed(now, name, change.from, change.to);
                log(name, change, account.tracker.login().reason.as_deref());
            }
            let record = process.map(|view| &view.record);
            let facts = Facts {
                now,
                login: account.tracker.login(),
                change,
                code_written: account.found.code_written,
                renews_codes: kind.is_none_or(|kind| kind.contract().renews_codes()),
                is_up: record.is_some_and(|record| record.phase == Phase::Up),
                held: record.is_some_and(|record| record.history.held),
                failures: record.map_or(0, |record| record.history.failures),
                network_since,
                may_start: starting < STARTS_AT_A_TIME,
            };
            let was_starting = account.policy.is_starting(now);
            let (action, events) = account.policy.decide(&settings.login.rules, &facts);
            starting += usize::from(!was_starting && account.policy.is_starting(now));
            let reason = account.tracker.login().reason.clone();
            tell(&self.context.news, client, events, reason, action.as_ref(), now);
            if let Some(action) = action {
                act(&self.context, name, client, action).await;
            }
        }
        self.publish_logins();
    }

    fn publish_logins(&self) {
        let accounts = &self.accounts;
        self.publish.send_if_modified(|logins| {
            let is_same = logins.len() == accounts.len()
                && accounts.iter().all(|(name, account)| {
                    logins.get(name).is_some_and(|login| **login == *account.tracker.login())
                });
            if !is_same {
                let login = |account: &Account| Arc::new(account.tracker.login().clone());
                *logins =
                    Arc::new(accounts.iter().map(|(name, account)| (name.clone(), login(account))).collect());
            }
            !is_same
        });
    }

    fn ask_who_is_due(&mut self, clients: &Snapshot, implementations: &Snapshot) {
        let (now, settings) = (Instant::now(), self.context.settings.borrow().clone());
        for (name, account) in &mut self.accounts {
            if account.is_busy || account.due > now {
                continue;
            }
            if self.tasks.len() >= AT_A_TIME {
                break;
            }
            account.due = now + INTERVAL;
            let Some(view) = implementations.get(name).filter(|view| view.record.phase == Phase::Up) else {
                continue;
            };
            let Some(kind) = clients.get(name).and_then(|client| kind_of(client, &settings)) else {
                continue;
            };
            let prober = Prober {
                kind,
                port: view.record.port,
                runtime: view.record.spec.files.tmpdir.clone(),
                token: token_file(&self.context.tokens, &view.record.spec.id),
                unit: view.record.unit().map(Into::into),
                policy: self.context.policy.clone(),
                credential: account.found.credential.clone(),
            };
            account.is_busy = true;
            let task = self.tasks.spawn(prober.ask());
            self.asked.insert(task.id(), (name.clone(), account.process));
        }
    }

    fn answered(&mut self, asked: Result<(Id, Found), JoinError>) {
        let (id, found) = match asked {
            Ok(done) => done,
            Err(error) => {
                error!(%error, "asking for a login failed: {error}");
                (error.id(), Found::default())
            }
        };
        let Some((name, process)) = self.asked.remove(&id) else { return };
        let Some(account) = self.accounts.get_mut(&name) else { return };
        account.is_busy = false;
        // An answer of an earlier process says nothing about this one.
        if account.process == process {
            (account.found, account.was_asked) = (found, true);
        }
    }
}

/// Does what follows from the state of a login.
async fn act(context: &WatchContext, name: &ClientName, client: &ClientView, action: LoginAction) {
    // A registry that takes no call has ended, and with it the controller.
    match action {
        LoginAction::Relaunch => {
            info!(client = %name, "starting its implementation anew");
            let _ = context.implementations.relaunch(name.clone()).await;
        }
        LoginAction::AskForScan => {
            info!(client = %name, "starting its implementation anew without its saved login, so that a scan puts it right");
            if let Err(error) = context.forgetting.ask(name.clone()) {
                error!(client = %name, %error, "can't have it drop its saved login: {error}");
                return;
            }
            let _ = context.implementations.relaunch(name.clone()).await;
            // It ended when the account was logged out, and is held since.
            if matches!(client.record.phase, Phase::Gone(_)) {
                let _ = context.clients.relaunch(name.clone()).await;
            }
        }
        LoginAction::Hold(why) => {
            warn!(client = %name, "holding its implementation: {why}; relogin_client starts it again");
            let _ = context.implementations.hold(name.clone(), why).await;
        }
    }
}

/// Passes on what is to be told.
fn tell(
    news: &[mpsc::Sender<LoginNews>; 2],
    client: &ClientView,
    events: Vec<LoginEvent>,
    reason: Option<Arc<str>>,
    action: Option<&LoginAction>,
    now: u64,
) {
    for event in events {
        let reason = match (action, event) {
            (Some(LoginAction::Hold(why)), LoginEvent::Held | LoginEvent::NotScanned) => Some(why.clone()),
            _ => reason.clone(),
        };
        let told = LoginNews { spec: client.record.spec.clone(), event, reason, at: now };
        for receiver in news {
            if receiver.try_send(told.clone()).is_err() {
                let name = &client.record.spec.name;
                warn!(client = %name, "too many changes of logins wait to be told; that it {} is not", event.in_words());
            }
        }
    }
}

fn kind_of(client: &ClientView, settings: &Settings) -> Option<ImplementationKind> {
    let name = implementation_of(&client.record.spec)?;
    settings.implementations.get(name).map(|implementation| implementation.kind)
}

/// Whether an implementation should hold the account, and its login is known therefore.
fn has_login(client: &ClientView) -> bool {
    implementation_of(&client.record.spec).is_some() && !client.record.is_kept_stopped()
}

fn log(name: &ClientName, change: Transition, reason: Option<&str>) {
    let (client, login) = (name, change.to.as_str());
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    match (change.to, change.put_out) {
        (LoginState::Code, put_out) => {
            if put_out {
                warn!(name: events::LOGIN_ENDED, %client, login, "its login was ended by the network{why}");
            }
            info!(name: events::CLIENT_NEEDS_SCAN, %client, login, "waiting for its login code to be scanned; get_qrcode shows it{why}");
        }
        (LoginState::Confirming, _) => {
            info!(%client, login, "the login code was scanned, and waits for a confirmation on the phone{why}");
        }
        (LoginState::Online, _) => {
            info!(name: events::CLIENT_RUNNING, %client, login, "the account is online{why}")
        }
        (LoginState::Offline, _) => {
            warn!(name: events::CLIENT_OFFLINE, %client, login, "the account is offline{why}")
        }
        (LoginState::PutOut, _) => {
            warn!(name: events::LOGIN_ENDED, %client, login, "the login of the account was ended by the network{why}");
        }
        (LoginState::Starting, _) => info!(%client, login, "the implementation logs in{why}"),
        (LoginState::Unknown, _) => {
            info!(%client, login, "its implementation does not tell whether the account is logged in{why}");
        }
    }
}
