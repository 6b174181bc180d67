//! [`Lifecycle`]: the one owner of the client's state. Whatever changes it - the backend's news, the end - comes
//! here, and from here go the state file, the image of the login code, the reports of it, and the API's view.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{debug, error, info};

use super::backend::News;
use super::endings::Ending;
use super::events::Event;
use super::log::MESSAGES;
use super::qrcode::{QrError, QrImage};
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
            News::Code(content) => return self.show_code(|image| image.show(&content)),
            News::Image(content) => return self.show_code(|image| image.show_image(content)),
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
        if let Err(error) = self.file.write(state, Some(previous), self.reason.as_deref()) {
            error!(%state, error = %Chain(&error), "The state file cannot be written.");
        }
    }

    fn show_code(&mut self, show: impl FnOnce(&QrImage) -> Result<Vec<u8>, QrError>) -> Option<Ending> {
        if self.codes >= self.max_codes {
            return Some(Ending::Unscanned);
        }
        self.codes += 1;
        // First the image: whoever sees `scaning` may ask for it at once.
        let image = show(&self.image);
        self.enter(ClientState::Scaning);
        match image {
            Ok(image) => {
                info!(path = %self.image.path().display(), "A code waits to be scanned.");
                let path = self.image.path().to_string_lossy().into_owned();
                self.reporter.event(&Event::InputQrcode(path, BASE64.encode(image)));
            }
            Err(error) => error!(error = %Chain(&error), "The login code cannot be shown."),
        }
        None
    }

    fn clear_image(&self) {
        if let Err(error) = self.image.clear() {
            error!(error = %Chain(&error), "The login code is no longer valid, but still shown.");
        }
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
}
