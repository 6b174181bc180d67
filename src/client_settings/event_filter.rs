//! [`EventFilter`]: which events are posted, and which are kept for `check_event`.

/// All events of the API, and whether they are posted by default. Messages are no events.
const EVENTS: [(&str, bool); 26] = [
    ("login", true),
    ("stop", true),
    ("state_change", true),
    ("input_qrcode", true),
    ("login_change", true),
    ("send_failed", true),
    ("new_friend", true),
    ("lose_friend", true),
    ("new_group", true),
    ("lose_group", true),
    ("new_group_member", true),
    ("lose_group_member", true),
    ("recall", true),
    ("poke", true),
    ("ban", true),
    ("friend_request", true),
    ("group_request", true),
    // A busy group has more of them than of messages.
    ("reaction", false),
    ("new_discuss", false),
    ("lose_discuss", false),
    ("new_discuss_member", false),
    ("lose_discuss_member", false),
    ("friend_property_change", false),
    ("group_property_change", false),
    ("group_member_property_change", false),
    ("user_property_change", false),
];

/// The event whose report is worthless as soon as there is a newer one.
pub const CODE: &str = "input_qrcode";

/// The event that is kept for `check_event` only if it is chosen: it would push out messages.
const REACTION: &str = "reaction";

/// The events that are about the client itself. They are not kept for `check_event`.
const ABOUT_THE_CLIENT: [&str; 5] = ["login", "stop", "state_change", "login_change", CODE];

/// Which events are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter(Vec<&'static str>);

impl EventFilter {
    /// No events.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Parses a list of names with commas or spaces between them. `None` where one is not the name of an event.
    pub(super) fn parse(list: &str) -> Option<Self> {
        let names = list.split([',', ' ']).filter(|name| !name.is_empty());
        let known = |name: &str| EVENTS.iter().map(|(known, _)| *known).find(|known| *known == name);
        // A misspelt name is refused: skipped, it would cost the operator an event without a word.
        names.map(known).collect::<Option<_>>().map(Self)
    }

    /// Whether the event of that name is posted.
    pub fn accepts(&self, event: &str) -> bool {
        self.0.contains(&event)
    }

    /// Whether the event of that name is kept for `check_event`.
    pub fn keeps(&self, event: &str) -> bool {
        !ABOUT_THE_CLIENT.contains(&event) && (event != REACTION || self.accepts(event))
    }
}

impl Default for EventFilter {
    fn default() -> Self {
        Self(EVENTS.iter().filter(|(_, posted)| *posted).map(|(name, _)| *name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_filter_takes_names() {
        let usual = EventFilter::default();
        assert!(
            usual.accepts("login") && usual.accepts("lose_group_member") && !usual.accepts("new_discuss")
        );
        let chosen = EventFilter::parse("stop, user_property_change").unwrap();
        assert!(chosen.accepts("stop") && chosen.accepts("user_property_change") && !chosen.accepts("login"));
        assert_eq!(EventFilter::parse("stop,stopp"), None);
        assert!(!EventFilter::none().accepts("stop"));
    }

    #[test]
    fn events_about_the_client_are_not_kept() {
        let usual = EventFilter::default();
        let kept: Vec<_> = EVENTS.iter().filter(|(name, _)| usual.keeps(name)).collect();
        assert_eq!((kept.len(), kept[0].0), (20, "send_failed"));
        assert!(!usual.keeps(REACTION) && EventFilter::parse(REACTION).unwrap().keeps(REACTION));
    }
}
