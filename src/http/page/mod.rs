//! The page: files that are part of the executable. What it shows and does goes through the API below `/v1`, so the files
//! themselves are for everyone who may ask for this host.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, Method, Response, StatusCode};

use crate::http::body::{self, Body};
use crate::http::etag;

/// Nothing from elsewhere, no script that is not a file of ours, and no page of others around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// A page of others that opened this one gets no hold of it (HTML Standard, 7.1.3).
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Where the files of the page are.
const ROOT: &str = "/page/";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The files, by name.
        const FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!($name))),*];
    };
}

files![
    "account.js",
    "actions.js",
    "add.js",
    "api.js",
    "app.js",
    "badge.js",
    "chat.css",
    "chat.js",
    "chat_composer.js",
    "chat_message.js",
    "chat_model.js",
    "code.js",
    "code_panel.js",
    "dom.js",
    "facts.js",
    "formats.js",
    "frames_panel.js",
    "icon.svg",
    "index.html",
    "list.js",
    "log.js",
    "scan.html",
    "scan.js",
    "signin.js",
    "state.js",
    "store.js",
    "stream.js",
    "style.css",
    "texts.js",
    "texts_chat.js",
];

/// Whether a path is of the page.
pub fn is_own(path: &str) -> bool {
    path == "/" || path.starts_with(ROOT)
}

/// A file of the page.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = body::empty(StatusCode::METHOD_NOT_ALLOWED);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let name = if path == "/" { "index.html" } else { path.strip_prefix(ROOT).unwrap_or_default() };
    match FILES.iter().position(|(known, _)| *known == name) {
        Some(at) => file(at, headers),
        None => body::empty(StatusCode::NOT_FOUND),
    }
}

/// The page of a link for scanning.
pub fn scan_page(headers: &HeaderMap) -> Response<Body> {
    answer(&Method::GET, "/page/scan.html", headers)
}

fn file(at: usize, headers: &HeaderMap) -> Response<Body> {
    static TAGS: OnceLock<Vec<HeaderValue>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| FILES.iter().map(|(_, content)| etag::of(content)).collect());
    let (name, content) = FILES[at];
    let tag = &tags[at];
    let mut response = match etag::is_known(headers, tag) {
        true => body::empty(StatusCode::NOT_MODIFIED),
        false => Response::new(body::whole_body(Bytes::from_static(content))),
    };
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    answer.insert(ETAG, tag.clone());
    // An upgrade brings other files under the same names.
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer.insert(CONTENT_SECURITY_POLICY, POLICY);
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page");
        let names =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".rs")).collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(names.iter().all(|name| content_type(name) != "application/octet-stream"));
    }

    #[test]
    fn files_are_found_by_their_paths_and_never_framed() {
        let get = |path: &str| answer(&Method::GET, path, &HeaderMap::new());
        for path in ["/", "/page/app.js", "/page/scan.html"] {
            let found = get(path);
            assert_eq!(
                (found.status(), found.headers()[X_FRAME_OPTIONS].to_str().unwrap()),
                (StatusCode::OK, "DENY")
            );
        }
        for path in ["/page/", "/page/../app.js", "/page/mod.rs", "/page"] {
            assert_eq!(get(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(answer(&Method::POST, "/", &HeaderMap::new()).status(), StatusCode::METHOD_NOT_ALLOWED);
        let tag = get("/page/app.js").headers()[ETAG].clone();
        let known = [(http::header::IF_NONE_MATCH, tag)].into_iter().collect();
        assert_eq!(answer(&Method::GET, "/page/app.js", &known).status(), StatusCode::NOT_MODIFIED);
    }

    /// The page itself stops at a text that it does not have, but only where that text is used.
    #[test]
    fn every_text_that_a_script_names_is_there() {
        let text = |name: &str| {
            let (_, content) = FILES.iter().find(|(known, _)| *known == name).unwrap();
            std::str::from_utf8(content).unwrap()
        };
        let texts = [text("texts.js"), text("texts_chat.js")].concat();
        let mut count = 0;
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            for (at, _) in text(name).match_indices("t(\"") {
                let code = text(name);
                let is_call = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
                let key = code[at + 3..].split('"').next().unwrap();
                if is_call {
                    count += 1;
                    let is_there = [format!("{key}:"), format!("\"{key}\":")]
                        .iter()
                        .any(|key| texts.contains(key.as_str()));
                    assert!(is_there, "{name}: {key}");
                }
            }
        }
        assert!(count > 50, "{count}");
    }
}
