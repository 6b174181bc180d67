//! [`SentMessages`]: the messages that this client sent, to recognize the implementation's echoes of them.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::backend::message::Recipient;
use crate::client::backend::{Draft, SendClaim};
use crate::client::remote::event::{RemoteChat, RemoteMessage};
use crate::client::remote::translation::content;
use crate::locks::locked;

/// How many sent messages are remembered.
const MAX_REMEMBERED: usize = 1000;

/// How long an echo may take that is only recognized by its recipient and text.
const REPORT_TIMEOUT: Duration = Duration::from_secs(300);

/// The messages that this client sent. Their echoes are recognized by the implementation's message id, or where
/// there is none by recipient and text.
#[derive(Default)]
pub(crate) struct SentMessages {
    numbers: Mutex<(VecDeque<String>, HashSet<String>)>,
    /// The messages without an echo yet. Oldest first.
    unreported: Mutex<VecDeque<Unreported>>,
    last: AtomicU64,
    /// The sends under way.
    open: watch::Sender<BTreeSet<u64>>,
}

/// A sent message without an echo yet.
struct Unreported {
    sending: u64,
    to: Target,
    text: String,
    since: Instant,
    /// The implementation's message id, once it is known.
    number: Option<String>,
}

/// The recipient, as far as an echo names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Group(u64),
    Person(u64),
}

/// The text without whitespace, which implementations change.
fn without_whitespace(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

impl SentMessages {
    /// Registers a send, which lasts until the result is dropped.
    pub(crate) fn begin(&self, draft: &Draft) -> SendInProgress<'_> {
        let sending = self.last.fetch_add(1, Ordering::AcqRel);
        self.open.send_modify(|open| {
            open.insert(sending);
        });
        let target = match &draft.to {
            Recipient::Group(id) => id.parse().ok().map(Target::Group),
            Recipient::Friend(id) | Recipient::GroupMember { member: id, .. } => {
                id.parse().ok().map(Target::Person)
            }
            Recipient::Discuss(_) | Recipient::DiscussMember { .. } => None,
        };
        if let Some(to) = target {
            let text = without_whitespace(&content::as_echoed(&draft.content));
            let since = Instant::now();
            let mut unreported = locked(&self.unreported);
            unreported.push_back(Unreported { sending, to, text, since, number: None });
            if unreported.len() > MAX_REMEMBERED {
                unreported.pop_front();
            }
        }
        SendInProgress { sent: self, sending, claim: draft.claim.clone() }
    }

    /// Whether this own message is the echo of one that this client sent. Each message has one echo.
    pub(crate) fn recognize(&self, said: &RemoteMessage, text: &str) -> bool {
        let number = said.number.as_ref();
        let mut unreported = locked(&self.unreported);
        unreported.retain(|sent| sent.since.elapsed() < REPORT_TIMEOUT);
        if let Some(number) = number.filter(|number| self.contains(number)) {
            // Otherwise the entry could match another message of the same text that has no id.
            unreported.retain(|sent| sent.number.as_ref() != Some(number));
            return true;
        }
        let to = match said.place {
            RemoteChat::Group(group) => Some(Target::Group(group)),
            RemoteChat::Friend | RemoteChat::Private | RemoteChat::Session(_) => said.to.map(Target::Person),
        };
        let text = without_whitespace(text);
        // An echo with an id does not match a message with another id.
        // An event that names no receiver matches nothing.
        let is_it = |sent: &Unreported| {
            Some(sent.to) == to && sent.text == text && (number.is_none() || sent.number.is_none())
        };
        let Some(at) = unreported.iter().position(is_it) else { return false };
        unreported.remove(at);
        true
    }

    fn remember(&self, number: String) {
        let mut numbers = locked(&self.numbers);
        let (order, all) = &mut *numbers;
        if all.insert(number.clone()) {
            order.push_back(number);
        }
        if order.len() > MAX_REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            all.remove(&oldest);
        }
    }

    /// Whether a sent message has this id.
    fn contains(&self, number: &str) -> bool {
        locked(&self.numbers).1.contains(number)
    }

    /// Waits until the sends under way now are answered.
    pub(crate) async fn all_answered(&self) {
        let Some(last) = self.open.borrow().last().copied() else { return };
        // Numbers rise: every open send up to the last one was open at the call. The sender cannot be gone, as
        // it is a field.
        let is_over = |open: &BTreeSet<u64>| open.first().is_none_or(|first| *first > last);
        let _ = self.open.subscribe().wait_for(is_over).await;
    }
}

/// A send under way.
pub(crate) struct SendInProgress<'a> {
    sent: &'a SentMessages,
    sending: u64,
    claim: SendClaim,
}

impl SendInProgress<'_> {
    /// Sets the implementation's message id.
    pub(crate) fn has_number(&self, number: String) {
        // The locks one after the other, since `recognize` takes `numbers` within `unreported`.
        self.sent.remember(number.clone());
        let mut unreported = locked(&self.sent.unreported);
        if let Some(sent) = unreported.iter_mut().find(|sent| sent.sending == self.sending) {
            sent.number = Some(number);
        }
    }
}

impl Drop for SendInProgress<'_> {
    fn drop(&mut self) {
        // Nothing was written, or its caller gave up before: no echo will come, and the same text may be written by hand.
        if !self.claim.is_begun() {
            locked(&self.sent.unreported).retain(|sent| sent.sending != self.sending);
        }
        self.sent.open.send_modify(|open| {
            open.remove(&self.sending);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    /// A message that is written as soon as it is sent.
    fn draft(to: Recipient, content: &str) -> Draft {
        let claim = SendClaim::default();
        assert!(claim.begin());
        Draft { id: "1".into(), to, content: content.into(), segments: Vec::new(), claim }
    }

    fn said(place: RemoteChat, to: Option<u64>, number: Option<&str>) -> RemoteMessage {
        RemoteMessage {
            place,
            by: 1,
            to,
            own: true,
            number: number.map(str::to_owned),
            time: Some(9),
            name: None,
            card: None,
            content: Vec::new(),
            as_said: Default::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sent_message_is_recognized_once_answered() {
        let sent = SentMessages::default();
        let draft = draft(Recipient::Friend("7".into()), "x");
        sent.all_answered().await;
        let sending = sent.begin(&draft);
        assert!(timeout(Duration::from_secs(1), sent.all_answered()).await.is_err());
        sending.has_number("-7".into());
        drop(sending);
        sent.all_answered().await;
        assert!(sent.contains("-7") && !sent.contains("7"));
        for number in 0..MAX_REMEMBERED {
            sent.begin(&draft).has_number(number.to_string());
        }
        assert!(!sent.contains("-7") && sent.contains("0"));
        assert_eq!(sent.unreported.lock().unwrap().len(), MAX_REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn all_answered_waits_for_every_open_send() {
        let sent = SentMessages::default();
        let draft = draft(Recipient::Friend("7".into()), "x");
        let (first, second) = (sent.begin(&draft), sent.begin(&draft));
        let mut answered = std::pin::pin!(sent.all_answered());
        assert!(futures_util::poll!(&mut answered).is_pending());
        // One that began later is not waited for, and does not count for one that is.
        let third = sent.begin(&draft);
        drop(second);
        drop(sent.begin(&draft));
        assert!(futures_util::poll!(&mut answered).is_pending(), "the first has no answer yet");
        drop(first);
        assert!(futures_util::poll!(&mut answered).is_ready());
        drop(third);
    }

    #[tokio::test(start_paused = true)]
    async fn echo_without_an_id_is_recognized_once() {
        let sent = SentMessages::default();
        let (friend, group) = (Recipient::Friend("7".into()), Recipient::Group("5".into()));
        let to_friend = said(RemoteChat::Friend, Some(7), Some("70"));
        // There is no answer yet, or it has no number.
        let sending = sent.begin(&draft(friend.clone(), "a b\r\n"));
        assert!(
            !sent.recognize(&to_friend, "a")
                && !sent.recognize(&said(RemoteChat::Friend, Some(8), None), "a b")
        );
        assert!(sent.recognize(&to_friend, "a b"), "whitespace may differ");
        drop(sending);
        assert!(!sent.recognize(&to_friend, "a b"), "somebody wrote the same elsewhere");
        drop(sent.begin(&draft(group, "x")));
        assert!(!sent.recognize(&said(RemoteChat::Friend, Some(5), None), "x"));
        assert!(sent.recognize(&said(RemoteChat::Group(5), None, None), "x"));
        // Its number is known, and the report has none, or another one.
        sent.begin(&draft(friend.clone(), "x")).has_number("71".into());
        assert!(!sent.recognize(&said(RemoteChat::Friend, Some(7), Some("72")), "x"));
        assert!(sent.recognize(&said(RemoteChat::Friend, Some(7), None), "x"));
        assert!(sent.recognize(&said(RemoteChat::Friend, Some(7), Some("71")), "x"), "by its number");
        // Face 0 is shown like one without a name.
        drop(sent.begin(&draft(friend.clone(), "[惊讶]a[微笑]")));
        assert!(sent.recognize(&to_friend, "[表情]a[微笑]"));
        // No report comes of what was not written, or was withdrawn before, and a late one is none.
        let (unwritten, withdrawn) = (draft(friend.clone(), "x"), SendClaim::default());
        let sending = sent.begin(&unwritten);
        unwritten.claim.release();
        drop(sending);
        assert!(!sent.recognize(&to_friend, "x"));
        let unsent = Draft { claim: withdrawn.clone(), ..draft(friend.clone(), "x") };
        let sending = sent.begin(&unsent);
        assert!(withdrawn.withdraw());
        drop(sending);
        assert!(!sent.recognize(&to_friend, "x"));
        drop(sent.begin(&draft(friend, "x")));
        tokio::time::advance(REPORT_TIMEOUT).await;
        assert!(!sent.recognize(&to_friend, "x"));
    }
}
