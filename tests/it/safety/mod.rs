//! Safe with the defaults: who is let in, and who is not.

mod access;
mod listeners;
mod sites;
mod tokens;

use std::path::PathBuf;

use serde_json::Value;

use crate::fixture::{Builder, Controller};

const KEY: &str = "0123456789abcdef-key";
const EYE: &str = "fedcba9876543210-eye";

/// The configuration of a token that opens all and one that is read-only, and their files.
fn with_tokens(builder: Builder) -> Builder {
    let key = builder.write_file("key", &format!("{KEY}\n"), 0o600);
    let eye = builder.write_file("eye", EYE, 0o400);
    let config = format!(
        "[[auth.tokens]]\nname = \"key\"\nfile = {key:?}\n\
         [[auth.tokens]]\nname = \"eye\"\nfile = {eye:?}\naccess = \"read-only\""
    );
    builder.config(&config)
}

/// With the fake client `a`, which listens.
fn with_client(builder: Builder) -> Controller {
    let controller = builder.start();
    let get = |call: &str| {
        ask(&controller, &format!("GET /openqq/{call}?client=a&token={KEY} HTTP/1.1\r\nHost: localhost"))
    };
    assert_eq!(get("start_client").json()["status"], "success");
    crate::fixture::wait_until("a listens", || get("ping").status == 200);
    controller
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Wire {
    status: u16,
    head: String,
    body: String,
}

impl Wire {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Refused in the controller's own words.
    fn is_refused(&self, status: u16, why: &str) {
        assert_eq!(self.status, status, "{self:?}");
        // What is malformed has the code of all input that is not allowed.
        assert_eq!(self.json()["code"], if status == 400 { 6 } else { status });
        assert!(self.json()["status"].as_str().unwrap().contains(why), "{self:?}");
        assert!(self.head.contains("Content-Type: application/json\r\n"), "{self:?}");
        let challenged = self.head.contains("\r\nWww-Authenticate: Bearer realm=\"wqcontroller\"\r\n");
        assert_eq!(challenged, status == 401, "{self:?}");
    }
}

/// Sends a request, its headers without the empty line, and reads until the end of the connection.
fn ask(controller: &Controller, head: &str) -> Wire {
    wire(&controller.raw(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()))
}

fn wire(answer: &[u8]) -> Wire {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Wire { status, head: format!("{head}\r\n"), body: body.to_owned() }
}

/// Where the log of this controller is, for who started it himself.
fn path(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
