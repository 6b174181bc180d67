//! [`Lifecycle`]: the one owner of the client's state. Events of the backend and the shutdown change it; the
//! state file, the image of the login code, reports and the API follow it.

use std::io::ErrorKind;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::qr_image::{QrError, QrImage, png};
use super::state_file::StateFile;
use crate::client::backend::BackendEvent;
use crate::client::backend::event::AccountEvent;
use crate::client::outbox::Outbox;
use crate::client::process::log::MESSAGES;
use crate::client::process::shutdown::ShutdownReason;
use crate::client::process::unix_seconds;
use crate::client::reports::Reporter;
use crate::client::settings::ClientSettings;
use crate::files::FileError;
use crate::model::error_chain::ErrorChain;
use crate::model::state::{ClientState, Queues};
use crate::service::notify::Notifier;

/// Why the client cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// The state file cannot be written.
    #[error(transparent)]
    State(#[from] FileError),
    /// The image that an earlier client left cannot be removed.
    #[error(transparent)]
    Image(#[from] QrError),
}

/// The pause before a failed write is retried.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// How often reports and messages that wait are counted for the state file. Each change costs a write here, and the controller a
/// read: while receivers and the network work, the numbers are 0 nearly always.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);

fn waiting(reporter: &Reporter, outbox: &Outbox) -> Queues {
    let count = |waiting: usize| u64::try_from(waiting).unwrap_or(u64::MAX);
    Queues { reports: reporter.waiting().map(count), messages: Some(count(outbox.waiting())) }
}

/// The state, and everything that shows it.
pub(crate) struct Lifecycle {
    state: watch::Sender<ClientState>,
    file: StateFile,
    image: QrImage,
    reporter: Reporter,
    notifier: Notifier,
    /// How many login codes were shown since the login began.
    codes: u32,
    max_codes: u32,
    /// Why there is no login.
    reason: Option<String>,
    /// Why the account was logged out, which ends the client.
    put_out: Option<String>,
    /// The state before this one.
    previous: Option<ClientState>,
    /// The image of the login code that is shown now.
    shown: Option<Vec<u8>>,
    /// Since when the state is what it is, in Unix seconds.
    since: u64,
    outbox: Outbox,
    /// What waits, as the state file says, and when that was last counted.
    queues_told: Queues,
    counted: Instant,
    unwritten: PendingWrites,
}

impl Lifecycle {
    /// Starts in the state `init`.
    ///
    /// # Errors
    /// The state file or the image cannot be written. Later failures are only logged: an account on a full disk can still talk.
    pub(crate) fn begin(
        settings: &ClientSettings,
        start_time: u64,
        (reporter, outbox): (Reporter, Outbox),
        notifier: Notifier,
    ) -> Result<Self, BeginError> {
        let mut file = StateFile::new(settings, start_time);
        let image = QrImage::new(settings.files.qrcode.clone());
        // The code that a killed client left behind has expired.
        image.clear()?;
        // Those that an earlier client left.
        let queues_told = waiting(&reporter, &outbox);
        file.write((&ClientState::Init, start_time), None, None, queues_told)?;
        let max_codes = settings.qrcode_count_max;
        Ok(Self {
            state: watch::Sender::new(ClientState::Init),
            file,
            image,
            reporter,
            notifier,
            codes: 0,
            max_codes,
            reason: None,
            put_out: None,
            previous: None,
            shown: None,
            since: start_time,
            outbox,
            queues_told,
            counted: Instant::now(),
            unwritten: PendingWrites::default(),
        })
    }

    /// Subscribes to the state.
    pub(crate) fn state(&self) -> watch::Receiver<ClientState> {
        self.state.subscribe()
    }

    /// Handles an event of the backend. Returns the reason if the client has to stop.
    pub(crate) fn handle(&mut self, event: BackendEvent) -> Option<ShutdownReason> {
        match event {
            BackendEvent::Loading => self.enter_loading(None),
            BackendEvent::Delayed(why) => self.enter_loading(Some(why)),
            BackendEvent::LoginCode(content) => return self.show_code(png(&content)),
            BackendEvent::LoginImage(image) => return self.show_code(Ok(image)),
            BackendEvent::Blocked(what) => {
                error!("cannot log in until this is fixed: {what}");
                self.enter_loading(Some(what));
            }
            BackendEvent::Offline(why) => {
                let ending = ShutdownReason::PutOut(why);
                self.put_out = ending.reason();
                return Some(ending);
            }
            BackendEvent::Scanned => self.enter(ClientState::Confirming),
            BackendEvent::Confirmed => {
                // The code is used up; a person who finds the image would scan it in vain.
                self.clear_image();
                self.reason = None;
                self.enter(ClientState::Updating);
            }
            BackendEvent::Ready { scanned } => {
                // The state comes first: a program that gets the login event may call the API at once.
                self.enter(ClientState::Running);
                self.reporter.event(&AccountEvent::Login { scanned });
            }
            event @ (BackendEvent::Message(_) | BackendEvent::Account(_)) => self.report(event),
        }
        None
    }

    /// Reports a message or an event of the account. Other events change the state alone, and are ignored: after
    /// [`Lifecycle::end`] it stays `stop`.
    pub(crate) fn report(&mut self, event: BackendEvent) {
        match event {
            BackendEvent::Message(message) => {
                info!(target: MESSAGES, "message {} received from {}", message.id, message.sender.uid);
                self.reporter.message(&message);
            }
            BackendEvent::Account(event) => {
                debug!("event: {}", event.name());
                self.reporter.event(&event);
            }
            _ => {}
        }
    }

    /// Ends in the state `stop`, with a reason if there is one.
    pub(crate) fn end(&mut self, reason: Option<String>) {
        // Before the state: a program that sees `stop` must not find a code.
        self.clear_image();
        self.reason = reason;
        self.enter(ClientState::Stop);
        self.reporter.event(&AccountEvent::Stop(self.put_out.take()));
    }

    /// A login begins, or cannot begin for this reason.
    fn enter_loading(&mut self, reason: Option<String>) {
        self.clear_image();
        self.codes = 0;
        let is_new = self.reason != reason;
        self.reason = reason;
        let state = self.state.borrow().clone();
        self.enter(ClientState::Loading);
        // `enter` does nothing while the state stays `loading`, so the new reason is written here.
        if is_new && state == ClientState::Loading {
            // There is one, as the first state is `init`.
            let previous = self.previous.clone().unwrap_or(ClientState::Init);
            self.write(&state, &previous);
        }
    }

    fn enter(&mut self, new: ClientState) {
        let old = self.state.borrow().clone();
        if old == new {
            return;
        }
        self.since = unix_seconds();
        // The file first: a program that gets the report or sees the state may read it at once.
        self.write(&new, &old);
        // At debug: the controller logs each state itself.
        debug!("state: {new}");
        self.tell_systemd(&new);
        self.state.send_replace(new.clone());
        self.reporter.event(&AccountEvent::StateChange(old, new, self.put_out.clone()));
    }

    /// Tells systemd the state, if the client is a unit, and the reason at the end: the state file goes with its unit, while
    /// systemd keeps the last status.
    fn tell_systemd(&self, state: &ClientState) {
        let reason = self.reason.as_deref().filter(|_| *state == ClientState::Stop);
        // In sd_notify(3) a newline begins another assignment, and a reason may be the text of another program.
        let status = reason.unwrap_or(state.as_str()).replace('\n', " ");
        let mut words = vec![NotifyState::Status(&status)];
        match state {
            ClientState::Running => words.push(NotifyState::Ready),
            ClientState::Stop => words.push(NotifyState::Stopping),
            _ => {}
        }
        self.notifier.post(&words);
    }

    fn write(&mut self, state: &ClientState, previous: &ClientState) {
        self.previous = Some(previous.clone());
        (self.queues_told, self.counted) = (waiting(&self.reporter, &self.outbox), Instant::now());
        let shown = (state, self.since);
        let written = self.file.write(shown, Some(previous), self.reason.as_deref(), self.queues_told);
        // One line when writes begin to fail and one when they work again, however many states come in between.
        match &written {
            Ok(()) if self.unwritten.state => info!("the state file can be written again (state {state})"),
            Err(error) if !self.unwritten.state => {
                error!(
                    "cannot write the state file: {} (state {state}); retrying every {} s",
                    ErrorChain(error),
                    WRITE_PAUSE.as_secs()
                );
            }
            _ => {}
        }
        self.unwritten.state = written.is_err();
        self.unwritten.note();
    }

    fn show_code(&mut self, image: Result<Vec<u8>, QrError>) -> Option<ShutdownReason> {
        if self.codes >= self.max_codes {
            return Some(ShutdownReason::NotScanned);
        }
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                // It counts, unlike one that cannot be written now: no later code of the network would fit either.
                self.codes += 1;
                self.enter(ClientState::Scaning);
                error!("cannot show the login code: {}", ErrorChain(&error));
                return None;
            }
        };
        // The image comes first: a program that sees `scaning` may ask for it at once.
        self.write_image(image.clone());
        self.enter(ClientState::Scaning);
        let path = self.image.path().to_string_lossy().into_owned();
        self.reporter.event(&AccountEvent::InputQrcode(path, BASE64.encode(image)));
        None
    }

    /// A code that could not be written does not count towards `qrcode_count_max`: nothing is wrong with it, and there was
    /// nothing to scan.
    fn write_image(&mut self, image: Vec<u8>) {
        match self.image.show(&image) {
            Ok(()) => {
                self.codes += 1;
                self.unwritten.image = None;
                self.shown = Some(image);
                info!("login code written to {}", self.image.path().display());
            }
            Err(error) => {
                // The newest code takes the place of one that is still unwritten, which has expired.
                if self.unwritten.image.replace(image).is_none() {
                    error!(
                        "cannot write the image of the login code: {}; retrying every {} s",
                        ErrorChain(&error),
                        WRITE_PAUSE.as_secs()
                    );
                }
                self.unwritten.note();
            }
        }
    }

    /// Waits until a failed write is due again; never returns if there is none.
    pub(crate) fn retry_due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.unwritten.due;
        async move {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Retries the failed writes.
    pub(crate) fn retry_writes(&mut self) {
        self.unwritten.due = None;
        // Cloned, not taken: while an image is pending, `write_image` does not log another failure.
        if let Some(image) = self.unwritten.image.clone() {
            self.write_image(image);
        }
        if let (true, Some(previous)) = (self.unwritten.state, self.previous.clone()) {
            let state = self.state.borrow().clone();
            self.write(&state, &previous);
        }
    }

    /// Writes the state file and the image of the login code again if they were removed.
    pub(crate) fn restore(&mut self) {
        // A failed write has its own retry.
        if let (false, true, Some(previous)) =
            (self.unwritten.state, self.file.is_missing(), self.previous.clone())
        {
            warn!("the state file was removed; writing it again");
            let state = self.state.borrow().clone();
            self.write(&state, &previous);
        }
        if let (None, Some(shown)) = (&self.unwritten.image, self.shown.clone())
            && self.image.path().symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
        {
            // A failure shows with the state file, which is in the same place.
            if self.image.show(&shown).is_ok() {
                warn!("the image of the login code was removed; wrote it again");
            }
        }
    }

    /// Writes what waits, if that is more or less than the state file says. Looks now and then only.
    pub(crate) fn count_queues(&mut self) {
        if self.counted.elapsed() < COUNT_INTERVAL {
            return;
        }
        self.counted = Instant::now();
        // A failed write has its own retry.
        if let (false, Some(previous)) = (self.unwritten.state, self.previous.clone())
            && waiting(&self.reporter, &self.outbox) != self.queues_told
        {
            let state = self.state.borrow().clone();
            self.write(&state, &previous);
        }
    }

    fn clear_image(&mut self) {
        self.shown = None;
        // Otherwise a retry would show a code that has expired.
        self.unwritten.image = None;
        if let Err(error) = self.image.clear() {
            error!("the login code has expired, but its image cannot be removed: {}", ErrorChain(&error));
        }
    }
}

/// Failed writes. Readers still see the earlier content.
#[derive(Default)]
struct PendingWrites {
    state: bool,
    image: Option<Vec<u8>>,
    /// When they are retried.
    due: Option<Instant>,
}

impl PendingWrites {
    fn note(&mut self) {
        let is_any = self.state || self.image.is_some();
        // A further failure does not put off the retry of an earlier one.
        self.due = is_any.then(|| self.due.unwrap_or_else(|| Instant::now() + WRITE_PAUSE));
    }
}

#[cfg(test)]
mod tests;
