//! [`SecretRenewal`]: notices that the operator has changed a secret of a client that is a unit, and has the unit take it over. A
//! child process reads the operator's file itself.

use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::launcher::launch_value;
use super::worker::WorkerContext;
use crate::environ::{LaunchSecret, launch_secrets};
use crate::files::{FileError, Fingerprint};
use crate::model::client::ClientSpec;
use crate::model::error_chain::ErrorChain;
use crate::model::fleet::Launch;
use crate::supervisor::systemd::{CurrentSecret, ReloadIf, Renewal, RenewalError};

/// The pause between two looks at the files.
const LOOK: Duration = Duration::from_secs(3);
/// The longest pause after which a failed renewal is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the secrets of one launch up to date.
pub(super) struct SecretRenewal {
    launch: Launch,
    spec: Arc<ClientSpec>,
    progress: Progress,
}

/// What was seen of the operator's files, and done about it. No I/O.
#[derive(Debug)]
struct Progress {
    /// The files at the last look.
    seen: Vec<(PathBuf, Option<Fingerprint>)>,
    reload_if: ReloadIf,
    /// When a failed renewal is tried again, and the pause before that.
    again: Option<(Instant, Duration)>,
    /// When the files are looked at next; None where there are no secrets.
    next_look: Option<Instant>,
    /// The last warning, until the files change.
    warned: String,
}

impl Progress {
    fn new(reload_if: ReloadIf, now: Instant) -> Self {
        Self { seen: Vec::new(), reload_if, again: None, next_look: Some(now), warned: String::new() }
    }

    /// Takes the files as they are now. Returns whether they are to be read.
    fn look(&mut self, files: Vec<(PathBuf, Option<Fingerprint>)>, now: Instant) -> bool {
        self.next_look = (!files.is_empty()).then(|| now + LOOK);
        // At the first look nothing was seen, so all files are read: one may have changed since the launch read it.
        let changed = self.seen != files;
        if changed {
            (self.seen, self.again) = (files, None);
            self.warned.clear();
        } else if self.again.is_none_or(|(at, _)| now < at) {
            return false;
        }
        // An attempt that is dropped before its end counts as failed.
        let pause = self.again.map_or(LOOK, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.again = Some((now + pause, pause));
        !self.seen.is_empty()
    }

    /// There is nothing left to do until the files change.
    fn done(&mut self) {
        (self.again, self.reload_if) = (None, ReloadIf::Changed);
    }

    /// Whether this has not been said since the files changed.
    fn is_news(&mut self, warning: &str) -> bool {
        let is_news = self.warned != warning;
        warning.clone_into(&mut self.warned);
        is_news
    }
}

impl SecretRenewal {
    /// For a launch that has just read the files (`adopted` is false), or for a process that was launched earlier.
    pub(super) fn new(launch: Launch, spec: Arc<ClientSpec>, adopted: bool) -> Self {
        let reload_if = if adopted { ReloadIf::Outdated } else { ReloadIf::Changed };
        Self { launch, spec, progress: Progress::new(reload_if, Instant::now()) }
    }

    /// Looks at the files every [`LOOK`], and at each reload of the configuration. May be dropped at any time.
    pub(super) async fn run(&mut self, context: &mut WorkerContext) -> Infallible {
        loop {
            let next_look = self.progress.next_look;
            let tick = async {
                match next_look {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tick => {}
                // A new configuration may name another file, which should not wait for the next look.
                changed = context.settings.changed() => if changed.is_err() {
                    // The controller ends.
                    std::future::pending::<()>().await;
                }
            }
            self.look(context).await;
        }
    }

    async fn look(&mut self, context: &mut WorkerContext) {
        let settings = context.settings.borrow_and_update().clone();
        let secrets = launch_secrets(&self.spec, &settings, &context.client_dirs);
        // From before they are read, so that a later change is seen.
        let files = match secrets.is_empty() {
            true => Vec::new(),
            false => {
                let paths: Vec<_> = secrets.iter().map(|secret| secret.file.clone()).collect();
                let look = move || {
                    let look = |path: PathBuf| (Fingerprint::behind(&path), path);
                    paths.into_iter().map(look).map(|(found, path)| (path, found)).collect()
                };
                // Fails only while the runtime shuts down.
                spawn_blocking(look).await.unwrap_or_default()
            }
        };
        if !self.progress.look(files, Instant::now()) {
            return;
        }
        let folder = context.client_dirs.folder(&self.spec.id);
        let read = spawn_blocking(move || secrets.into_iter().map(|secret| read(secret, &folder)).collect());
        let secrets: Vec<CurrentSecret> = match read.await.unwrap_or_else(|_| Ok(Vec::new())) {
            Ok(secrets) => secrets,
            Err(error) => return self.cannot_read(&error),
        };
        let (launch, id) = (self.launch.clone(), self.spec.id.clone());
        let reload_if = self.progress.reload_if;
        // From here on the launch file may have the secrets, and the unit not.
        self.progress.reload_if = ReloadIf::Always;
        let renewed = context.supervisor.renew_secrets(launch, id, secrets, reload_if).await;
        self.report(renewed);
    }

    fn cannot_read(&mut self, error: &UnreadableSecret) {
        let error = ErrorChain(error);
        if self.progress.is_news(&error.to_string()) {
            let client = &self.launch.name;
            warn!(
                %client, %error,
                "can't read its new token: {error}; its unit keeps the old one until the file can be read"
            );
        }
    }

    fn report(&mut self, renewed: Result<Renewal, RenewalError>) {
        let client = &self.launch.name;
        let error = match renewed {
            Ok(renewal) => {
                match renewal {
                    Renewal::Taken => info!(%client, "its token file changed; its unit has the new token"),
                    Renewal::Stored => debug!(%client, "its token file changed, and its unit does not run"),
                    Renewal::Unchanged => {}
                }
                return self.progress.done();
            }
            Err(error) => error,
        };
        match &error {
            RenewalError::NotReloadable(unit) => {
                warn!(
                    %client, %unit,
                    "its token file changed, but {unit} keeps the old token, as it was started without ExecReload= by an older \
                     version; for the new one: systemctl restart {unit}"
                );
                self.progress.done();
            }
            error if error.is_temporary() => {
                let error = ErrorChain(error);
                debug!(%client, %error, "its unit does not have its new token yet: {error}; trying again");
            }
            error => {
                let error = ErrorChain(error);
                if self.progress.is_news(&error.to_string()) {
                    warn!(
                        %client, %error,
                        "its token file changed, but its unit keeps the old token: {error}; trying again"
                    );
                }
            }
        }
    }
}

/// Why the operator's file is not used.
#[derive(Debug, thiserror::Error)]
enum UnreadableSecret {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: empty", .0.display())]
    Empty(PathBuf),
}

/// Reads a secret as it is now. An empty file is most likely being written.
fn read(secret: LaunchSecret, folder: &Path) -> Result<CurrentSecret, UnreadableSecret> {
    let value = launch_value(&secret.file)?;
    // With it the unit would lose a token that works.
    if value.as_bytes().trim_ascii().is_empty() {
        return Err(UnreadableSecret::Empty(secret.file));
    }
    Ok(CurrentSecret { variable: secret.variable, value, copy: folder.join(secret.copy_name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    struct Bench {
        folder: tempfile::TempDir,
        begin: Instant,
        progress: Progress,
    }

    impl Bench {
        fn new() -> Self {
            let begin = Instant::now();
            let progress = Progress::new(ReloadIf::Changed, begin);
            Self { folder: tempfile::tempdir().unwrap(), begin, progress }
        }

        fn write(&self, content: &str) {
            std::fs::write(self.folder.path().join("token"), content).unwrap();
        }

        /// Looks at the time `seconds`.
        fn look(&mut self, seconds: u64) -> bool {
            let path = self.folder.path().join("token");
            let found = Fingerprint::behind(&path);
            self.progress.look(vec![(path, found)], self.begin + Duration::from_secs(seconds))
        }
    }

    #[test]
    fn file_is_read_again_only_when_it_changes() {
        let mut bench = Bench::new();
        bench.write("old");
        assert!(bench.look(0), "it may have changed since the launch read it");
        bench.progress.done();
        assert!(!bench.look(3) && !bench.look(1000));
        bench.write("newer");
        assert!(bench.look(1003));
        bench.progress.done();
        std::fs::remove_file(bench.folder.path().join("token")).unwrap();
        assert!(bench.look(1006), "which is worth a warning");
    }

    #[test]
    fn failed_or_dropped_renewal_is_tried_again_after_a_growing_pause() {
        let mut bench = Bench::new();
        bench.write("token");
        let tried: Vec<u64> = (0..400).filter(|second| bench.look(*second)).collect();
        assert_eq!(tried, [0, 3, 9, 21, 45, 93, 153, 213, 273, 333, 393]);
        bench.write("another");
        assert!(bench.look(400), "a change is no repetition");
        assert!(!bench.look(402) && bench.look(403));
    }

    #[test]
    fn without_secrets_only_the_settings_are_watched() {
        let now = Instant::now() + NOW;
        let mut progress = Progress::new(ReloadIf::Changed, now);
        assert!(!progress.look(Vec::new(), now));
        assert_eq!(progress.next_look, None);
        let files = vec![(PathBuf::from("/no/such/file"), None)];
        assert!(progress.look(files, now), "the configuration names one now");
        assert_eq!(progress.next_look, Some(now + LOOK));
    }

    #[test]
    fn warning_is_repeated_only_after_a_change() {
        let mut bench = Bench::new();
        bench.look(0);
        assert!(bench.progress.is_news("a") && !bench.progress.is_news("a") && bench.progress.is_news("b"));
        bench.write("token");
        bench.look(3);
        assert!(bench.progress.is_news("b"));
    }
}
