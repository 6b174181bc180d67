//! [`Sandbox`]: a backend without a network. Its world is a file. Other clients on this machine with the same
//! world are reached through `network`, and people without a client echo what they are told.
//!
//! `world` is the file, `view` (pure) the world as one account sees it, and the difference between two views
//! becomes events.

// What applications are told, and ask for.
mod actions;
mod application_event;
mod news;
mod notice;

// What the account, and people without a client, do.
mod frames;
mod media;
mod parts;
mod people;
mod sending;
mod serving;

// The world.
mod view;
mod watch;
mod world;

// The login, and deliberate faults.
mod faults;
mod login;

// The other clients.
mod network;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::DropGuard;
use tracing::{info, warn};

use super::applications::hub::Hub;
use super::backend::action::{Action, Answer};
use super::backend::message::ChatMessage;
use super::backend::objects::{Discuss, Friend, Group, User};
use super::backend::{Backend, BackendError, BackendEvent, Draft, Page, Sent, segment};
use super::process::unix_seconds;
use super::settings::{ClientSettings, SandboxSettings};
use crate::http::body::Body;
use crate::locks::locked;
use crate::model::error_chain::ErrorChain;
use crate::model::name::ClientName;
use faults::{Faults, LoginFault};
use frames::FrameLog;
use login::{SandboxClosed, SandboxLogin};
use media::MediaStore;
use network::{PeerLinks, PeerNetwork};
use news::News;
use view::View;
use view::changes::{Change, GroupChange};
use watch::WorldWatch;
use world::SandboxWorld;
pub(super) use world::WorldError;

/// How long people without a client take to answer.
const ECHO_DELAY: Duration = Duration::from_millis(200);

/// How many echoes may wait. Sending is far slower than answering, unless the interval is zero.
const MAX_QUEUED_ECHOES: usize = 64;

/// The state that handle and driver share.
struct SandboxState {
    account: ClientName,
    view: Mutex<View>,
    links: PeerLinks,
    next_id: AtomicU64,
    login: SandboxLogin,
    faults: Faults,
    /// Whether the account is logged in.
    is_logged_in: AtomicBool,
    relogin: Notify,
}

impl SandboxState {
    fn view(&self) -> MutexGuard<'_, View> {
        locked(&self.view)
    }

    fn own_uid(&self) -> String {
        self.view().own_uid().to_owned()
    }

    fn next_id(&self) -> String {
        self.next_id.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// The handle: people, groups and sending.
pub(crate) struct Sandbox {
    shared: Arc<SandboxState>,
    echoes: mpsc::Sender<Echo>,
    told: News,
    media: MediaStore,
    frames: FrameLog,
}

/// The driver: logs in, and reports what other clients do.
pub(crate) struct SandboxDriver {
    shared: Arc<SandboxState>,
    network: PeerNetwork,
    /// The file of the world, and its watch: watched from before it is read, so that no change is missed.
    world: Option<(PathBuf, WorldWatch)>,
    echoes: mpsc::Receiver<Echo>,
    /// For steps of the login.
    news: mpsc::Sender<BackendEvent>,
    told: News,
    /// Those who look at the frames are not to hold up the end.
    _frames_end: DropGuard,
}

/// An answer that waits for its time.
struct Echo {
    due: Instant,
    message: ChatMessage,
}

/// Opens the sandbox. The driver reports to `news`.
///
/// # Errors
/// The file of the world cannot be read.
pub(crate) fn open(
    settings: &ClientSettings,
    own: &SandboxSettings,
    news: mpsc::Sender<BackendEvent>,
    applications: Hub,
) -> Result<(Sandbox, SandboxDriver), WorldError> {
    let account = &settings.account;
    let (frames, frames_end) = FrameLog::new();
    let told = News::new(news.clone(), applications, frames.clone(), account.clone());
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_ECHOES);
    let world = own.world.clone().and_then(|path| match WorldWatch::new(&path) {
        Ok(watch) => Some((path, watch)),
        Err(error) => {
            warn!("cannot watch the sandbox's world: {error}; changes apply at the next start");
            None
        }
    });
    let shared = Arc::new(SandboxState {
        account: account.clone(),
        view: Mutex::new(View::new(SandboxWorld::read(own.world.as_deref())?, account, unix_seconds())),
        links: PeerLinks::default(),
        // Ids continue beyond those of an earlier run: no account sends a thousand messages a second.
        next_id: AtomicU64::new(unix_seconds() * 1000),
        login: SandboxLogin::new(own, settings.port.get()),
        faults: Faults::new(own.faults),
        is_logged_in: AtomicBool::new(false),
        relogin: Notify::new(),
    });
    let folder = own.network.clone().unwrap_or_else(|| settings.files.tmpdir.join("mojo_webqq_sandbox"));
    let network = PeerNetwork::new(folder, own.world.as_deref(), account);
    let driver = SandboxDriver {
        shared: shared.clone(),
        network,
        world,
        echoes: receiver,
        news,
        told: told.clone(),
        _frames_end: frames_end,
    };
    let files = settings.files.tmpdir.join(format!("mojo_webqq_sandbox_files_{account}"));
    let media = MediaStore::new(files, settings.port.get());
    Ok((Sandbox { shared, echoes: sender, told, media, frames }, driver))
}

impl SandboxDriver {
    /// Logs in, and again whenever a login ends. Returns when the receiver of the events is dropped.
    pub(crate) async fn run(mut self) {
        // A copy, because `run_session` borrows all of `self`.
        let shared = self.shared.clone();
        let mut still_valid = false;
        loop {
            tokio::select! {
                done = shared.login.run(&self.news, still_valid) => match done {
                    Ok(()) => {}
                    Err(SandboxClosed) => return,
                },
                () = shared.relogin.notified() => {
                    still_valid = false;
                    continue;
                }
            }
            shared.is_logged_in.store(true, Ordering::Relaxed);
            let end = tokio::select! {
                fault = shared.faults.end_of_login() => fault,
                () = shared.relogin.notified() => LoginFault::Expired,
                // Dropped by the other arms, it closes its connections, by which the others see us go offline.
                () = self.run_session() => return,
            };
            shared.is_logged_in.store(false, Ordering::Relaxed);
            shared.view().all_peers_left();
            info!("the sandbox ended the login ({end:?})");
            still_valid = end == LoginFault::Dropped;
        }
    }

    /// Runs while logged in: reports what other clients do. Returns when the receiver of the events is dropped.
    async fn run_session(&mut self) {
        let (shared, news) = (&self.shared, &self.told);
        let network = async {
            network::log_alone(&self.network.run(shared, news).await);
            // The session goes on without the others: the rest of the sandbox works.
            std::future::pending::<()>().await;
        };
        let echoes = async {
            while let Some(mut echo) = self.echoes.recv().await {
                // All take the same time, so the oldest is always the next.
                sleep_until(echo.due).await;
                echo.message.time = unix_seconds();
                let (own, sender) = {
                    let view = shared.view();
                    (view.own_uid().to_owned(), view.sender_of(&echo.message))
                };
                if news.message(&own, sender, echo.message).await.is_err() {
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

/// Reports changes of the file of the world, first those since the last session: while there is no login the watch keeps them.
async fn follow_world(world: Option<&(PathBuf, WorldWatch)>, shared: &SandboxState, news: &News) {
    let Some((path, watch)) = world else { return std::future::pending().await };
    while watch.changed().await.is_ok() {
        match SandboxWorld::read(Some(path)) {
            Ok(world) => {
                let events = shared.view().replace_world(world);
                info!("reloaded the sandbox's world ({} changes)", events.len());
                if network::emit(news, &shared.own_uid(), events).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!("cannot reload the sandbox's world: {}; keeping the old one", ErrorChain(&error))
            }
        }
    }
}

impl Sandbox {
    fn logged_in(&self) -> Result<(), BackendError> {
        if self.shared.is_logged_in.load(Ordering::Relaxed) { Ok(()) } else { Err(BackendError::LoggedOut) }
    }

    async fn moderate(
        &self,
        group: &str,
        members: &[String],
        until: Option<u64>,
    ) -> Result<(), BackendError> {
        self.logged_in()?;
        for member in members {
            let (group, member) = self.shared.view().resolve_member(group, member)?;
            let change = match until {
                Some(until) => GroupChange::Mute { member, until },
                None => GroupChange::Kick { member },
            };
            self.change(Change::Group { group, change }).await?;
        }
        Ok(())
    }
}

/// Parts that can't be sent.
fn unusable(answer: Answer) -> BackendError {
    match answer {
        Answer::Failed { why, .. } => BackendError::Refused(why),
        // It is only said of what was begun.
        Answer::Done(_) | Answer::Accepted => BackendError::NoAnswer,
    }
}

impl Backend for Sandbox {
    async fn user(&self) -> Result<User, BackendError> {
        Ok(self.shared.view().snapshot().user)
    }

    async fn friends(&self) -> Result<Arc<Vec<Friend>>, BackendError> {
        Ok(Arc::new(self.shared.view().snapshot().friends))
    }

    async fn groups(&self) -> Result<Vec<Group>, BackendError> {
        let groups = self.shared.view().snapshot().groups.into_iter();
        Ok(groups.map(|group| Group { member: Vec::new(), ..group }).collect())
    }

    async fn group(&self, id: &str, _anew: bool) -> Result<Group, BackendError> {
        let mut groups = self.shared.view().snapshot().groups.into_iter();
        groups.find(|group| group.id == id).ok_or(BackendError::Gone)
    }

    async fn discusses(&self) -> Result<Vec<Discuss>, BackendError> {
        Ok(self.shared.view().snapshot().discusses)
    }

    fn message_id(&self) -> String {
        self.shared.next_id()
    }

    async fn send(&self, draft: &Draft) -> Result<Sent, BackendError> {
        let segments = if draft.segments.is_empty() {
            segment::of_text(&draft.content)
        } else {
            // Before the claim: a file may take long to be had, and its message may be withdrawn meanwhile.
            tokio::select! {
                ready = parts::prepare(self, draft.segments.clone()) => ready.map_err(unusable)?,
                () = draft.claim.withdrawn() => return Err(BackendError::Withdrawn),
            }
        };
        let to = self.shared.view().resolve(&draft.to);
        self.send_parts(&draft.id, to, segments, &draft.claim).await
    }

    async fn mute(&self, group: &str, members: &[String], time: Duration) -> Result<(), BackendError> {
        self.moderate(group, members, Some(unix_seconds().saturating_add(time.as_secs()))).await
    }

    async fn kick(&self, group: &str, members: &[String]) -> Result<(), BackendError> {
        self.moderate(group, members, None).await
    }

    async fn act(&self, action: Action) -> Answer {
        let name = action.name.clone();
        self.frames.note("action", json!({ "action": &name, "params": &action.params }));
        let answer = actions::act(self, action).await;
        let mut shown = answer.to_json(None);
        shown["action"] = name.into();
        self.frames.note("answer", shown);
        answer
    }

    fn serves(&self, path: &str) -> bool {
        serving::serves(path)
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        self.answer(request).await
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
