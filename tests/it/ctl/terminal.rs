//! What is seen on a terminal of 80 columns and 24 lines.

use std::io::Write;
use std::process::{Child, Command};

use super::{on_terminal, printed, ran};
use crate::client::process::scan;
use crate::fixture::{Builder, Controller, wait_until};
use crate::output::Log;

/// A run on a terminal, and what is on its screen.
struct Shown(Child, Log);

impl Shown {
    fn new(controller: &Controller, words: &[&str], environment: &[(&str, &str)]) -> Self {
        let url = controller.url("");
        let mut child = on_terminal(&[&["--url", &url], words].concat(), environment, "");
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        Self(child, log)
    }

    fn press(&mut self, keys: &str) {
        self.0.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Its exit status and all that was shown, once it ends.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        wait_until("it ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap().code(), self.1.to_the_end())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const WHITE_ON_BLACK: &str = "\u{1b}[38;5;231;48;5;16m";

/// The content of the first code that was drawn.
fn content(screen: &str) -> Option<String> {
    let drawn = screen.lines().map(|line| line.trim_end_matches('\r'));
    let rows: Vec<Vec<char>> = drawn
        .skip_while(|line| !line.contains(WHITE_ON_BLACK))
        .map_while(|line| line.split_once(WHITE_ON_BLACK)?.1.strip_suffix("\u{1b}[0m"))
        .map(|line| line.chars().collect())
        .collect();
    // Each character has two modules, one above the other; as a scanner sees them, in squares of 4.
    let width = rows.first()?.len() * 4;
    let light = |x: usize, y: usize| match rows[y / 8][x / 4] {
        '█' => true,
        '▀' => y % 8 < 4,
        '▄' => y % 8 >= 4,
        _ => false,
    };
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(
            width,
            rows.len() * 8,
            |x, y| if light(x, y) { 255 } else { 0 },
        );
    Some(image.detect_grids().first()?.decode().ok()?.1)
}

/// Scans the code of an account, as a phone does.
fn log_in(controller: &Controller, name: &str) {
    let code = controller.get(&format!("/openqq/get_qrcode?client={name}"));
    let page = scan(&code.body);
    for request in [ureq::http::Request::get(&page), ureq::http::Request::post(&page)] {
        assert_eq!(controller.send(request.body(()).unwrap()).status, 200);
    }
}

#[test]
fn code_is_drawn_so_that_it_scans_and_ends_with_the_login() {
    let controller = Builder::new().built_in();
    printed(&controller, &["start", "bot", "--no-wait", "sandbox_login=scan", "qrcode_expire=300"]);
    controller.wait_for_state("bot", "scaning");
    let shown = Shown::new(&controller, &["qr", "bot"], &[]);
    let mut read = None;
    wait_until("the code is drawn", || {
        read = content(&shown.1.text());
        read.is_some()
    });
    assert_eq!(read.unwrap(), scan(&controller.get("/openqq/get_qrcode?client=bot").body));
    log_in(&controller, "bot");
    let (status, screen) = shown.end();
    assert_eq!(status, Some(0), "{screen}");
    assert!(screen.contains("bot is logged in"), "{screen}");
    // All lines of the code, and the one that says what to do, are on the screen of 24 lines at once.
    let lines = screen.lines().filter(|line| line.contains(WHITE_ON_BLACK)).count();
    assert!((20..24).contains(&lines), "{lines}: {screen}");
    // It is wiped off.
    let up = format!("\r\u{1b}[{lines}A\u{1b}[J");
    assert!(screen.contains(&up), "{screen:?}");
}

#[test]
fn renewed_code_is_drawn_in_the_place_of_the_old_one() {
    let controller = Builder::new().built_in();
    // By default the client gives up after ten codes, and a slow machine draws too few of them by then.
    let codes = ["sandbox_login=scan", "qrcode_expire=2", "qrcode_count_max=10000"];
    printed(&controller, &[&["start", "bot", "--no-wait"][..], &codes].concat());
    controller.wait_for_state("bot", "scaning");
    let mut shown = Shown::new(&controller, &["qr", "bot"], &[]);
    shown.1.wait_for_times("A\u{1b}[J\u{1b}[38;5;231", 2);
    shown.press("\u{3}");
    let (status, screen) = shown.end();
    assert_eq!(status, Some(1), "{screen}");
    // The code is wiped off: it lets people in.
    assert!(screen.rsplit(WHITE_ON_BLACK).next().unwrap().contains("A\u{1b}[J"), "{screen:?}");
    assert!(
        screen.contains("bot: it is not logged in yet") && screen.contains("next: wqctl qr bot"),
        "{screen}"
    );
}

#[test]
fn without_a_terminal_the_code_is_printed_once() {
    let controller = Builder::new().built_in();
    printed(&controller, &["start", "bot", "--no-wait", "sandbox_login=scan"]);
    controller.wait_for_state("bot", "scaning");
    wait_until("there is a code", || ran(&controller, &["qr", "bot"]).0 == Some(0));
    let code = printed(&controller, &["qr", "bot"]);
    assert!(code.lines().count() > 10 && code.chars().all(|c| "█▀▄ \n".contains(c)), "{code}");
    let json: serde_json::Value =
        serde_json::from_str(&printed(&controller, &["qr", "bot", "--json"])).unwrap();
    assert!(json["image"].as_str().unwrap().starts_with("data:image/png;base64,"), "{json}");
}

#[test]
fn start_shows_states_as_they_come_and_the_code() {
    let controller = Builder::new().built_in();
    let shown = Shown::new(&controller, &["start", "小明", "sandbox_login=scan"], &[]);
    shown.1.wait_for(WHITE_ON_BLACK);
    log_in(&controller, "%E5%B0%8F%E6%98%8E");
    let (status, screen) = shown.end();
    assert_eq!(status, Some(0), "{screen}");
    let places = ["init\n", "wqctl qr 小明\n", WHITE_ON_BLACK, "小明 runs\n"].map(|part| screen.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {screen}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let controller = Builder::new().built_in();
    printed(&controller, &["start", "bot", "sandbox_login_time=0"]);
    let (status, screen) = Shown::new(&controller, &["list"], &[]).end();
    assert_eq!((status, screen.contains("\u{1b}[32mrunning\u{1b}[0m")), (Some(0), true), "{screen}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (_, screen) = Shown::new(&controller, &["list"], &[plain]).end();
        assert!(screen.contains("running") && !screen.contains('\u{1b}'), "{screen}");
    }
}

#[test]
fn top_is_on_another_screen_and_gives_the_terminal_back() {
    let controller = Builder::new().built_in();
    printed(&controller, &["start", "小明", "sandbox_login_time=0"]);
    for key in ["q", "\u{3}"] {
        let mut shown = Shown::new(&controller, &["top", "--delay", "1"], &[]);
        let screen = shown.1.wait_for_times("1 accounts: 1 run", 2);
        assert!(screen.contains("\u{1b}[?1049h") && screen.contains("小明  "), "{screen:?}");
        shown.press(key);
        let (status, screen) = shown.end();
        assert_eq!(status, Some(0), "{screen:?}");
        assert!(
            screen.ends_with("\u{1b}[?25h\u{1b}[?1049l\n") || screen.ends_with("\u{1b}[?25h\u{1b}[?1049l"),
            "{screen:?}"
        );
    }
    // Without a terminal once.
    assert!(printed(&controller, &["top"]).contains("1 accounts: 1 run"));
}

#[test]
fn forget_asks_on_a_terminal() {
    let controller = Builder::new().built_in();
    printed(&controller, &["start", "bot", "sandbox_login_time=0"]);
    for answer in ["n\n", "\n"] {
        let mut shown = Shown::new(&controller, &["forget", "bot"], &[]);
        shown.press(answer);
        let (status, screen) = shown.end();
        assert_eq!(status, Some(1), "{screen}");
        assert!(
            screen.contains("Delete all that bot has on disk") && screen.contains("nothing was forgotten"),
            "{screen}"
        );
    }
    assert_eq!(printed(&controller, &["list", "--names"]), "bot\n");
}

#[test]
fn script_is_there_to_make_terminals() {
    assert!(Command::new("script").arg("--version").output().unwrap().status.success());
}
