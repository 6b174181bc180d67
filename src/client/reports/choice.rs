//! [`Choice`]: which events are posted.

/// All events there are on the wire, and whether they are posted when nobody chooses. Messages are no events.
const EVENTS: [(&str, bool); 18] = [
    ("login", true),
    ("stop", true),
    ("state_change", true),
    ("input_qrcode", true),
    ("new_friend", true),
    ("lose_friend", true),
    ("new_group", true),
    ("lose_group", true),
    ("new_group_member", true),
    ("lose_group_member", true),
    ("new_discuss", false),
    ("lose_discuss", false),
    ("new_discuss_member", false),
    ("lose_discuss_member", false),
    ("friend_property_change", false),
    ("group_property_change", false),
    ("group_member_property_change", false),
    ("user_property_change", false),
];

/// The event whose report is worth nothing as soon as there is a newer one.
pub(super) const CODE: &str = "input_qrcode";

/// The events that are about the client itself. They are not kept for `check_event`.
const ABOUT_THE_CLIENT: [&str; 4] = ["login", "stop", "state_change", CODE];

/// Which events are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) struct Choice(Vec<&'static str>);

impl Choice {
    /// None of them.
    pub(super) fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Those of a list of names with commas or spaces between them; `None` where one is no event's name.
    pub(super) fn of(list: &str) -> Option<Self> {
        let names = list.split([',', ' ']).filter(|name| !name.is_empty());
        let known = |name: &str| EVENTS.iter().map(|(known, _)| *known).find(|known| *known == name);
        names.map(known).collect::<Option<_>>().map(Self)
    }

    /// Whether the event of that name is posted.
    pub(super) fn takes(&self, event: &str) -> bool {
        self.0.contains(&event)
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self(EVENTS.iter().filter(|(_, posted)| *posted).map(|(name, _)| *name).collect())
    }
}

/// Whether the event of that name is kept for `check_event`.
pub(super) fn is_kept(event: &str) -> bool {
    !ABOUT_THE_CLIENT.contains(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_by_name() {
        let usual = Choice::default();
        assert!(usual.takes("login") && usual.takes("lose_group_member") && !usual.takes("new_discuss"));
        let chosen = Choice::of("stop, user_property_change").unwrap();
        assert!(chosen.takes("stop") && chosen.takes("user_property_change") && !chosen.takes("login"));
        assert_eq!(Choice::of("stop,stopp"), None);
        assert!(!Choice::nothing().takes("stop"));
    }

    #[test]
    fn what_is_about_the_client_is_not_kept() {
        let kept: Vec<_> = EVENTS.iter().filter(|(name, _)| is_kept(name)).collect();
        assert_eq!((kept.len(), kept[0].0), (14, "new_friend"));
    }
}
