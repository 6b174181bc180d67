//! Bots in frameworks that nobody here wrote, at accounts of the made-up world. CI=true tests/run fetches the frameworks.

mod connecting;
mod person;
mod program;
mod restarts;
mod together;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::client::process::request;
use crate::fixture::{Builder, Controller, free_port, wait_until};
use person::{Person, Told};
use program::{Bot, Framework, SECRET, TOKEN, Way};

/// The account that the bots have, and its number.
const ACCOUNT: &str = "李雷";
const ACCOUNT_NUMBER: &str = "10002";
/// The group in which it is, as the person.
const GROUP: u64 = 700_100_200;

/// Where an account's paths of OneBot begin, at the controller's door.
fn of_account(controller: &Controller, scheme: &str, name: &str) -> String {
    let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{scheme}://{}/clients/{name}/onebot/v11", controller.address)
}

/// A controller whose address stays, with the person's account.
fn world() -> Controller {
    let controller = Builder::new().config(&format!("listen = \"127.0.0.1:{}\"\n", free_port())).built_in();
    start(&controller, Person::NAME, "");
    controller
}

/// Starts an account of the made-up world that is ready to speak, with more parameters.
fn start(controller: &Controller, name: &str, more: &str) {
    let more = format!("sandbox_login_time=0&send_interval=0{more}");
    let reply = controller.start_client_with(name, &more);
    assert_eq!(reply["code"], 0, "{reply}");
    controller.wait_for_state(name, "running");
}

/// Waits until the bots' account has no process, so that it can be started in another way.
fn wait_until_gone(controller: &Controller) {
    wait_until("the account is gone", || controller.is_gone(ACCOUNT));
}

/// The parameter that gives the account the bot's token.
fn with_token() -> String {
    format!("&onebot_server_token=bot={TOKEN}")
}

/// What the person is told by the bots' account.
fn told(group: Option<u64>, words: &str) -> Told {
    Told { by: ACCOUNT_NUMBER.parse().unwrap(), group, words: words.to_owned() }
}

/// The port of the account's client.
fn port(controller: &Controller) -> u16 {
    let accounts = controller.clients();
    let port = &accounts.iter().find(|client| client["account"] == ACCOUNT).unwrap()["port"];
    port.as_u64().unwrap().try_into().unwrap()
}

/// A stranger asks to be a friend of the account, and the bot lets her.
fn is_befriended(controller: &Controller, bot: &mut Bot) {
    // Another one each time.
    static NUMBER: AtomicU64 = AtomicU64::new(20_001);
    let (port, number) = (port(controller), NUMBER.fetch_add(1, Ordering::Relaxed));
    let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let wish = json!({ "type": "friend", "name": "新人", "comment": "让我加" }).to_string();
    let path = format!("POST /sandbox/people/{number}/request");
    let asked = request(port, &path, &headers, &wish).unwrap();
    assert_eq!(asked.status, 200, "{asked:?}");
    let approved = bot.next("approved");
    assert_eq!(approved["comment"], "让我加", "{approved}");
    wait_until("she is a friend", || {
        let friends = request(port, "GET /onebot/v11/get_friend_list", &headers, "").unwrap().json();
        friends["data"].as_array().unwrap().iter().any(|friend| friend["user_id"] == number)
    });
}

/// The person and the bot talk, alone and in a group, and the bot looks around.
fn talk(controller: &Controller, person: &mut Person, bot: &mut Bot, framework: Framework) {
    // Some frameworks hold numbers as texts.
    let is = |value: &serde_json::Value, number: u64| {
        value.as_u64() == Some(number) || value.as_str() == Some(number.to_string().as_str())
    };
    person.says("ping");
    let heard = bot.hears("ping");
    assert!(is(&heard["user"], 10_001) && heard["group"].is_null(), "{heard}");
    assert_eq!(person.hears(), told(None, framework.pong()));
    person.says_in_group("quote");
    let heard = bot.hears("quote");
    assert!(is(&heard["user"], 10_001) && is(&heard["group"], GROUP), "{heard}");
    let (quoting, kinds) = person.hears_parts();
    assert_eq!(quoting, told(Some(GROUP), "你说了"));
    assert_eq!(kinds[0], "reply");
    person.says("picture");
    assert_eq!(person.hears_parts().1, ["image"]);
    person.shows("see");
    // Koishi has names of its own.
    let kinds = bot.hears("see")["kinds"].to_string().replace("img", "image");
    assert_eq!(kinds, r#"["text","image"]"#);
    person.says("recall");
    assert_eq!(person.hears(), told(None, "oops"));
    bot.next("recalled");
    assert_eq!(person.notices(), "friend_recall");
    is_befriended(controller, bot);
    person.says_in_group("look");
    let saw = bot.next("saw");
    let are = |key: &str, name: &str| saw[key].to_string().contains(name);
    assert!(are("friends", "王师傅") && are("groups", "沙箱体验群") && are("members", "灰灰"), "{saw}");
    assert!(saw["status"]["online"] == true && saw["version"]["protocol_version"] == "v11", "{saw}");
    bot.is_content();
}
