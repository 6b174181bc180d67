//! Each framework, in each way that it has to reach its account.

use super::Framework::{Aiocqhttp, Koishi, Napcat, NoneBot};
use super::{ACCOUNT, Bot, Framework, Person, SECRET, Way, of_account, port, start, talk, with_token, world};

/// The bot opens a WebSocket at the controller's door, and at the client's own port.
fn opens(framework: Framework) {
    let controller = world();
    start(&controller, ACCOUNT, &with_token());
    let mut person = Person::at(&controller);
    let port = port(&controller);
    let door = of_account(&controller, "ws", ACCOUNT);
    let mut urls = vec![format!("{door}/ws"), format!("ws://127.0.0.1:{port}/onebot/v11/ws")];
    // node-napcat-ts puts its token behind a question mark, whether there is one or not.
    if framework != Napcat {
        let query = door.split_once("/clients/").unwrap().1.split_once('/').unwrap().0;
        urls.push(controller.url(&format!("/onebot/v11/?client={query}")).replacen("http", "ws", 1));
    }
    for url in urls {
        let Some(mut bot) = Bot::start(framework, &Way::Forward { url: &url }) else { return };
        bot.connects_to(ACCOUNT);
        talk(&controller, &mut person, &mut bot, framework);
    }
}

/// The account opens a WebSocket at the bot's server.
fn is_called(framework: Framework) {
    let Some(mut bot) = Bot::start(framework, &Way::Reverse) else { return };
    let controller = world();
    start(&controller, ACCOUNT, &format!("{}&onebot_server_connect=bot={}", with_token(), bot.address));
    let mut person = Person::at(&controller);
    bot.connects_to(ACCOUNT);
    talk(&controller, &mut person, &mut bot, framework);
}

#[test]
fn nonebot_opens_a_websocket() {
    opens(NoneBot);
}

#[test]
fn koishi_opens_a_websocket() {
    opens(Koishi);
}

#[test]
fn napcat_opens_a_websocket() {
    opens(Napcat);
}

#[test]
fn nonebot_is_called_by_websocket() {
    is_called(NoneBot);
}

#[test]
fn aiocqhttp_is_called_by_websocket() {
    is_called(Aiocqhttp);
}

#[test]
fn koishi_is_called_by_websocket() {
    is_called(Koishi);
}

#[test]
fn posts_are_answered_by_actions_and_by_quick_operations() {
    for framework in [NoneBot, Aiocqhttp] {
        let controller = world();
        let actions = of_account(&controller, "http", ACCOUNT) + "/";
        let Some(mut bot) = Bot::start(framework, &Way::Posts { actions: &actions }) else { return };
        let post = format!("&onebot_server_secret={SECRET}&onebot_server_post={}", bot.address);
        start(&controller, ACCOUNT, &(with_token() + &post));
        let mut person = Person::at(&controller);
        bot.connects_to(ACCOUNT);
        talk(&controller, &mut person, &mut bot, framework);
        if framework == Aiocqhttp {
            person.says("quick");
            assert_eq!(person.hears(), super::told(None, "quickly"));
            person.says_in_group("quick");
            assert_eq!(person.hears(), super::told(Some(super::GROUP), "quickly"));
        }
    }
}

/// Its adapter 6.9.4 looks for a post's event in its own answer, which is empty: there is no more to try than its calls.
#[test]
fn koishi_calls_actions_by_http() {
    let controller = world();
    start(&controller, ACCOUNT, &with_token());
    let actions = of_account(&controller, "http", ACCOUNT);
    let Some(mut bot) = Bot::start(Koishi, &Way::Posts { actions: &actions }) else { return };
    bot.connects_to(ACCOUNT);
    bot.is_content();
}
