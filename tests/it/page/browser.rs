//! A real Chromium without a window, driven by the Chrome DevTools Protocol.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tungstenite::WebSocket;
use tungstenite::protocol::Message;
use tungstenite::stream::MaybeTlsStream;

use crate::fixture::{PATIENCE, wait_until};

/// A browser with a profile of its own.
pub struct Browser {
    process: Child,
    profile: tempfile::TempDir,
    port: u16,
}

/// A tab.
pub struct Tab {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    last: u64,
    /// What its page complained of.
    complaints: Vec<String>,
}

/// How a tab looks at pages.
#[derive(Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub language: &'static str,
}

impl Default for Look {
    fn default() -> Self {
        Self { width: 1280, height: 800, dark: false, language: "en" }
    }
}

impl Browser {
    /// Starts one; none where there is no Chromium, which CI does not accept.
    pub fn start() -> Option<Self> {
        let is_there = Command::new("chromium").arg("--version").output().is_ok();
        if !is_there {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            writeln!(std::io::stderr().lock(), "NOT RUN: {test}, in a browser: chromium is not installed")
                .unwrap();
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "all tests have to run where CI=true");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            // It calls the controller alone.
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = 0;
        let file = profile.path().join("DevToolsActivePort");
        wait_until("the browser listens", || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            port = text.lines().next().and_then(|line| line.parse().ok()).unwrap_or(0);
            port != 0 && text.lines().count() > 1
        });
        Some(Self { process, profile, port })
    }

    /// Opens a tab.
    pub fn tab(&self, look: Look) -> Tab {
        let target = ureq::put(format!("http://127.0.0.1:{}/json/new?about:blank", self.port));
        let target = target.send_empty().unwrap().into_body().read_to_string().unwrap();
        let target: Value = serde_json::from_str(&target).unwrap();
        let url = target["webSocketDebuggerUrl"].as_str().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Its pictures are large.
        let config =
            tungstenite::protocol::WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let (socket, _) =
            tungstenite::client::client_with_config(url, MaybeTlsStream::Plain(stream), Some(config))
                .unwrap();
        let mut tab = Tab { socket, last: 0, complaints: Vec::new() };
        tab.call("Page.enable", json!({}));
        tab.call("Runtime.enable", json!({}));
        tab.call("Log.enable", json!({}));
        let size = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        tab.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if look.dark { "dark" } else { "light" };
        tab.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        let agent = tab.eval("navigator.userAgent");
        tab.call(
            "Emulation.setUserAgentOverride",
            json!({ "userAgent": agent, "acceptLanguage": look.language }),
        );
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its children may still write there for a moment, so that the folder's own removal could fail.
        let _ = std::fs::remove_dir_all(self.profile.path());
    }
}

impl Tab {
    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let call = json!({ "id": self.last, "method": method, "params": params });
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let said: Value = serde_json::from_str(&text).unwrap();
            if said["id"] == self.last {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.hear(&said);
        }
    }

    /// Keeps what a page complains of, such as a script that the policy refuses.
    fn hear(&mut self, said: &Value) {
        match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
            Some("Log.entryAdded") => {
                let entry = &said["params"]["entry"];
                // Answers with an error status are looked at by the page itself.
                if entry["level"] == "error" && entry["source"] != "network" {
                    self.complaints.push(entry.to_string());
                }
            }
            _ => {}
        }
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until("the page is there", "document.readyState === 'complete'");
    }

    /// The value of an expression, which may be a promise.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let found = self.call("Runtime.evaluate", params);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {}", found["exceptionDetails"]);
        found["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, what: &str, expression: &str) {
        let end = Instant::now() + PATIENCE;
        // A page that is being replaced has no value for a moment.
        while self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))["result"]
            ["value"]
            != true
        {
            if Instant::now() > end {
                let shown = self.eval("document.body.innerText");
                panic!("{what}, in vain; the page shows:\n{}", shown.as_str().unwrap_or_default());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until the page shows a text.
    pub fn until_text(&mut self, text: &str) {
        self.until(
            &format!("the page shows {text:?}"),
            &format!("document.body.innerText.includes({})", json!(text)),
        );
    }

    /// Presses the button or follows the link with this text.
    pub fn press(&mut self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('button, a')].find(x => x.textContent.trim() === {} && !x.disabled && \
             x.getAttribute('aria-disabled') !== 'true' && x.offsetParent !== null)",
            json!(text)
        );
        self.until(&format!("there is a button {text:?}"), &format!("Boolean({find})"));
        self.eval(&format!("{find}.click()"));
    }

    /// Types into a field.
    pub fn fill(&mut self, selector: &str, text: &str) {
        self.until("there is a field", &format!("Boolean(document.querySelector({}))", json!(selector)));
        self.eval(&format!("document.querySelector({}).focus()", json!(selector)));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Writes a picture to `target/page`, and checks what every view has to be: no wider than its window, and without complaint.
    pub fn picture(&mut self, name: &str) {
        let wider = self.eval("document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
        assert!(wider <= 0, "{name} is {wider} pixels wider than the window");
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/page");
        std::fs::create_dir_all(&folder).unwrap();
        use base64::Engine as _;
        let picture = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(folder.join(format!("{name}.png")), picture.unwrap()).unwrap();
        assert_eq!(self.complaints, [""; 0], "{name}");
        self.check_access(name);
    }

    /// Has axe-core judge the view, where that is there.
    fn check_access(&mut self, name: &str) {
        let Some(script) =
            std::env::var_os("WQCONTROLLER_AXE").map(|path| std::fs::read_to_string(path).unwrap())
        else {
            writeln!(
                std::io::stderr().lock(),
                "NOT RUN: {name}, judged by axe-core: WQCONTROLLER_AXE is not set"
            )
            .unwrap();
            return;
        };
        // Evaluated by the debugger, which the page's policy does not bind.
        self.eval(&format!("{script};0"));
        let found = self.eval(
            "axe.run(document, { resultTypes: ['violations'] }).then(result => result.violations.map(x => \
             x.id + ': ' + x.nodes.map(node => node.html.slice(0, 200)).join(' | ')))",
        );
        assert_eq!(found, json!([]), "{name}");
    }
}
