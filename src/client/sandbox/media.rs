//! [`MediaStore`]: images, sound and files of messages. Each is a file in a folder of the client, by the SHA-256 of its content, and is
//! served on the client's port.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use ring::digest::{SHA256, digest};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::blocking::BlockingTurns;
use crate::files::{open_regular, private_folder, replace};
use crate::http_client::client_builder;
use crate::locks::locked;

/// Below which path files are served.
pub(super) const PATH: &str = "/sandbox/file/";

/// The largest file, in bytes.
pub(super) const MAX_FILE: usize = 10 * 1024 * 1024;

/// The most files, and the most bytes of all of them. The oldest go.
const MAX_FILES: usize = 64;
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// How long a file from elsewhere may take.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// How many files are fetched, read or written at a time.
const TURNS: usize = 4;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptFile {
    /// The hash, with the ending of its type.
    pub(super) name: String,
    pub(super) size: u64,
    /// Where everybody on this machine gets it.
    pub(super) url: String,
    pub(super) path: PathBuf,
}

/// Which files there are, the oldest first, with their sizes.
#[derive(Default)]
struct Kept {
    /// Whether the folder was looked at, which an earlier run may have left.
    is_read: bool,
    files: Vec<(String, u64)>,
}

/// The files. Clones share them.
#[derive(Clone)]
pub(super) struct MediaStore {
    folder: Arc<Path>,
    port: u16,
    kept: Arc<Mutex<Kept>>,
    turns: BlockingTurns,
    fetches: Arc<tokio::sync::Semaphore>,
}

/// The types that are told apart: how a file begins, from which byte on, its ending and its type.
const TYPES: [(&[u8], usize, &str, &str); 14] = [
    (b"\x89PNG\r\n", 0, "png", "image/png"),
    (b"\xff\xd8\xff", 0, "jpg", "image/jpeg"),
    (b"GIF8", 0, "gif", "image/gif"),
    (b"WEBP", 8, "webp", "image/webp"),
    (b"BM", 0, "bmp", "image/bmp"),
    (b"#!AMR", 0, "amr", "audio/amr"),
    (b"#!SILK", 0, "silk", "audio/silk"),
    (b"#!SILK", 1, "silk", "audio/silk"),
    (b"WAVE", 8, "wav", "audio/wav"),
    (b"ID3", 0, "mp3", "audio/mpeg"),
    (b"\xff\xfb", 0, "mp3", "audio/mpeg"),
    (b"OggS", 0, "ogg", "audio/ogg"),
    (b"fLaC", 0, "flac", "audio/flac"),
    (b"ftyp", 4, "mp4", "video/mp4"),
];

fn ending(content: &[u8]) -> &'static str {
    let is_it = |(begin, at, ..): &&(&[u8], usize, &str, &str)| {
        content.get(*at..).is_some_and(|content| content.starts_with(begin))
    };
    TYPES.iter().find(is_it).map_or("bin", |(_, _, ending, _)| ending)
}

/// The type of a file with this name. What is not known is never shown as a page.
pub(super) fn type_of(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let found = TYPES.iter().find(|(_, _, known, _)| *known == ending);
    found.map_or("application/octet-stream", |(_, _, _, kind)| kind)
}

/// Whether a name is one that this store gives: nothing else of a path is ever opened.
fn is_name(name: &str) -> bool {
    let (hash, ending) = name.split_once('.').unwrap_or((name, "bin"));
    hash.len() == 64
        && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (ending == "bin" || TYPES.iter().any(|(_, _, known, _)| *known == ending))
}

impl MediaStore {
    /// The files in `folder`, which is made when there is one, served on this port.
    pub(super) fn new(folder: PathBuf, port: u16) -> Self {
        let (kept, turns) = (Arc::default(), BlockingTurns::new(TURNS));
        let fetches = Arc::new(tokio::sync::Semaphore::new(TURNS));
        Self { folder: folder.into(), port, kept, turns, fetches }
    }

    /// Takes a file as an application gives it: `base64://…`, `file://…`, `http(s)://…`, a path, or the name of one that is kept.
    ///
    /// # Errors
    /// It can't be had: why.
    pub(super) async fn take(&self, given: &str) -> Result<KeptFile, String> {
        let scheme = |scheme: &str| {
            let begin = given.get(..scheme.len())?;
            begin.eq_ignore_ascii_case(scheme).then(|| given[scheme.len()..].to_owned())
        };
        if let Some(text) = scheme("base64://") {
            if text.len() > MAX_FILE / 3 * 4 + 4 {
                return Err(too_large());
            }
            let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            return self.keep(BASE64.decode(text).map_err(|_| "it is no base64".to_owned())?).await;
        }
        if scheme("http://").is_some() || scheme("https://").is_some() {
            return self.keep(self.fetch(given).await?).await;
        }
        let path = match scheme("file://") {
            Some(path) => Some(percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned()),
            None => given.starts_with('/').then(|| given.to_owned()),
        };
        if let Some(path) = path {
            let read = self.turns.run(move || read_shared(Path::new(&path))).await;
            return self.keep(read.map_err(|error| error.to_string())??).await;
        }
        self.find(given).await.ok_or_else(|| "there is no such file".to_owned())
    }

    /// A file that is kept, by its name or its hash.
    pub(super) async fn find(&self, name: &str) -> Option<KeptFile> {
        if !is_name(name) {
            return None;
        }
        let (store, name) = (self.clone(), name.to_owned());
        let found = self.turns.run(move || {
            let kept = store.kept();
            let is_it = |(known, _): &&(String, u64)| {
                *known == name || known.split_once('.').is_some_and(|(hash, _)| hash == name)
            };
            kept.files.iter().find(is_it).cloned()
        });
        let (name, size) = found.await.ok()??;
        Some(self.kept_file(name, size))
    }

    /// The content of a file that is kept.
    pub(super) async fn read(&self, name: &str) -> Option<(KeptFile, Vec<u8>)> {
        let file = self.find(name).await?;
        let path = file.path.clone();
        let content = self.turns.run(move || std::fs::read(path)).await.ok()?.ok()?;
        Some((file, content))
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// It is empty or too large, or can't be written.
    pub(super) async fn keep(&self, content: Vec<u8>) -> Result<KeptFile, String> {
        if content.is_empty() {
            return Err("the file is empty".to_owned());
        }
        if content.len() > MAX_FILE {
            return Err(too_large());
        }
        let store = self.clone();
        let kept = self.turns.run(move || {
            let mut name = String::with_capacity(72);
            for byte in digest(&SHA256, &content).as_ref() {
                // Writing to a text does not fail.
                let _ = write!(name, "{byte:02x}");
            }
            name = format!("{name}.{}", ending(&content));
            let size = content.len() as u64;
            let mut kept = store.kept();
            let known = kept.files.iter().position(|(known, _)| *known == name);
            match known {
                // Used again: it is the newest.
                Some(at) if store.folder.join(&name).exists() => {
                    let file = kept.files.remove(at);
                    kept.files.push(file);
                }
                known => {
                    private_folder(&store.folder).map_err(|error| error.to_string())?;
                    replace(&store.folder.join(&name), &content, 0o600).map_err(|error| error.to_string())?;
                    if let Some(at) = known {
                        kept.files.remove(at);
                    }
                    kept.files.push((name.clone(), size));
                    store.make_room(&mut kept);
                }
            }
            Ok::<_, String>(store.kept_file(name, size))
        });
        kept.await.map_err(|error| error.to_string())?
    }

    /// Removes all files but those that `is_used` names.
    pub(super) async fn clean(&self, is_used: impl Fn(&str) -> bool + Send + 'static) {
        let store = self.clone();
        let cleaned = self.turns.run(move || {
            let mut kept = store.kept();
            kept.files.retain(|(name, _)| {
                let stays = is_used(name);
                if !stays {
                    let _ = std::fs::remove_file(store.folder.join(name));
                }
                stays
            });
        });
        // The runtime ends: then nobody needs it.
        let _ = cleaned.await;
    }

    fn kept_file(&self, name: String, size: u64) -> KeptFile {
        let url = format!("http://127.0.0.1:{}{PATH}{name}", self.port);
        KeptFile { path: self.folder.join(&name), name, size, url }
    }

    /// The list. To be called on a thread for blocking work: the first call reads the folder, and others wait while a file is written.
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        let mut kept = locked(&self.kept);
        if !kept.is_read {
            kept.is_read = true;
            let entries = std::fs::read_dir(&*self.folder).into_iter().flatten().flatten();
            let mut found: Vec<_> = entries
                .filter_map(|entry| {
                    let name = entry.file_name().into_string().ok().filter(|name| is_name(name))?;
                    let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                    Some((about.modified().ok(), name, about.len()))
                })
                .collect();
            found.sort();
            kept.files = found.into_iter().map(|(_, name, size)| (name, size)).collect();
            self.make_room(&mut kept);
        }
        kept
    }

    fn make_room(&self, kept: &mut Kept) {
        let mut bytes: u64 = kept.files.iter().map(|(_, size)| size).sum();
        while kept.files.len() > MAX_FILES || bytes > MAX_BYTES {
            let (name, size) = kept.files.remove(0);
            bytes -= size;
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        // The error of the client has the URL, and with it perhaps a token.
        let said = |error: reqwest::Error| format!("it can't be fetched: {}", error.without_url());
        // Never closed.
        let _turn = self.fetches.acquire().await.map_err(|error| error.to_string())?;
        let client = client_builder(url).timeout(FETCH_TIME).build().map_err(said)?;
        let mut answer = client.get(url).send().await.map_err(said)?;
        if !answer.status().is_success() {
            return Err(format!("it can't be fetched: the server answers {}", answer.status().as_u16()));
        }
        let mut content = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(said)? {
            content.extend_from_slice(&chunk);
            if content.len() > MAX_FILE {
                return Err(too_large());
            }
        }
        Ok(content)
    }
}

fn too_large() -> String {
    format!("the file is larger than {MAX_FILE} bytes")
}

/// Reads a file that everybody on this machine may read. No other: whoever may send messages could have a secret shown, such as one of
/// this client.
fn read_shared(path: &Path) -> Result<Vec<u8>, String> {
    let (file, about): (File, _) = open_regular(path).map_err(|error| error.to_string())?;
    // Files of the kernel, such as the environment of a process, have no length.
    if about.permissions().mode() & 0o004 == 0 || about.size() == 0 || path.starts_with("/proc") {
        return Err("not every user of this machine may read it, so that it is not sent".to_owned());
    }
    let mut content = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    Ok(content)
}

#[cfg(test)]
mod tests;
