//! All that OneBot v11 has (onebot-11: `api/public.md`, `event/`, `message/segment.md`), what bots of today use beyond it, and what
//! becomes of each over Milky. The manual's table is made of it, and tests compare it with what is done.

#[cfg(test)]
use serde_json::Value;

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::milky) enum Way {
    /// This client does it itself.
    Own,
    /// It becomes what Milky has for it.
    Translated,
    /// Milky has nothing like it.
    Cannot,
}

use Way::{Cannot, Own, Translated};

/// Actions: the name, the way, and what is to be known of it. An action that is not here is not there.
pub(in crate::client::milky) const ACTIONS: &[(&str, Way, &str)] = &[
    ("send_private_msg", Translated, "to friends only"),
    ("send_group_msg", Translated, ""),
    ("send_msg", Translated, "as send_private_msg and send_group_msg"),
    ("delete_msg", Translated, "of friends and groups; the newest 10,000 messages are known"),
    ("get_msg", Translated, "the newest 10,000 messages are known"),
    ("get_forward_msg", Translated, "user_id of a node is 0"),
    ("send_like", Translated, ""),
    ("set_group_kick", Translated, ""),
    ("set_group_ban", Translated, ""),
    ("set_group_anonymous_ban", Cannot, ""),
    ("set_group_whole_ban", Translated, ""),
    ("set_group_admin", Translated, ""),
    ("set_group_anonymous", Cannot, ""),
    ("set_group_card", Translated, ""),
    ("set_group_name", Translated, ""),
    ("set_group_leave", Translated, "is_dismiss=true is refused"),
    ("set_group_special_title", Translated, "without a duration"),
    ("set_friend_add_request", Translated, "without a remark"),
    ("set_group_add_request", Translated, "without a reason for invitations"),
    ("get_login_info", Translated, ""),
    ("get_stranger_info", Translated, ""),
    ("get_friend_list", Translated, ""),
    ("get_group_info", Translated, ""),
    ("get_group_list", Translated, ""),
    ("get_group_member_info", Translated, "age, area, unfriendly and title_expire_time are not known"),
    ("get_group_member_list", Translated, "as get_group_member_info"),
    ("get_group_honor_info", Cannot, ""),
    ("get_cookies", Translated, ""),
    ("get_csrf_token", Translated, ""),
    ("get_credentials", Translated, ""),
    ("get_record", Translated, "file is a URL, whatever out_format says"),
    ("get_image", Translated, "file is a URL"),
    ("can_send_image", Own, ""),
    ("can_send_record", Own, ""),
    ("get_status", Own, ""),
    ("get_version_info", Own, ""),
    ("set_restart", Cannot, ""),
    ("clean_cache", Own, "there is no cache"),
    // Beyond the standard, by the names of NapCat, LLBot and go-cqhttp.
    ("send_forward_msg", Translated, ""),
    ("send_group_forward_msg", Translated, ""),
    ("send_private_forward_msg", Translated, ""),
    ("get_group_msg_history", Translated, "at most 30 messages"),
    ("get_friend_msg_history", Translated, "at most 30 messages"),
    ("mark_msg_as_read", Translated, ""),
    ("send_poke", Translated, ""),
    ("group_poke", Translated, ""),
    ("friend_poke", Translated, ""),
    ("set_essence_msg", Translated, ""),
    ("delete_essence_msg", Translated, ""),
    ("set_msg_emoji_like", Translated, "in groups"),
    ("upload_group_file", Translated, ""),
    ("upload_private_file", Translated, ""),
    ("get_group_file_url", Translated, ""),
    ("delete_friend", Translated, ""),
];

/// Events: the name as `name_of` of the tests makes it.
#[cfg_attr(not(test), expect(dead_code, reason = "tests hold the manual against it"))]
pub(in crate::client::milky) const EVENTS: &[(&str, Way, &str)] = &[
    ("message.private", Translated, ""),
    ("message.group", Translated, "anonymous is always null"),
    ("notice.group_upload", Translated, "busid is 0"),
    ("notice.group_admin", Translated, ""),
    ("notice.group_decrease", Translated, ""),
    ("notice.group_increase", Translated, ""),
    ("notice.group_ban", Translated, "a whole ban is one of user 0"),
    ("notice.friend_add", Translated, "when the list of friends is loaded the next time"),
    ("notice.group_recall", Translated, ""),
    ("notice.friend_recall", Translated, ""),
    ("notice.notify.poke", Translated, "between friends, too"),
    ("notice.notify.lucky_king", Cannot, ""),
    ("notice.notify.honor", Cannot, ""),
    ("request.friend", Translated, ""),
    ("request.group.add", Translated, "of members for others, too"),
    ("request.group.invite", Translated, ""),
    // Beyond the standard.
    ("notice.notify.group_name", Translated, ""),
    ("notice.essence", Translated, "the author of the message is not known"),
    ("notice.group_msg_emoji_like", Translated, ""),
    ("notice.offline_file", Translated, ""),
    ("notice.bot_offline", Translated, "the client ends after it"),
];

/// Segments: the name, the way of those that come and of those that are sent.
#[cfg_attr(not(test), expect(dead_code, reason = "tests hold the manual against it"))]
pub(in crate::client::milky) const SEGMENTS: &[(&str, Way, Way, &str)] = &[
    ("text", Translated, Translated, ""),
    ("face", Translated, Translated, ""),
    ("image", Translated, Translated, "without type=flash, cache, proxy and timeout"),
    ("record", Translated, Translated, "without magic, cache, proxy and timeout"),
    ("video", Translated, Translated, "without cache, proxy and timeout"),
    ("at", Translated, Translated, ""),
    ("rps", Cannot, Cannot, ""),
    ("dice", Cannot, Cannot, ""),
    ("shake", Cannot, Cannot, ""),
    ("poke", Cannot, Cannot, "there are events and an action"),
    ("anonymous", Cannot, Cannot, "left out with ignore=1"),
    ("share", Cannot, Cannot, ""),
    ("contact", Cannot, Cannot, ""),
    ("location", Cannot, Cannot, ""),
    ("music", Cannot, Cannot, ""),
    ("reply", Translated, Translated, "within one chat"),
    ("forward", Translated, Cannot, ""),
    ("node", Translated, Translated, ""),
    ("xml", Translated, Cannot, ""),
    ("json", Translated, Translated, ""),
    // Beyond the standard.
    ("mface", Translated, Cannot, ""),
    ("file", Translated, Cannot, "sent by upload_group_file and upload_private_file"),
];

/// The row of an action.
pub(super) fn way_of_action(name: &str) -> Option<Way> {
    ACTIONS.iter().find(|(known, ..)| *known == name).map(|(_, way, _)| *way)
}

/// The name of an event in the table.
#[cfg(test)]
pub(super) fn name_of(event: &Value) -> String {
    let part = |key: &str| event[key].as_str().map(str::to_owned);
    let sub_type = || part("sub_type").unwrap_or_default();
    match (part("message_type"), part("notice_type"), part("request_type")) {
        (Some(kind), ..) => format!("message.{kind}"),
        (_, Some(kind), _) if kind == "notify" => format!("notice.notify.{}", sub_type()),
        (_, Some(kind), _) => format!("notice.{kind}"),
        (_, _, Some(kind)) if kind == "group" => format!("request.group.{}", sub_type()),
        (_, _, Some(kind)) => format!("request.{kind}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once() {
        let mut names: Vec<&str> = ACTIONS.iter().chain(EVENTS).map(|(name, ..)| *name).collect();
        names.extend(SEGMENTS.iter().map(|(name, ..)| *name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
