//! What is said in Milky, held against the schemas of the package `@saltify/milky-types`. tests/run fetches it.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

/// Names the folder that has them.
const FOLDER: &str = "WQCONTROLLER_MILKY_TYPES";

/// In bytes: no client takes an answer that is longer, and it would keep the others waiting.
const MOST: usize = 16 * 1024 * 1024;

/// The program that knows the schemas. There is one for all tests; it ends with them.
struct Reader {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// Whether there are schemas to hold anything against.
pub(super) fn are_there() -> bool {
    std::env::var_os(FOLDER).is_some()
}

fn start(folder: OsString) -> io::Result<Reader> {
    let mut child = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milky/schemas.mjs"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    Ok(Reader { _child: child, to, from })
}

impl Reader {
    fn ask(&mut self, question: &Value) -> io::Result<String> {
        self.to.write_all(format!("{question}\n").as_bytes())?;
        let mut told = String::new();
        self.from.read_line(&mut told)?;
        if told.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(told) }
    }
}

/// What of this `event`, `call` or `answer` is not as its schema has it; none: all is, or there are no schemas, which a test of
/// its own tells.
pub(super) fn mismatch(kind: &str, name: &str, value: &Value) -> Option<String> {
    let text = value.to_string();
    if text.len() > MOST {
        return None;
    }
    static READER: OnceLock<Option<io::Result<Mutex<Reader>>>> = OnceLock::new();
    let reader = READER.get_or_init(|| Some(start(std::env::var_os(FOLDER)?).map(Mutex::new))).as_ref()?;
    let told = match reader {
        Ok(reader) => reader
            .lock()
            .unwrap()
            .ask(&json!({ "kind": kind, "name": name, "value": value }))
            .map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match told.as_deref().map(str::trim_end) {
        Ok("ok") => None,
        Ok(told) => Some(format!("{kind} {name}: {told}: {text:.300}")),
        // A complaint, as this may be a thread whose panic goes unnoticed.
        Err(error) => Some(format!("node can't read the schemas in {FOLDER}: {error}")),
    }
}
