//! The controller ends and returns, and so does the bot.

use super::Framework::{self, Aiocqhttp, Koishi, Napcat, NoneBot};
use super::{ACCOUNT, Bot, Person, Way, of_account, start, told, with_token, world};

/// A way for a bot, and the parameters of its account.
fn start_bot(framework: Framework, way: &Way<'_>) -> Option<(Bot, String)> {
    let bot = Bot::start(framework, way)?;
    let connect = match way {
        Way::Reverse => format!("{}&onebot_server_connect=bot={}", with_token(), bot.address),
        _ => with_token(),
    };
    Some((bot, connect))
}

fn returns(framework: Framework, is_called: bool) {
    let mut controller = world();
    let url = of_account(&controller, "ws", ACCOUNT) + "/ws";
    let way = if is_called { Way::Reverse } else { Way::Forward { url: &url } };
    let Some((mut bot, parameters)) = start_bot(framework, &way) else { return };
    start(&controller, ACCOUNT, &parameters);
    bot.connects_to(ACCOUNT);
    Person::at(&controller).says("ping");
    bot.hears("ping");
    controller.end();
    // The accounts end with it, and return with it.
    controller.start_again();
    for name in [Person::NAME, ACCOUNT] {
        controller.wait_for_state(name, "running");
    }
    bot.connects_to(ACCOUNT);
    let mut person = Person::at(&controller);
    person.says("ping");
    bot.hears("ping");
    assert_eq!(person.hears(), told(None, framework.pong()));
}

#[test]
fn nonebot_opens_its_websocket_again_when_the_controller_returns() {
    returns(NoneBot, false);
}

#[test]
fn napcat_opens_its_websocket_again_when_the_controller_returns() {
    returns(Napcat, false);
}

#[test]
fn nonebot_is_called_again_when_the_controller_returns() {
    returns(NoneBot, true);
}

#[test]
fn aiocqhttp_is_called_again_when_the_controller_returns() {
    returns(Aiocqhttp, true);
}

/// The other way there is nothing to try: its adapter 6.9.4 does not open a WebSocket again that was open once
/// (koishi-plugin-adapter-onebot, pull request 81).
#[test]
fn koishi_is_called_again_when_the_controller_returns() {
    returns(Koishi, true);
}

#[test]
fn bot_that_was_killed_gets_what_waits_for_it_once() {
    let controller = world();
    let url = of_account(&controller, "ws", ACCOUNT) + "/ws";
    let forward = Way::Forward { url: &url };
    for (framework, way) in
        [(NoneBot, &Way::Reverse), (Aiocqhttp, &Way::Reverse), (Koishi, &forward), (Napcat, &forward)]
    {
        let Some((mut bot, parameters)) = start_bot(framework, way) else { continue };
        start(&controller, ACCOUNT, &(parameters + "&onebot_server_hold=3600"));
        let mut person = Person::at(&controller);
        bot.connects_to(ACCOUNT);
        person.says("ping");
        assert_eq!(person.hears(), told(None, framework.pong()));
        bot.kill();
        person.says("ping");
        bot.start_again();
        bot.connects_to(ACCOUNT);
        assert_eq!(person.hears(), told(None, framework.pong()), "{framework:?}");
        // What would come again would be before this.
        person.says("quote");
        assert_eq!(person.hears(), told(None, "你说了"), "{framework:?}");
        bot.is_content();
        assert_eq!(controller.stop_client(ACCOUNT)["code"], 0);
        super::wait_until_gone(&controller);
    }
}
