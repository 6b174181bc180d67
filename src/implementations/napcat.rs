//! NapCat: QQ for Linux with another main script. It needs a display, and a home of its own for each account.

use serde_json::json;

use super::contract::{CommandLine, ConfigFile, Content, ImplementationContract, Link, StartValues};
use super::json::OURS;
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;

pub struct Napcat;

impl ImplementationContract for Napcat {
    fn name(&self) -> &'static str {
        "napcat"
    }

    fn required(&self) -> &'static [&'static str] {
        &["program"]
    }

    fn optional(&self) -> &'static [&'static str] {
        &["display"]
    }

    fn endpoint(&self, _settings: &ImplementationSettings, port: u16) -> (BackendKind, String) {
        (BackendKind::OneBot, format!("ws://127.0.0.1:{port}/"))
    }

    fn command_line(&self, settings: &ImplementationSettings, values: &StartValues) -> CommandLine {
        let mut environment = vec![
            ("NAPCAT_WORKDIR", values.home.join("napcat").into()),
            // Starts, ends and new starts are ours.
            ("NAPCAT_DISABLE_MULTI_PROCESS", "1".into()),
            ("NAPCAT_WEBUI_PREFERRED_PORT", values.page_port().to_string().into()),
        ];
        environment.extend(settings.get("display").map(|display| ("DISPLAY", display.into())));
        CommandLine {
            program: settings.path("program"),
            // Its own sandbox needs user namespaces, which the unit does not allow; the unit is the sandbox.
            arguments: ["--no-sandbox", "-q", &values.uin].map(Into::into).into(),
            environment,
        }
    }

    fn files(&self, _settings: &ImplementationSettings, values: &StartValues) -> Vec<ConfigFile> {
        let server = json!({
            "name": OURS, "enable": true, "host": "127.0.0.1", "port": values.port, "token": values.token,
            "messagePostFormat": "array", "reportSelfMessage": true, "enableForcePushEvent": true,
            "heartInterval": 30_000, "debug": false,
        });
        let page = json!({ "host": "127.0.0.1", "port": values.page_port(), "token": values.token });
        let file = |path: String, set, entry| ConfigFile {
            path,
            content: Content::Json { set, default: json!({}), entry },
        };
        vec![
            file(
                format!("napcat/config/onebot11_{}.json", values.uin),
                json!({}),
                Some((&["network", "websocketServers"], server)),
            ),
            file("napcat/config/webui.json".to_owned(), page, None),
        ]
    }

    fn links(&self) -> &'static [Link] {
        &[Link { from: "napcat/cache", to: "cache", is_folder: true }]
    }

    fn code_file(&self) -> Option<&'static str> {
        Some("cache/qrcode.png")
    }

    fn login_files(&self, _values: &StartValues) -> Vec<String> {
        vec![".config/QQ".to_owned()]
    }

    /// 1: it could not bring its worker up three times within ten seconds.
    fn is_misconfigured(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(1))
    }
}
