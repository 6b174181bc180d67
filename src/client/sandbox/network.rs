//! [`Network`]: the other clients in the same world. Each listens on a Unix socket in one folder, connects to
//! those that are there when it comes, and holds the connections: where one breaks off, somebody went offline.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Shared;
use super::view::{Place, Ruling};
use super::wire::Frame;
use crate::client::backend::{BackendError, News, others_words};
use crate::client::events::{Event, unix_seconds};
use crate::client::queue;
use crate::files::private_folder;
use crate::locks::locked;
use crate::model::name::ClientName;

/// The most connections, and the most sockets that are tried.
const MAX_LINKS: usize = 256;

/// How long another client may take to say who it is, and to answer to a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after a connection broke off, or none could be accepted, that is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The number of a message for whose answer nobody waits.
const UNASKED: u64 = 0;

/// What may wait for one client: frames, and bytes.
const WAITING: (usize, usize) = (64, 4 * 1024 * 1024);

/// The connections that are open, by uid.
#[derive(Default)]
pub(super) struct Links {
    /// The last number that was given.
    last: AtomicU64,
    table: Mutex<HashMap<String, Vec<Link>>>,
}

#[derive(Clone)]
struct Link {
    number: u64,
    frames: queue::Sender<Frame>,
    /// Messages that wait for their answer.
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>>,
}

impl Links {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Vec<Link>>> {
        locked(&self.table)
    }

    /// A number that was not given yet, and is not [`UNASKED`].
    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn to(&self, uid: &str) -> Option<Link> {
        self.table().get(uid)?.first().cloned()
    }

    /// Sends a message to one client, and waits until it took it.
    pub(super) async fn deliver(&self, uid: &str, place: &Place, content: &str) -> Result<(), BackendError> {
        let refused = |why: &str| BackendError::Refused(why.to_owned());
        let link = self.to(uid).ok_or_else(|| refused("the recipient is offline"))?;
        let (answer, answered) = oneshot::channel();
        let number = self.number();
        locked(&link.waiting).insert(number, answer);
        let frame = Frame::Message { number, place: place.clone(), content: content.to_owned() };
        if link.frames.push(frame, content.len()).is_err() {
            locked(&link.waiting).remove(&number);
            return Err(refused("the recipient takes nothing at the moment"));
        }
        // Ours must not keep alive what it waits for.
        let waiting = Arc::downgrade(&link.waiting);
        drop(link);
        match timeout(PATIENCE, answered).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(why))) => Err(BackendError::Refused(others_words(&why))),
            Ok(Err(_)) => Err(refused("the recipient went offline")),
            Err(_) => {
                if let Some(waiting) = waiting.upgrade() {
                    locked(&waiting).remove(&number);
                }
                Err(refused("the recipient does not answer"))
            }
        }
    }

    /// Tells one client, or everybody, without waiting for an answer.
    pub(super) fn tell(&self, uid: &str, place: &Place, content: &str) {
        let frame = Frame::Message { number: UNASKED, place: place.clone(), content: content.to_owned() };
        if self.to(uid).is_none_or(|link| link.frames.push(frame, content.len()).is_err()) {
            debug!(uid, "A client takes nothing at the moment, and misses a message.");
        }
    }

    /// Tells everybody of a decision.
    pub(super) fn announce(&self, ruling: &Ruling) {
        for link in self.table().values().flatten() {
            if link.frames.push(Frame::Ruling(ruling.clone()), 256).is_err() {
                debug!("A client takes nothing at the moment, and misses a decision.");
            }
        }
    }
}

/// Where the clients of one world meet.
pub(super) struct Network {
    folder: PathBuf,
    world: String,
    account: ClientName,
}

/// Our socket's file. Dropped, it is removed.
struct SocketFile {
    folder: PathBuf,
    name: String,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = self.folder.join(&self.name);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&path);
        }
        // Only where we were the last.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Who may be in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circle {
    /// Processes of our user.
    User(u32),
    /// Processes of this group, each maybe with a user of its own, as units have it.
    Group(u32),
}

impl Circle {
    /// Who can make files in `folder`. It is ours alone, or root has made it for a group in which nobody can replace
    /// another one's file; where there is none it is made.
    fn of(folder: &Path) -> io::Result<Self> {
        let me = rustix::process::geteuid().as_raw();
        if let Ok(found) = std::fs::symlink_metadata(folder)
            && found.is_dir()
            && found.uid() == 0
            && me != 0
            && found.mode() & 0o1007 == 0o1000
        {
            return Ok(Self::Group(found.gid()));
        }
        private_folder(folder).map_err(io::Error::other)?;
        Ok(Self::User(me))
    }

    fn has(self, peer: &UCred) -> bool {
        match self {
            Self::User(user) => peer.uid() == user,
            Self::Group(group) => peer.gid() == group,
        }
    }
}

impl Network {
    /// The network in `folder` of those whose world is `world`: the path of a file, or none for the one built in.
    pub(super) fn new(folder: PathBuf, world: Option<&Path>, account: &ClientName) -> Self {
        let world = world.map_or_else(
            || b"built in".to_vec(),
            |path| {
                let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                real.into_os_string().into_encoded_bytes()
            },
        );
        Self { folder, world: hash(&world), account: account.clone() }
    }

    fn socket_name(&self, account: &ClientName) -> String {
        format!("{}-{}", self.world, hash(account.as_str().as_bytes()))
    }

    /// Is in the network until dropped. Returns where that is not possible.
    pub(super) async fn run(&self, shared: &Arc<Shared>, news: &mpsc::Sender<News>) -> io::Error {
        let (listener, folder, circle, _place) = match self.listen().await {
            Ok(there) => there,
            Err(error) => return error,
        };
        let mut links = JoinSet::new();
        for name in self.sockets() {
            if links.len() >= MAX_LINKS {
                break;
            }
            // A socket without a process is what a killed client left behind.
            if let Ok(stream) = UnixStream::connect(through(&folder, &name)).await {
                let (shared, news, own) = (shared.clone(), news.clone(), self.account.clone());
                let (world, folder) = (self.world.clone(), folder.clone());
                links.spawn(async move {
                    let is_its = |account: &ClientName| {
                        format!("{world}-{}", hash(account.as_str().as_bytes())) == name
                    };
                    let mut stream = stream;
                    let mut meeting = Meeting::First;
                    loop {
                        match talk(stream, circle, &own, meeting, is_its, &shared, &news).await {
                            Err(error)
                                if meeting == Meeting::First
                                    || error.kind() == io::ErrorKind::AlreadyExists =>
                            {
                                return debug!(%error, "Another client is not met.");
                            }
                            Ok(error) | Err(error) => {
                                debug!(%error, "A connection to another client ended.");
                            }
                        }
                        // Either it is gone, and so is its socket, or both have lost each other.
                        sleep(PAUSE).await;
                        let Ok(again) = UnixStream::connect(through(&folder, &name)).await else { return };
                        (stream, meeting) = (again, Meeting::Again);
                    }
                });
            }
        }
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if links.len() < MAX_LINKS => {
                        let (shared, news, own) = (shared.clone(), news.clone(), self.account.clone());
                        links.spawn(async move {
                            let talked = talk(stream, circle, &own, Meeting::First, |_| true, &shared, &news);
                            let (Ok(error) | Err(error)) = talked.await;
                            debug!(%error, "A connection to another client ended.");
                        });
                    }
                    Ok(_) => debug!("A client was turned away: there are too many."),
                    Err(error) => {
                        // Out of file descriptors, most likely: it passes.
                        debug!(%error, "Other clients can't be accepted for now.");
                        sleep(PAUSE).await;
                    }
                },
                Some(_) = links.join_next() => {}
            }
        }
    }

    /// Our socket, and the folder it is in: through that its path is short, however long the folder's is.
    async fn listen(&self) -> io::Result<(UnixListener, Arc<File>, Circle, SocketFile)> {
        let name = self.socket_name(&self.account);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let circle = Circle::of(&self.folder)?;
            let folder = Arc::new(File::open(&self.folder)?);
            if UnixStream::connect(through(&folder, &name)).await.is_ok() {
                return Err(io::Error::other("another client of this account is there already"));
            }
            // Under another name first: so it replaces what a killed client left behind, and is never half there.
            let new = format!(".{}", std::process::id());
            let bound = UnixListener::bind(through(&folder, &new));
            match bound {
                Ok(listener) => {
                    if let Circle::Group(_) = circle {
                        // Who may write to a socket may connect to it.
                        std::fs::set_permissions(through(&folder, &new), Permissions::from_mode(0o770))?;
                    }
                    let inode = std::fs::symlink_metadata(through(&folder, &new))?.ino();
                    std::fs::rename(through(&folder, &new), through(&folder, &name))?;
                    let file = SocketFile { folder: self.folder.clone(), name, inode };
                    return Ok((listener, folder, circle, file));
                }
                // The last one to leave has just removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 10 => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < 10 => {
                    std::fs::remove_file(through(&folder, &new))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn sockets(&self) -> Vec<String> {
        let own = self.socket_name(&self.account);
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ours = names.filter(|name| *name != own && name.starts_with(&format!("{}-", self.world)));
        ours.take(4 * MAX_LINKS).collect()
    }
}

fn through(folder: &File, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()).into()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Which time it is that we meet another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    First,
    /// We were connected before. It may have connected to us meanwhile, and then one connection is enough.
    Again,
}

/// Talks with another client until one of both has enough. Returns why it ended.
///
/// # Errors
/// The other client is not met: there is already a connection to it, or it is none that we talk with.
async fn talk(
    mut stream: UnixStream,
    circle: Circle,
    own: &ClientName,
    meeting: Meeting,
    is_its: impl Fn(&ClientName) -> bool,
    shared: &Arc<Shared>,
    news: &mpsc::Sender<News>,
) -> io::Result<io::Error> {
    if !circle.has(&stream.peer_cred()?) {
        return Err(io::Error::other("another user's process"));
    }
    let hello = Frame::Hello { account: own.to_string(), rulings: shared.view().rulings() };
    let greeting = async {
        hello.write(&mut stream).await?;
        Frame::read(&mut stream).await
    };
    let Frame::Hello { account, rulings } = timeout(PATIENCE, greeting).await?? else {
        return Err(io::Error::other("no greeting"));
    };
    let account = ClientName::new(account).map_err(io::Error::other)?;
    let uid = shared.view().uid_of(&account);
    if !is_its(&account) {
        return Err(io::Error::other("a client that is not who it says"));
    }
    if uid == shared.view().own_uid() {
        warn!(%account, uid, "Another client of this world is the same person as this one; they cannot meet.");
        return Err(io::Error::other("a client that is the same person"));
    }
    if meeting == Meeting::Again && shared.links.to(&uid).is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let (frames, mut outgoing) = queue::bounded(WAITING.0, WAITING.1);
    let number = shared.links.number();
    let link = Link { number, frames: frames.clone(), waiting: Arc::default() };
    let waiting = link.waiting.clone();
    shared.links.table().entry(uid.clone()).or_default().push(link);
    // Whatever ends this, the connection leaves the table.
    let _entry = Entry { shared: shared.clone(), uid: uid.clone(), number };
    let mut events = shared.view().arrive(&account);
    for ruling in &rulings {
        // What we know already, or what nobody had a right to, changes nothing.
        events.extend(shared.view().rule(ruling).unwrap_or_default());
    }
    report(news, events).await?;

    let (mut reader, mut writer) = stream.split();
    let write = async {
        while let Some(frame) = outgoing.next().await {
            timeout(3 * PATIENCE, frame.write(&mut writer)).await??;
        }
        Err(io::Error::other("nothing can be said any more"))
    };
    let read = async {
        loop {
            let (number, refused) = match Frame::read(&mut reader).await? {
                Frame::Hello { .. } => return Err(io::Error::other("a second greeting")),
                Frame::Ruling(ruling) if ruling.by != uid => {
                    return Err(io::Error::other("a decision in somebody else's name"));
                }
                Frame::Ruling(ruling) => {
                    let events = shared.view().rule(&ruling).unwrap_or_default();
                    report(news, events).await?;
                    continue;
                }
                Frame::Answer { number, refused } => {
                    if let Some(answer) = locked(&waiting).remove(&number) {
                        let _ = answer.send(refused);
                    }
                    continue;
                }
                Frame::Message { number, place, content } => {
                    let heard =
                        shared.view().receive(&uid, &place, content, shared.next_id(), unix_seconds());
                    let refused = heard.as_ref().err().map(ToString::to_string);
                    if let Ok(message) = heard {
                        news.send(News::Received(message)).await.map_err(io::Error::other)?;
                    }
                    (number, refused)
                }
            };
            // Whoever asked is not told then, and sees that from the time that passes.
            if number != UNASKED && frames.push(Frame::Answer { number, refused }, 256).is_err() {
                debug!(uid, "A client takes nothing at the moment, and misses an answer.");
            }
        }
    };
    let ended: io::Result<Infallible> = tokio::select! { ended = write => ended, ended = read => ended };
    let Err(ended) = ended;
    drop(_entry);
    let events = if shared.links.to(&uid).is_none() { shared.view().leave(&uid) } else { Vec::new() };
    report(news, events).await?;
    Ok(ended)
}

struct Entry {
    shared: Arc<Shared>,
    uid: String,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.shared.links.table();
        if let Some(links) = table.get_mut(&self.uid) {
            links.retain(|link| link.number != self.number);
            if links.is_empty() {
                table.remove(&self.uid);
            }
        }
    }
}

pub(super) async fn report(news: &mpsc::Sender<News>, events: Vec<Event>) -> io::Result<()> {
    for event in events {
        news.send(News::Happened(Box::new(event))).await.map_err(io::Error::other)?;
    }
    Ok(())
}

/// Says once that there is no network, and why.
pub(super) fn alone(error: &io::Error) {
    warn!(%error, "This client cannot meet the others of its world; it goes on alone.");
}
