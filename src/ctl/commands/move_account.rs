//! `move`: an account goes to another machine, with all that it keeps.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Context, about, checked};
use crate::ctl::arguments::Move;
use crate::ctl::client::{MOVE, path_of};
use crate::ctl::failure::{Failure, Outcome, quoted};
use crate::ctl::screen::{print, print_json, printable};

/// An account that was moved, as far as people are told.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Moved {
    from: String,
    to: String,
    login: String,
    not_started: Option<String>,
}

pub(super) async fn move_account(context: &Context, to: Move) -> Outcome {
    let name = checked(to.name)?;
    if !context.json {
        context.screen.progress(&format!("moving {name} to {}", to.machine));
    }
    let body = json!({ "machine": to.machine });
    let answered = context.client.act(Method::POST, &path_of(&name, MOVE), Some(body)).await;
    let answer = answered.map_err(about(&name))?;
    if context.json {
        return print_json(&answer);
    }
    let moved: Moved = serde_json::from_value(answer).unwrap_or_default();
    let (shown, from, there) = (printable(&name), printable(&moved.from), printable(&moved.to));
    print(&format!("{shown} has moved from {from} to {there}\n"))?;
    // An answer of one word more than we know says nothing to people.
    let qr = format!("wqctl qr {}", quoted(&name));
    print(&match moved.login.as_str() {
        "may_need_scan" => {
            format!("its login came with it; if {there} counts as a new device, scan it: {qr}\n")
        }
        "held_elsewhere" => {
            format!("the program that holds its login stays where it is: see that {there} reaches it\n")
        }
        _ => String::new(),
    })?;
    match moved.not_started {
        None => Ok(()),
        Some(why) => Err(Failure::refused(format!("{shown}: it could not be started on {there}: {why}"))
            .next(format!("wqctl explain {}", quoted(&name)))),
    }
}
