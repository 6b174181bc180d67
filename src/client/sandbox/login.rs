//! [`SandboxLogin`]: the steps from a code to a confirmed login. Fetching the URL in the code counts as the
//! scan, and the page confirms it. With `sandbox_login=auto` it also proceeds by itself, after a time.

use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::client::backend::{BackendEvent, Page};
use crate::client::settings::SandboxSettings;
use crate::locks::locked;

/// The path of the pages; a nonce follows.
pub(crate) const PATH: &str = "/sandbox/login/";

/// How the time of an automatic login is divided, in hundredths: before loading, code, scan, confirmation and
/// readiness.
const SHARES: [u32; 5] = [5, 15, 40, 20, 20];

/// The longest that the first two steps take each: a slow login waits for its scan, not before it.
const LONGEST_START: Duration = Duration::from_millis(500);

/// The progress of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Shown,
    Scanned,
    Confirmed,
}

/// The current code and its progress.
pub(crate) struct SandboxLogin {
    port: u16,
    is_auto: bool,
    time: Duration,
    expire: Duration,
    nonce: Mutex<String>,
    progress: watch::Sender<Progress>,
}

/// The receiver of the backend's events is gone.
pub(crate) struct SandboxClosed;

impl From<mpsc::error::SendError<BackendEvent>> for SandboxClosed {
    fn from(_: mpsc::error::SendError<BackendEvent>) -> Self {
        Self
    }
}

impl SandboxLogin {
    pub(crate) fn new(settings: &SandboxSettings, port: u16) -> Self {
        Self {
            port,
            is_auto: !settings.scan,
            time: settings.login_time,
            expire: settings.qrcode_expire,
            nonce: Mutex::default(),
            progress: watch::Sender::new(Progress::Shown),
        }
    }

    /// Logs in. `still_valid`: an earlier login is still valid, so that there is nothing to scan.
    pub(crate) async fn run(
        &self,
        news: &mpsc::Sender<BackendEvent>,
        still_valid: bool,
    ) -> Result<(), SandboxClosed> {
        let share = |step: usize| self.time * SHARES[step] / 100;
        sleep(share(0).min(LONGEST_START)).await;
        news.send(BackendEvent::Loading).await?;
        sleep(share(1).min(LONGEST_START)).await;
        if !still_valid {
            while !self.show_one(news, share(2), share(3)).await? {}
        }
        news.send(BackendEvent::Confirmed).await?;
        sleep(share(4)).await;
        news.send(BackendEvent::Ready { scanned: !still_valid }).await?;
        Ok(())
    }

    /// Shows one code until it is confirmed (true) or expires (false).
    async fn show_one(
        &self,
        news: &mpsc::Sender<BackendEvent>,
        scan_time: Duration,
        confirm_time: Duration,
    ) -> Result<bool, SandboxClosed> {
        let expiry = Instant::now() + self.expire;
        let mut progress = self.progress.subscribe();
        // Before the new code is valid: a scan of the one before must not count for it.
        self.progress.send_replace(Progress::Shown);
        let url = self.renew();
        news.send(BackendEvent::LoginCode(url)).await?;
        let mut reach = async |wanted: Progress, by_itself: Duration| {
            let itself = Instant::now() + by_itself;
            let reached = async {
                tokio::select! {
                    // The sender is a field of ours.
                    _ = progress.wait_for(|progress| *progress >= wanted) => {}
                    () = sleep_until(itself), if self.is_auto => {}
                }
            };
            timeout_at(expiry, reached).await.is_ok()
        };
        if !reach(Progress::Scanned, scan_time).await {
            return Ok(false);
        }
        news.send(BackendEvent::Scanned).await?;
        let confirmed = reach(Progress::Confirmed, confirm_time).await;
        // The page of a code ends with its use or its expiry.
        self.nonce().clear();
        Ok(confirmed)
    }

    fn nonce(&self) -> std::sync::MutexGuard<'_, String> {
        locked(&self.nonce)
    }

    fn renew(&self) -> String {
        let mut random = [0_u8; 16];
        // Cannot fail for so few bytes once the machine is up. If it did, the code would only be easier to
        // guess.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let url = format!("http://127.0.0.1:{}{PATH}{nonce}", self.port);
        *self.nonce() = nonce;
        url
    }

    /// The page at a path: GET is the scan, POST the confirmation.
    pub(crate) fn page(&self, method: &Method, path: &str, account: &str) -> Option<Page> {
        if path == PATH.trim_end_matches('/') && *method == Method::GET {
            return Some(self.page_of_current_code());
        }
        let given = path.strip_prefix(PATH)?;
        let holds = !given.is_empty() && *self.nonce() == given;
        // Never backwards: a page that is fetched again after its confirmation is no new scan.
        let reach = |to| self.progress.send_if_modified(|now| std::mem::replace(now, (*now).max(to)) < to);
        // A name may have any character but controls and slashes, HTML's included.
        let account = escape(account);
        let (found, text) = match *method {
            _ if !holds => (false, "这个二维码已经失效。<br>This login code is no longer valid.".to_owned()),
            Method::GET => {
                reach(Progress::Scanned);
                let form = format!(
                    "<form method=\"post\" action=\"{PATH}{given}\"><button>登录 / Log in</button></form>"
                );
                (
                    true,
                    format!("<p>允许 <b>{account}</b> 在沙箱中登录？<br>Let this account log in?</p>{form}"),
                )
            }
            Method::POST => {
                reach(Progress::Confirmed);
                (true, format!("<b>{account}</b> 已登录。<br>The account is logged in."))
            }
            _ => return None,
        };
        Some(Page { found, html: document(&text) })
    }

    /// Leads to the page of the code that is shown now: no phone reaches the address in it.
    fn page_of_current_code(&self) -> Page {
        let nonce = self.nonce().clone();
        let found = !nonce.is_empty();
        let text = match found {
            true => format!("<a href=\"{PATH}{nonce}\">扫描二维码 / Scan the code</a>"),
            false => "现在没有等待扫描的二维码。<br>No login code waits to be scanned.".to_owned(),
        };
        Page { found, html: document(&text) }
    }
}

fn document(text: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"zh\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>wqclient</title>{text}</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
