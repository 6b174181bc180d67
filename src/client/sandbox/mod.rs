//! [`Sandbox`]: a backend without a network. It logs in by itself, and its friends say back what they are told,
//! so that a program against the API can be built and tried without any account.

mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::backend::{Backend, DeliveryError, Friend, News, Recipient, User};
use super::events::{Message, Party, Way, unix_seconds};
use super::settings::Settings;
use world::World;
pub(super) use world::WorldError;

/// How the time of a login is spent before each step, in hundredths: as init, loading, scaning, confirming and
/// updating.
const LOGIN_SHARES: [u32; 5] = [5, 15, 40, 20, 20];

/// The most that init and loading take each: a slow login waits for its scan, not for its plugins.
const LONGEST_START: Duration = Duration::from_millis(500);

/// How long a friend takes to answer.
const ECHO_DELAY: Duration = Duration::from_millis(200);

/// How many answers may be on their way. Sending is far slower than answering, unless the interval is zero.
const WAITING_ECHOES: usize = 64;

/// The handle: people and sending.
pub(super) struct Sandbox {
    world: World,
    next_id: AtomicU64,
    echoes: mpsc::Sender<Echo>,
}

/// The driver: the login, and what friends say.
pub(super) struct Driver {
    code: String,
    login_time: Duration,
    echoes: mpsc::Receiver<Echo>,
    news: mpsc::Sender<News>,
}

/// A friend's answer that is on its way.
struct Echo {
    due: Instant,
    message: Message,
}

/// Opens the sandbox for the account of `settings`. The driver reports to `news`.
///
/// # Errors
/// The description of the world cannot be read.
pub(super) fn open(settings: &Settings, news: mpsc::Sender<News>) -> Result<(Sandbox, Driver), WorldError> {
    let account = &settings.account;
    let (sender, receiver) = mpsc::channel(WAITING_ECHOES);
    let sandbox = Sandbox {
        world: World::of(account)?,
        // Numbers go on where an earlier run was, near enough: nobody sends a thousand messages a second.
        next_id: AtomicU64::new(unix_seconds() * 1000),
        echoes: sender,
    };
    let escaped = utf8_percent_encode(account.as_str(), NON_ALPHANUMERIC);
    let driver = Driver {
        // It names this client and leads nowhere: the login goes on by itself.
        code: format!("http://127.0.0.1:{}/sandbox/login?account={escaped}", settings.port),
        login_time: settings.sandbox_login_time,
        echoes: receiver,
        news,
    };
    Ok((sandbox, driver))
}

impl Driver {
    /// Logs in, then delivers what friends say. Returns when nobody wants to hear it any more.
    pub(super) async fn run(mut self) {
        if self.log_in().await.is_err() {
            return;
        }
        while let Some(mut echo) = self.echoes.recv().await {
            // All take the same time, so the oldest is always the next.
            sleep_until(echo.due).await;
            echo.message.time = unix_seconds();
            if self.news.send(News::Received(echo.message)).await.is_err() {
                return;
            }
        }
    }

    async fn log_in(&mut self) -> Result<(), mpsc::error::SendError<News>> {
        let code = std::mem::take(&mut self.code);
        let steps =
            [News::Loading, News::Code(code), News::Scanned, News::Confirmed, News::Ready { scanned: true }];
        for (share, step) in LOGIN_SHARES.into_iter().zip(steps) {
            let time = self.login_time * share / 100;
            let starts = matches!(step, News::Loading | News::Code(_));
            sleep(if starts { time.min(LONGEST_START) } else { time }).await;
            self.news.send(step).await?;
        }
        Ok(())
    }
}

impl Sandbox {
    fn message(&self, way: Way, content: &str, sender: Party, receiver: Party) -> Message {
        Message {
            way,
            id: self.next_id.fetch_add(1, Ordering::Relaxed).to_string(),
            time: unix_seconds(),
            content: content.to_owned(),
            sender,
            receiver,
        }
    }
}

impl Backend for Sandbox {
    fn user(&self) -> User {
        self.world.user.clone()
    }

    fn friends(&self) -> Vec<Friend> {
        self.world.friends.clone()
    }

    async fn send(&self, to: &Recipient, content: &str) -> Result<Message, DeliveryError> {
        let Recipient::Friend(id) = to;
        let friend = self.world.friends.iter().find(|friend| friend.id == *id);
        let friend = friend.ok_or(DeliveryError::RecipientGone)?;
        let user = &self.world.user;
        let own = Party { id: user.id.clone(), uid: user.uid.clone(), displayname: user.name.clone() };
        let friend =
            Party { id: friend.id.clone(), uid: friend.uid.clone(), displayname: friend.displayname.clone() };
        let sent = self.message(Way::Sent, content, own.clone(), friend.clone());
        let message = self.message(Way::Received, content, friend, own);
        if self.echoes.try_send(Echo { due: Instant::now() + ECHO_DELAY, message }).is_err() {
            debug!("A friend has too much to answer, and leaves this message out.");
        }
        Ok(sent)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sandbox for the account `test` that logs in in about 10 s.
    pub(in crate::client) fn sandbox() -> (Sandbox, Driver, mpsc::Receiver<News>) {
        let vars = [("ACCOUNT", "test"), ("PLUGIN_OPENQQ_PORT", "5000"), ("SANDBOX_LOGIN_TIME", "10")];
        let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
        let (sender, news) = mpsc::channel(8);
        let (sandbox, driver) = open(&Settings::from_vars(vars).unwrap(), sender).unwrap();
        (sandbox, driver, news)
    }

    #[tokio::test(start_paused = true)]
    async fn logs_in_and_echoes() {
        let (sandbox, driver, mut news) = sandbox();
        let start = Instant::now();
        tokio::spawn(driver.run());
        assert!(matches!(news.recv().await, Some(News::Loading)));
        assert!(matches!(news.recv().await, Some(News::Code(code)) if code.ends_with("?account=test")));
        assert!(matches!(news.recv().await, Some(News::Scanned)));
        assert!(matches!(news.recv().await, Some(News::Confirmed)));
        assert!(matches!(news.recv().await, Some(News::Ready { scanned: true })));
        assert_eq!((Instant::now() - start).as_secs(), 9);

        let friend = &sandbox.friends()[0];
        let sent = sandbox.send(&Recipient::Friend(friend.id.clone()), "你好").await.unwrap();
        assert_eq!((sent.way, &sent.receiver.uid), (Way::Sent, &friend.uid));
        let Some(News::Received(echo)) = news.recv().await else { panic!("no echo") };
        assert_eq!((echo.content.as_str(), &echo.sender), ("你好", &sent.receiver));
        assert_ne!(echo.id, sent.id);
        let unknown = sandbox.send(&Recipient::Friend("7".into()), "x").await;
        assert_eq!(unknown, Err(DeliveryError::RecipientGone));
    }
}
