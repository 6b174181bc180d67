//! [`Reporter`]: passes events and messages on to all outputs.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::Notify;

use super::answer::ReportedMessage;
use super::recent::RecentEvents;
use super::spool::Spool;
use crate::client::backend::event::AccountEvent;
use crate::client::backend::message::{ChatMessage, Direction};
use crate::client_settings::{CODE, EventFilter, ReportSettings};
use crate::locks::locked;
use crate::service::nonblocking_writer::Lines;

/// The spool, and the notification of its deliverer.
pub(crate) struct ReportQueue {
    spool: Mutex<Spool>,
    pub(crate) new_report: Notify,
}

impl ReportQueue {
    pub(crate) fn new(spool: Spool) -> Arc<Self> {
        Arc::new(Self { spool: Mutex::new(spool), new_report: Notify::new() })
    }

    /// Locks the spool; never held across an await.
    pub(crate) fn spool(&self) -> MutexGuard<'_, Spool> {
        // After a panic of a holder, at worst one report is miscounted.
        locked(&self.spool)
    }
}

/// Accepts reports without waiting.
#[derive(Clone)]
pub(crate) struct Reporter {
    filter: Arc<EventFilter>,
    /// Whether a login code is reported with its image.
    media: bool,
    /// None: nothing is posted.
    outgoing: Option<Arc<ReportQueue>>,
    /// None: nothing is printed.
    printed: Option<Lines>,
    recent: RecentEvents,
}

impl Reporter {
    /// A reporter without outputs.
    #[cfg(test)]
    pub(crate) fn disconnected() -> Self {
        Self::new(&ReportSettings::default(), None, None, RecentEvents::new(20))
    }

    pub(crate) fn new(
        settings: &ReportSettings,
        outgoing: Option<Arc<ReportQueue>>,
        printed: Option<Lines>,
        recent: RecentEvents,
    ) -> Self {
        let filter = Arc::new(settings.events.clone());
        Self { filter, media: settings.media, outgoing, printed, recent }
    }

    /// Reports an event that is no message.
    pub(crate) fn event(&self, event: &AccountEvent) {
        let name = event.name();
        let (kept, sent) = (self.filter.keeps(name), self.filter.accepts(name) && self.has_output());
        if !kept && !sent {
            return;
        }
        // Only made if an output wants it: an event may have a whole group with its members.
        let mut report = event.to_json();
        if kept {
            self.recent.push(report.to_string());
        }
        if !sent {
            return;
        }
        let is_code = name == CODE;
        if is_code && !self.media {
            // Null in its place, so that the other parameters keep their positions.
            if let Some(image) = report.pointer_mut("/params/1") {
                *image = Value::Null;
            }
        }
        self.send(&report, is_code, None);
    }

    /// Reports a message.
    pub(crate) fn message(&self, message: &ChatMessage) {
        let report = message.to_json();
        self.recent.push(report.to_string());
        if self.has_output() {
            let source = |reply_to| ReportedMessage {
                id: message.id.clone(),
                is_own: message.direction == Direction::Sent,
                reply_to,
                sender: message.sender.id.clone(),
            };
            self.send(&report, false, message.reply_to().map(source));
        }
    }

    /// Posts a text as it is, whatever events were chosen.
    pub(crate) fn text(&self, text: String) {
        if let Some(outgoing) = &self.outgoing {
            outgoing.spool().push(text, false, None);
            outgoing.new_report.notify_one();
        }
    }

    /// How many reports wait for their receiver. None where nothing is posted.
    pub(crate) fn waiting(&self) -> Option<usize> {
        self.outgoing.as_ref().map(|outgoing| outgoing.spool().len())
    }

    fn has_output(&self) -> bool {
        self.outgoing.is_some() || self.printed.is_some()
    }

    fn send(&self, report: &Value, is_code: bool, source: Option<ReportedMessage>) {
        let text = report.to_string();
        if let Some(printed) = &self.printed {
            // A queue to a thread, which writes it or counts it as dropped.
            let _ = printed.clone().write(format!("{text}\n").as_bytes());
        }
        if let Some(outgoing) = &self.outgoing {
            outgoing.spool().push(text, is_code, source);
            outgoing.new_report.notify_one();
        }
    }
}
