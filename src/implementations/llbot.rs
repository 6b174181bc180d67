//! LLBot (LuckyLilliaBot), run by node without its launcher, which would leave node behind as an orphan.

use std::time::Duration;

use serde_json::{Value, json};

use super::contract::{
    CommandLine, ConfigFile, Content, HEARTBEAT_MS, ImplementationContract, Link, StartValues,
};
use super::json::OURS;
use super::login::{LoginQuestion, text_of};
use super::settings::ImplementationSettings;
use crate::backends::BackendKind;
use crate::model::client::Exit;
use crate::model::login::{LoginAnswer, Said};

pub struct Llbot;

/// The socket by which it tells where its login stands, below [`StartValues::runtime`].
pub const SOCKET: &str = "login.socket";

impl ImplementationContract for Llbot {
    fn name(&self) -> &'static str {
        "llbot"
    }

    fn required(&self) -> &'static [&'static str] {
        &["program", "script", "auth_token_file"]
    }

    fn endpoint(&self, _settings: &ImplementationSettings, port: u16) -> (BackendKind, String) {
        (BackendKind::OneBot, format!("ws://127.0.0.1:{port}/"))
    }

    fn command_line(&self, settings: &ImplementationSettings, values: &StartValues) -> CommandLine {
        let flags = ["--disable-warning=ExperimentalWarning", "--enable-source-maps"];
        let mut arguments: Vec<_> = flags.iter().map(Into::into).collect();
        arguments.push(settings.path("script").into());
        arguments.push(format!("--qq={}", values.uin).into());
        let socket = values.runtime.join(SOCKET);
        CommandLine {
            program: settings.path("program"),
            arguments,
            environment: vec![
                // As its own launcher sets it.
                ("NODE_SKIP_PLATFORM_CHECK", "1".into()),
                ("LL_IPC_PIPE", socket.into()),
                ("WEBUI_PORT", values.page_port().to_string().into()),
            ],
        }
    }

    fn files(&self, _settings: &ImplementationSettings, values: &StartValues) -> Vec<ConfigFile> {
        let set = json!({
            "webui": { "enable": false, "host": "127.0.0.1", "port": values.page_port() },
            "ob11": { "enable": true },
        });
        let connect = json!({
            "name": OURS, "type": "ws", "enable": true, "host": "127.0.0.1", "port": values.port,
            "token": values.token, "messageFormat": "array", "reportSelfMessage": true,
            "reportOfflineMessage": false, "heartInterval": HEARTBEAT_MS, "debug": false,
        });
        let private = |path: &str, text: &str| ConfigFile {
            path: path.to_owned(),
            content: Content::Text(text.to_owned()),
        };
        vec![
            ConfigFile {
                path: format!("data/config_{}.json", values.uin),
                content: Content::Json {
                    set,
                    default: json!({}),
                    entry: Some((&["ob11", "connect"], connect)),
                },
            },
            private("data/auth_token.txt", &values.auth_token),
            // Its page lets the first caller choose the password, so it gets one that no one knows.
            ConfigFile {
                path: "data/webui_token.txt".to_owned(),
                content: Content::Once(values.token.clone()),
            },
        ]
    }

    fn links(&self) -> &'static [Link] {
        &[Link { from: "data/temp", to: "temp", is_folder: true }]
    }

    fn code_file(&self) -> Option<&'static str> {
        Some("temp/login-qrcode.png")
    }

    fn code_lifetime(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn login_question(&self) -> LoginQuestion {
        LoginQuestion::Socket {
            name: SOCKET,
            line: r#"{"type":"request","id":"1","method":"get_login_state"}"#,
        }
    }

    /// It goes on to say `logged_in` while it has no connection to QQ's servers, and after an expired code it fetches the next
    /// one by itself.
    fn login_answer(&self, status: &Value, _info: Option<&Value>) -> Option<LoginAnswer> {
        let data = status.get("data")?;
        let answer = match data.get("state")?.as_str()? {
            "initializing" => LoginAnswer::of(Said::Starting),
            "need_qrcode" => LoginAnswer::of(Said::Code),
            "waiting_confirm" => LoginAnswer::of(Said::Confirming),
            "logged_in" => LoginAnswer::of(Said::Online),
            "expired" => {
                LoginAnswer::of(Said::Starting).because("the login code has expired; the next one follows")
            }
            "cancelled" => LoginAnswer::of(Said::Starting)
                .because("the login was cancelled on the phone; the next code follows"),
            _ => return None,
        };
        let (uin, nickname) =
            (data.get("uin").and_then(text_of), data.get("nickname").and_then(Value::as_str));
        Some(answer.named(uin.as_deref(), nickname))
    }

    /// Encrypted with a key from `machine_guid.bin`, which stays.
    fn login_files(&self, values: &StartValues) -> Vec<String> {
        vec![format!("data/qq-session-{}.json", values.uin)]
    }

    /// 1: a component or the token is missing.
    fn is_misconfigured(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(1))
    }
}
