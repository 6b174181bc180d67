//! Messages for the service manager (sd_notify(3)), and the interval of its watchdog.
//!
//! A [`Notifier`] has one task, which sends one message after another through a socket that it keeps. So messages arrive in the order in
//! which they were given. They wait for nothing but the service manager: not for a thread, a file descriptor or a disk.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as BlockingDatagram};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

/// How many messages may wait. At most one of them is a beat and one a status line, so the queue fills up only if the service
/// manager stops reading and the configuration is reloaded many times.
const QUEUE: usize = 64;
/// How long [`Notifier::flush`] waits for a service manager that takes no messages. Normally it takes them at once.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A message, and where to report that it is done with. An empty one is not sent.
type Message = (String, oneshot::Sender<()>);

/// Sends messages to the service manager. Without one (`NOTIFY_SOCKET` is not set) nothing is sent.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<mpsc::Sender<Message>>);

impl Notifier {
    /// Starts the task that sends the messages. Must be called within a tokio runtime.
    pub fn start() -> (Self, Option<AbortOnDropHandle<()>>) {
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Default::default() };
        match address(&socket) {
            Ok(address) => {
                let (notifier, task) = Self::to(address);
                (notifier, Some(task))
            }
            Err(error) => {
                warn!(%error, "can't notify the service manager at {}: {error}", socket.display());
                Default::default()
            }
        }
    }

    fn to(manager: SocketAddr) -> (Self, AbortOnDropHandle<()>) {
        let (queue, messages) = mpsc::channel(QUEUE);
        (Self(Some(queue)), AbortOnDropHandle::new(tokio::spawn(send_all(manager, messages))))
    }

    /// Whether there is a service manager.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Returns when the task that sends the messages has ended.
    pub async fn broken(&self) {
        match &self.0 {
            Some(queue) => queue.closed().await,
            None => std::future::pending().await,
        }
    }

    /// The controller is ready, or has reloaded its configuration.
    pub fn ready(&self, status: &str) {
        self.post(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload of the configuration begins; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        // From version 253 on, systemd tells by the time which reload this message is about.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => drop(self.post(&[NotifyState::Reloading, now])),
            Err(error) => debug!(%error, "can't notify the service manager of a reload: {error}"),
        }
    }

    /// The controller is ending, which takes no longer than `time`.
    pub fn stopping(&self, time: Duration) {
        self.post(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros(time))]);
    }

    /// Extends the current timeout to `time` from now.
    pub fn extend(&self, time: Duration) {
        self.post(&[NotifyState::ExtendTimeoutUsec(micros(time))]);
    }

    /// Sends the status line. Returns when the service manager has it, so that lines do not pile up.
    pub async fn status(&self, status: &str) {
        wait(self.post(&[NotifyState::Status(status)])).await;
    }

    /// Sends a beat for the watchdog. Returns when the service manager has it, so that beats do not pile up.
    pub async fn beat(&self) {
        wait(self.post(&[NotifyState::Watchdog])).await;
    }

    /// Returns when the service manager has all messages, but after [`FLUSH_TIMEOUT`] at the latest. The rest is sent later.
    pub async fn flush(&self) {
        if timeout(FLUSH_TIMEOUT, wait(self.post(&[]))).await.is_err() {
            warn!("the service manager takes no messages; going on without it");
        }
    }

    /// Gives a message to the task that sends it. The result tells when that is done.
    pub fn post(&self, states: &[NotifyState<'_>]) -> Option<oneshot::Receiver<()>> {
        let queue = self.0.as_ref()?;
        let (done, is_done) = oneshot::channel();
        // Never waits: a service manager that reads nothing must not hold up a reload or the end.
        match queue.try_send((text(states), done)) {
            Ok(()) => return Some(is_done),
            Err(refused) => {
                let (text, _) = refused.into_inner();
                warn!(
                    "dropping a message, as the service manager has not taken the {QUEUE} before it: {text:?}"
                );
            }
        }
        None
    }
}

/// Sends why the program can't go on, with the system's error number if there is one. Blocks, so only for the very end.
pub fn failed(why: &str, errno: Option<i32>) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // The protocol has one line for each variable.
    let why = why.replace('\n', "; ");
    let mut states = vec![NotifyState::Status(&why)];
    states.extend(errno.and_then(|errno| u32::try_from(errno).ok()).map(NotifyState::Errno));
    let send = || {
        let manager = connect(&address(&socket)?)?;
        // A service manager that hangs must not keep the process from ending.
        manager.set_write_timeout(Some(FLUSH_TIMEOUT))?;
        manager.send(text(&states).as_bytes())
    };
    // There is nowhere else to report an error to.
    let _ = send();
}

/// Tells the service manager the last line of a program that does not do so itself, for its status, and waits until that is read: of
/// a process that is gone systemd no longer knows the unit.
pub fn last_words(text: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let tell = || {
        let manager = connect(&address(&socket)?)?;
        manager.set_write_timeout(Some(FLUSH_TIMEOUT))?;
        let status = text.replace('\n', " ");
        manager.send(format!("STATUS={status}\n").as_bytes())?;
        // The barrier of sd_notify(3): systemd closes the descriptor when it has read all messages before it.
        let (reader, writer) = io::pipe()?;
        let descriptors = [writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&manager, &[IoSlice::new(b"BARRIER=1\n")], &mut ancillary, SendFlags::NOSIGNAL)?;
        drop(writer);
        let timeout = Timespec::try_from(FLUSH_TIMEOUT).ok();
        poll(&mut [PollFd::new(&reader, PollFlags::empty())], timeout.as_ref())?;
        io::Result::Ok(())
    };
    // There is nowhere else to report an error to.
    let _ = tell();
}

/// The time between two beats: half of the watchdog's timeout (sd_watchdog_enabled(3)). None without a watchdog.
pub fn beat_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}

async fn wait(done: Option<oneshot::Receiver<()>>) {
    if let Some(done) = done {
        // Fails only when the task that sends has ended.
        let _ = done.await;
    }
}

/// Sends messages until all their senders are gone.
async fn send_all(manager: SocketAddr, mut messages: mpsc::Receiver<Message>) {
    let (mut socket, mut failing) = (None, false);
    while let Some((text, done)) = messages.recv().await {
        if !text.is_empty() {
            let sent = send(&manager, &mut socket, text.as_bytes()).await;
            if let (Err(error), false) = (&sent, failing) {
                warn!(%error, "can't notify the service manager ({error}); trying again with the next message");
            }
            failing = sent.is_err();
        }
        // The caller need not wait for it.
        let _ = done.send(());
    }
}

/// Sends a message, through `socket` if there is one. Waits while the queue of the service manager is full.
async fn send(manager: &SocketAddr, socket: &mut Option<UnixDatagram>, text: &[u8]) -> io::Result<()> {
    // A service manager that was started anew has another socket at the same address.
    if let Some(socket) = socket
        && socket.send(text).await.is_ok()
    {
        return Ok(());
    }
    let connected = connect(manager)?;
    connected.set_nonblocking(true)?;
    socket.insert(UnixDatagram::from_std(connected)?).send(text).await.map(drop)
}

fn connect(manager: &SocketAddr) -> io::Result<BlockingDatagram> {
    let socket = BlockingDatagram::unbound()?;
    socket.connect_addr(manager)?;
    Ok(socket)
}

/// The address that `NOTIFY_SOCKET` names: a path, or with `@` an abstract one.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

fn micros(time: Duration) -> u32 {
    // The field has room for an hour and more.
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// In the place of a service manager.
    struct Manager {
        socket: BlockingDatagram,
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            Self { socket: Self::bind(&path), path, _folder: folder }
        }

        fn bind(path: &Path) -> BlockingDatagram {
            let socket = BlockingDatagram::bind(path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            socket
        }

        fn notifier(&self) -> (Notifier, AbortOnDropHandle<()>) {
            Notifier::to(address(self.path.as_os_str()).unwrap())
        }

        fn next(&self) -> String {
            let mut message = [0; 4096];
            let length = self.socket.recv(&mut message).expect("nothing more was said");
            String::from_utf8(message[..length].to_vec()).unwrap()
        }

        /// Fills its queue with messages of others; how many they are.
        fn fill(&self) -> usize {
            let other = connect(&address(self.path.as_os_str()).unwrap()).unwrap();
            other.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| other.send(b"other\n").ok()).count()
        }
    }

    #[test]
    fn beats_need_no_thread_for_blocking_work() {
        let manager = Manager::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (end, sleeps) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let sleeper = tokio::task::spawn_blocking(move || sleeps.recv());
            let queued = tokio::task::spawn_blocking(|| ());
            let (notifier, _task) = manager.notifier();
            for _ in 0..3 {
                timeout(Duration::from_secs(60), notifier.beat()).await.expect("the beat waits");
                assert_eq!(manager.next(), "WATCHDOG=1\n");
            }
            assert!(!queued.is_finished());
            drop(end);
            let _ = sleeper.await.unwrap();
        });
    }

    #[tokio::test(start_paused = true)]
    async fn messages_keep_their_order_when_service_manager_takes_none_for_a_while() {
        let manager = Manager::new();
        let others = manager.fill();
        let (notifier, _task) = manager.notifier();
        notifier.ready("one");
        let (status, beat) = (notifier.clone(), notifier.clone());
        let status = tokio::spawn(async move { status.status("two").await });
        let beat = tokio::spawn(async move { beat.beat().await });
        // They are in the queue then.
        tokio::task::yield_now().await;
        notifier.extend(Duration::from_secs(1));
        notifier.stopping(Duration::from_secs(2));
        // Gives up, but nothing is lost by it.
        notifier.flush().await;
        assert!(!status.is_finished() && !beat.is_finished());
        for _ in 0..others {
            assert_eq!(manager.next(), "other\n");
        }
        let said = tokio::task::spawn_blocking(move || std::array::from_fn(|_| manager.next()));
        let expected: [&str; 5] = [
            "READY=1\nSTATUS=one\n",
            "STATUS=two\n",
            "WATCHDOG=1\n",
            "EXTEND_TIMEOUT_USEC=1000000\n",
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n",
        ];
        assert_eq!(said.await.unwrap(), expected);
        status.await.unwrap();
        beat.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_messages_are_bounded() {
        let manager = Manager::new();
        manager.fill();
        let (notifier, _task) = manager.notifier();
        // One more is under way.
        assert!(notifier.post(&[NotifyState::Ready]).is_some());
        tokio::task::yield_now().await;
        for _ in 0..QUEUE {
            assert!(notifier.post(&[NotifyState::Ready]).is_some());
        }
        assert!(notifier.post(&[NotifyState::Ready]).is_none());
        notifier.beat().await;
    }

    #[tokio::test]
    async fn service_manager_that_was_started_anew_is_found() {
        let mut manager = Manager::new();
        let (notifier, _task) = manager.notifier();
        notifier.beat().await;
        assert_eq!(manager.next(), "WATCHDOG=1\n");
        std::fs::remove_file(&manager.path).unwrap();
        manager.socket = BlockingDatagram::unbound().unwrap();
        notifier.beat().await;
        manager.socket = Manager::bind(&manager.path);
        notifier.status("again").await;
        assert_eq!(manager.next(), "STATUS=again\n");
    }

    #[tokio::test]
    async fn abstract_address_is_understood() {
        let name = format!("wqcontroller-test-{}", std::process::id());
        let socket = BlockingDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let (notifier, _task) = Notifier::to(address(OsStr::new(&format!("@{name}"))).unwrap());
        notifier.beat().await;
        let mut message = [0; 64];
        let length = socket.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"WATCHDOG=1\n");
    }

    #[tokio::test]
    async fn end_of_the_sending_task_is_noticed() {
        let manager = Manager::new();
        let (notifier, task) = manager.notifier();
        drop(task);
        notifier.broken().await;
        notifier.beat().await;
    }
}
