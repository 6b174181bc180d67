//! Clients of a [`Server`].

use super::implementation::Manner;
use super::server::Server;
use crate::client::process::{Client, Setup};

/// The name of a variable of this network, for one that begins with `REMOTE_`.
pub(super) fn variable(manner: Manner, name: &str) -> String {
    name.replace("REMOTE_", &format!("{}_", manner.backend().to_uppercase()))
}

/// A client of `server` that is not waited for. Names that begin with `REMOTE_` are those of its network.
pub(super) fn setup(server: &Server, more: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new(&[("BACKEND", server.manner.backend())]);
    for (name, value) in [("REMOTE_URL", server.url.as_str())].iter().chain(more) {
        setup.set(&variable(server.manner, name), value);
    }
    setup
}

/// A client of `server` that is running.
pub(super) fn running(server: &Server, more: &[(&str, &str)]) -> Client {
    let client = setup(server, more).start();
    client.setup.until_state("running");
    client
}
