//! [`Lifecycle`]: the one owner of the client's state. Whatever changes it - the backend's news, the end - comes
//! here, and from here go the state file, the image of the login code, the reports of it, and the API's view.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

use super::backend::News;
use super::endings::Ending;
use super::events::Event;
use super::log::MESSAGES;
use super::qrcode::{QrError, QrImage, png};
use super::reports::Reporter;
use super::settings::Settings;
use super::statefile::StateFile;
use crate::files::FileError;
use crate::model::chain::Chain;
use crate::model::state::ClientState;

/// Why the client cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    /// The state file cannot be written.
    #[error(transparent)]
    State(#[from] FileError),
    /// An image that an earlier client left behind cannot be removed.
    #[error(transparent)]
    Image(#[from] QrError),
}

/// How long after a file could not be written that is tried again.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// The state, and everything that shows it.
pub(super) struct Lifecycle {
    state: watch::Sender<ClientState>,
    file: StateFile,
    image: QrImage,
    reporter: Reporter,
    /// How many codes were shown since the login began.
    codes: u32,
    max_codes: u32,
    /// Why there is no login, where somebody has to act.
    reason: Option<String>,
    /// The state before this one.
    previous: Option<ClientState>,
    unwritten: Unwritten,
}

impl Lifecycle {
    /// Begins in the state `init`.
    ///
    /// # Errors
    /// Our files cannot be written. Later failures are only logged: an account whose disk is full can still talk.
    pub(super) fn begin(
        settings: &Settings,
        start_time: u64,
        reporter: Reporter,
    ) -> Result<Self, BeginError> {
        let mut file = StateFile::new(settings, start_time);
        let image = QrImage::new(settings.files.qrcode.clone());
        // A client that was killed leaves its image, and nobody can log in with that.
        image.clear()?;
        file.write(&ClientState::Init, None, None)?;
        let max_codes = settings.qrcode_count_max;
        Ok(Self {
            state: watch::Sender::new(ClientState::Init),
            file,
            image,
            reporter,
            codes: 0,
            max_codes,
            reason: None,
            previous: None,
            unwritten: Unwritten::default(),
        })
    }

    /// The state, for those who want to know.
    pub(super) fn state(&self) -> watch::Receiver<ClientState> {
        self.state.subscribe()
    }

    /// Does what the backend's news mean. Returns why the client is to end, if it is.
    pub(super) fn take(&mut self, news: News) -> Option<Ending> {
        match news {
            News::Loading => self.load(None),
            News::Code(content) => return self.show_code(png(&content)),
            News::Image(image) => return self.show_code(Ok(image)),
            News::Trouble(what) => {
                error!(what, "There can be no login until somebody puts this right.");
                self.load(Some(what));
            }
            News::Offline(why) => {
                let ending = Ending::Offline(why);
                self.reason = Some(ending.to_string());
                return Some(ending);
            }
            News::Scanned => self.enter(ClientState::Confirming),
            News::Confirmed => {
                self.clear_image();
                self.reason = None;
                self.enter(ClientState::Updating);
            }
            News::Ready { scanned } => {
                // After the change: whoever is told of a login can use the API.
                self.enter(ClientState::Running);
                self.reporter.event(&Event::Login { scanned });
            }
            News::Received(message) => {
                info!(target: MESSAGES, id = message.id, from = message.sender.uid, "A message came.");
                self.reporter.message(&message);
            }
            News::Happened(event) => {
                debug!(event = event.name(), "Something happened.");
                self.reporter.event(&event);
            }
        }
        None
    }

    /// Ends in the state `stop`.
    pub(super) fn end(mut self) {
        self.clear_image();
        self.enter(ClientState::Stop);
        self.reporter.event(&Event::Stop);
    }

    /// A login begins, or cannot begin for this reason.
    fn load(&mut self, reason: Option<String>) {
        self.clear_image();
        self.codes = 0;
        let is_new = self.reason != reason;
        self.reason = reason;
        let state = self.state.borrow().clone();
        self.enter(ClientState::Loading);
        if is_new && state == ClientState::Loading {
            self.write(&state, &state);
        }
    }

    fn enter(&mut self, new: ClientState) {
        let old = self.state.borrow().clone();
        if old == new {
            return;
        }
        self.write(&new, &old);
        // The controller says this, too, in words of its own.
        debug!(state = %new, "The state changed.");
        tell_systemd(&new);
        self.state.send_replace(new.clone());
        self.reporter.event(&Event::StateChange(old, new));
    }

    fn write(&mut self, state: &ClientState, previous: &ClientState) {
        self.previous = Some(previous.clone());
        let written = self.file.write(state, Some(previous), self.reason.as_deref());
        match &written {
            Ok(()) if self.unwritten.state => info!(%state, "The state file can be written again."),
            Err(error) if !self.unwritten.state => {
                error!(%state, error = %Chain(error), "The state file cannot be written; it is tried again and again.");
            }
            _ => {}
        }
        self.unwritten.state = written.is_err();
        self.unwritten.note();
    }

    fn show_code(&mut self, image: Result<Vec<u8>, QrError>) -> Option<Ending> {
        if self.codes >= self.max_codes {
            return Some(Ending::Unscanned);
        }
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                self.codes += 1;
                self.enter(ClientState::Scaning);
                error!(error = %Chain(&error), "The login code cannot be shown.");
                return None;
            }
        };
        // First the image: whoever sees `scaning` may ask for it at once.
        self.write_image(image.clone());
        self.enter(ClientState::Scaning);
        let path = self.image.path().to_string_lossy().into_owned();
        self.reporter.event(&Event::InputQrcode(path, BASE64.encode(image)));
        None
    }

    /// Only a code that somebody could see counts as one that nobody scanned.
    fn write_image(&mut self, image: Vec<u8>) {
        match self.image.show(&image) {
            Ok(()) => {
                self.codes += 1;
                self.unwritten.image = None;
                info!(path = %self.image.path().display(), "A code waits to be scanned.");
            }
            Err(error) => {
                if self.unwritten.image.replace(image).is_none() {
                    error!(error = %Chain(&error), "The image of the login code cannot be written; it is tried again and again.");
                }
                self.unwritten.note();
            }
        }
    }

    /// Waits until what could not be written is to be tried again; for ever where there is nothing.
    pub(super) fn write_due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.unwritten.due;
        async move {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Tries again to write what could not be written.
    pub(super) fn write_again(&mut self) {
        self.unwritten.due = None;
        if let Some(image) = self.unwritten.image.clone() {
            self.write_image(image);
        }
        if let (true, Some(previous)) = (self.unwritten.state, self.previous.clone()) {
            let state = self.state.borrow().clone();
            self.write(&state, &previous);
        }
    }

    fn clear_image(&mut self) {
        self.unwritten.image = None;
        if let Err(error) = self.image.clear() {
            error!(error = %Chain(&error), "The login code is no longer valid, but still shown.");
        }
    }
}

/// What could not be written: others still read what was true before.
#[derive(Default)]
struct Unwritten {
    state: bool,
    image: Option<Vec<u8>>,
    /// When it is tried again.
    due: Option<Instant>,
}

impl Unwritten {
    fn note(&mut self) {
        let is_any = self.state || self.image.is_some();
        self.due = is_any.then(|| self.due.unwrap_or_else(|| Instant::now() + WRITE_PAUSE));
    }
}

/// Where the client is a service of its own (`NOTIFY_SOCKET` is set), systemd hears how it is.
fn tell_systemd(state: &ClientState) {
    let status = state.to_string();
    let mut words = vec![NotifyState::Status(&status)];
    match state {
        ClientState::Running => words.push(NotifyState::Ready),
        ClientState::Stop => words.push(NotifyState::Stopping),
        _ => {}
    }
    if let Err(error) = sd_notify::notify(&words) {
        debug!(%error, "systemd cannot be told the state.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::StateReport;

    #[test]
    fn the_files_follow_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let vars = [
            ("ACCOUNT", "小明"),
            ("PLUGIN_OPENQQ_PORT", "5000"),
            ("TMPDIR", folder.path().to_str().unwrap()),
        ];
        let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
        let settings = Settings::from_vars(vars).unwrap();
        std::fs::write(&settings.files.qrcode, "left behind").unwrap();
        let report = || StateReport::parse(&std::fs::read(&settings.files.state).unwrap()).unwrap();

        let mut lifecycle = Lifecycle::begin(&settings, 1_477_273_654, Reporter::to_nobody()).unwrap();
        assert!(!settings.files.qrcode.exists());
        assert_eq!(report().state, ClientState::Init);
        let fields = report().fields();
        assert_eq!(fields["account"], "小明");
        assert_eq!(fields["start_time"], "1477273654");
        assert_eq!(fields["http_debug"], "0");
        assert!(fields["pid"].is_u64() && fields["log_path"].is_null() && fields["previous_state"].is_null());

        let seen = lifecycle.state();
        for (news, state, image) in [
            (News::Loading, ClientState::Loading, false),
            (News::Code("code".into()), ClientState::Scaning, true),
            (News::Scanned, ClientState::Confirming, true),
            (News::Confirmed, ClientState::Updating, false),
            (News::Ready { scanned: true }, ClientState::Running, false),
            (News::Loading, ClientState::Loading, false),
            (News::Code("again".into()), ClientState::Scaning, true),
        ] {
            let before = report().state;
            assert_eq!(lifecycle.take(news), None);
            assert_eq!((report().state, &*seen.borrow()), (state.clone(), &state));
            assert_eq!(report().fields()["previous_state"], before.as_str());
            assert_eq!(settings.files.qrcode.exists(), image, "{state}");
        }
        let reason = || report().fields().get("reason").cloned();
        assert_eq!(lifecycle.take(News::Trouble("no token".into())), None);
        assert_eq!((report().state, reason()), (ClientState::Loading, Some("no token".into())));
        assert_eq!(lifecycle.take(News::Trouble("another".into())), None);
        assert_eq!(reason(), Some("another".into()));
        assert_eq!(lifecycle.take(News::Loading), None);
        assert_eq!((report().state, reason()), (ClientState::Loading, None));
        assert_eq!(lifecycle.take(News::Code("again".into())), None);
        // One was shown above.
        for _ in 1..10 {
            assert_eq!(lifecycle.take(News::Code("fresh".into())), None);
        }
        assert_eq!(lifecycle.take(News::Code("too many".into())), Some(Ending::Unscanned));
        assert_eq!(lifecycle.take(News::Loading), None);
        assert!(!settings.files.qrcode.exists());
        assert_eq!(lifecycle.take(News::Code("anew".into())), None);
        lifecycle.end();
        assert_eq!(report().state, ClientState::Stop);
        assert!(!settings.files.qrcode.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let (there, away) = (folder.path().join("there"), folder.path().join("away"));
        std::fs::create_dir(&there).unwrap();
        let vars = [("ACCOUNT", "a"), ("PLUGIN_OPENQQ_PORT", "5000"), ("TMPDIR", there.to_str().unwrap())];
        let vars = vars.map(|(name, value)| (format!("MOJO_WEBQQ_{name}").into(), value.into()));
        let settings = Settings::from_vars(vars).unwrap();
        let mut lifecycle = Lifecycle::begin(&settings, 1, Reporter::to_nobody()).unwrap();
        std::fs::rename(&there, &away).unwrap();
        assert_eq!(lifecycle.take(News::Loading), None);
        // Nobody can see these, so they are not among those that nobody scanned.
        for _ in 0..20 {
            assert_eq!(lifecycle.take(News::Code("unseen".into())), None);
        }
        lifecycle.write_due().await;
        lifecycle.write_again();
        std::fs::rename(&away, &there).unwrap();
        lifecycle.write_due().await;
        lifecycle.write_again();
        let report = StateReport::parse(&std::fs::read(&settings.files.state).unwrap()).unwrap();
        assert_eq!(report.state, ClientState::Scaning);
        assert_eq!(report.fields()["previous_state"], "loading");
        assert!(settings.files.qrcode.exists());
        let due = tokio::time::timeout(Duration::from_secs(3600), lifecycle.write_due());
        assert!(due.await.is_err(), "all is written");
        lifecycle.clear_image();
        std::fs::rename(&there, &away).unwrap();
        assert_eq!(lifecycle.take(News::Code("unseen".into())), None);
        assert_eq!(lifecycle.take(News::Confirmed), None);
        std::fs::rename(&away, &there).unwrap();
        lifecycle.write_due().await;
        lifecycle.write_again();
        assert!(!settings.files.qrcode.exists(), "it is no longer valid");
    }
}
