//! Several bots at one account, several accounts at one bot, and a bot at an account whose client has another program that speaks
//! OneBot v11: here the client of another account.

use std::collections::BTreeSet;

use super::Framework::{self, Aiocqhttp, Koishi, Napcat, NoneBot};
use super::{ACCOUNT, Bot, Person, Told, Way, of_account, port, start, talk, told, with_token, world};

#[test]
fn each_of_four_frameworks_at_one_account_hears_and_answers_once() {
    let controller = world();
    let url = of_account(&controller, "ws", ACCOUNT) + "/ws";
    let forward = Way::Forward { url: &url };
    let frameworks =
        [(NoneBot, &Way::Reverse), (Aiocqhttp, &Way::Reverse), (Koishi, &forward), (Napcat, &forward)];
    let bots = frameworks.map(|(framework, way)| Bot::start(framework, way));
    let [Some(mut nonebot), Some(mut aiocqhttp), Some(mut koishi), Some(mut napcat)] = bots else { return };
    let connect = format!("&onebot_server_connect=bot={},bot={}", nonebot.address, aiocqhttp.address);
    start(&controller, ACCOUNT, &(with_token() + &connect));
    let bots = [&mut nonebot, &mut aiocqhttp, &mut koishi, &mut napcat];
    let mut person = Person::at(&controller);
    let mut pongs: Vec<Told> = frameworks.iter().map(|(framework, _)| told(None, framework.pong())).collect();
    pongs.sort();
    for bot in bots {
        bot.connects_to(ACCOUNT);
    }
    // What would come twice would be among the answers to the second.
    for _ in 0..2 {
        person.says("ping");
        assert_eq!(person.hears_all(4), pongs);
    }
    for bot in [nonebot, aiocqhttp] {
        bot.is_content();
    }
}

#[test]
fn three_accounts_are_at_one_nonebot() {
    let Some(mut bot) = Bot::start(NoneBot, &Way::Reverse) else { return };
    let controller = world();
    let connect = format!("{}&onebot_server_connect=bot={}", with_token(), bot.address);
    let accounts = [("李雷", 10_002), ("韩梅梅", 10_003), ("灰灰", 10_006)];
    for (name, _) in accounts {
        start(&controller, name, &connect);
    }
    let connected: BTreeSet<String> =
        accounts.iter().map(|_| bot.next("connected")["self"].as_str().unwrap().to_owned()).collect();
    assert_eq!(connected, accounts.iter().map(|(_, number)| number.to_string()).collect());
    let mut person = Person::at(&controller);
    for (_, number) in accounts {
        person.says_to(number, "ping");
    }
    let pongs = accounts.map(|(_, by)| Told { by, group: None, words: NoneBot.pong().to_owned() });
    assert_eq!(person.hears_all(3), pongs);
    bot.is_content();
}

/// The name of the account in between. It is the same person in the world.
const BETWEEN: &str = "passes through";

fn talks(framework: Framework) {
    let controller = world();
    start(&controller, ACCOUNT, "");
    let port = port(&controller);
    let between = format!(
        "backend=onebot&onebot_url=ws://127.0.0.1:{port}/onebot/v11/ws&send_interval=0{}",
        with_token()
    );
    let url = of_account(&controller, "ws", BETWEEN) + "/ws";
    let way = if framework == Aiocqhttp { Way::Reverse } else { Way::Forward { url: &url } };
    let Some(mut bot) = Bot::start(framework, &way) else { return };
    let connect = match way {
        Way::Reverse => format!("&onebot_server_connect=bot={}", bot.address),
        _ => String::new(),
    };
    let reply = controller.start_client_with(&BETWEEN.replace(' ', "%20"), &(between + &connect));
    assert_eq!(reply["code"], 0, "{reply}");
    controller.wait_for_state(BETWEEN, "running");
    let mut person = Person::at(&controller);
    bot.connects_to(ACCOUNT);
    talk(&controller, &mut person, &mut bot, framework);
}

#[test]
fn nonebot_talks_through_another_client() {
    talks(NoneBot);
}

#[test]
fn aiocqhttp_talks_through_another_client() {
    talks(Aiocqhttp);
}

#[test]
fn koishi_talks_through_another_client() {
    talks(Koishi);
}

#[test]
fn napcat_talks_through_another_client() {
    talks(Napcat);
}
