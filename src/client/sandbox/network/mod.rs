//! [`PeerNetwork`]: the other clients with the same world. Each listens on a Unix socket in one folder,
//! connects to the others when it starts, and keeps the connections: one that breaks means that its client went
//! offline.

mod incoming;
mod links;
mod queue;
mod wire;

use std::convert::Infallible;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::SandboxState;
use crate::client::backend::segment;
use crate::client::process::unix_seconds;
use crate::client::sandbox::news::News;
use crate::client::sandbox::view::{ModerationAction, PeerMessage};
use crate::files::private_folder;
use crate::locks::locked;
use crate::model::name::ClientName;
use incoming::{change, hear};
pub(crate) use incoming::{emit, report};
pub(crate) use links::PeerLinks;
use links::{CHANGE_BYTES, LinkGuard, NO_ANSWER, PEER_TIMEOUT, PeerLink};
use wire::PeerFrame;

/// The most connections, and the most sockets that are tried.
const MAX_LINKS: usize = 256;

/// The pause before a lost connection or a failed accept is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The limits of the queue to one peer: frames and bytes.
const LINK_QUEUE: (usize, usize) = (64, 4 * 1024 * 1024);

/// The folder of sockets of the clients with one world.
pub(crate) struct PeerNetwork {
    folder: PathBuf,
    world: String,
    account: ClientName,
}

/// The file of our socket. Dropping it removes the file.
struct PeerSocketFile {
    folder: PathBuf,
    name: String,
    inode: u64,
}

impl Drop for PeerSocketFile {
    fn drop(&mut self) {
        let path = self.folder.join(&self.name);
        // The next client of the account may have put its own socket there.
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&path);
        }
        // Fails unless we were the last.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Which processes may be peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AllowedPeers {
    /// Processes of our user.
    User(u32),
    /// Processes of this group, which may have different users, as units do.
    Group(u32),
}

impl AllowedPeers {
    /// Derived from the folder, as peers are those who can create files in it. The folder is private, or root
    /// created it for a group with the sticky bit, so that members cannot replace each other's files. A missing
    /// folder is created as a private one.
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

impl PeerNetwork {
    /// The network in `folder` of the clients with this `world`: the path of a file, or none for the built-in
    /// one.
    pub(crate) fn new(folder: PathBuf, world: Option<&Path>, account: &ClientName) -> Self {
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

    /// Takes part in the network until dropped. Returns if that is not possible.
    pub(crate) async fn run(&self, shared: &Arc<SandboxState>, news: &News) -> io::Error {
        let (listener, folder, allowed, _place) = match self.listen().await {
            Ok(there) => there,
            Err(error) => return error,
        };
        let mut links = JoinSet::new();
        // After our own socket is there: of two clients that start together at least one sees the other.
        for name in self.sockets() {
            if links.len() >= MAX_LINKS {
                break;
            }
            // A socket without a listener was left by a killed client.
            if let Ok(stream) = UnixStream::connect(fd_path(&folder, &name)).await {
                let (shared, news, own) = (shared.clone(), news.clone(), self.account.clone());
                let (world, folder) = (self.world.clone(), folder.clone());
                links.spawn(async move {
                    let is_its = |account: &ClientName| {
                        format!("{world}-{}", hash(account.as_str().as_bytes())) == name
                    };
                    let mut stream = stream;
                    let mut meeting = ConnectAttempt::First;
                    loop {
                        match serve_peer(stream, allowed, &own, meeting, is_its, &shared, &news).await {
                            Err(error)
                                if meeting == ConnectAttempt::First
                                    || error.kind() == io::ErrorKind::AlreadyExists =>
                            {
                                return debug!("cannot connect to a peer: {error}");
                            }
                            Ok(error) | Err(error) => {
                                debug!("a connection to a peer ended: {error}");
                            }
                        }
                        // Either the peer and its socket are gone, or only the connection is.
                        sleep(RETRY_PAUSE).await;
                        let Ok(again) = UnixStream::connect(fd_path(&folder, &name)).await else { return };
                        (stream, meeting) = (again, ConnectAttempt::Reconnect);
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
                            let talked = serve_peer(stream, allowed, &own, ConnectAttempt::First, |_| true, &shared, &news);
                            let (Ok(error) | Err(error)) = talked.await;
                            debug!("a connection to a peer ended: {error}");
                        });
                    }
                    Ok(_) => debug!("refused a peer: {MAX_LINKS} are connected already"),
                    Err(error) => {
                        // Most likely out of file descriptors, which passes.
                        debug!("cannot accept peers: {error}; retrying");
                        sleep(RETRY_PAUSE).await;
                    }
                },
                Some(_) = links.join_next() => {}
            }
        }
    }

    /// Creates our socket. Also returns the folder: paths through its descriptor are short, however long the
    /// folder's own path is.
    async fn listen(&self) -> io::Result<(UnixListener, Arc<File>, AllowedPeers, PeerSocketFile)> {
        let name = self.socket_name(&self.account);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let allowed = AllowedPeers::of(&self.folder)?;
            let folder = Arc::new(File::open(&self.folder)?);
            if UnixStream::connect(fd_path(&folder, &name)).await.is_ok() {
                return Err(io::Error::other("another client of this account is there already"));
            }
            // Created under a temporary name and renamed: it replaces a stale socket, and never exists
            // half-ready.
            let new = format!(".{}", std::process::id());
            let bound = UnixListener::bind(fd_path(&folder, &new));
            match bound {
                Ok(listener) => {
                    if let AllowedPeers::Group(_) = allowed {
                        // Connecting to a socket requires write permission.
                        std::fs::set_permissions(fd_path(&folder, &new), Permissions::from_mode(0o770))?;
                    }
                    let inode = std::fs::symlink_metadata(fd_path(&folder, &new))?.ino();
                    std::fs::rename(fd_path(&folder, &new), fd_path(&folder, &name))?;
                    let file = PeerSocketFile { folder: self.folder.clone(), name, inode };
                    return Ok((listener, folder, allowed, file));
                }
                // The last client to leave has just removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 10 => {}
                // Left by a killed client that had our pid.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < 10 => {
                    std::fs::remove_file(fd_path(&folder, &new))?;
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
        // More than may be connected, as killed clients leave sockets behind.
        ours.take(4 * MAX_LINKS).collect()
    }
}

fn fd_path(folder: &File, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()).into()
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the peer was connected before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectAttempt {
    First,
    /// It was. It may have connected to us meanwhile, and one connection is enough.
    Reconnect,
}

/// Exchanges frames with a peer until the connection ends. Returns why it ended.
///
/// # Errors
/// The peer is refused, or is connected already.
async fn serve_peer(
    mut stream: UnixStream,
    allowed: AllowedPeers,
    own: &ClientName,
    meeting: ConnectAttempt,
    is_its: impl Fn(&ClientName) -> bool,
    shared: &Arc<SandboxState>,
    news: &News,
) -> io::Result<io::Error> {
    // By the kernel (SO_PEERCRED, unix(7)), before anything of the peer is read.
    if !allowed.has(&stream.peer_cred()?) {
        return Err(io::Error::other("another user's process"));
    }
    let changes = shared.view().own_changes();
    // Those of earlier versions know only these.
    let rulings = changes.iter().filter_map(ModerationAction::of).chain([wire::marker()]).collect();
    let hello = PeerFrame::Hello { account: own.to_string(), rulings };
    let greeting = async {
        hello.write(&mut stream).await?;
        PeerFrame::read(&mut stream).await
    };
    let PeerFrame::Hello { account, rulings } = timeout(PEER_TIMEOUT, greeting).await?? else {
        return Err(io::Error::other("no greeting"));
    };
    let account = ClientName::new(account).map_err(io::Error::other)?;
    let uid = shared.view().uid_of(&account);
    if !is_its(&account) {
        return Err(io::Error::other("a client that is not who it says"));
    }
    if uid == shared.view().own_uid() {
        warn!(
            "client {account} is the same person of the sandbox's world as this one ({uid}); they cannot reach each other"
        );
        return Err(io::Error::other("a client that is the same person"));
    }
    if meeting == ConnectAttempt::Reconnect && shared.links.to(&uid).is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let (frames, mut outgoing) = queue::bounded(LINK_QUEUE.0, LINK_QUEUE.1);
    let number = shared.links.number();
    let is_current = rulings.contains(&wire::marker());
    let link = PeerLink { number, is_current, frames: frames.clone(), waiting: Arc::default() };
    if is_current && !changes.is_empty() {
        let bytes = CHANGE_BYTES * changes.len();
        frames.push(PeerFrame::Changes(changes), bytes).map_err(io::Error::other)?;
    }
    let waiting = link.waiting.clone();
    // A list: two clients that start together connect to each other, and both connections may stay.
    shared.links.table().entry(uid.clone()).or_default().push(link);
    // However this ends, the connection leaves the table.
    let _entry = LinkGuard { shared: shared.clone(), uid: uid.clone(), number };
    let mut events = shared.view().peer_arrived(&account);
    // Only its own, as of the frames below: it could make up those of others. Known and unauthorized actions change nothing.
    for ruling in rulings.into_iter().filter(|ruling| ruling.by == uid && !is_current) {
        events.extend(shared.view().apply(&ruling.into_change(), unix_seconds()).unwrap_or_default().events);
    }
    emit(news, &shared.own_uid(), events).await?;

    let (mut reader, mut writer) = stream.split();
    let write = async {
        while let Some(frame) = outgoing.next().await {
            // A peer that reads nothing for so long is cut off.
            timeout(3 * PEER_TIMEOUT, frame.write(&mut writer)).await??;
        }
        Err(io::Error::other("nothing can be said any more"))
    };
    let read = async {
        loop {
            let (number, refused) = match PeerFrame::read(&mut reader).await? {
                PeerFrame::Hello { .. } => return Err(io::Error::other("a second greeting")),
                // Earlier versions speak for nobody else.
                PeerFrame::Ruling(ruling) if ruling.by != uid => {
                    return Err(io::Error::other("a decision in somebody else's name"));
                }
                PeerFrame::Ruling(ruling) => {
                    change(&uid, ruling.into_change(), shared, news).await?;
                    continue;
                }
                PeerFrame::Change(made) => {
                    change(&uid, made, shared, news).await?;
                    continue;
                }
                PeerFrame::Changes(made) => {
                    for made in made.into_iter().filter(|made| made.by == uid) {
                        // What was done before is no news for applications.
                        let outcome = shared.view().apply(&made, unix_seconds()).unwrap_or_default();
                        emit(news, &shared.own_uid(), outcome.events).await?;
                    }
                    continue;
                }
                PeerFrame::Answer { number, refused } => {
                    if let Some(answer) = locked(&waiting).remove(&number) {
                        // The sender may have given up.
                        let _ = answer.send(refused);
                    }
                    continue;
                }
                PeerFrame::Message { number, place, content } => {
                    // Earlier versions give a message no number; this one is not any other's.
                    let segments = segment::of_text(&content);
                    let message =
                        PeerMessage { place, by: None, number: shared.view().new_number(), segments };
                    (number, hear(&uid, message, shared, news).await?)
                }
                PeerFrame::Said { number, message } => (number, hear(&uid, message, shared, news).await?),
            };
            // The peer then gets no answer, and its send times out.
            if number != NO_ANSWER && frames.push(PeerFrame::Answer { number, refused }, 256).is_err() {
                debug!("{uid} does not read; dropped an answer to it");
            }
        }
    };
    let ended: io::Result<Infallible> = tokio::select! { ended = write => ended, ended = read => ended };
    let Err(ended) = ended;
    // Before the look at the table, which must not find this connection.
    drop(_entry);
    let events = if shared.links.to(&uid).is_none() { shared.view().peer_left(&uid) } else { Vec::new() };
    emit(news, &shared.own_uid(), events).await?;
    Ok(ended)
}

/// Logs that there is no network.
pub(crate) fn log_alone(error: &io::Error) {
    warn!("cannot reach the other clients of the sandbox: {error}; going on alone");
}
