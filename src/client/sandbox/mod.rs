//! [`Sandbox`]: a backend that needs nothing. Its world is a file; other clients on this machine that are in the
//! same world are reached, and people who are no client say back what they are told.

// The world.
mod view;
mod watch;
mod world;

// Who comes in, and what may go wrong.
mod faults;
mod login;

// The others.
mod network;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::Method;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::backend::{Backend, BackendError, News, Page, Recipient, Sent};
use super::events::{Message, unix_seconds};
use super::objects::{Discuss, Friend, Group, User};
use super::settings::Settings;
use crate::locks::locked;
use crate::model::chain::Chain;
use crate::model::name::ClientName;
use faults::{Fault, Faults};
use login::{Login, NobodyHears};
use network::{Links, Network};
use view::{Place, Ruling, View};
use world::World;
pub(super) use world::WorldError;

/// How long people who are no client take to answer.
const ECHO_DELAY: Duration = Duration::from_millis(200);

/// How many answers may be on their way. Sending is far slower than answering, unless the interval is zero.
const WAITING_ECHOES: usize = 64;

/// What handle and driver have in common.
struct Shared {
    account: ClientName,
    view: Mutex<View>,
    links: Links,
    next_id: AtomicU64,
    login: Login,
    faults: Faults,
    /// Whether the account is logged in.
    is_in: AtomicBool,
    relogin: Notify,
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        locked(&self.view)
    }

    fn next_id(&self) -> String {
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// The handle: people, groups and sending.
pub(super) struct Sandbox {
    shared: Arc<Shared>,
    echoes: mpsc::Sender<Echo>,
    news: mpsc::Sender<News>,
}

/// The driver: logins, and what others do and say.
pub(super) struct Driver {
    shared: Arc<Shared>,
    network: Network,
    world: Option<PathBuf>,
    echoes: mpsc::Receiver<Echo>,
    news: mpsc::Sender<News>,
}

/// An answer that is on its way.
struct Echo {
    due: Instant,
    message: Message,
}

/// Opens the sandbox for the account of `settings`. The driver reports to `news`.
///
/// # Errors
/// The description of the world cannot be read.
pub(super) fn open(settings: &Settings, news: mpsc::Sender<News>) -> Result<(Sandbox, Driver), WorldError> {
    let (account, own) = (&settings.account, &settings.sandbox);
    let (sender, receiver) = mpsc::channel(WAITING_ECHOES);
    let shared = Arc::new(Shared {
        account: account.clone(),
        view: Mutex::new(View::new(World::read(own.world.as_deref())?, account)),
        links: Links::default(),
        // Numbers go on where an earlier run was, near enough: nobody sends a thousand messages a second.
        next_id: AtomicU64::new(unix_seconds() * 1000),
        login: Login::new(own, settings.port.get()),
        faults: Faults::new(own.faults),
        is_in: AtomicBool::new(false),
        relogin: Notify::new(),
    });
    let folder = own.network.clone().unwrap_or_else(|| settings.files.tmpdir.join("mojo_webqq_sandbox"));
    let network = Network::new(folder, own.world.as_deref(), account);
    let driver = Driver {
        shared: shared.clone(),
        network,
        world: own.world.clone(),
        echoes: receiver,
        news: news.clone(),
    };
    Ok((Sandbox { shared, echoes: sender, news }, driver))
}

impl Driver {
    /// Logs in, and again whenever a login ends. Returns when nobody wants to hear it any more.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut still_valid = false;
        loop {
            tokio::select! {
                done = shared.login.run(&self.news, still_valid) => match done {
                    Ok(()) => {}
                    Err(NobodyHears) => return,
                },
                () = shared.relogin.notified() => {
                    still_valid = false;
                    continue;
                }
            }
            shared.is_in.store(true, Ordering::Relaxed);
            let end = tokio::select! {
                fault = shared.faults.end_of_login() => fault,
                () = shared.relogin.notified() => Fault::Expired,
                () = self.be_there() => return,
            };
            shared.is_in.store(false, Ordering::Relaxed);
            shared.view().everybody_leaves();
            info!("The sandbox's login ended ({end:?}).");
            still_valid = end == Fault::Dropped;
        }
    }

    /// Hears what others do and say. Returns when nobody wants to know it any more.
    async fn be_there(&mut self) {
        let (shared, news) = (&self.shared, &self.news);
        let network = async {
            network::alone(&self.network.run(shared, news).await);
            std::future::pending::<()>().await;
        };
        let echoes = async {
            while let Some(mut echo) = self.echoes.recv().await {
                // All take the same time, so the oldest is always the next.
                sleep_until(echo.due).await;
                echo.message.time = unix_seconds();
                if news.send(News::Received(echo.message)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = network => {}
            () = echoes => {}
            () = follow_world(self.world.as_ref(), shared, news) => {}
        }
    }
}

/// Tells of what changes in the file of the world.
async fn follow_world(path: Option<&PathBuf>, shared: &Shared, news: &mpsc::Sender<News>) {
    let Some(path) = path else { return std::future::pending().await };
    let watch = match watch::WorldWatch::new(path) {
        Ok(watch) => watch,
        Err(error) => {
            warn!(%error, "The sandbox's world cannot be watched; changes count at the next start.");
            return std::future::pending().await;
        }
    };
    while watch.changed().await.is_ok() {
        match World::read(Some(path)) {
            Ok(world) => {
                let events = shared.view().replace_world(world);
                info!(changes = events.len(), "The sandbox's world was read anew.");
                if network::report(news, events).await.is_err() {
                    return;
                }
            }
            Err(error) => warn!(error = %Chain(&error), "The sandbox's world stays as it was."),
        }
    }
}

impl Sandbox {
    fn logged_in(&self) -> Result<(), BackendError> {
        if self.shared.is_in.load(Ordering::Relaxed) { Ok(()) } else { Err(BackendError::LoggedOut) }
    }

    async fn rule(&self, group: &str, members: &[String], until: Option<u64>) -> Result<(), BackendError> {
        self.logged_in()?;
        for member in members {
            let ruling = {
                let view = self.shared.view();
                let (group, member) = view.resolve_member(group, member)?;
                Ruling { group, member, by: view.own_uid().to_owned(), muted_until: until }
            };
            let events = self.shared.view().rule(&ruling)?;
            self.shared.links.announce(&ruling);
            network::report(&self.news, events).await.map_err(|_| BackendError::LoggedOut)?;
        }
        Ok(())
    }
}

impl Backend for Sandbox {
    async fn user(&self) -> Result<User, BackendError> {
        Ok(self.shared.view().look().user)
    }

    async fn friends(&self) -> Result<Arc<Vec<Friend>>, BackendError> {
        Ok(Arc::new(self.shared.view().look().friends))
    }

    async fn groups(&self) -> Result<Vec<Group>, BackendError> {
        let groups = self.shared.view().look().groups.into_iter();
        Ok(groups.map(|group| Group { member: Vec::new(), ..group }).collect())
    }

    async fn group(&self, id: &str, _anew: bool) -> Result<Group, BackendError> {
        let mut groups = self.shared.view().look().groups.into_iter();
        groups.find(|group| group.id == id).ok_or(BackendError::Gone)
    }

    async fn discusses(&self) -> Result<Vec<Discuss>, BackendError> {
        Ok(self.shared.view().look().discusses)
    }

    async fn send(&self, to: &Recipient, content: &str) -> Result<Sent, BackendError> {
        self.shared.faults.before_sending().await?;
        self.logged_in()?;
        let ids = [self.shared.next_id(), self.shared.next_id()];
        let route = self.shared.view().route(to, content, ids, unix_seconds())?;
        match (&route.place, route.to.first()) {
            (Place::Group(_) | Place::Discuss(_), _) => {
                for uid in &route.to {
                    self.shared.links.tell(uid, &route.place, content);
                }
            }
            (_, Some(uid)) => self.shared.links.deliver(uid, &route.place, content).await?,
            (_, None) => {}
        }
        if let Some(message) = route.echo
            && self.echoes.try_send(Echo { due: Instant::now() + ECHO_DELAY, message }).is_err()
        {
            debug!("Somebody has too much to answer, and leaves this message out.");
        }
        Ok(route.message.into())
    }

    async fn mute(&self, group: &str, members: &[String], time: Duration) -> Result<(), BackendError> {
        self.rule(group, members, Some(unix_seconds().saturating_add(time.as_secs()))).await
    }

    async fn kick(&self, group: &str, members: &[String]) -> Result<(), BackendError> {
        self.rule(group, members, None).await
    }

    fn relogin(&self) {
        self.shared.relogin.notify_one();
    }

    fn page(&self, method: &Method, path: &str) -> Option<Page> {
        self.shared.login.page(method, path, self.shared.account.as_str())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(super) mod tests;
