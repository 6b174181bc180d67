//! Actions of applications, in the made-up world: the standard's (onebot-11, `api/public.md`), and those that programs of today
//! know from NapCat and go-cqhttp besides.
//!
//! [`ACTIONS`] is the one table of them. Each family has its file.

mod about;
mod files;
mod groups;
mod messages;
mod params;
mod people;
mod requests;

use std::pin::Pin;

use serde_json::Value;

use super::Sandbox;
use crate::client::backend::BackendError;
use crate::client::backend::action::{Action, Answer, Refusal};
pub(super) use params::Params;

/// What comes of an action: its data, or the answer that it has in their place.
type Done<'a> = Pin<Box<dyn Future<Output = Result<Value, Answer>> + Send + 'a>>;

/// Carries out an action.
type Run = for<'a> fn(&'a Sandbox, &'a Params) -> Done<'a>;

/// Makes rows of the table.
macro_rules! actions {
    ($($name:literal => $family:ident :: $function:ident,)*) => {
        &[$(($name, |sandbox, params| Box::pin($family::$function(sandbox, params)))),*]
    };
}

/// All actions, by name.
const ACTIONS: &[(&str, Run)] = actions! {
    // Messages.
    "send_private_msg" => messages::send_private,
    "send_group_msg" => messages::send_group,
    "send_msg" => messages::send_any,
    "send_private_forward_msg" => messages::send_private,
    "send_group_forward_msg" => messages::send_group,
    "send_forward_msg" => messages::send_any,
    "delete_msg" => messages::delete,
    "get_msg" => messages::get,
    "get_forward_msg" => messages::get_forward,
    "get_group_msg_history" => messages::group_history,
    "get_friend_msg_history" => messages::friend_history,
    "mark_msg_as_read" => messages::mark_as_read,
    "mark_private_msg_as_read" => messages::mark_as_read,
    "mark_group_msg_as_read" => messages::mark_as_read,
    "set_msg_emoji_like" => messages::react,
    "set_essence_msg" => messages::set_essence,
    "delete_essence_msg" => messages::delete_essence,
    "get_essence_msg_list" => messages::essence_list,
    // People.
    "get_login_info" => people::login_info,
    "get_stranger_info" => people::stranger_info,
    "get_friend_list" => people::friend_list,
    "send_like" => people::like,
    "send_poke" => people::poke,
    "friend_poke" => people::poke,
    "group_poke" => people::poke,
    "delete_friend" => people::delete_friend,
    "set_friend_remark" => people::set_remark,
    // Groups.
    "set_group_kick" => groups::kick,
    "set_group_ban" => groups::ban,
    "set_group_anonymous_ban" => about::no_anonymous,
    "set_group_whole_ban" => groups::whole_ban,
    "set_group_admin" => groups::admin,
    "set_group_anonymous" => about::no_anonymous,
    "set_group_card" => groups::card,
    "set_group_name" => groups::name,
    "set_group_leave" => groups::leave,
    "set_group_special_title" => groups::title,
    "get_group_info" => groups::info,
    "get_group_list" => groups::list,
    "get_group_member_info" => groups::member_info,
    "get_group_member_list" => groups::member_list,
    "get_group_honor_info" => groups::honor_info,
    "_send_group_notice" => groups::announce,
    "_get_group_notice" => groups::announcements,
    // Requests.
    "set_friend_add_request" => requests::answer_friend,
    "set_group_add_request" => requests::answer_group,
    "get_group_system_msg" => requests::pending,
    // Files.
    "get_record" => files::record,
    "get_image" => files::image,
    "can_send_image" => files::yes,
    "can_send_record" => files::yes,
    "upload_group_file" => files::upload_to_group,
    "upload_private_file" => files::upload_to_friend,
    "get_group_root_files" => files::of_group,
    "get_group_file_url" => files::group_file_url,
    "clean_cache" => files::clean,
    // The account and this program.
    "get_cookies" => about::no_web,
    "get_csrf_token" => about::no_web,
    "get_credentials" => about::no_web,
    "get_status" => about::status,
    "get_version_info" => about::version,
    "set_restart" => about::restart,
};

/// What is answered while the account is logged out, too.
const ALWAYS: [&str; 4] = ["get_status", "get_version_info", "can_send_image", "can_send_record"];

/// Carries out an action.
pub(super) async fn act(sandbox: &Sandbox, Action { name, params }: Action) -> Answer {
    let Some((name, run)) = ACTIONS.iter().find(|(known, _)| *known == name) else {
        return Answer::no_such_action(&name);
    };
    if sandbox.logged_in().is_err() && !ALWAYS.contains(name) {
        return Answer::refused(Refusal::LoggedOut, "the account is not logged in");
    }
    run(sandbox, &Params(params)).await.map_or_else(|instead| instead, Answer::Done)
}

/// The answer to what the world refuses.
fn refusal(error: BackendError) -> Answer {
    let refusal = match &error {
        BackendError::LoggedOut => Refusal::LoggedOut,
        BackendError::Gone => return not_found("there is no such person, group or message"),
        BackendError::Busy => Refusal::Busy,
        // It may have gone out.
        BackendError::NoAnswer => return Answer::Accepted,
        BackendError::Code(code) => return Answer::Failed { code: *code, why: error.to_string() },
        _ => Refusal::NotPermitted,
    };
    Answer::refused(refusal, error.to_string())
}

fn not_found(why: &str) -> Answer {
    Answer::refused(Refusal::NotFound, why)
}

fn bad(why: impl Into<String>) -> Answer {
    Answer::refused(Refusal::BadParameter, why)
}

#[cfg(test)]
mod tests;
