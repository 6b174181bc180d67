//! One login on a connection: which account it is, its lists, and the wait while the implementation says that
//! the account is offline.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Sessions;
use super::reconnect_backoff::ReconnectBackoff;
use crate::client::backend::BackendEvent;
use crate::client::remote::dialect::Dialect;
use crate::client::remote::state::own_account;
use crate::client::remote::transport::SessionEnd;
use crate::client::remote::transport::calls::{ActionError, Calls};

/// The reason that check_client shows while a heartbeat says that the account is offline.
const OFFLINE: &str =
    "the implementation's heartbeat says that the account is offline, as it does while QQ reconnects";

/// The shortest time between two checks of an account that is said to be offline although its calls work.
const CHECK_PAUSE: Duration = Duration::from_secs(60);

/// When a login reports that it is confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confirm {
    /// As soon as the account is known.
    AtOnce,
    /// Only with the lists: the login has failed before, and each state in between would be reported.
    WithLists,
}

fn failed(dialect: &dyn Dialect, what: &str, error: ActionError) -> SessionEnd {
    match error {
        ActionError::Refused { code, .. } if dialect.is_logged_out(code) => SessionEnd::LoggedOut,
        ActionError::Token => SessionEnd::TokenRefused("the answer was no".into()),
        // Over HTTP this means that nothing listens there.
        ActionError::NotWritten => SessionEnd::Unreachable(format!(
            "{what}: {error}; the implementation is not running there, or not logged in yet"
        )),
        // Yogurt answers so until it has begun its own login.
        ActionError::ServerError(_) => {
            SessionEnd::Unreachable(format!("{what}: {error}; the implementation is not ready yet"))
        }
        error => SessionEnd::Lost(format!("{what}: {error}")),
    }
}

/// Checks that calls work.
async fn check(dialect: &dyn Dialect, calls: &Calls) -> Result<(), SessionEnd> {
    let (action, params) = dialect.login_info();
    calls.call(action, params).await.map_err(|error| failed(dialect, action, error))?;
    // `no_cache`: a list from the implementation's memory would not show that the network can be reached.
    let groups = calls.call("get_group_list", json!({ "no_cache": true })).await;
    groups.map_err(|error| failed(dialect, "get_group_list", error))?;
    Ok(())
}

impl Sessions {
    /// Logs in, and stays logged in until the connection or the login ends.
    pub(crate) async fn stay_logged_in(&mut self) -> SessionEnd {
        let mut online = self.state.inbox.online();
        match self.stay(&mut online).await {
            Ok(()) => SessionEnd::Closed,
            Err(ended) => ended,
        }
    }

    async fn stay(&mut self, online: &mut watch::Receiver<Option<bool>>) -> Result<(), SessionEnd> {
        self.log_in(Confirm::AtOnce).await?;
        let state = self.state.clone();
        // Not polled while `wait_until_online` runs. Its few calls keep their slots meanwhile; the login needs three of the
        // others.
        let mut learn = std::pin::pin!(state.fetch_own_roles());
        // A heartbeat that said offline before the login succeeded says nothing new when it repeats that.
        let mut is_doubted = *online.borrow_and_update() == Some(false);
        // But it may have come while the login went on, for a loss just then, so calls are checked at once when it is repeated.
        let mut checked = (!is_doubted).then(Instant::now);
        loop {
            tokio::select! {
                // Loops forever: the branch only drives it.
                () = &mut learn => return Ok(()),
                changed = online.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
            let says = *online.borrow_and_update();
            match says {
                // Only the first one: every heartbeat repeats it, and the login has shown that calls work.
                Some(false) if !is_doubted => {
                    is_doubted = true;
                    self.wait_until_online(online, OFFLINE.to_owned()).await?;
                    // It may be lost again before a heartbeat says that it was online.
                    checked = None;
                }
                // Some implementations say offline until they are restarted, although calls work.
                Some(false) if checked.is_none_or(|checked| checked.elapsed() >= CHECK_PAUSE) => {
                    let is_lost = match check(state.dialect, &state.calls).await {
                        Ok(()) => None,
                        // Only `Lost` may pass by waiting. All else needs another connection or the operator.
                        Err(SessionEnd::Lost(why)) => Some(why),
                        Err(ended) => return Err(ended),
                    };
                    checked = is_lost.is_none().then(Instant::now);
                    if let Some(why) = is_lost {
                        self.wait_until_online(online, format!("{OFFLINE}; {why}")).await?;
                    }
                }
                Some(false) | None => {}
                Some(true) => is_doubted = false,
            }
        }
    }

    /// The account is offline for now: repeats the login on the same connection until it works. A heartbeat
    /// that says online ends the pause between two attempts.
    async fn wait_until_online(
        &mut self,
        online: &mut watch::Receiver<Option<bool>>,
        why: String,
    ) -> Result<(), SessionEnd> {
        warn!("{why}; retrying until calls work");
        // Before the report, so that no send begins in the state `loading`.
        self.state.set_ready(false);
        self.report(BackendEvent::Delayed(why)).await?;
        // Earlier events are reported before the lists are compared. A bot_offline that comes now counts at
        // once.
        self.state.inbox.close().await;
        let mut pauses = ReconnectBackoff::default();
        loop {
            // Only a heartbeat after the start of the attempt ends the pause: an older one would end every
            // pause at once.
            online.borrow_and_update();
            match self.log_in(Confirm::WithLists).await {
                Ok(()) => {
                    info!("the account is online again");
                    return Ok(());
                }
                Err(SessionEnd::Lost(why)) => {
                    self.report(BackendEvent::Delayed(format!("{OFFLINE}; {why}"))).await?
                }
                Err(ended) => return Err(ended),
            }
            let says_online = async {
                loop {
                    if online.changed().await.is_err() {
                        // The sender is a field of the inbox. Without it the pause alone would decide.
                        std::future::pending::<()>().await;
                    }
                    if *online.borrow_and_update() == Some(true) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = sleep(pauses.next()) => {}
                () = says_online => {}
            }
        }
    }

    async fn log_in(&mut self, confirm: Confirm) -> Result<(), SessionEnd> {
        let state = self.state.clone();
        let user =
            own_account(&state).await.map_err(|error| failed(state.dialect, "get_login_info", error))?;
        let user =
            user.ok_or_else(|| SessionEnd::Lost("get_login_info: the account is not logged in yet".into()))?;
        // The binding is checked before anything of the account is reported or sent.
        // `lists::user` made it from a number.
        let uid = user.uid.parse().unwrap_or(0);
        state.binding.bind(uid).map_err(|other| SessionEnd::OtherAccount(other.to_string()))?;
        // Before the lists are there: a waiting message need not be given up while they load.
        state.note_reachable();
        info!("connected to the {} implementation of account {uid}", state.dialect.name());
        state.set_account(user);
        if confirm == Confirm::AtOnce {
            self.report(BackendEvent::Confirmed).await?;
        }
        self.progress.is_blocked = false;
        let events = state.load_lists().await.map_err(|error| failed(state.dialect, "the lists", error))?;
        if confirm == Confirm::WithLists {
            self.report(BackendEvent::Confirmed).await?;
        }
        // A login while a code is shown: the implementation does not say whether it was scanned.
        let scanned = self.code.is_shown();
        self.code.use_up();
        self.report(BackendEvent::Ready { scanned }).await?;
        (self.progress.was_ready, self.progress.last_reason) = (true, String::new());
        // After `Ready`, so that no event comes in an earlier state; before `open`, so that the worker's events follow.
        for event in events {
            self.report(BackendEvent::Account(Box::new(event))).await?;
        }
        state.inbox.open();
        state.set_ready(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;
    use crate::client::account::binding::AccountBinding;
    use crate::client::remote::reply::ActionResponse;
    use crate::client::remote::session::login_code::LoginCodeFile;
    use crate::client::remote::session::{LoginProgress, Transport};
    use crate::client::remote::state::RemoteState;
    use crate::client::remote::transport::calls::CallCompletion;
    use crate::client::remote::transport::inbox::{self, Inbox};

    /// More attempts than there are in ten minutes.
    const TOO_OFTEN: usize = 400;

    /// Logins on a connection that does not exist, and what they report.
    fn sessions() -> (Sessions, mpsc::Receiver<BackendEvent>) {
        let calls = Arc::new(Calls::new(Duration::from_secs(30)));
        let binding =
            Arc::new(AccountBinding::open(std::path::Path::new("/proc/nonexistent/binding"), None, None));
        let inbox = Arc::new(inbox::open(&crate::client::onebot::OneBot11, calls.clone(), binding.clone()).0);
        let hour = Duration::from_secs(3600);
        let state = Arc::new(RemoteState::new("x".into(), calls, inbox, binding, hour, false, 1));
        let (events, told) = mpsc::channel(64);
        let sessions = Sessions {
            state,
            events,
            transport: Transport::Forward {
                url: "ws://127.0.0.1:1/".into(),
                host: "127.0.0.1".into(),
                port: 1,
            },
            token: None,
            code: LoginCodeFile::new(None),
            policy: None,
            call_time: Duration::from_secs(30),
            progress: LoginProgress::default(),
        };
        (sessions, told)
    }

    async fn beat(inbox: &Inbox, online: bool) {
        let beat = json!({
            "post_type": "meta_event", "meta_event_type": "heartbeat", "status": { "online": online },
        });
        inbox.take(beat.to_string().as_bytes(), inbox.connection()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn loss_soon_after_a_return_is_noticed() {
        let (mut sessions, mut told) = sessions();
        let (calls, inbox) = (sessions.state.calls.clone(), sessions.state.inbox.clone());
        let mut connection = calls.connect();
        let is_online = AtomicBool::new(true);
        let answers = async {
            while let Some(call) = connection.recv().await {
                assert!(call.begin());
                let answer = match is_online.load(Ordering::Relaxed) {
                    true if call.action == "get_login_info" => {
                        ActionResponse::Done(json!({ "user_id": 10001, "nickname": "x" }))
                    }
                    true => ActionResponse::Done(json!([])),
                    false => ActionResponse::Refused { code: 1200, why: "no".into() },
                };
                calls.complete(&call.echo, CallCompletion::Reply(answer));
            }
        };
        let mut until = async |what: &str| {
            let is_it = |event: &BackendEvent| match what {
                "ready" => matches!(event, BackendEvent::Ready { .. }),
                _ => matches!(event, BackendEvent::Delayed(_)),
            };
            while !is_it(&told.recv().await.unwrap()) {}
        };
        let account = async {
            until("ready").await;
            for _ in 0..3 {
                is_online.store(false, Ordering::Relaxed);
                beat(&inbox, false).await;
                until("delayed").await;
                is_online.store(true, Ordering::Relaxed);
                // Found by an attempt of the client, before a heartbeat says it.
                until("ready").await;
            }
        };
        tokio::select! {
            _ = sessions.stay_logged_in() => panic!("it gave up"),
            () = answers => panic!("no connection"),
            done = tokio::time::timeout(Duration::from_secs(3600), account) => done.unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_heartbeat_does_not_end_the_pause_between_logins() {
        let (mut sessions, mut told) = sessions();
        let (calls, inbox) = (sessions.state.calls.clone(), sessions.state.inbox.clone());
        let mut connection = calls.connect();
        let attempts = AtomicUsize::new(0);
        let answers = async {
            while let Some(call) = connection.recv().await {
                assert!(call.begin());
                let count = attempts.fetch_add(1, Ordering::Relaxed);
                assert!(count < TOO_OFTEN, "the pause is gone");
                calls.complete(
                    &call.echo,
                    CallCompletion::Reply(ActionResponse::Refused { code: 1200, why: "no".into() }),
                );
            }
        };
        let count = async {
            beat(&inbox, true).await;
            sleep(Duration::from_secs(600)).await;
            let before = attempts.load(Ordering::Relaxed);
            // A new one ends the pause, and once.
            beat(&inbox, true).await;
            sleep(Duration::from_millis(1)).await;
            assert_eq!(attempts.load(Ordering::Relaxed), before + 1);
        };
        let listen = async { while told.recv().await.is_some() {} };
        let mut online = inbox.online();
        tokio::select! {
            _ = sessions.wait_until_online(&mut online, OFFLINE.to_owned()) => panic!("it gave up"),
            () = answers => panic!("no connection"),
            () = listen => panic!("no news"),
            () = count => {}
        }
    }
}
