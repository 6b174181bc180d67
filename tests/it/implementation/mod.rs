//! Accounts with an implementation: two processes that start, end and are adopted apart, and one account.

mod actions;
mod evil;
mod login;
pub mod played;
mod policy;
mod processes;
mod programs;

use serde_json::Value;

use crate::fixture::{Builder, Controller, wait_until};

/// A program of the kind `command`, which does what the script says, with its port and folder as arguments.
fn with_script(script: &str) -> Builder {
    let builder = Builder::new();
    let script = builder.write_file("own.sh", script, 0o700);
    let template = builder.write_file("own.template", "port={port}\ntoken={token}\nuin={uin}\n", 0o600);
    let (script, template) = (script.display(), template.display());
    let first = builder.first_port() + 20;
    builder.config(&format!(
        "implementation_start_port = {first}\n[implementations.own]\nkind = 'command'\n\
         command = \"/bin/sh '{script}' {{port}} '{{dir}}'\"\nurl = 'ws://127.0.0.1:{{port}}/'\n\
         file = 'own.conf'\nfile_template = '{template}'\n"
    ))
}

/// Waits until it is told to end, and then does so at once.
const PATIENT: &str = "echo up $1\nexec sleep 3600\n";

/// What `check_client` says of an account's implementation.
fn implementation(controller: &Controller, name: &str) -> Value {
    let clients = controller.clients();
    let client = clients.iter().find(|client| client["account"] == name);
    client.map(|client| client["implementation"].clone()).unwrap_or_default()
}

/// Waits until this is true of the implementation, and returns what is said of it.
fn until_implementation(
    controller: &Controller,
    name: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let mut found = Value::Null;
    wait_until(what, || {
        found = implementation(controller, name);
        is_so(&found)
    });
    found
}

fn pid(value: &Value) -> u32 {
    u32::try_from(value["pid"].as_u64().unwrap()).unwrap()
}
