//! The built-in client with the OneBot backend, against an implementation of the tests' own.

mod actions;
mod changes;
mod controller;
mod events;
mod faults;
mod implementation;
mod lasting;
mod login;
mod server;
mod tls;
mod ways;

use crate::client::process::{Client, Setup, until};
use server::Server;

/// A client of `server` that is not waited for.
fn setup(server: &Server, more: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new(&[("BACKEND", "onebot"), ("ONEBOT_URL", &server.url)]);
    for (name, value) in more {
        setup.set(name, value);
    }
    setup
}

/// A client of `server` that is running.
fn running(server: &Server, more: &[(&str, &str)]) -> Client {
    let client = setup(server, more).start();
    client.setup.until_state("running");
    client
}
