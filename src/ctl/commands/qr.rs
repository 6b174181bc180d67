//! `qr`: the login code in the terminal, anew whenever it is renewed, until the login is there.

use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::time::{Instant, sleep_until};

use super::{Context, about};
use crate::ctl::account::Account;
use crate::ctl::client::path_of;
use crate::ctl::events::Events;
use crate::ctl::failure::{Failure, Kind, Outcome};
use crate::ctl::screen::{fit, print, print_json, printable, width};
use crate::ctl::time::now;

/// The interval at which a new code is asked for. It is also asked for after each event.
const LOOK: Duration = Duration::from_secs(2);

/// White on black by the colours that no theme changes, so that the code is dark on light on every terminal.
const WHITE_ON_BLACK: &str = "\x1b[38;5;231;48;5;16m";
const RESET: &str = "\x1b[0m";

pub(super) async fn qr(context: &Context, name: &str) -> Outcome {
    if context.json {
        let code = context.client.get(&path_of(name, "/qrcode")).await;
        return print_json(&code.map_err(|failure| explained(failure, name))?);
    }
    if !context.screen.is_terminal {
        let code = text_of(context, name).await.map_err(|failure| explained(failure, name))?;
        return print(&code);
    }
    let account = until_logged_in(context, name).await?;
    print(&format!("{} is logged in{}\n", printable(name), as_whom(&account)))
}

fn explained(failure: Failure, name: &str) -> Failure {
    failure.unless_next(|| "wqctl show NAME".to_owned()).about(name)
}

/// By which number, where that is known.
fn as_whom(account: &Account) -> String {
    let uin = account.login.as_ref().and_then(|login| login.uin.as_deref());
    uin.map(|uin| format!(" as {}", printable(uin))).unwrap_or_default()
}

/// The code as text: light modules as blocks.
async fn text_of(context: &Context, name: &str) -> Outcome<String> {
    let answer = context.client.call(Method::GET, &path_of(name, "/qrcode"), "text/plain", None).await?;
    let text = String::from_utf8_lossy(&answer.body);
    // What it is drawn with, and nothing that a terminal would obey.
    Ok(text.chars().filter(|c| matches!(c, '█' | '▀' | '▄' | ' ' | '\n')).collect())
}

/// Draws the code and each that follows it, until the account is logged in. The code is wiped off the screen then: it lets people in.
pub(super) async fn until_logged_in(context: &Context, name: &str) -> Outcome<Account> {
    let mut drawing = Drawing::new(context);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::refused(error.to_string()))?;
    let ended = tokio::select! {
        ended = follow(context, name, &mut drawing) => ended,
        _ = signals.next() => Err(Failure::refused("it is not logged in yet").next("wqctl qr NAME").about(name)),
    };
    drawing.wipe()?;
    ended
}

async fn follow(context: &Context, name: &str, drawing: &mut Drawing<'_>) -> Outcome<Account> {
    let mut events = Events::open(&context.client, "/v1/events", None).await?;
    let mut shown = None;
    loop {
        let account = Account::of(&context.client.get(&path_of(name, "")).await.map_err(about(name))?)?;
        if account.is_running() {
            return Ok(account);
        }
        if account.is_held() || account.is_stopped() {
            let why = Some(account.reason()).filter(|why| !why.is_empty());
            let text = why.unwrap_or_else(|| format!("it is {}", account.word()));
            return Err(Failure::refused(text).next("wqctl start NAME").about(name));
        }
        match context.client.get(&path_of(name, "/qrcode")).await {
            Ok(code) => {
                let expires = code["expires"].as_u64();
                // Another code, or another room for it.
                let now = (code["since"].as_u64(), expires, context.screen.size());
                if shown != Some(now) {
                    let text = text_of(context, name).await.map_err(|failure| explained(failure, name))?;
                    drawing.code(&account, &text, expires)?;
                    shown = Some(now);
                }
            }
            // None waits yet, or no longer.
            Err(failure) if failure.kind == Kind::Refused && failure.says("no login code") => {
                let waits = if account.state == "confirming" {
                    "press the button on the phone"
                } else {
                    "no code yet"
                };
                drawing.text(&format!("{}: {}, {waits}", printable(name), printable(&account.state)))?;
                shown = None;
            }
            Err(failure) => return Err(explained(failure, name)),
        }
        wait(&mut events, name).await?;
    }
}

/// Waits until something happens to the account, or it is time for a look.
async fn wait(events: &mut Events, name: &str) -> Outcome {
    let look = Instant::now() + LOOK;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) if event.data["name"] == name => return Ok(()),
                Some(_) => {}
                // The controller was reloaded or ends: the next request tells.
                None => {
                    sleep_until(look).await;
                    return Ok(());
                }
            },
            () = sleep_until(look) => return Ok(()),
        }
    }
}

/// What stands on the screen and is drawn over.
struct Drawing<'a> {
    context: &'a Context,
    /// How many lines above the cursor it begins.
    above: usize,
    is_empty: bool,
}

impl<'a> Drawing<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, above: 0, is_empty: true }
    }

    fn code(&mut self, account: &Account, code: &str, expires: Option<u64>) -> Outcome {
        let name = &account.name;
        let (columns, rows) = self.context.screen.size();
        let mut lines: Vec<&str> = code.lines().collect();
        let widest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
        // A line is for what to do. Half of the margin is enough where there is no room for all of it.
        if let [first, inner @ .., last] = &lines[..]
            && lines.len() >= rows
            && [first, last].iter().all(|line| line.chars().all(|c| matches!(c, '█' | '▀')))
        {
            lines = inner.to_vec();
        }
        if lines.len() >= rows || widest > columns {
            return self.text(&format!(
                "{}: the code needs {widest} columns and {} lines: make the terminal larger",
                printable(name),
                lines.len() + 1
            ));
        }
        let (on, off) = if self.context.screen.colours { (WHITE_ON_BLACK, RESET) } else { ("", "") };
        let text: String = lines.iter().map(|line| format!("{on}{line}{off}\n")).collect();
        let expires =
            expires.map(|at| format!("; it holds for {} s", at.saturating_sub(now()))).unwrap_or_default();
        let what = match account.sandbox_page() {
            Some(page) => format!("open {page} (no phone can scan a code of the sandbox)"),
            None => "scan the code".to_owned(),
        };
        self.replace(&(text + &fit(&format!("{}: {what}{expires}", printable(name)), columns - 1)))
    }

    fn text(&mut self, text: &str) -> Outcome {
        self.replace(&fit(text, self.context.screen.size().0.saturating_sub(1)))
    }

    fn wipe(&mut self) -> Outcome {
        self.replace("")
    }

    /// Draws in the place of what was drawn before. The cursor stays on the last line, as the code may take all of the others.
    fn replace(&mut self, text: &str) -> Outcome {
        // Up to where the drawing began, and all below is cleared (ECMA-48: CUU, ED).
        let up = match (self.is_empty, self.above) {
            (true, _) => String::new(),
            (false, 0) => "\r\x1b[J".to_owned(),
            (false, above) => format!("\r\x1b[{above}A\x1b[J"),
        };
        self.above = text.matches('\n').count();
        self.is_empty = text.is_empty();
        print(&(up + text))
    }
}
