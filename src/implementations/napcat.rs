//! NapCat: QQ for Linux with another main script. It needs a display, and a home of its own for each account.

use serde_json::{Value, json};

use super::contract::{
    CommandLine, ConfigFile, Content, HEARTBEAT_MS, ImplementationContract, Link, StartValues,
};
use super::json::OURS;
use super::login::{LoginQuestion, PageQuestion, text_of};
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;
use crate::model::login::{LoginAnswer, Said};

pub struct Napcat;

const PAGE: PageQuestion = PageQuestion {
    login: "/api/auth/login",
    salt: ".napcat",
    credential: "/data/Credential",
    status: "/api/QQLogin/CheckLoginStatus",
    info: "/api/QQLogin/GetQQLoginInfo",
};

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
            "heartInterval": HEARTBEAT_MS, "debug": false,
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

    fn login_question(&self) -> LoginQuestion {
        LoginQuestion::Page(&PAGE)
    }

    /// `isOffline` is set for a lost connection as well as for a login that the network has ended. The notice `bot_offline`, which
    /// the client gets, tells them apart.
    fn login_answer(&self, status: &Value, info: Option<&Value>) -> Option<LoginAnswer> {
        let data = status.get("data")?;
        let is = |key: &str| data.get(key).and_then(Value::as_bool);
        let error = data.get("loginError").and_then(Value::as_str).unwrap_or_default();
        let has_code = data.get("qrcodeurl").and_then(Value::as_str).is_some_and(|url| !url.is_empty());
        let said = match (is("isLogin")?, is("isOffline").unwrap_or(false)) {
            (_, true) => Said::Offline,
            (true, false) => Said::Online,
            (false, false) if has_code => Said::Code,
            (false, false) => Said::Starting,
        };
        let info = info.and_then(|info| info.get("data"));
        let uin = info.and_then(|info| info.get("uin")).and_then(text_of);
        let nickname =
            info.and_then(|info| info.get("nick").or(info.get("nickname"))).and_then(Value::as_str);
        Some(LoginAnswer::of(said).because(error).named(uin.as_deref(), nickname))
    }

    fn login_files(&self, _values: &StartValues) -> Vec<String> {
        vec![".config/QQ".to_owned()]
    }

    /// 1: it could not bring its worker up three times within ten seconds.
    fn is_misconfigured(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(1))
    }
}
