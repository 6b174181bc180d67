//! [`Reporter`]: takes what happens, and passes it on to everybody who wants it.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::Notify;

use super::answer::Source;
use super::choice::{CODE, Choice, is_kept};
use super::recent::Recent;
use super::settings::ReportSettings;
use super::spool::Spool;
use crate::client::events::{Event, Message};
use crate::locks::locked;
use crate::service::lines::Lines;

/// The spool, and how its deliverer hears of a new report.
pub(super) struct Outgoing {
    spool: Mutex<Spool>,
    pub(super) came: Notify,
}

impl Outgoing {
    pub(super) fn new(spool: Spool) -> Arc<Self> {
        Arc::new(Self { spool: Mutex::new(spool), came: Notify::new() })
    }

    /// The spool; never held while something is waited for.
    pub(super) fn spool(&self) -> MutexGuard<'_, Spool> {
        // Where a thread had panicked, at worst one report is not counted right.
        locked(&self.spool)
    }
}

/// Takes reports; never waits for anybody.
#[derive(Clone)]
pub(in crate::client) struct Reporter {
    choice: Arc<Choice>,
    /// Whether a login code is reported with its image.
    media: bool,
    /// None where nothing is posted.
    outgoing: Option<Arc<Outgoing>>,
    /// None where nothing is printed.
    printed: Option<Lines>,
    recent: Recent,
}

impl Reporter {
    /// A reporter to whom nobody listens.
    #[cfg(test)]
    pub(in crate::client) fn to_nobody() -> Self {
        Self::new(&ReportSettings::default(), None, None, Recent::new(20))
    }

    pub(super) fn new(
        settings: &ReportSettings,
        outgoing: Option<Arc<Outgoing>>,
        printed: Option<Lines>,
        recent: Recent,
    ) -> Self {
        let choice = Arc::new(settings.events.clone());
        Self { choice, media: settings.media, outgoing, printed, recent }
    }

    /// Reports an event that is no message.
    pub(in crate::client) fn event(&self, event: &Event) {
        let name = event.name();
        let (kept, sent) = (is_kept(name), self.choice.takes(name) && self.is_heard());
        if !kept && !sent {
            return;
        }
        let mut report = event.to_json();
        if kept {
            self.recent.push(report.to_string());
        }
        if !sent {
            return;
        }
        let is_code = name == CODE;
        if is_code && !self.media {
            // Null and not shorter: whoever looks for it by its place finds a place.
            if let Some(image) = report.pointer_mut("/params/1") {
                *image = Value::Null;
            }
        }
        self.send(&report, is_code, None);
    }

    /// Reports a message.
    pub(in crate::client) fn message(&self, message: &Message) {
        let report = message.to_json();
        self.recent.push(report.to_string());
        if self.is_heard() {
            let source = |reply_to| Source { reply_to, sender: message.sender.id.clone() };
            self.send(&report, false, message.reply_to().map(source));
        }
    }

    fn is_heard(&self) -> bool {
        self.outgoing.is_some() || self.printed.is_some()
    }

    fn send(&self, report: &Value, is_code: bool, source: Option<Source>) {
        let text = report.to_string();
        if let Some(printed) = &self.printed {
            // It is a queue to a thread, which takes it or counts it as dropped.
            let _ = printed.clone().write(format!("{text}\n").as_bytes());
        }
        if let Some(outgoing) = &self.outgoing {
            outgoing.spool().push(text, is_code, source);
            outgoing.came.notify_one();
        }
    }
}
