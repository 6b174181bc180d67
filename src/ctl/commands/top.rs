//! `top`: all accounts with what they use, again and again. On the other screen of the terminal, which is left as it was.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Context;
use super::list::{fetch, mebibytes, number};
use crate::ctl::account::{Account, Mood};
use crate::ctl::arguments::{List, Top};
use crate::ctl::failure::{Failure, Kind, Outcome};
use crate::ctl::screen::{fit, print, print_json};
use crate::ctl::table::Rows;
use crate::ctl::time::{now, shown};

/// What ctrl-C is where it raises no signal.
const CTRL_C: u8 = 3;

pub(super) async fn top(context: &Context, top: &Top) -> Outcome {
    let accounts = fetch(context, &List::default()).await?.accounts;
    if context.json {
        return print_json(&serde_json::json!({ "accounts": accounts }));
    }
    let mut looks = Looks::default();
    if !context.screen.is_terminal || !io::stdin().is_terminal() {
        return print(&looks.page(context, &parsed(&accounts)?, None));
    }
    let _other = OtherScreen::enter()?;
    let mut keys = keys();
    let mut signals = Signals::new([SIGTERM, SIGHUP]).map_err(|error| Failure::refused(error.to_string()))?;
    let mut page = looks.page(context, &parsed(&accounts)?, Some(context.screen.size()));
    loop {
        // Home, and what follows is cleared line by line, so that nothing flickers (ECMA-48: CUP, EL, ED).
        print(&format!("\x1b[H{}\x1b[K\x1b[J", page.trim_end().replace('\n', "\x1b[K\r\n")))?;
        tokio::select! {
            () = sleep(Duration::from_secs(top.delay)) => {}
            key = keys.recv() => match key {
                Some(b'q' | b'Q' | CTRL_C) | None => return Ok(()),
                Some(_) => {}
            },
            _ = signals.next() => return Ok(()),
        }
        page = match fetch(context, &List::default()).await.and_then(|found| parsed(&found.accounts)) {
            Ok(accounts) => looks.page(context, &accounts, Some(context.screen.size())),
            // It may be restarted just now.
            Err(failure) if failure.kind == Kind::Unreachable => format!("{failure}\n\nq ends"),
            Err(failure) => return Err(failure),
        };
    }
}

fn parsed(accounts: &[serde_json::Value]) -> Outcome<Vec<Account>> {
    accounts.iter().map(Account::of).collect()
}

/// The keys that are pressed, each at once.
fn keys() -> mpsc::Receiver<u8> {
    let (sender, receiver) = mpsc::channel(8);
    // It ends with the process: what waits for a key can't be woken.
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes() {
            if key.is_err() || sender.blocking_send(key.unwrap_or(CTRL_C)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The other screen of the terminal, with keys that are read one by one. Dropping it gives all back.
struct OtherScreen(Termios);

impl OtherScreen {
    fn enter() -> Outcome<Self> {
        let failed =
            |error: rustix::io::Errno| Failure::refused(format!("the terminal can't be used: {error}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        let entered = Self(before);
        // The alternate screen, without a cursor (xterm's private modes 1049 and 25).
        print("\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(entered)
    }
}

impl Drop for OtherScreen {
    fn drop(&mut self) {
        let _ = print("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What was used at the last look, by account: processor time, and when.
#[derive(Default)]
struct Looks(HashMap<String, (f64, f64)>);

impl Looks {
    /// All of it as text, in so many columns and lines; without a size it is cut nowhere but at the usual width.
    fn page(&mut self, context: &Context, accounts: &[Account], size: Option<(usize, usize)>) -> String {
        let (columns, lines) = size.unwrap_or((context.screen.size().0, usize::MAX));
        let count = |mood: Mood| accounts.iter().filter(|account| account.mood() == mood).count();
        let used: f64 = accounts.iter().filter_map(|account| account.usage.as_ref()?.memory).sum();
        let memory = if used > 0.0 { format!(", {}", mebibytes(used)) } else { String::new() };
        let head = format!(
            "{}  {} accounts: {} run, {} on the way, {} wait for you, {} stopped{memory}",
            shown(now()),
            accounts.len(),
            count(Mood::Well),
            count(Mood::OnTheWay),
            count(Mood::Waits),
            count(Mood::Off),
        );
        let table = self.table(accounts).lines(context.screen, Some(columns));
        let (room, total) = (lines.saturating_sub(3), table.len());
        let mut text = fit(&head, columns) + "\n\n";
        text.extend(table.into_iter().take(room).map(|line| line + "\n"));
        if total > room {
            // In the place of the last one, so that it is not thought to be all.
            text += &format!("and {} more", total - room);
        }
        text
    }

    fn table(&mut self, accounts: &[Account]) -> Rows {
        let now = now();
        let mut rows = Rows::new(&["NAME", "STATE", "CPU%", "MEMORY", "PID", "REASON"], &[2, 3, 4]);
        let mut seen = HashMap::new();
        // Those that wait for a person first: they are what is looked for.
        let mut order: Vec<&Account> = accounts.iter().collect();
        order.sort_by_key(|account| account.mood() != Mood::Waits);
        for account in order {
            let usage = account.usage.as_ref();
            let look = usage.and_then(|usage| Some((usage.cpu?, usage.at?)));
            let share = look.zip(self.0.get(&account.name)).and_then(|((cpu, at), (cpu_before, before))| {
                // Processes that were started anew begin from nothing.
                (at > *before && cpu >= *cpu_before).then(|| 100.0 * (cpu - cpu_before) / (at - before))
            });
            seen.extend(look.map(|look| (account.name.clone(), look)));
            let cells = vec![
                account.name.clone(),
                account.word().to_owned(),
                number(share.map(|share| format!("{share:.1}"))),
                number(usage.and_then(|usage| usage.memory).map(mebibytes)),
                number(account.client.pid),
                account.why(now),
            ];
            rows.add(cells, account.mood());
        }
        self.0 = seen;
        rows
    }
}
