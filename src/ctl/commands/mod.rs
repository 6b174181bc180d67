//! The commands.
//!
//! - `list`: the list, and all of one account
//! - `start`: a start, with its states as they come
//! - `act`: what is done and over: stop, restart, relogin, remove, forget
//! - `move_account`: an account goes to another machine
//! - `qr`: the login code
//! - `follow`: logs and events
//! - `explain`: why an account is as it is
//! - `top`: all accounts, again and again
//! - `scene`: tests of bots
//! - `sandbox`: a controller to try a bot against
//! - `configuration`: the check, and every option
//! - `bugreport`, with `machine`: what a report of a bug should have

mod act;
mod bugreport;
mod configuration;
mod explain;
mod follow;
mod list;
mod machine;
mod move_account;
mod qr;
mod sandbox;
mod scene;
mod start;
mod top;

use super::arguments::{Arguments, Command, List};
use super::client::Client;
use super::failure::{Failure, Kind, Outcome};
use super::screen::Screen;
use super::token::Token;
use crate::model::name::ClientName;

/// What every command needs.
pub(super) struct Context {
    client: Client,
    screen: Screen,
    json: bool,
}

/// Does what the command line says.
pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { global, command } = arguments;
    let command = command.unwrap_or_else(|| Command::List(List::default()));
    // Files need no controller, and no token for one.
    match &command {
        Command::Check(files) => return configuration::check(files, global.json),
        Command::Effective(files) => return configuration::effective(files, global.json),
        // Its controller is one of its own.
        Command::Sandbox(sandbox) => return sandbox::sandbox(sandbox, global.json).await,
        _ => {}
    }
    let token = Token::find(global.token_file.as_deref())?;
    let client = Client::new(global.url.as_deref(), token)?;
    let context = Context { client, screen: Screen::new(), json: global.json };
    match command {
        Command::List(list) => list::list(&context, &list).await,
        Command::Show(account) => list::show(&context, &checked(account.name)?).await,
        Command::Start(start) => start::start(&context, start).await,
        Command::Stop(accounts) => act::stop(&context, accounts.names).await,
        Command::Restart(accounts) => act::restart(&context, accounts.names).await,
        Command::Relogin(relogin) => act::relogin(&context, relogin).await,
        Command::Remove(accounts) => act::remove(&context, accounts.names).await,
        Command::Forget(forget) => act::forget(&context, forget).await,
        Command::Move(to) => move_account::move_account(&context, to).await,
        Command::Qr(account) => qr::qr(&context, &checked(account.name)?).await,
        Command::Logs(logs) => follow::logs(&context, logs).await,
        Command::Events => follow::events(&context).await,
        Command::Explain(account) => explain::explain(&context, &checked(account.name)?).await,
        Command::Top(top) => top::top(&context, &top).await,
        Command::Bugreport(files) => bugreport::bugreport(&context, &files).await,
        Command::Scene(scene) => scene::scene(&context, &scene).await,
        Command::Check(_) | Command::Effective(_) | Command::Sandbox(_) => Ok(()),
    }
}

/// A name that an account may have.
fn checked(name: String) -> Outcome<String> {
    match ClientName::new(name.as_str()) {
        Ok(_) => Ok(name),
        Err(error) => Err(Failure::new(Kind::Usage, format!("{name:?} is no name: {error}"))),
    }
}

/// The failure with the name in what to type next.
fn about(name: &str) -> impl Fn(Failure) -> Failure {
    let name = name.to_owned();
    move |failure| failure.about(&name)
}
