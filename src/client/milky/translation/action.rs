//! Actions of OneBot v11 (onebot-11, `api/public.md`) as calls of Milky. `table` says which there are.

use serde_json::{Value, json};

use super::outgoing::{given_uri, question};
use super::params::{Params, bad};
use super::request_flag::RequestFlag;
use super::table::{Way, way_of_action};
use super::{answer, sending};
use crate::client::backend::action::{Action, Answer, Refusal};
use crate::client::remote::message_ids::{MessageKey, Scene};
use crate::client::remote::plan::{Plan, PlanContext};

/// The most messages of a chat that Milky tells at once.
const MAX_HISTORY: u64 = 30;

/// The length of a ban where the action has none, in seconds (onebot-11, `set_group_ban`).
const USUAL_BAN: u64 = 30 * 60;

/// How an action is carried out.
pub(in crate::client::milky) fn plan(action: Action, context: &PlanContext) -> Result<Plan, Answer> {
    let Action { name, params } = action;
    let params = Params(params);
    match way_of_action(&name) {
        Some(Way::Own) => return own(&name, context),
        Some(Way::Translated) => {}
        Some(Way::Cannot) | None => return Err(Answer::no_such_action(&name)),
    }
    match name.as_str() {
        "send_private_msg" => sending::plan(params, Some("private"), context),
        "send_group_msg" => sending::plan(params, Some("group"), context),
        "send_msg" => sending::plan(params, None, context),
        "send_private_forward_msg" => sending::plan_forward(params, Some("private"), context),
        "send_group_forward_msg" => sending::plan_forward(params, Some("group"), context),
        "send_forward_msg" => sending::plan_forward(params, None, context),
        _ => of_message(&name, &params, context)
            .or_else(|| of_group(&name, &params))
            .or_else(|| of_people(&name, &params))
            .or_else(|| of_files(&name, &params))
            .unwrap_or_else(|| Err(Answer::no_such_action(&name))),
    }
}

/// What needs no call.
fn own(name: &str, context: &PlanContext) -> Result<Plan, Answer> {
    Ok(Plan::Done(match name {
        "get_status" => json!({ "online": context.is_online, "good": context.is_online }),
        "get_version_info" => json!({
            "app_name": "wqcontroller-milky", "app_version": env!("CARGO_PKG_VERSION"), "protocol_version": "v11",
        }),
        "can_send_image" | "can_send_record" => json!({ "yes": true }),
        "clean_cache" => Value::Null,
        _ => return Err(Answer::no_such_action(name)),
    }))
}

/// What is about a message or a chat's messages. None: it is something else.
fn of_message(name: &str, params: &Params, context: &PlanContext) -> Option<Result<Plan, Answer>> {
    let of_group = |key: MessageKey| match key.scene {
        Scene::Group => Ok(key),
        _ => Err(Answer::refused(Refusal::NotPermitted, format!("{name} is for messages of groups"))),
    };
    let plan = || -> Result<Option<Plan>, Answer> {
        Ok(Some(match name {
            "delete_msg" => {
                let MessageKey { scene, peer, seq, .. } = params.message("message_id", context)?;
                match scene {
                    Scene::Group => {
                        Plan::act("recall_group_message", json!({ "group_id": peer, "message_seq": seq }))
                    }
                    Scene::Friend => {
                        Plan::act("recall_private_message", json!({ "user_id": peer, "message_seq": seq }))
                    }
                    Scene::Temporary => {
                        let why = "Milky has no call that takes back a message to a member of a group who is no friend";
                        return Err(Answer::refused(Refusal::NotPermitted, why));
                    }
                }
            }
            "get_msg" => {
                let key = params.message("message_id", context)?;
                let context = context.clone();
                Plan::ask("get_message", question(key), move |data| {
                    answer::message(context.account, &data, &context.ids)
                })
            }
            "get_forward_msg" => {
                // The first is the standard's, the other NapCat's.
                let forward = params.needed_text(&["id", "message_id"])?;
                let ids = context.ids.clone();
                Plan::ask("get_forwarded_messages", json!({ "forward_id": forward }), move |data| {
                    Ok(answer::forwarded(&data, &ids))
                })
            }
            "get_group_msg_history" => history((Scene::Group, params.id("group_id")?), params, context)?,
            "get_friend_msg_history" => history((Scene::Friend, params.id("user_id")?), params, context)?,
            "mark_msg_as_read" => {
                Plan::act("mark_message_as_read", question(params.message("message_id", context)?))
            }
            "set_essence_msg" | "delete_essence_msg" => {
                let key = of_group(params.message("message_id", context)?)?;
                let is_set = name == "set_essence_msg";
                let params = json!({ "group_id": key.peer, "message_seq": key.seq, "is_set": is_set });
                Plan::act("set_group_essence_message", params)
            }
            "set_msg_emoji_like" => {
                let key = of_group(params.message("message_id", context)?)?;
                let emoji = params.needed_text(&["emoji_id"])?;
                // Faces have up to three digits, all else is a character (NapCat).
                let kind = if emoji.len() > 3 { "emoji" } else { "face" };
                let params = json!({
                    "group_id": key.peer, "message_seq": key.seq, "reaction": emoji, "reaction_type": kind,
                    "is_add": params.flag("set", true)?,
                });
                Plan::act("send_group_message_reaction", params)
            }
            _ => return Ok(None),
        }))
    };
    plan().transpose()
}

fn history(chat: (Scene, u64), params: &Params, context: &PlanContext) -> Result<Plan, Answer> {
    let limit = params.number("count", 20)?.clamp(1, MAX_HISTORY);
    let scene = super::message::scene_name(chat.0);
    let mut question = json!({ "message_scene": scene, "peer_id": chat.1, "limit": limit });
    // A number of a message, as in NapCat; 0 and none are the newest.
    let name = if params.has("message_seq") { "message_seq" } else { "message_id" };
    if params.number(name, 0) != Ok(0) {
        let key = params.message(name, context)?;
        if (key.scene, key.peer) != chat {
            return Err(bad(format!("{name} is a message of another chat")));
        }
        question["start_message_seq"] = key.seq.into();
    }
    let context = context.clone();
    Ok(Plan::ask("get_history_messages", question, move |data| {
        Ok(answer::history(context.account, &data, &context.ids))
    }))
}

/// What is done in a group.
fn of_group(name: &str, params: &Params) -> Option<Result<Plan, Answer>> {
    let group = || params.id("group_id");
    let in_group = |more: Value| {
        let mut all = json!({ "group_id": group()? });
        for (key, value) in more.as_object().into_iter().flatten() {
            all[key.as_str()] = value.clone();
        }
        Ok::<_, Answer>(all)
    };
    let of_member = |more: Value| {
        let mut all = in_group(more)?;
        all["user_id"] = params.id("user_id")?.into();
        Ok::<_, Answer>(all)
    };
    let plan = || -> Result<Option<Plan>, Answer> {
        let (call, params) = match name {
            "set_group_kick" => {
                let reject = params.flag("reject_add_request", false)?;
                ("kick_group_member", of_member(json!({ "reject_add_request": reject }))?)
            }
            "set_group_ban" => {
                let duration = params.number("duration", USUAL_BAN)?;
                ("set_group_member_mute", of_member(json!({ "duration": duration }))?)
            }
            "set_group_whole_ban" => {
                let enable = params.flag("enable", true)?;
                ("set_group_whole_mute", in_group(json!({ "is_mute": enable }))?)
            }
            "set_group_admin" => {
                let enable = params.flag("enable", true)?;
                ("set_group_member_admin", of_member(json!({ "is_set": enable }))?)
            }
            "set_group_card" => {
                ("set_group_member_card", of_member(json!({ "card": params.text("card")? }))?)
            }
            "set_group_special_title" => {
                let title = params.text("special_title")?;
                ("set_group_member_special_title", of_member(json!({ "special_title": title }))?)
            }
            "set_group_name" => {
                let name = params.needed_text(&["group_name"])?;
                ("set_group_name", in_group(json!({ "new_group_name": name }))?)
            }
            "set_group_leave" if params.flag("is_dismiss", false)? => {
                let why = "Milky has no call that dismisses a group; nothing was done";
                return Err(Answer::refused(Refusal::NotPermitted, why));
            }
            "set_group_leave" => ("quit_group", in_group(json!({}))?),
            "group_poke" => ("send_group_nudge", of_member(json!({}))?),
            "send_poke" if params.has("group_id") => ("send_group_nudge", of_member(json!({}))?),
            "set_group_add_request" => {
                let flag = params.needed_text(&["flag"])?;
                let request = RequestFlag::read(&flag).filter(|flag| !matches!(flag, RequestFlag::Friend(_)));
                let request = request.ok_or_else(|| bad("flag is not that of a request about a group"))?;
                request.decide(params.flag("approve", true)?, &params.text("reason")?)
            }
            _ => return Ok(None),
        };
        Ok(Some(Plan::act(call, params)))
    };
    plan().transpose()
}

/// What is about people and groups themselves.
fn of_people(name: &str, params: &Params) -> Option<Result<Plan, Answer>> {
    let plan = || -> Result<Option<Plan>, Answer> {
        let anew = || params.flag("no_cache", false);
        let user = || params.id("user_id");
        Ok(Some(match name {
            "get_login_info" => Plan::ask("get_login_info", json!({}), |data| answer::login_info(&data)),
            "get_stranger_info" => {
                let user = user()?;
                let read = move |data: Value| Ok(answer::stranger(user, &data));
                Plan::ask("get_user_profile", json!({ "user_id": user }), read)
            }
            "get_friend_list" => {
                let params = json!({ "no_cache": anew()? });
                Plan::ask("get_friend_list", params, |data| Ok(answer::friends(&data)))
            }
            "get_group_list" => {
                let params = json!({ "no_cache": anew()? });
                Plan::ask("get_group_list", params, |data| Ok(answer::groups(&data)))
            }
            "get_group_info" => {
                let params = json!({ "group_id": params.id("group_id")?, "no_cache": anew()? });
                Plan::ask("get_group_info", params, |data| answer::group(&data))
            }
            "get_group_member_list" => {
                let group = params.id("group_id")?;
                let params = json!({ "group_id": group, "no_cache": anew()? });
                Plan::ask("get_group_member_list", params, move |data| Ok(answer::members(group, &data)))
            }
            "get_group_member_info" => {
                let group = params.id("group_id")?;
                let params = json!({ "group_id": group, "user_id": user()?, "no_cache": anew()? });
                Plan::ask("get_group_member_info", params, move |data| answer::member(group, &data))
            }
            "send_like" => {
                let times = params.number("times", 1)?;
                Plan::act("send_profile_like", json!({ "user_id": user()?, "count": times }))
            }
            "friend_poke" | "send_poke" => {
                Plan::act("send_friend_nudge", json!({ "user_id": user()?, "is_self": false }))
            }
            "delete_friend" => Plan::act("delete_friend", json!({ "user_id": user()? })),
            "set_friend_add_request" => {
                let flag = params.needed_text(&["flag"])?;
                let request = RequestFlag::read(&flag).filter(|flag| matches!(flag, RequestFlag::Friend(_)));
                let request = request.ok_or_else(|| bad("flag is not that of a request of a friend"))?;
                let (call, params) = request.decide(params.flag("approve", true)?, "");
                Plan::act(call, params)
            }
            _ => return Ok(None),
        }))
    };
    plan().transpose()
}

/// What is about files, and about the account's access to other services.
fn of_files(name: &str, params: &Params) -> Option<Result<Plan, Answer>> {
    let file = || {
        let file = params.needed_text(&["file"])?;
        given_uri(&file)
            .ok_or_else(|| bad("file must be a path, or begin with file://, http://, https:// or base64://"))
    };
    let plan = || -> Result<Option<Plan>, Answer> {
        Ok(Some(match name {
            "get_image" | "get_record" => {
                let file = params.needed_text(&["file", "file_id"])?;
                let params = json!({ "resource_id": file });
                Plan::ask("get_resource_temp_url", params, move |data| answer::resource(&file, &data))
            }
            "upload_group_file" => {
                // The first is NapCat's, the other go-cqhttp's.
                let folder = params.needed_text(&["folder_id", "folder"]).unwrap_or_else(|_| "/".to_owned());
                let request = json!({
                    "group_id": params.id("group_id")?, "parent_folder_id": folder, "file_uri": file()?,
                    "file_name": params.needed_text(&["name"])?,
                });
                uploads("upload_group_file", request)
            }
            "upload_private_file" => {
                let name = params.needed_text(&["name"])?;
                let request =
                    json!({ "user_id": params.id("user_id")?, "file_uri": file()?, "file_name": name });
                uploads("upload_private_file", request)
            }
            "get_group_file_url" => {
                let file = params.needed_text(&["file_id"])?;
                let params = json!({ "group_id": params.id("group_id")?, "file_id": file });
                Plan::ask("get_group_file_download_url", params, |data| answer::download(&data))
            }
            "get_cookies" => {
                let params = json!({ "domain": params.text("domain")? });
                Plan::ask("get_cookies", params, |data| Ok(json!({ "cookies": data["cookies"] })))
            }
            "get_csrf_token" => Plan::ask("get_csrf_token", json!({}), |data| {
                Ok(json!({ "token": answer::csrf_token(&data)? }))
            }),
            "get_credentials" => {
                let cookies = ("get_cookies", json!({ "domain": params.text("domain")? }));
                let both = |answers: Vec<Value>| {
                    let [cookies, token] = <[Value; 2]>::try_from(answers).unwrap_or_default();
                    let token = answer::csrf_token(&token)?;
                    Ok(Plan::Done(json!({ "cookies": cookies["cookies"], "csrf_token": token })))
                };
                Plan::Ask(vec![cookies, ("get_csrf_token", json!({}))], Box::new(both))
            }
            _ => return Ok(None),
        }))
    };
    plan().transpose()
}

fn uploads(call: &'static str, params: Value) -> Plan {
    Plan::Do((call, params), Box::new(|data| json!({ "file_id": data["file_id"] })))
}

#[cfg(test)]
mod tests;
