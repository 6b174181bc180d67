//! The chat page: a person of the sandbox's world writes, a bot answers, and what both see.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::WebSocket;

use super::browser::{Browser, Look, Tab};
use super::{PHONE, page, with_tokens};
use crate::fixture::{Answer, Builder, Controller, wait_until};
use crate::v1::actions::send;

/// A group of the world in which every new account is an admin, and two of its members.
const GROUP: &str = "700100200";
const LI_LEI: &str = "10002";
const HUI: &str = "10006";

/// A picture that a chat has to make smaller.
const PICTURE: &[u8] = include_bytes!("pictures/list.png");

/// The bot calls an action by the door for applications. Returns its data.
fn bot(controller: &Controller, action: &str, params: &Value) -> Value {
    let answer = send(controller, "POST", &format!("/clients/mybot/onebot/v11/{action}"), params).json();
    assert_eq!(answer["status"], "ok", "{action}: {answer}");
    answer["data"].clone()
}

/// The lines of the conversation, as text.
const SAID: &str =
    "[...document.querySelectorAll('.chat-box li')].map(x => x.innerText.replace(/\\s+/g, ' ')).join('\\n')";

fn until_said(tab: &mut Tab, text: &str) {
    tab.until(&format!("{text:?} is said"), &format!("({SAID}).includes({})", json!(text)));
}

fn choose(tab: &mut Tab, field: &str, value: &str) {
    let there = format!("[...document.querySelectorAll('#{field} option')].some(x => x.value === '{value}')");
    tab.until(&format!("there is {value} in {field}"), &there);
    tab.eval(&format!(
        "(x => {{ x.value = '{value}'; x.dispatchEvent(new Event('change')); }})(document.querySelector('#{field}'))"
    ));
}

fn press_key(tab: &mut Tab, key: &str) {
    for kind in ["rawKeyDown", "keyUp"] {
        tab.call(
            "Input.dispatchKeyEvent",
            json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": 13 }),
        );
    }
}

/// Writes a text and presses Enter.
fn write(tab: &mut Tab, text: &str) {
    // Enter does nothing before the page knows that the account is there.
    tab.until(
        "one can write",
        "!document.querySelector('.composer [type=submit]').hasAttribute('aria-disabled')",
    );
    tab.fill("#chat-text", text);
    press_key(tab, "Enter");
    tab.until("the field is empty again", "document.querySelector('#chat-text').value === ''");
}

fn last_message_of(controller: &Controller) -> i64 {
    let history = bot(controller, "get_group_msg_history", &json!({ "group_id": GROUP }));
    history["messages"].as_array().unwrap().last().unwrap()["message_id"].as_i64().unwrap()
}

#[test]
fn person_of_the_world_talks_with_a_bot() {
    let Some(browser) = Browser::start() else { return };
    let builder = Builder::new();
    let picture = builder.path("list.png");
    std::fs::write(&picture, PICTURE).unwrap();
    let controller = builder.built_in();
    controller.start_client_with("mybot", "sandbox_login_time=0");
    controller.wait_for_state("mybot", "running");
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&controller, "account/mybot"));
    tab.press("Open the chat page");
    choose(&mut tab, "chat-person", LI_LEI);
    choose(&mut tab, "chat-place", GROUP);
    tab.until_text("Nothing has been said here yet.");
    let _listening = listening_bot(&controller);
    write(&mut tab, "hello @mybot, <b>are</b> you there?");
    until_said(&mut tab, "hello @mybot, <b>are</b> you there?");
    tab.until("it names the bot", "document.querySelector('.bubble .at')?.textContent === '@mybot'");
    tab.until("it is on the own side", "document.querySelectorAll('.said.own').length === 1");

    // The bot answers: it quotes, names the person and shows a picture.
    let asked = last_message_of(&controller);
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(PICTURE)
    };
    let message = json!([
        { "type": "reply", "data": { "id": asked.to_string() } }, { "type": "at", "data": { "qq": LI_LEI } },
        { "type": "text", "data": { "text": " 在的" } },
        { "type": "image", "data": { "file": format!("base64://{encoded}") } },
    ]);
    let answered = bot(&controller, "send_group_msg", &json!({ "group_id": GROUP, "message": message }));
    until_said(&mut tab, "@李雷 在的");
    until_said(&mut tab, "李雷: hello @mybot, <b>are</b> you there?");
    let loaded = "(i => Boolean(i?.complete && i.naturalWidth > 1000))([...document.querySelectorAll('.bubble img')].at(-1))";
    tab.until("the picture is shown", loaded);
    assert_eq!(tab.eval("document.querySelectorAll('.bubble b').length"), 0, "what is said is text");

    // The person replies with a picture of a file, and takes that back.
    tab.eval("[...document.querySelectorAll('.said:not(.own) .message-buttons button')].at(-1).click()");
    tab.until("it is quoted", "document.querySelector('.draft-quote').innerText.includes('在的')");
    let document = tab.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
    let field =
        tab.call("DOM.querySelector", json!({ "nodeId": document, "selector": "#chat-files" }))["nodeId"]
            .clone();
    tab.call("DOM.setFileInputFiles", json!({ "nodeId": field, "files": [picture] }));
    tab.until(
        "it is there before it is sent",
        "document.querySelectorAll('.draft-pictures img').length === 1",
    );
    write(&mut tab, "look");
    tab.until("both pictures are there", "document.querySelectorAll('.bubble img').length === 2");
    tab.until("the second one is shown", loaded);
    let own = last_message_of(&controller);
    assert_ne!(own, answered["message_id"].as_i64().unwrap());
    let sent = bot(&controller, "get_msg", &json!({ "message_id": own }));
    let kinds: Vec<_> = sent["message"].as_array().unwrap().iter().map(|part| part["type"].clone()).collect();
    assert_eq!(kinds, ["reply", "text", "image"], "{sent}");
    let links =
        "[...document.querySelectorAll('.bubble a')].map(x => new URL(x.href).pathname.split('/')[4]).join()";
    assert_eq!(tab.eval(links), "sandbox,sandbox", "each can be had in its size");
    tab.until("the bot is known", "document.querySelector('.alone').hidden");
    tab.picture("chat");
    tab.eval(
        "[...document.querySelectorAll('.said.own')].at(-1).querySelectorAll('.message-buttons button')[1].click()",
    );
    tab.until(
        "it is struck out",
        "getComputedStyle([...document.querySelectorAll('.said.own')].at(-1).querySelector('.bubble')).textDecorationLine === 'line-through'",
    );
    // So does the bot with its own.
    bot(&controller, "delete_msg", &json!({ "message_id": answered["message_id"] }));
    tab.until("both are struck out", "document.querySelectorAll('.said.recalled').length === 2");
    tab.press("Poke the bot");
    until_said(&mut tab, "李雷 poked mybot");

    frames_are_shown(&mut tab, &controller);

    // Another person, and the bot alone.
    choose(&mut tab, "chat-person", HUI);
    choose(&mut tab, "chat-place", "");
    tab.until_text("Nothing has been said here yet.");
    write(&mut tab, "psst");
    until_said(&mut tab, "psst");
    bot(&controller, "send_private_msg", &json!({ "user_id": HUI, "message": "yes?" }));
    until_said(&mut tab, "yes?");
    let (lines, faces) = (
        "document.querySelectorAll('.chat-box .said').length",
        "document.querySelectorAll('.said.own').length",
    );
    assert_eq!((tab.eval(lines), tab.eval(faces)), (json!(2), json!(1)));

    // Who looks later sees the same.
    let look = Look { language: "zh-CN", dark: true, ..PHONE };
    let mut phone = browser.tab(look);
    phone.open(&page(&controller, "chat/mybot"));
    choose(&mut phone, "chat-person", LI_LEI);
    choose(&mut phone, "chat-place", GROUP);
    until_said(&mut phone, "李雷 戳了戳 mybot");
    phone.until("both are struck out", "document.querySelectorAll('.said.recalled').length === 2");
    phone.picture("chat-zh-phone");

    // A client that was started anew has forgotten all of it.
    let pid = || controller.get("/v1/clients/mybot").json()["client"]["pid"].clone();
    let before = pid();
    assert_eq!(send(&controller, "POST", "/v1/clients/mybot/restart", &Value::Null).status, 200);
    wait_until("it is another process", || !pid().is_null() && pid() != before);
    controller.wait_for_state("mybot", "running");
    phone.fill("#chat-text", "again");
    wait_until("it is taken", || {
        // Until the page knows that the account is back.
        press_key(&mut phone, "Enter");
        std::thread::sleep(std::time::Duration::from_millis(300));
        phone.eval("document.querySelector('#chat-text').value") == ""
    });
    until_said(&mut phone, "again");
    phone.until("nothing else is there", "document.querySelectorAll('.chat-box li').length === 1");
}

/// Connects a bot that only listens.
fn listening_bot(controller: &Controller) -> WebSocket<TcpStream> {
    let url = controller.url("/clients/mybot/onebot/v11/ws").replacen("http", "ws", 1);
    let authority = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    let stream = TcpStream::connect(authority).unwrap();
    tungstenite::client(url.as_str(), stream).unwrap().0
}

#[test]
fn chat_page_shows_what_would_be_missed_and_keeps_what_was_chosen() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().built_in();
    controller.start_client_with("mybot", "sandbox_login_time=0");
    controller.wait_for_state("mybot", "running");
    let mut tab = browser.tab(Look { width: 1280, height: 700, ..Look::default() });
    tab.open(&page(&controller, "chat/mybot"));
    let address = controller.url("/clients/mybot/onebot/v11/ws").replacen("http", "ws", 1);
    tab.until_text(&format!("No bot is connected, so nothing answers. Bots find this account at {address}"));
    tab.picture("chat-alone");
    let socket = listening_bot(&controller);
    tab.until("it is there", "document.querySelector('.alone').hidden");
    drop(socket);
    tab.until("it is gone", "!document.querySelector('.alone').hidden");

    choose(&mut tab, "chat-person", LI_LEI);
    choose(&mut tab, "chat-place", GROUP);
    for text in ["one", "two"] {
        write(&mut tab, text);
    }
    let written = "document.querySelector('#chat-text').value";
    for (key, text) in [("ArrowUp", "two"), ("ArrowUp", "one"), ("ArrowUp", "one"), ("ArrowDown", "two")] {
        press_key(&mut tab, key);
        assert_eq!(tab.eval(written), text, "{key}");
    }
    tab.fill("#chat-text", "!");
    press_key(&mut tab, "ArrowUp");
    assert_eq!(tab.eval(written), "two!", "what is being written stays");

    let marked = "[...document.querySelectorAll('.chat-top option')].filter(x => x.textContent.startsWith('● ')) \
                  .map(x => x.value).join()";
    assert_eq!(tab.eval(marked), "");
    for person in [LI_LEI, HUI] {
        bot(&controller, "send_private_msg", &json!({ "user_id": person, "message": "psst" }));
    }
    tab.until("both are marked", &format!("({marked}) === '{HUI},'"));
    choose(&mut tab, "chat-place", "");
    tab.until("one was looked at", &format!("({marked}) === '{HUI}'"));

    // The end stays in view when something comes that takes its room.
    for _ in 0..12 {
        bot(&controller, "send_private_msg", &json!({ "user_id": LI_LEI, "message": "a\nb" }));
    }
    tab.eval("[...document.querySelectorAll('.said:not(.own) .message-buttons button')].at(-1).click()");
    let rest = "(x => x.scrollHeight - x.scrollTop - x.clientHeight)(document.querySelector('.chat-box'))";
    tab.until("the quote is there and the end in view", &format!(
        "!document.querySelector('.draft-quote').hidden && document.querySelectorAll('.said').length > 12 && ({rest}) < 2"
    ));
    tab.eval("document.querySelector('.chat-box').scrollTop = 0");
    tab.until("it is at the top", "document.querySelector('.chat-box').scrollTop === 0");
    bot(&controller, "send_private_msg", &json!({ "user_id": LI_LEI, "message": "more" }));
    until_said(&mut tab, "more");
    assert_eq!(tab.eval("document.querySelector('.chat-box').scrollTop"), 0, "it stays where it was put");

    tab.open("about:blank");
    tab.open(&page(&controller, "chat/mybot"));
    until_said(&mut tab, "more");
    let chosen = "['person', 'place'].map(x => document.querySelector('#chat-' + x).value).join()";
    assert_eq!(tab.eval(chosen), format!("{LI_LEI},"));
    tab.until("there is a field", "Boolean(document.querySelector('#chat-text'))");
    tab.eval(
        "(data => { data.items.add(new File([Uint8Array.from(atob('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7'), \
         x => x.charCodeAt(0))], 'x.gif', { type: 'image/gif' })); document.querySelector('#chat-text').dispatchEvent( \
         new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })); })(new DataTransfer())",
    );
    tab.until("what was pasted is there", "document.querySelectorAll('.draft-pictures img').length === 1");
}

#[test]
fn frames_make_conversations() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().built_in();
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&controller, ""));
    tab.eval("import(new URL('page/chat_model.js', location.href)).then(found => { window.model = found; })");
    // The same frames come again with each connection; numbers that begin anew are those of another client process.
    let taken = tab.eval(
        "(() => { const chat = model.chatModel(); const say = (id, who, text, more = {}) => { const frame = { \
         post_type: 'message', message_type: 'private', message_id: id, user_id: who, message: [], ...more }; \
         return chat.take(more.target_id ? 'sent' : 'event', id, text, { frame }); }; \
         return [say(1, 7, 'a'), say(2, 9, 'b', { target_id: 7 }), say(1, 7, 'a'), say(2, 9, 'b', { target_id: 7 }), \
         say(3, 8, 'c'), chat.of({ group: null, person: '7' }).length, say(1, 7, 'd'), \
         chat.of({ group: null, person: '7' }).length, chat.of({ group: null, person: '8' }).length]; })()",
    );
    assert_eq!(taken, json!(["new", "new", "known", "known", "new", 2, "restart", 1, 0]));
    // The longest name counts, and an @ without one is a text.
    let parts = tab.eval(
        "model.partsOfText('a@b.c @Ann Lee: @all', [{ uid: '5', name: 'Ann' }, { uid: '6', name: 'x', card: 'Ann Lee' }], \
         ['all']).map(part => part.data.text ?? part.data.qq)",
    );
    assert_eq!(parts, json!(["a@b.c ", "6", ": ", "all"]));
}

/// Frames can be held, searched and opened.
fn frames_are_shown(tab: &mut Tab, controller: &Controller) {
    const SHOWN: &str =
        "[...document.querySelectorAll('.frame')].filter(x => x.offsetParent !== null).length";
    let words = "[...document.querySelectorAll('.frame summary .what')].map(x => x.textContent).join()";
    tab.until("an event is there", &format!("({words}).includes('message.group.normal')"));
    tab.until("an action is there", &format!("({words}).includes('send_group_msg')"));
    let gists = "[...document.querySelectorAll('.frame .gist')].map(x => x.textContent).join()";
    tab.until("messages are there", &format!("({gists}).includes('[reply][at] 在的[image]')"));
    let before = tab.eval("document.querySelectorAll('.frame').length");
    tab.press("Pause");
    bot(controller, "get_login_info", &json!({}));
    tab.until_text("Paused; 2 have come since.");
    assert_eq!(tab.eval("document.querySelectorAll('.frame').length"), before);
    tab.press("Pause");
    tab.until("they are there", &format!("document.querySelectorAll('.frame').length === {before} + 2"));
    tab.until(
        "the newest is the last",
        "[...document.querySelectorAll('.frame .what')].at(-1).textContent === 'get_login_info ok 0'",
    );
    tab.fill(".frames-tools input", "delete_msg");
    tab.until("two are of it", &format!("{SHOWN} === 2"));
    tab.eval("[...document.querySelectorAll('.frame')].find(x => x.offsetParent !== null).querySelector('summary').click()");
    tab.until_text("\"message_id\":");
    tab.picture("chat-frames");
    tab.eval("(x => { x.value = ''; x.dispatchEvent(new Event('input')); })(document.querySelector('.frames-tools input'))");
}

/// A request below the sandbox of an account, with these headers.
fn ask(controller: &Controller, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(controller.url(&format!("/v1/clients/mybot/sandbox/{path}")))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match method {
        "GET" => controller.send(request.body(()).unwrap()),
        _ => controller.send(request.body(body.to_owned()).unwrap()),
    }
}

#[test]
fn sandbox_opens_to_those_who_may_use_the_page() {
    let controller = with_tokens();
    let (key, eye) = ("Bearer a-word-that-writes", "Bearer a-word-that-reads");
    let put = |headers: &[(&str, &str)]| {
        let mut request = ureq::http::Request::put(controller.url("/v1/clients/mybot"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = json!({ "parameters": { "sandbox_login_time": "0" }, "desired": "running" }).to_string();
        controller.send(request.header("content-type", "application/json").body(body).unwrap())
    };
    assert_eq!(put(&[("authorization", key)]).status, 201);
    let say = r#"{"message":"x"}"#;
    let path = format!("people/{LI_LEI}/say");
    wait_until("it is logged in", || {
        ask(&controller, "POST", &path, &[("authorization", key)], say).status == 200
    });
    let world = ask(&controller, "GET", "world", &[("authorization", eye)], "");
    assert_eq!((world.status, &world.json()["self"]["name"]), (200, &json!("mybot")));
    assert!(world.header("content-security-policy").unwrap().contains("sandbox"));
    assert_eq!(ask(&controller, "POST", &path, &[("authorization", eye)], say).status, 403);
    for (method, path) in [("GET", "world"), ("GET", "frames"), ("POST", path.as_str())] {
        let refused = ask(&controller, method, path, &[], say);
        assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("token_needed")), "{path}");
    }
    // The session of the page, which other sites can't use.
    let signed_in = {
        let request = ureq::http::Request::post(controller.url("/v1/session"))
            .header("content-type", "application/json");
        controller.send(request.body(json!({ "token": "a-word-that-writes" }).to_string()).unwrap())
    };
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(ask(&controller, "POST", &path, &[("cookie", &cookie)], say).status, 200);
    let foreign = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(ask(&controller, "POST", &path, &foreign, say).status, 403);
    // It opens nothing of a client's but the sandbox.
    for path in ["../openqq/get_user_info", "..%2fopenqq/get_user_info"] {
        assert_ne!(ask(&controller, "GET", path, &[("cookie", &cookie)], "").status, 200, "{path}");
    }
}
