//! Groups: what they are, and what is done in them.

use serde_json::{Value, json};

use super::{Params, bad, not_found, refusal};
use crate::client::backend::MAX_MUTE;
use crate::client::backend::action::Answer;
use crate::client::backend::objects::{Group, GroupMember, GroupRole};
use crate::client::process::unix_seconds;
use crate::client::sandbox::Sandbox;
use crate::client::sandbox::notice::uid;
use crate::client::sandbox::view::changes::{Change, GroupChange};

/// Makes a change in the group that the parameters name.
pub(super) async fn change(sandbox: &Sandbox, params: &Params, change: GroupChange) -> Result<Value, Answer> {
    let group = params.uid("group_id")?;
    sandbox.change(Change::Group { group, change }).await.map_err(refusal)?;
    Ok(Value::Null)
}

pub(super) async fn kick(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let member = params.uid("user_id")?;
    change(sandbox, params, GroupChange::Kick { member }).await
}

pub(super) async fn ban(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let member = params.uid("user_id")?;
    let seconds = u64::try_from(params.number_or("duration", 30 * 60)?).unwrap_or(0);
    if seconds > MAX_MUTE.as_secs() {
        return Err(bad("duration is more than 30 days"));
    }
    let until = if seconds == 0 { 0 } else { unix_seconds().saturating_add(seconds) };
    change(sandbox, params, GroupChange::Mute { member, until }).await
}

pub(super) async fn whole_ban(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    change(sandbox, params, GroupChange::MuteAll { on: params.flag("enable", true)? }).await
}

pub(super) async fn admin(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (member, on) = (params.uid("user_id")?, params.flag("enable", true)?);
    change(sandbox, params, GroupChange::Admin { member, on }).await
}

pub(super) async fn card(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (member, card) = (params.uid("user_id")?, params.text("card"));
    change(sandbox, params, GroupChange::Card { member, card }).await
}

pub(super) async fn title(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (member, title) = (params.uid("user_id")?, params.text("special_title"));
    change(sandbox, params, GroupChange::Title { member, title }).await
}

pub(super) async fn name(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    change(sandbox, params, GroupChange::Name { name: params.needed("group_name")? }).await
}

pub(super) async fn leave(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let is_owner = found(sandbox, params)?.role == GroupRole::Owner.of_own_account();
    // For others than the owner `is_dismiss` means nothing: they leave.
    let dismisses = params.flag("is_dismiss", false)? && is_owner;
    change(sandbox, params, if dismisses { GroupChange::Dismiss } else { GroupChange::Leave }).await
}

pub(super) async fn announce(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (text, id) = (params.needed("content")?, format!("notice-{}", sandbox.shared.next_id()));
    change(sandbox, params, GroupChange::Announce { id, text }).await
}

pub(super) async fn announcements(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = found(sandbox, params)?.uid;
    let view = sandbox.shared.view();
    let one = |notice: &crate::client::sandbox::view::changes::Announcement| {
        json!({
            "notice_id": notice.id, "sender_id": uid(&notice.by), "publish_time": notice.time,
            "message": { "text": notice.text, "images": [] },
        })
    };
    Ok(view.announcements(&group).iter().map(one).collect())
}

/// The group that the parameters name, of which the account is a member.
pub(super) fn found(sandbox: &Sandbox, params: &Params) -> Result<Group, Answer> {
    let uid = params.uid("group_id")?;
    let groups = sandbox.shared.view().snapshot().groups;
    groups.into_iter().find(|group| group.uid == uid).ok_or_else(|| not_found("there is no such group"))
}

fn shown(group: &Group) -> Value {
    json!({
        "group_id": uid(&group.uid), "group_name": group.name, "member_count": group.member.len(),
        "max_member_count": group.max_member, "group_remark": group.markname.as_deref().unwrap_or_default(),
        "group_memo": group.memo, "group_create_time": group.createtime, "group_level": group.level,
    })
}

pub(super) async fn info(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    found(sandbox, params).map(|group| shown(&group))
}

pub(super) async fn list(sandbox: &Sandbox, _: &Params) -> Result<Value, Answer> {
    Ok(sandbox.shared.view().snapshot().groups.iter().map(shown).collect())
}

fn member(sandbox: &Sandbox, of: &Group, member: &GroupMember) -> Value {
    let view = sandbox.shared.view();
    json!({
        "group_id": uid(&of.uid), "user_id": uid(&member.uid), "nickname": member.name,
        "card": member.card.as_deref().unwrap_or_default(), "sex": member.sex, "age": 0, "area": member.province,
        "join_time": member.join_time, "last_sent_time": member.last_speak_time, "level": member.level.to_string(),
        "role": member.role, "unfriendly": false, "title": view.title(&of.uid, &member.uid),
        "title_expire_time": 0, "card_changeable": true,
        "shut_up_timestamp": view.muted_until(&of.uid, &member.uid),
    })
}

pub(super) async fn member_info(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let (group, who) = (found(sandbox, params)?, params.uid("user_id")?);
    let one = group.member.iter().find(|member| member.uid == who);
    one.map(|one| member(sandbox, &group, one)).ok_or_else(|| not_found("there is no such member"))
}

pub(super) async fn member_list(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    let group = found(sandbox, params)?;
    Ok(group.member.iter().map(|one| member(sandbox, &group, one)).collect())
}

/// The one who spoke last has the honour, as nobody counts.
pub(super) async fn honor_info(sandbox: &Sandbox, params: &Params) -> Result<Value, Answer> {
    const LISTS: [&str; 5] = ["talkative", "performer", "legend", "strong_newbie", "emotion"];
    let (group, kind) = (found(sandbox, params)?, params.text("type"));
    if !kind.is_empty() && kind != "all" && !LISTS.contains(&kind.as_str()) {
        return Err(bad("type is none of the honours"));
    }
    let mut honors = json!({ "group_id": uid(&group.uid) });
    for list in LISTS.into_iter().filter(|list| kind.is_empty() || kind == "all" || kind == *list) {
        honors[format!("{list}_list")] = json!([]);
    }
    let last = group.member.iter().filter(|member| member.last_speak_time > 0);
    let last = last.max_by_key(|member| member.last_speak_time);
    if let (Some(last), true) = (last, honors.get("talkative_list").is_some()) {
        honors["current_talkative"] =
            json!({ "user_id": uid(&last.uid), "nickname": last.name, "avatar": "", "day_count": 1 });
    }
    Ok(honors)
}
