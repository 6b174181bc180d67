//! Groups, discussions and searches, as one account sees them alone.

use serde_json::{Value, json};

use super::process::{Client, Setup};
use super::receiver::Receiver;

fn running(account: &str, vars: &[(&str, &str)]) -> Client {
    let client = Setup::new(vars).account(account).start();
    client.setup.until_state("running");
    client
}

fn keys(object: &Value) -> String {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

fn sorted(keys: &str) -> String {
    let mut keys: Vec<_> = keys.split_whitespace().collect();
    keys.sort_unstable();
    keys.join(" ")
}

const GROUP: &str = "id uid name markname displayname code role createtime owner_id owner_uid memo level \
                     max_member max_admin";

#[test]
fn objects_have_the_documented_keys() {
    let client = running("小红", &[]);
    let groups = client.get("/openqq/get_group_info").json();
    let basic = client.get("/openqq/get_group_basic_info").json();
    for (group, basic) in groups.as_array().unwrap().iter().zip(basic.as_array().unwrap()) {
        assert_eq!(keys(group), sorted(&format!("{GROUP} member")));
        assert_eq!(keys(basic), sorted(GROUP));
        assert_eq!(group["uid"], basic["uid"]);
        for member in group["member"].as_array().unwrap() {
            let wanted = "id uid name card displayname role sex state client_type country province city qage \
                          join_time last_speak_time level bad_record";
            assert_eq!(keys(member), sorted(wanted));
        }
    }
    let roles: Vec<_> =
        groups.as_array().unwrap().iter().map(|group| group["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["attend", "manage", "attend"]);
    let discusses = client.get("/openqq/get_discuss_info").json();
    assert_eq!(keys(&discusses[0]), sorted("id name displayname owner_id member"));
    assert_eq!(keys(&discusses[0]["member"][0]), sorted("id uid name state client_type"));
}

#[test]
fn search_matches_all_given_properties() {
    let client = running("小红", &[]);
    let found = |path: &str| client.get(&format!("/openqq/{path}")).json();
    let nobody = json!({ "code": 100, "status": "object not found" });
    assert_eq!(found("search_friend?client=x&uid=10002&state=away&async=1&content=x")[0]["uid"], "10002");
    assert_eq!(found("search_friend?vip_level=6")[0]["uid"], "10002");
    assert_eq!(found("search_group?role=manage")[0]["uid"], "305432198");
    assert!(found("search_group?uid=498880156")[0]["member"].is_array());
    assert_eq!(client.post("/openqq/search_friend", "uid=10003").json()[0]["uid"], "10003");
    for call in [
        "search_friend?uid=10002&state=online",
        "search_friend?nose=long",
        "search_friend",
        "search_group?client=x",
        "search_group?uid=7",
    ] {
        assert_eq!(found(call), nobody, "{call}");
    }
}

#[test]
fn messages_reach_groups_discussions_and_members() {
    let receiver = Receiver::new(|_| String::new());
    let client = running("小红", &[("PLUGIN_OPENQQ_POST_API", &receiver.url)]);
    let discuss = client.get("/openqq/get_discuss_info").json()[0]["id"].as_str().unwrap().to_owned();
    for (call, kind, via) in [
        ("send_group_message?uid=498880156".to_owned(), "group_message", None),
        (format!("send_discuss_message?id={discuss}"), "discuss_message", None),
        ("send_sess_message?group_uid=498880156&uid=10006".to_owned(), "sess_message", Some("group")),
        (format!("send_sess_message?discuss_id={discuss}&uid=10003"), "sess_message", Some("discuss")),
    ] {
        let answer = client.get(&format!("/openqq/{call}&content=x")).json();
        assert_eq!((&answer["code"], &answer["info"]), (&json!(0), &json!("发送正常")), "{call}");
        let (sent, echo) = (receiver.next_message(), receiver.next_message());
        assert_eq!(
            (&sent["type"], &sent["class"], &sent["id"]),
            (&json!(kind), &json!("send"), &answer["id"])
        );
        assert_eq!(
            (&echo["type"], &echo["class"], &echo["content"]),
            (&json!(kind), &json!("recv"), &json!("x"))
        );
        for report in [sent, echo] {
            assert_eq!(report["via"].as_str(), via);
            assert!(
                report["group_uid"] == "498880156" || report["discuss_id"] == discuss.as_str(),
                "{report}"
            );
        }
    }
}

#[test]
fn ids_and_uids_both_name_a_target() {
    let client = running("小红", &[]);
    let groups = client.get("/openqq/get_group_info").json();
    let group = groups.as_array().unwrap().iter().find(|group| group["role"] == "manage").unwrap();
    let id = |object: &Value| object["id"].as_str().unwrap().to_owned();
    let member = group["member"].as_array().unwrap().iter().find(|member| member["uid"] == "10002").unwrap();
    let (group, member) = (id(group), id(member));
    for (call, status) in [
        (format!("send_group_message?id={group}&content=x"), "发送成功"),
        ("send_group_message?displayname=%E8%80%81%E5%90%8C%E5%AD%A6&content=x".into(), "发送成功"),
        (format!("send_sess_message?group_id={group}&id={member}&content=x"), "发送成功"),
        (format!("send_friend_message?id={member}&content=x"), "发送成功"),
        // All that is given must fit.
        (format!("send_friend_message?id={member}&uid=10003&content=x"), "friend not found"),
        (format!("send_group_message?id={member}&content=x"), "group not found"),
        (format!("shutup_group_member?group_id={group}&member_id={member}&time=1"), "success"),
        (format!("kick_group_member?group_id={group}&member_id={member}"), "success"),
        (format!("send_sess_message?group_id={group}&id={member}&content=x"), "group member not found"),
    ] {
        assert_eq!(client.get(&format!("/openqq/{call}")).json()["status"], status, "{call}");
    }
}

#[test]
fn several_members_are_muted_and_kicked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = folder.path().join("world.toml");
    let people: String = (1..=5).map(|n| format!("[[people]]\nuid = \"{n}\"\nname = \"p{n}\"\n")).collect();
    let group = "[[groups]]\nuid = \"9\"\nname = \"g\"\nowner = \"1\"\nadmins = [\"5\"]\n\
                 members = [\"2\", \"3\", \"4\"]\n";
    std::fs::write(&world, people + group).unwrap();
    let client = running("p1", &[("SANDBOX_WORLD", world.to_str().unwrap())]);
    let members = || {
        let group = client.get("/openqq/get_group_info").json()[0].clone();
        let members =
            group["member"].as_array().unwrap().iter().map(|member| member["uid"].as_str().unwrap());
        members.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    for (call, code, status, left) in [
        ("shutup_group_member?group_uid=9&member_uid=2,3,5&time=1", 0, "success", "1 2 3 4 5"),
        // One who is not there, and nothing is done to the others.
        ("kick_group_member?group_uid=9&member_uid=2,7,3", 100, "member 7 not found", "1 2 3 4 5"),
        ("kick_group_member?group_uid=9&member_uid=2,,3,", 0, "success", "1 4 5"),
        ("kick_group_member?group_uid=9&member_uid=4,4", 0, "success", "1 5"),
        ("kick_group_member?group_uid=9&member_uid=5,1", 201, "failure", "1"),
    ] {
        let answer = client.get(&format!("/openqq/{call}")).json();
        assert_eq!((&answer["code"], &answer["status"]), (&json!(code), &json!(status)), "{call}");
        assert_eq!(members(), left, "{call}");
    }
}

#[test]
fn missing_targets_are_refused() {
    let client = running("小红", &[]);
    let discuss = client.get("/openqq/get_discuss_info").json()[0]["id"].as_str().unwrap().to_owned();
    for (call, code, status) in [
        ("send_group_message?uid=7".into(), 101, "group not found"),
        ("send_discuss_message?id=7".into(), 102, "discuss not found"),
        ("send_sess_message?group_uid=498880156&uid=7".into(), 103, "group member not found"),
        ("send_sess_message?group_uid=7&uid=10002".into(), 103, "group member not found"),
        (format!("send_sess_message?discuss_id={discuss}&id=7"), 104, "discuss member not found"),
        ("send_sess_message?uid=10002".into(), 105, "discuss member or group member  not found"),
    ] {
        let answer = client.get(&format!("/openqq/{call}&content=x")).json();
        assert_eq!(answer, json!({ "id": null, "code": code, "status": status }), "{call}");
    }
    for (call, code, status) in [
        ("shutup_group_member?group_uid=7&member_uid=10002&time=1", 100, "object not found"),
        ("shutup_group_member?group_uid=305432198&member_uid=7&time=1", 100, "member 7 not found"),
        ("shutup_group_member?group_uid=305432198&member_uid=,&time=1", 200, "member id empty"),
        ("shutup_group_member?group_uid=305432198&member_uid=10002", 400, "shutup time missing or error"),
        (
            "shutup_group_member?group_uid=305432198&member_uid=10002&time=x",
            400,
            "shutup time missing or error",
        ),
        ("shutup_group_member?group_uid=305432198", 400, "shutup time missing or error"),
        ("shutup_group_member?group_uid=305432198&member_uid=10003&time=1", 201, "failure"),
        ("kick_group_member?group_uid=7&member_uid=10002", 100, "object not found"),
        ("kick_group_member?group_uid=305432198", 200, "member id empty"),
        ("kick_group_member?group_uid=305432198&member_uid=10002,7", 100, "member 7 not found"),
        ("kick_group_member?group_uid=498880156&member_uid=10003", 201, "failure"),
        ("shutup_group_member?group_uid=305432198&member_uid=10002&time=1", 0, "success"),
        ("shutup_group_member?group_uid=305432198&member_uid=10002&time=0", 0, "success"),
        ("kick_group_member?group_uid=305432198&member_uid=10002", 0, "success"),
        ("kick_group_member?group_uid=305432198&member_uid=10002", 100, "member 10002 not found"),
    ] {
        let answer = client.get(&format!("/openqq/{call}")).json();
        assert_eq!((&answer["code"], &answer["status"]), (&json!(code), &json!(status)), "{call}");
    }
}
