//! [`Sessions`]: one login after another: connect, ask who we are, load the lists, be there, and again.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::calls::CallError;
use super::http_calls::HttpCalls;
use super::link::{Ended, Token};
use super::listener::{Door, Socket};
use super::login_code::{LoginCode, Look};
use super::pauses::Pauses;
use super::shared::{Shared, own_account};
use super::websocket;
use crate::client::backend::News;
use crate::model::chain::Chain;

/// The pause between two looks at the login code.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause while a code is shown: whoever scans it looks at the screen.
const SCAN_PAUSE: Duration = Duration::from_secs(2);

/// How the implementation is reached.
pub(super) enum Way {
    /// By a WebSocket to this URL.
    Forward {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// By the WebSocket that it opens to us.
    Reverse {
        /// Who lets it in.
        door: Arc<Door>,
        /// Those it opened.
        sockets: mpsc::Receiver<Socket>,
        /// One that took the place of another.
        next: Option<Box<Socket>>,
    },
    /// By HTTP to this URL; it posts events to us.
    Http {
        /// The URL.
        url: String,
        /// Who takes the events.
        door: Arc<Door>,
    },
}

/// One login after another.
pub(super) struct Sessions {
    pub(super) shared: Arc<Shared>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) way: Way,
    /// The file of the token.
    pub(super) token: Option<PathBuf>,
    pub(super) code: LoginCode,
    pub(super) call_time: Duration,
    pub(super) so_far: SoFar,
}

/// What was told of the logins so far.
#[derive(Default)]
pub(super) struct SoFar {
    /// Why there is none, as it was said last.
    said: String,
    /// Whether the trouble that was told lasts.
    is_trouble: bool,
    /// Whether this login is told.
    was_ready: bool,
}

impl Sessions {
    async fn tell(&mut self, news: News) -> Result<(), Ended> {
        self.news.send(news).await.map_err(|_| Ended::Unheard)
    }

    /// Logs in, and again whenever that ends, until nobody hears it any more.
    pub(super) async fn run(mut self) -> Ended {
        let mut pauses = Pauses::default();
        if self.tell(News::Loading).await.is_err() {
            return Ended::Unheard;
        }
        loop {
            self.so_far.was_ready = false;
            let Err(ended) = self.session().await;
            self.shared.set_ready(false);
            self.shared.calls.disconnect();
            if self.so_far.was_ready {
                pauses.begin_anew();
                if self.tell(News::Loading).await.is_err() {
                    return Ended::Unheard;
                }
            }
            // What came on this connection is told before there is another, which may bring as much.
            self.shared.inbox.close().await;
            let told = match &ended {
                Ended::Unheard => return ended,
                Ended::Relogin => {
                    info!("The login begins anew.");
                    continue;
                }
                Ended::Token(_) => self.trouble(&ended).await,
                Ended::Unreachable(_) | Ended::Lost(_) => self.complain(&ended).await,
            };
            if told.is_err() {
                return Ended::Unheard;
            }
            match (&ended, &self.way) {
                (Ended::Token(_), _) => sleep(pauses.after_refusal()).await,
                // The other end comes to us, when it likes.
                (_, Way::Reverse { .. }) => {}
                _ => {
                    if self.pause(pauses.next()).await.is_err() {
                        return Ended::Unheard;
                    }
                }
            }
        }
    }

    /// Somebody has to put the token right. Once for each reason: that may take days.
    async fn trouble(&mut self, ended: &Ended) -> Result<(), Ended> {
        let why = match &self.token {
            Some(_) => ended.to_string(),
            None => format!("{ended}; none is named in [onebot] of the controller's configuration"),
        };
        if !self.so_far.is_trouble || self.so_far.said != why {
            self.tell(News::Trouble(why.clone())).await?;
        }
        (self.so_far.is_trouble, self.so_far.said) = (true, why);
        // With the trouble its image is gone, too, and is shown again if it still holds then.
        self.code.forget();
        Ok(())
    }

    /// There is no connection for another reason. Once for each: an implementation may be away for days.
    async fn complain(&mut self, ended: &Ended) -> Result<(), Ended> {
        let why = ended.to_string();
        if self.so_far.was_ready {
            warn!(why, "The connection to the OneBot implementation was lost.");
        } else if self.so_far.said != why {
            warn!(why, "The OneBot implementation cannot be used yet.");
        }
        self.so_far.said = why;
        if std::mem::take(&mut self.so_far.is_trouble) {
            self.tell(News::Loading).await?;
        }
        Ok(())
    }

    async fn pause(&mut self, pause: Duration) -> Result<(), Ended> {
        let begin = Instant::now();
        loop {
            self.look().await?;
            let pause = if self.code.is_shown() { pause.min(SCAN_PAUSE) } else { pause };
            let now = Instant::now();
            if now - begin >= pause {
                return Ok(());
            }
            sleep_until((now + LOOK).min(begin + pause)).await;
        }
    }

    /// Shows the implementation's login code, as long as it holds.
    async fn look(&mut self) -> Result<(), Ended> {
        if !self.code.is_known() {
            return Ok(());
        }
        let mut code = std::mem::replace(&mut self.code, LoginCode::new(None));
        let looked = tokio::task::spawn_blocking(move || {
            let look = code.look(SystemTime::now());
            (code, look)
        });
        let Ok((code, look)) = looked.await else { return Ok(()) };
        self.code = code;
        match look {
            Look::New(image) => self.tell(News::Image(image)).await,
            Look::Nothing if self.code.is_shown() => {
                self.code.forget();
                self.tell(News::Loading).await
            }
            Look::Same | Look::Nothing => Ok(()),
        }
    }

    /// One login, and why it ended.
    async fn session(&mut self) -> Result<Infallible, Ended> {
        let token = self.token.as_deref().map(Token::read).transpose();
        let token = token.map_err(|error| Ended::Token(Chain(&error).to_string()))?;
        let shared = self.shared.clone();
        shared.begin();
        if let Way::Reverse { door, .. } | Way::Http { door, .. } = &self.way {
            door.expect(token.clone());
        }
        let ended = match &mut self.way {
            Way::Forward { url, host, port } => {
                let socket = websocket::open(url, (host, *port), token.as_ref()).await?;
                let outgoing = shared.calls.connect();
                self.with(websocket::run(socket, outgoing, &shared.inbox)).await
            }
            Way::Http { url, .. } => {
                let http = HttpCalls::new(url, token, self.call_time)?;
                let outgoing = shared.calls.connect();
                self.with(http.run(outgoing, &shared.calls)).await
            }
            Way::Reverse { .. } => {
                let socket = self.socket().await?;
                let outgoing = shared.calls.connect();
                let mut newer = None;
                let ended = {
                    let Way::Reverse { sockets, .. } = &mut self.way else { return Err(Ended::Unheard) };
                    // Taken out for as long, for the rest of us is needed, too.
                    let mut waiting = std::mem::replace(sockets, mpsc::channel(1).1);
                    let carry = websocket::run(socket, outgoing, &shared.inbox);
                    let carry = async {
                        tokio::select! {
                            ended = carry => ended,
                            Some(socket) = waiting.recv() => {
                                newer = Some(Box::new(socket));
                                Ended::Lost("it connected anew".into())
                            }
                        }
                    };
                    let ended = self.with(carry).await;
                    if let Way::Reverse { sockets, .. } = &mut self.way {
                        *sockets = waiting;
                    }
                    ended
                };
                if let Way::Reverse { next, .. } = &mut self.way {
                    *next = newer;
                }
                ended
            }
        };
        Err(ended)
    }

    /// The next WebSocket that the implementation opens.
    async fn socket(&mut self) -> Result<Socket, Ended> {
        loop {
            let Way::Reverse { sockets, next, .. } = &mut self.way else { return Err(Ended::Unheard) };
            if let Some(socket) = next.take() {
                return Ok(*socket);
            }
            match timeout(LOOK, sockets.recv()).await {
                Ok(Some(socket)) => return Ok(socket),
                Ok(None) => return Err(Ended::Unheard),
                Err(_) => self.look().await?,
            }
        }
    }

    /// What is done with a connection while `carry` carries it.
    async fn with(&mut self, carry: impl Future<Output = Ended>) -> Ended {
        let shared = self.shared.clone();
        // Who asked for a login anew when there was none any more has it now.
        let _ = shared.relogin.notified().now_or_never();
        tokio::select! {
            // First what has come: whoever says why and closes has said why.
            biased;
            ended = carry => ended,
            () = shared.relogin.notified() => Ended::Relogin,
            ended = self.be_there() => ended,
        }
    }

    async fn be_there(&mut self) -> Ended {
        match self.log_in().await {
            Ok(()) => {
                self.shared.learn_roles().await;
                Ended::Unheard
            }
            Err(ended) => ended,
        }
    }

    async fn log_in(&mut self) -> Result<(), Ended> {
        let shared = self.shared.clone();
        let failed = |what: &str, error: CallError| match error {
            CallError::Token => Ended::Token("the answer was no".into()),
            // By HTTP this is how nobody listens there.
            CallError::NotWritten => Ended::Unreachable(format!("{what}: {error}")),
            error => Ended::Lost(format!("{what}: {error}")),
        };
        let user = own_account(&shared).await.map_err(|error| failed("get_login_info", error))?;
        let user =
            user.ok_or_else(|| Ended::Lost("get_login_info: the account is not logged in yet".into()))?;
        info!(uid = user.uid, "The OneBot implementation is there.");
        {
            let mut roster = shared.roster();
            roster.be(user);
            roster.forget_members();
        }
        self.tell(News::Confirmed).await?;
        self.so_far.is_trouble = false;
        let events = shared.load_lists().await.map_err(|error| failed("the lists", error))?;
        let scanned = self.code.is_shown();
        self.code.use_up();
        self.tell(News::Ready { scanned }).await?;
        (self.so_far.was_ready, self.so_far.said) = (true, String::new());
        for event in events {
            self.tell(News::Happened(Box::new(event))).await?;
        }
        shared.inbox.open();
        shared.set_ready(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::onebot::calls::Calls;
    use crate::client::onebot::inbox;

    /// Sessions that fail for want of a token, and what they tell.
    fn without_token(token: PathBuf) -> (Sessions, mpsc::Receiver<News>) {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let (inbox, _) = inbox::open(calls.clone());
        let hour = Duration::from_secs(3600);
        let shared = Arc::new(Shared::new("x".into(), calls, Arc::new(inbox), hour, false, 1));
        let (news, heard) = mpsc::channel(64);
        let sessions = Sessions {
            shared,
            news,
            way: Way::Forward { url: "ws://127.0.0.1:1/".into(), host: "127.0.0.1".into(), port: 1 },
            token: Some(token),
            code: LoginCode::new(None),
            call_time: Duration::from_secs(30),
            so_far: SoFar::default(),
        };
        (sessions, heard)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_no_good_is_said_once_and_tried_again_slowly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (sessions, mut heard) = without_token(path.clone());
        let mut sessions = std::pin::pin!(sessions.run());
        let hear = async {
            assert!(matches!(heard.recv().await, Some(News::Loading)));
            let Some(News::Trouble(missing)) = heard.recv().await else { panic!() };
            assert!(missing.contains("the file of the token cannot be used"), "{missing}");
            assert!(timeout(Duration::from_secs(600), heard.recv()).await.is_err(), "it is the same");
            // Another reason is news, and is seen with the next try.
            std::fs::write(&path, "two words").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let Some(News::Trouble(wrong)) = heard.recv().await else { panic!() };
            assert!(wrong.contains("must hold the token"), "{wrong}");
            let tried = Instant::now();
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(heard.recv().await, Some(News::Trouble(again)) if again == missing));
            (60..=75).contains(&tried.elapsed().as_secs())
        };
        tokio::select! {
            _ = &mut sessions => panic!("it gave up"),
            slowly = hear => assert!(slowly),
        }
    }
}
