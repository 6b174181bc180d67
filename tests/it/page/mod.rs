//! The page, in a real browser: what a person does there, and what they see.

pub mod browser;
mod chat;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::process::scan;
use crate::fixture::{Builder, Controller, free_port, wait_until};
use crate::implementation::played::{happen_to, with_kind};
use crate::v1::actions::send;
use browser::{Browser, Look};

const PHONE: Look = Look { width: 375, height: 800, dark: false, language: "en" };

/// The name in the first row of the list.
const FIRST: &str = "document.querySelector('tbody tr th').textContent";

fn page(controller: &Controller, view: &str) -> String {
    controller.url(&format!("/#/{view}"))
}

/// Scans the login code of an account as its phone does, and confirms it there.
fn scan_code(controller: &Controller, name: &str) {
    let path = format!("/v1/clients/{name}/qrcode");
    wait_until("there is a code", || controller.get(&path).status == 200);
    let url = scan(&controller.get(&path).body);
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    assert_eq!(agent.get(&url).call().unwrap().status(), 200);
    assert_eq!(agent.post(&url).send_empty().unwrap().status(), 200);
}

#[test]
fn account_is_added_scanned_and_stopped_by_a_person() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().built_in();
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&controller, ""));
    tab.until_text("No accounts yet");
    tab.picture("empty");
    tab.fill("form.add input", "mybot");
    tab.press("Add a parameter");
    tab.fill("form.add input.key", "sandbox_login");
    tab.fill("form.add input.value", "scan");
    tab.eval("document.querySelector('form.add button[type=submit]').click()");
    tab.until_text("Needs a scan");
    // The account's own view, with its code.
    tab.open(&page(&controller, "account/mybot"));
    tab.until(
        "the code is shown",
        "(i => i && i.complete && i.naturalWidth > 100)(document.querySelector('.code img'))",
    );
    let width =
        tab.eval("document.querySelector('.code img').getBoundingClientRect().width").as_f64().unwrap();
    assert!(width >= 320.0, "too small for a phone before the screen: {width}");
    tab.until_text("Valid for another");
    tab.picture("code");
    scan_code(&controller, "mybot");
    tab.until(
        "the code is gone",
        "(c => !c || c.offsetParent === null)(document.querySelector('.code img'))",
    );
    tab.until_text("Running");
    tab.picture("running");
    tab.press("Stop");
    tab.until_text("Stopped");
    wait_until("it is stopped", || controller.get("/v1/clients/mybot").json()["desired"] == "stopped");
    tab.press("Start");
    wait_until("it runs", || controller.get("/v1/clients/mybot").json()["desired"] == "running");
    // Removing asks first.
    tab.press("Remove…");
    tab.until("it asks", "Boolean(document.querySelector('dialog[open]'))");
    tab.picture("remove");
    tab.eval("document.querySelector('dialog[open] button.danger').click()");
    wait_until("it is gone", || controller.clients().is_empty());
}

#[test]
fn account_that_needs_a_person_comes_first_and_says_what_to_do() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().config("[supervisor]\nrestart_limit = 1").built_in();
    for name in ["archive", "night-watch", "shop", "%E6%9D%8E%E9%9B%B7"] {
        controller.start_client_with(name, "sandbox_login_time=0");
    }
    controller.start_client_with("weekly-report", "sandbox_login=scan");
    controller.wait_for_state("李雷", "running");
    send(&controller, "POST", "/v1/clients/archive/stop", &Value::Null);
    let broken = controller.get("/v1/clients/night-watch").json()["client"]["pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(broken.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    wait_until("it is held", || controller.get("/v1/clients/night-watch").json()["client"]["held"] == true);
    for (name, look) in [
        ("list-zh-dark", Look { language: "zh-CN", dark: true, ..Look::default() }),
        ("list-phone", PHONE),
        ("list", Look { height: 420, ..Look::default() }),
    ] {
        let mut tab = browser.tab(look);
        tab.open(&page(&controller, ""));
        tab.until("the code comes first", &format!("{FIRST}.includes('weekly-report')"));
        tab.until("all are there", "document.querySelectorAll('tbody tr').length === 5");
        let (word, language) =
            if look.language == "en" { ("Needs a scan", "en") } else { ("待扫码", "zh-CN") };
        tab.until_text(word);
        assert_eq!(tab.eval("document.documentElement.lang"), language);
        tab.picture(name);
    }
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&controller, "account/night-watch"));
    tab.until_text("signal 9");
    tab.until_text("then press “Start”");
    tab.picture("held");
    tab.press("Start");
    tab.until_text("Running");
}

/// Waits until the login of the account `mybot` stands here.
fn until_login(controller: &Controller, state: &str) {
    let login = || controller.get("/v1/clients/mybot").json()["login"]["state"].clone();
    wait_until(state, || login() == state);
}

/// Which button stands out in the view of an account.
const FIRST_BUTTON: &str = "[...document.querySelectorAll('.actions button.primary')].filter(x => x.offsetParent !== null && \
     x.getAttribute('aria-disabled') !== 'true').map(x => x.textContent).join()";

#[test]
fn account_that_was_logged_out_elsewhere_is_put_right_by_a_person() {
    let Some(browser) = Browser::start() else { return };
    // Held, as it would else be started anew at once and show a code.
    let builder = Builder::new();
    let controller = with_kind(builder, "napcat", "[login]\nwhen_put_out = 'hold'").built_in();
    controller.start_client_with("archive", "backend=sandbox&sandbox_login_time=0");
    controller.start_client_with("mybot", "implementation=own&uin=10001");
    until_login(&controller, "code");
    happen_to(&controller, "mybot", "online");
    controller.wait_for_state("mybot", "running");
    let (mut list, mut tab) = (browser.tab(Look::default()), browser.tab(Look::default()));
    list.open(&page(&controller, ""));
    list.until("it follows one that runs as well", &format!("{FIRST}.includes('archive')"));
    let waiting = "Number(document.querySelector('.filters button.person .amount')?.textContent ?? 0)";
    assert_eq!(list.eval(waiting), 0);
    tab.open(&page(&controller, "account/mybot"));
    tab.until_text("Running");

    happen_to(&controller, "mybot", "kicked");
    list.until("it is counted", &format!("{waiting} === 1"));
    assert_eq!(list.eval("document.title.startsWith('(1) ')"), true, "a tab in the background tells it");
    // The text of rows is there only where they are drawn, which they are not in the background.
    list.call("Page.bringToFront", json!({}));
    list.until_text("Logged out");
    list.until("it comes first", &format!("{FIRST}.includes('mybot')"));
    list.press("Needs you 1");
    let shown = "[...document.querySelectorAll('tbody tr')].filter(x => x.offsetParent !== null)";
    list.until("it alone needs a person", &format!("{shown}.length === 1"));
    list.picture("list-put-out");

    let mut chinese = browser.tab(Look { language: "zh-CN", ..PHONE });
    chinese.open(&page(&controller, "account/mybot"));
    for (tab, name, says, advice, button) in [
        (
            &mut tab,
            "put-out",
            "The chat network has logged this account out.",
            "then press “Log in again”",
            "Log in again",
        ),
        (
            &mut chinese,
            "put-out-zh-phone",
            "聊天网络已让此帐号下线。",
            "请确认帐号是否在别处登录，然后点击“重新登录”。",
            "重新登录",
        ),
    ] {
        tab.call("Page.bringToFront", json!({}));
        tab.until_text(says);
        // In the words of the network.
        tab.until_text("你的账号在别处登录");
        tab.until_text(advice);
        tab.until("its button stands out", &format!("{FIRST_BUTTON} === '{button}'"));
        tab.picture(name);
    }

    // The network has ended the saved login, too, so the next one begins with a code.
    tab.call("Page.bringToFront", json!({}));
    tab.press("Log in again");
    tab.until_text("Needs a scan");
    happen_to(&controller, "mybot", "online");
    tab.until_text("The account is running.");
    until_login(&controller, "online");
    list.call("Page.bringToFront", json!({}));
    list.until("nothing needs a person", &format!("{shown}.length === 0"));
    assert_eq!(controller.get("/v1/clients/mybot").json()["needs_person"], false);
}

#[test]
fn list_of_a_thousand_accounts_is_quick_and_live() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().config("max_clients = 2000\n").built_in();
    for at in 0..1000 {
        let put =
            send(&controller, "PUT", &format!("/v1/clients/bot-{at:04}"), &json!({ "desired": "stopped" }));
        assert_eq!(put.status, 201);
    }
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&controller, ""));
    tab.until("all are there", "document.querySelectorAll('tbody tr').length >= 1000");
    tab.picture("thousand");
    // How long after the event the row shows it: measured by the page's own clock, printed and not judged.
    tab.eval(
        "window.seen = new Promise(done => { const source = new EventSource('v1/events'); \
         source.addEventListener('account', event => { if (!event.data.includes('bot-0500')) return; \
         const came = performance.now(); const row = () => [...document.querySelectorAll('tbody tr')].find(x => \
         x.textContent.includes('bot-0500')); const look = () => row()?.textContent.includes('Stopped') === false ? \
         done(performance.now() - came) : requestAnimationFrame(look); look(); }); }); 0",
    );
    let started = send(&controller, "POST", "/v1/clients/bot-0500/start", &json!({}));
    assert_eq!(started.status, 200);
    let took = tab.eval("window.seen").as_f64().unwrap();
    eprintln!("of 1,000 accounts, a change was on the page {took:.0} ms after its event");
    tab.fill("#search", "bot-0500");
    tab.until(
        "one is left",
        "[...document.querySelectorAll('tbody tr')].filter(x => x.offsetParent !== null).length === 1",
    );
}

fn with_tokens() -> Controller {
    let builder = Builder::new();
    let key = builder.write_file("key", "a-word-that-writes", 0o600);
    let eye = builder.write_file("eye", "a-word-that-reads", 0o600);
    builder
        .config(&format!(
            "[[auth.tokens]]\nname = 'key'\nfile = {key:?}\n[[auth.tokens]]\nname = 'eye'\nfile = {eye:?}\naccess = 'read-only'"
        ))
        .built_in()
}

#[test]
fn person_signs_in_with_a_token_and_out_again() {
    let Some(browser) = Browser::start() else { return };
    let controller = with_tokens();
    let mut tab = browser.tab(PHONE);
    tab.open(&page(&controller, ""));
    tab.until("there is a field", "Boolean(document.querySelector('#token'))");
    tab.picture("sign-in-phone");
    tab.fill("#token", "a-word-that-is-wrong");
    tab.press("Sign in");
    tab.until_text("This token is not right.");
    tab.eval("document.querySelector('#token').value = ''");
    tab.fill("#token", "a-word-that-writes");
    tab.press("Sign in");
    tab.until_text("No accounts yet");
    assert_eq!(tab.eval("document.cookie"), "", "no script sees the session");
    tab.press("Sign out");
    tab.until("there is a field", "Boolean(document.querySelector('#token'))");
    // A token that only reads shows no buttons.
    tab.fill("#token", "a-word-that-reads");
    tab.press("Sign in");
    tab.until_text("Read-only");
    let buttons = "[...document.querySelectorAll('main button, main a.button')].filter(x => x.offsetParent !== null).length";
    assert_eq!(tab.eval(buttons), 0);
    tab.picture("read-only-phone");
}

#[test]
fn page_comes_back_by_itself_when_the_controller_does() {
    let Some(browser) = Browser::start() else { return };
    // The same address afterwards.
    let mut controller = Builder::new().config(&format!("listen = '127.0.0.1:{}'", free_port())).built_in();
    send(&controller, "PUT", "/v1/clients/a", &json!({ "desired": "stopped" }));
    let mut tab = browser.tab(PHONE);
    tab.open(&page(&controller, ""));
    tab.until("it is there", "document.querySelectorAll('tbody tr').length === 1");
    tab.eval("window.same = true");
    controller.end();
    tab.until_text("Connection lost");
    controller.start_again();
    send(&controller, "PUT", "/v1/clients/b", &json!({ "desired": "stopped" }));
    tab.until("the new account is there", "document.querySelectorAll('tbody tr').length === 2");
    assert_eq!(tab.eval("window.same"), true, "it was not loaded again");
}

#[test]
fn link_for_scanning_is_opened_on_another_machine() {
    let Some(browser) = Browser::start() else { return };
    let controller = Builder::new().built_in();
    controller.start_client_with("mybot", "sandbox_login=scan");
    opens_a_link(&browser, &controller, Some(["link-phone", "link-done-phone"]));
}

#[test]
fn link_for_scanning_of_an_account_elsewhere_is_opened_at_the_door() {
    let Some(browser) = Browser::start() else { return };
    let tokyo = Builder::new().built_in();
    let door = Builder::new().config(&format!("[machines.tokyo]\nurl = '{}'", tokyo.url(""))).built_in();
    door.log.wait_for("tokyo: its controller is reached");
    assert_eq!(door.start_client_with("mybot", "machine=tokyo&sandbox_login=scan")["code"], 0);
    opens_a_link(&browser, &door, None);
}

#[test]
fn machine_that_is_away_is_named_with_the_reason() {
    let Some(browser) = Browser::start() else { return };
    let mut tokyo = Builder::new().config(&format!("listen = '127.0.0.1:{}'", free_port())).built_in();
    let door = Builder::new().config(&format!("[machines.tokyo]\nurl = '{}'", tokyo.url(""))).built_in();
    door.log.wait_for("tokyo: its controller is reached");
    assert_eq!(door.start_client_with("far", "machine=tokyo&sandbox_login=scan")["code"], 0);
    let mut tab = browser.tab(Look::default());
    tab.open(&page(&door, "account/far"));
    tab.until_text("Needs a scan");
    tab.until_text("tokyo");
    tokyo.kill();
    tab.until_text("Machine unreachable");
    tab.until_text("can't be reached");
    // A code from before leads nowhere.
    tab.until("no code is shown", "!document.querySelector('.code img')?.offsetParent");
    tab.picture("away");
    let mut list = browser.tab(Look::default());
    list.open(&page(&door, ""));
    list.until_text("Machine unreachable");
    list.until("it needs its machine first", "!document.querySelector('tr.person')");
    list.until_text("@ tokyo");
    list.picture("away-list");
    tokyo.start_again();
    tab.until("it is back", "!document.body.innerText.includes('unreachable')");
}

/// Makes a link for the code of `mybot` on the page, and opens it on a phone.
fn opens_a_link(browser: &Browser, controller: &Controller, pictures: Option<[&str; 2]>) {
    let mut tab = browser.tab(Look::default());
    tab.open(&page(controller, "account/mybot"));
    tab.press("Link for scanning");
    tab.until("there is a link", "Boolean(document.querySelector('#scan-url')?.value)");
    let url = tab.eval("document.querySelector('#scan-url').value");
    let url = url.as_str().unwrap();
    assert!(url.starts_with(&controller.url("/scan/")), "{url}");
    let mut phone = browser.tab(PHONE);
    phone.open(url);
    phone.until_text("mybot");
    assert_eq!(
        phone.eval("document.querySelectorAll('img[src^=data]').length"),
        0,
        "no code before the press"
    );
    phone.press("Show the login code");
    phone.until(
        "the code is shown",
        "(i => i && i.complete && i.naturalWidth > 100)(document.querySelector('.code img'))",
    );
    pictures.iter().for_each(|names| phone.picture(names[0]));
    scan_code(controller, "mybot");
    phone.until("it says that it is done", "!document.querySelector('.code img')");
    pictures.iter().for_each(|names| phone.picture(names[1]));
    let unused: Value = phone.eval("[...document.querySelectorAll('a, input')].length");
    assert_eq!(unused, 0, "nothing else is on it");
}
