//! What is done and over: `stop`, `restart`, `relogin`, `remove` and `forget`. With several names each is tried, and the first failure
//! is the exit status.

use std::io::{self, BufRead, IsTerminal, Write};

use http::Method;
use serde_json::{Value, json};

use super::{Context, about, checked};
use crate::ctl::arguments::{Forget, Relogin};
use crate::ctl::client::path_of;
use crate::ctl::failure::{Failure, Kind, Outcome, quoted};
use crate::ctl::screen::{print, print_json_line, printable};

pub(super) async fn stop(context: &Context, names: Vec<String>) -> Outcome {
    each(context, names, "is stopped", (Method::POST, "/stop"), None).await
}

pub(super) async fn restart(context: &Context, names: Vec<String>) -> Outcome {
    each(context, names, "runs anew", (Method::POST, "/restart"), None).await
}

pub(super) async fn relogin(context: &Context, relogin: Relogin) -> Outcome {
    let body = json!({ "forget": relogin.forget });
    each(context, relogin.accounts.names, "logs in anew", (Method::POST, "/relogin"), Some(body)).await
}

pub(super) async fn remove(context: &Context, names: Vec<String>) -> Outcome {
    each(context, names, "is out of the list", (Method::DELETE, ""), None).await
}

pub(super) async fn forget(context: &Context, forget: Forget) -> Outcome {
    let names = forget.accounts.names;
    if !forget.yes {
        confirm(&names)?;
    }
    each(context, names, "is forgotten", (Method::DELETE, "?forget=1"), None).await
}

/// Asks on the terminal. What is forgotten does not come back, so silence is a no.
fn confirm(names: &[String]) -> Outcome {
    if !io::stdin().is_terminal() {
        let why = "what is forgotten does not come back, and without a terminal you can't be asked";
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        return Err(Failure::usage(why).next(format!("wqctl forget --yes {}", names.join(" "))));
    }
    let names: Vec<String> = names.iter().map(|name| printable(name)).collect();
    let question = format!("Delete all that {} has on disk, its login included? [y/N] ", names.join(", "));
    let mut out = io::stderr();
    let _ = out.write_all(question.as_bytes()).and_then(|()| out.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::refused("nothing was forgotten")),
    }
}

/// Does the same to each of these accounts.
async fn each(
    context: &Context,
    names: Vec<String>,
    done: &str,
    (method, rest): (Method, &str),
    body: Option<Value>,
) -> Outcome {
    let names: Vec<String> = names.into_iter().map(checked).collect::<Outcome<_>>()?;
    let mut failed: Option<Failure> = None;
    for name in &names {
        let answered = context.client.act(method.clone(), &path_of(name, rest), body.clone()).await;
        match answered.map_err(about(name)).map_err(|failure| too_old(failure, rest)) {
            Ok(Value::Null) if context.json => print_json_line(&json!({ "name": name }))?,
            Ok(account) if context.json => print_json_line(&account)?,
            Ok(_) => print(&format!("{} {done}\n", printable(name)))?,
            // Of no use to the others either.
            Err(failure) if matches!(failure.kind, Kind::Unreachable | Kind::NotAllowed) => {
                return Err(failure);
            }
            // The others may be possible all the same.
            Err(failure) => {
                if let Some(earlier) = &failed {
                    let _ = writeln!(io::stderr(), "{earlier}");
                }
                let first = failed.map_or(failure.kind, |earlier| earlier.kind);
                failed = Some(Failure { kind: first, ..failure });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A controller that can't forget knows no such parameter. It has done nothing.
fn too_old(failure: Failure, rest: &str) -> Failure {
    match rest.contains("forget") && failure.says("no parameter \"forget\"") {
        true => failure.because("this controller is too old to forget"),
        false => failure,
    }
}
