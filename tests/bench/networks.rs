//! A client over Milky beside one over OneBot v11: a large account, and messages over lost connections. `cargo bench --profile dist
//! --bench networks` prints a table; no figure is asserted. Five rounds, in turn; the median of each figure is shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/fake.rs"]
#[allow(dead_code, unused_imports)]
mod fake;
#[path = "../it/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "../it/remote/implementation.rs"]
#[allow(dead_code)]
mod implementation;
#[path = "../it/remote/lasting.rs"]
#[allow(dead_code)]
mod lasting;
#[path = "../it/remote/milky.rs"]
mod milky;
#[path = "../it/output.rs"]
#[allow(dead_code)]
mod output;
#[path = "../it/client/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../it/remote/schemas.rs"]
#[allow(dead_code)]
mod schemas;
#[path = "../it/remote/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "../it/remote/start.rs"]
#[allow(dead_code)]
mod start;

mod client {
    pub(crate) use crate::process;
}

use std::time::Duration;

use implementation::Manner;
use process::until;
use start::running;

const ROUNDS: usize = 5;

fn main() {
    let mut rows: Vec<(&str, [Vec<f64>; 2])> = Vec::new();
    for _ in 0..ROUNDS {
        for (network, manner) in Manner::NETWORKS.into_iter().enumerate() {
            let taken = lasting::large_account(manner, 500);
            let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
            for (what, figure) in [
                ("memory at most with the lists, MiB", taken.with_lists),
                ("memory at most with all members asked for, MiB", taken.with_members),
                ("get_friend_info the first time, ms", milliseconds(taken.first)),
                ("get_friend_info, p50, ms", milliseconds(taken.p50)),
                ("get_friend_info, p99, ms", milliseconds(taken.p99)),
                (
                    "1,500 messages over two lost connections, ms",
                    milliseconds(lasting::report_over_lost_connections(manner, 500, 3)),
                ),
            ] {
                match rows.iter_mut().find(|(name, _)| *name == what) {
                    Some((_, figures)) => figures[network].push(figure),
                    None => {
                        let mut figures = [Vec::new(), Vec::new()];
                        figures[network].push(figure);
                        rows.push((what, figures));
                    }
                }
            }
        }
    }
    println!("| 5,000 friends, 500 groups of 2,000 | OneBot | Milky | |\n|---|---|---|---|");
    for (what, figures) in rows {
        let [onebot, milky] = figures.map(|mut figures| {
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        });
        println!("| {what} | {onebot:.1} | {milky:.1} | {:+.0} % |", (milky / onebot - 1.0) * 100.0);
    }
}
