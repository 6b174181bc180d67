//! Applications that go and come back.

use super::socket::Socket;
use super::{PERSON, hear};
use crate::client::process::{Client, until};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[test]
fn application_that_comes_back_gets_exactly_what_it_missed() {
    let client = Client::running(&[("ONEBOT_SERVER_HOLD", "3600")]);
    let mut witness = Socket::open(&client, "/ws");
    let mut known = Socket::open(&client, "/ws?app=nonebot");
    hear(&client, "1");
    assert_eq!((witness.hears(), known.hears()), ("1".into(), "1".into()));
    known.close();
    let words = ["2", "3", "4"].map(str::to_owned);
    for words in &words {
        hear(&client, words);
    }
    assert_eq!(witness.hears_all(3), words);
    let mut stranger = Socket::open(&client, "/ws?app=other");
    let mut known = Socket::open(&client, "/ws?app=nonebot");
    assert_eq!(known.hears_all(3), words);
    hear(&client, "5");
    for socket in [&mut witness, &mut known, &mut stranger] {
        assert_eq!(socket.hears(), "5");
    }
}

#[test]
fn without_a_hold_nothing_waits() {
    let client = Client::running(&[("ONEBOT_SERVER_HOLD", "0")]);
    let known = Socket::open(&client, "/ws?app=nonebot");
    known.close();
    until("the end of the connection", || client.setup.log().contains("closed its connection").then_some(()));
    let mut witness = Socket::open(&client, "/ws");
    hear(&client, "1");
    assert_eq!(witness.hears(), "1");
    let mut known = Socket::open(&client, "/ws?app=nonebot");
    hear(&client, "2");
    assert_eq!(known.hears(), "2");
}

#[test]
fn what_an_application_asked_for_is_done_though_it_leaves_at_once() {
    let client = Client::running(&[]);
    let mut listening = Socket::open(&client, "/event");
    let words: Vec<String> = (0..40).map(|count| count.to_string()).collect();
    for words in words.chunks(10) {
        let mut leaving = Socket::open(&client, "/ws");
        for words in words {
            let params = json!({ "user_id": PERSON, "message": words });
            leaving
                .send(Message::text(json!({ "action": "send_private_msg", "params": params }).to_string()));
        }
        leaving.close();
        assert_eq!(listening.hears_all(words.len()), words);
    }
}
