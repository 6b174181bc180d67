//! Yogurt, of the Acidify project: one file, which speaks Milky. It needs neither the QQ program nor a display, but a service
//! that signs its packets.

use serde_json::{Value, json};

use super::contract::{CommandLine, ConfigFile, Content, ImplementationContract, Link, StartValues};
use super::login::{LoginQuestion, text_of};
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;
use crate::model::login::{LoginAnswer, Said};

pub struct Yogurt;

impl ImplementationContract for Yogurt {
    fn name(&self) -> &'static str {
        "yogurt"
    }

    fn required(&self) -> &'static [&'static str] {
        &["program", "sign_url"]
    }

    fn optional(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn endpoint(&self, _settings: &ImplementationSettings, port: u16) -> (BackendKind, String) {
        (BackendKind::Milky, format!("http://127.0.0.1:{port}/"))
    }

    /// It takes no arguments: all is in the configuration of its working directory.
    fn command_line(&self, settings: &ImplementationSettings, _values: &StartValues) -> CommandLine {
        CommandLine { program: settings.path("program"), arguments: Vec::new(), environment: Vec::new() }
    }

    /// Without the file it would write one and wait for a line of standard input. It reads one without `configVersion` as the
    /// oldest form, and loses what that did not have.
    fn files(&self, settings: &ImplementationSettings, values: &StartValues) -> Vec<ConfigFile> {
        // Each number that a start may give parses.
        let uin: u64 = values.uin.parse().unwrap_or_default();
        let mut protocol = json!({ "uin": uin, "signApiUrl": settings.get("sign_url") });
        if let Some(version) = settings.get("version") {
            protocol["version"] = version.into();
        }
        let set = json!({
            "configVersion": 3,
            "protocol": protocol,
            "milky": {
                "http": { "host": "127.0.0.1", "port": values.port, "prefix": "", "accessToken": values.token },
            },
            // A journal shows no colours.
            "logging": { "ansiLevel": "NONE" },
        });
        let default = json!({
            "protocol": { "password": "", "os": "Linux", "version": "fetched", "pcLagrangeSignToken": "",
                          "androidUseLegacySign": false, "autoRenewSession": true },
            "milky": { "http": { "corsOrigins": [] }, "webhook": { "endpoints": [] }, "reportSelfMessage": true,
                       "preloadContacts": false, "ffmpegPath": "" },
            "logging": { "coreLogLevel": "INFO" },
            "security": { "skipOnLaunchListenAddressCheck": false },
            "debug": { "enableFaceDetailsApi": false },
        });
        vec![ConfigFile {
            path: "config.json".to_owned(),
            content: Content::Json { set, default, entry: None },
        }]
    }

    fn links(&self) -> &'static [Link] {
        &[Link { from: "qrcode.png", to: "qrcode.png", is_folder: false }]
    }

    fn code_file(&self) -> Option<&'static str> {
        Some("qrcode.png")
    }

    // What it tells the network of its device is in its session store, and no property of the machine.
    fn login_is_portable(&self) -> bool {
        true
    }

    fn renews_codes(&self) -> bool {
        false
    }

    fn login_question(&self) -> LoginQuestion {
        LoginQuestion::Api { path: "/api/get_login_info" }
    }

    /// Milky answers every call with -403 until the account is logged in. Whether a code waits is told by its image alone.
    fn login_answer(&self, status: &Value, _info: Option<&Value>) -> Option<LoginAnswer> {
        match status.get("retcode")?.as_i64()? {
            0 => {
                let data = status.get("data")?;
                let uin = data.get("uin").and_then(text_of);
                let nickname = data.get("nickname").and_then(Value::as_str);
                Some(LoginAnswer::of(Said::Online).named(uin.as_deref(), nickname))
            }
            -403 => Some(LoginAnswer::of(Said::NotLoggedIn)),
            // A failure of another kind tells nothing about the login.
            _ => Some(LoginAnswer::of(Said::Unknown).because(status.get("message")?.as_str()?)),
        }
    }

    fn login_files(&self, _values: &StartValues) -> Vec<String> {
        ["session-store.json", "session-store-android.json"].map(str::to_owned).into()
    }

    /// 1: there is no signature service. 134 (SIGABRT of the Kotlin runtime, also where a port is in use): an unusable
    /// configuration. Supervisors report the signal where the kernel ended it.
    fn is_misconfigured(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(1 | 134) | Exit::Signal(6))
    }
}
