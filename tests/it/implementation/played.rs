//! Accounts whose implementation is played by tests/implementation.py, for tests and for tests/bench/implementations.rs.

use std::fs;

use crate::fixture::{Builder, Controller};

/// A controller whose implementation `own` is of this kind, not started yet. The network is there while the file `network` is.
pub fn with_kind(builder: Builder, kind: &str, config: &str) -> Builder {
    let network = builder.write_file("network", "", 0o600);
    let builder = builder.env("WQCONTROLLER_TEST_ROUTE", network.to_str().unwrap());
    let played = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/implementation.py");
    // Each kind has its port, its token and the pause between heartbeats from another place.
    let configured = |file: &str, keys: &str, names: &str| {
        format!(
            "set -- $(python3 -IS -c \"import json; it = json.load(open('{file}')){keys}; print({names})\")\n"
        )
    };
    let server = "it['port'], it['token'], it['heartInterval'] / 1000";
    let values = match kind {
        "llbot" => configured("data/config_10001.json", "['ob11']['connect'][0]", server),
        "napcat" => {
            configured("napcat/config/onebot11_10001.json", "['network']['websocketServers'][0]", server)
        }
        "yogurt" => configured("config.json", "['milky']['http']", "it['port'], it['accessToken']"),
        _ => "set -- $1 $(cat token)\n".to_owned(),
    };
    let script = format!(
        "#!/bin/sh\n{values}exec python3 -IS '{played}' {kind} $1 \"$HOME\" \"$RUNTIME_DIRECTORY\" $2 $3\n"
    );
    let program = builder.write_file("program", &script, 0o700);
    let (program, secret) = (program.display(), builder.write_file("secret", "site", 0o600));
    let template = builder.write_file("template", "{token}", 0o600);
    let keys = match kind {
        "llbot" => format!(
            "program = '{program}'\nscript = '/opt/llbot.js'\nauth_token_file = '{}'\n",
            secret.display()
        ),
        "napcat" => format!("program = '{program}'\n"),
        "yogurt" => format!("program = '{program}'\nsign_url = 'http://127.0.0.1:9/'\n"),
        _ => format!(
            "command = \"{program} {{port}}\"\nurl = 'ws://127.0.0.1:{{port}}/'\nfile = 'token'\nfile_template = '{}'\n",
            template.display()
        ),
    };
    let first = match config.contains("implementation_start_port") {
        true => String::new(),
        false => format!("implementation_start_port = {}\n", builder.first_port() + 20),
    };
    builder.config(&format!("{first}{config}\n[implementations.own]\nkind = '{kind}'\n{keys}"))
}

/// Has this happen to an account.
pub fn happen_to(controller: &Controller, name: &str, event: &str) {
    let home = controller.path("implementations").join(name);
    fs::write(home.join("event.new"), event).unwrap();
    fs::rename(home.join("event.new"), home.join("event")).unwrap();
}
