//! Posts changes of logins to where `[login] notify` says, each once and durably, by the queue that reports of clients have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::accounts::Accounts;
use crate::client::reports::{RecentEvents, Reporter, open};
use crate::client_settings::ReportSettings;
use crate::config::{NotifyFormat, NotifyTarget, Settings};
use crate::login::LoginNews;
use crate::model::error_chain::ErrorChain;
use crate::model::login::LoginEvent;
use crate::peers::PeerPolicy;
use crate::wire::v1::routes::scan_url;

/// How long a change is kept for a receiver that is away.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How many changes are kept for each receiver.
const QUEUE: usize = 10_000;
/// How long the end waits for posts under way. What is left stays on disk.
const END: Duration = Duration::from_secs(3);

/// A receiver, and the task that posts there.
struct Target {
    target: NotifyTarget,
    reporter: Reporter,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Posts changes, on a thread of its own: each is written to disk first, and a disk that hangs must hold up nothing else.
pub(super) struct Notifications {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Notifications {
    /// Begins. The queues are in `folder`; `accounts` make links for scanning.
    pub(super) fn start(
        settings: watch::Receiver<Arc<Settings>>,
        news: mpsc::Receiver<LoginNews>,
        folder: PathBuf,
        accounts: Accounts,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, (end, ended)) = (CancellationToken::new(), oneshot::channel());
        let stopping = stop.clone();
        std::thread::Builder::new()
            .name("notifications".to_owned())
            .spawn(move || {
                runtime.block_on(run(settings, (news, accounts), &folder, stopping));
                // Fails where `end` has given up.
                let _ = end.send(());
            })
            .context("can't start the thread that posts changes of logins")?;
        Ok(Self { stop, ended })
    }

    /// Ends it. Posts that are under way have a moment; the rest stays on disk for the next controller.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if timeout(END, self.ended).await.is_err() {
            warn!(
                "the posts to [login] notify do not end; what is left of them is lost, or posted by the next start"
            );
        }
    }
}

async fn run(
    mut settings: watch::Receiver<Arc<Settings>>,
    (mut news, accounts): (mpsc::Receiver<LoginNews>, Accounts),
    folder: &Path,
    stop: CancellationToken,
) {
    let mut targets: Vec<Target> = Vec::new();
    loop {
        let wanted = settings.borrow_and_update().login.notify.clone();
        reconcile(&mut targets, &wanted, folder).await;
        tokio::select! {
            told = news.recv() => match told {
                Some(told) => {
                    let link = link(&accounts, &settings.borrow(), &told);
                    targets.iter().for_each(|target| target.post(&told, link.as_deref()));
                }
                None => break,
            },
            changed = settings.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
        }
    }
    // Changes from before the end are written down.
    while let Ok(told) = news.try_recv() {
        targets.iter().for_each(|target| target.post(&told, None));
    }
    reconcile(&mut targets, &[], folder).await;
}

/// A link for scanning, where a code waits and it is known where a link should lead.
fn link(accounts: &Accounts, settings: &Settings, told: &LoginNews) -> Option<String> {
    let root = settings.http.public_url.as_deref().filter(|_| told.event == LoginEvent::CodeWaits)?;
    let view = accounts.clients.client(&told.spec.name)?;
    Some(scan_url(root, &accounts.scan_link(&view, told.at).token))
}

/// Opens the receivers that are new, and closes those that the configuration does not name any more.
async fn reconcile(targets: &mut Vec<Target>, wanted: &[NotifyTarget], folder: &Path) {
    let (stay, go): (Vec<_>, Vec<_>) =
        std::mem::take(targets).into_iter().partition(|open| wanted.contains(&open.target));
    *targets = stay;
    for target in &go {
        target.stop.cancel();
    }
    for target in go {
        if let Err(error) = target.task.await {
            error!(%error, "posting changes of logins to {} failed: {error}", target.target.url);
        }
    }
    for target in wanted {
        if !targets.iter().any(|open| open.target == *target) {
            targets.extend(Target::open(target, folder));
        }
    }
}

impl Target {
    fn open(target: &NotifyTarget, folder: &Path) -> Option<Self> {
        let content_type = match target.format {
            NotifyFormat::Json => "application/json",
            NotifyFormat::Text => "text/plain; charset=utf-8",
        };
        // The URL may have secrets, so the folder is named by its hash.
        let name = digest(&SHA256, format!("{} {content_type}", target.url.as_str()).as_bytes());
        let name: String = name.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let settings = ReportSettings {
            post_api: Some(target.url.clone()),
            keep: KEEP,
            queue: QUEUE,
            content_type,
            folder: folder.join(name),
            ..ReportSettings::default()
        };
        let (reporter, deliverer) =
            open(&settings, None, RecentEvents::new(0), || PeerPolicy::of_controller().map(Some))
                .inspect_err(|error| {
                    let why = ErrorChain(error);
                    error!(%error, "changes of logins can't be posted to {}: {why}", target.url);
                })
                .ok()?;
        info!("changes of logins are posted to {}", target.url);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            if let Some(deliverer) = deliverer {
                // An answer asks for nothing here.
                deliverer.run(stopping, |_, _| {}).await;
            }
        });
        Some(Self { target: target.clone(), reporter, stop, task })
    }

    fn post(&self, told: &LoginNews, link: Option<&str>) {
        self.reporter.text(match self.target.format {
            NotifyFormat::Json => as_json(told, link),
            NotifyFormat::Text => as_text(told, link),
        });
    }
}

/// The sentence for people.
fn as_text(told: &LoginNews, link: Option<&str>) -> String {
    let why = told.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    // Behind a blank, so that chat programs see where it ends.
    let link = link.map(|link| format!(" {link}")).unwrap_or_default();
    format!("{} {}{why}{link}", told.spec.name, told.event.in_words())
}

/// The object for programs. `text` is what chat services show of what is posted to them.
fn as_json(told: &LoginNews, link: Option<&str>) -> String {
    let mut object = json!({
        "account": told.spec.name.as_str(),
        "event": told.event.as_str(),
        "reason": told.reason,
        "time": told.at,
        "text": as_text(told, link),
    });
    if let Some(link) = link {
        object["scan_url"] = link.into();
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::ClientSpec;

    #[test]
    fn changes_are_told_in_words_and_for_programs() {
        let mut told = LoginNews {
            spec: ClientSpec::example("小红", "/tmp"),
            event: LoginEvent::Offline,
            reason: Some("no connection".into()),
            at: 1_700_000_000,
        };
        assert_eq!(as_text(&told, None), "小红 is offline: no connection");
        assert_eq!(
            as_json(&told, None),
            "{\"account\":\"小红\",\"event\":\"offline\",\"reason\":\"no connection\",\
             \"text\":\"小红 is offline: no connection\",\"time\":1700000000}"
        );
        (told.event, told.reason) = (LoginEvent::Online, None);
        assert_eq!(as_text(&told, None), "小红 is online again");
        told.event = LoginEvent::CodeWaits;
        let link = "https://bots.example.org/scan/x";
        assert_eq!(as_text(&told, Some(link)), format!("小红 waits for its login code to be scanned {link}"));
        assert!(as_json(&told, Some(link)).contains(&format!("\"scan_url\":\"{link}\"")));
    }
}
