//! The inputs of the fuzz targets, one by one: what was found once is never found again, and the targets themselves
//! stay in order where there is no fuzzer.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

type Target = fn(&[u8]);

/// Every target, by its name.
const TARGETS: [(&str, Target); 10] = [
    ("answers", targets::answers),
    ("config", targets::config),
    ("cq_codes", targets::cq_codes),
    ("forms", targets::forms),
    ("frames", targets::frames),
    ("headers", targets::headers),
    ("params", targets::params),
    ("registry_file", targets::registry_file),
    ("requests", targets::requests),
    ("state_file", targets::state_file),
];

/// The names in a folder below `fuzz/`, in order.
fn names(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn corpus_inputs_pass_their_targets() {
    assert_eq!(names("corpus"), TARGETS.map(|(name, _)| name));
    for (name, target) in TARGETS {
        let inputs = names(&format!("corpus/{name}"));
        assert!(inputs.len() >= 10, "{name} has hardly any input");
        for input in inputs {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name).join(&input);
            let content = fs::read(path).unwrap();
            let borne = std::panic::catch_unwind(|| target(&content));
            assert!(borne.is_ok(), "{name} does not bear {input}");
        }
    }
}

#[test]
fn every_fuzz_target_is_replayed() {
    let binaries: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names("fuzz_targets"), binaries);
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
    }
}

/// What requests are made of, clean and not.
const PIECES: [&[u8]; 40] = [
    b"GET /x HTTP/1.1\r\n",
    b"GET /\"<>`\xc4\xe3?\"\xff HTTP/1.1\r\n",
    b"POST /\" HTTP/1.1\r\n",
    b"POST /x HTTP/1.0\r\n",
    b"GET /\xe5\xb0\x8f#\" HTTP/1.1\n",
    b"CONNECT x:1 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"GET /",
    b"GET ",
    b" HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 19\r\n",
    b"Content-Length: 19\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: \"\xff\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b"\"",
    b"hello",
    b"5\r\nhello\r\n",
    b"13\r\nGET /\" HTTP/1.1\r\n\r\n\r\n",
    b"13;a=\"b\"\r\nGET /\" HTTP/1.1\r\n\r\n\r\n",
    b"1 \r\nx\r\n",
    b"0\r\n\r\n",
    b"0\r\n\r\n",
    b"0\r\nA: \"\r\n\r\n",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(CASES))]

    /// No two readers take what comes in for different requests, however it is put together and cut.
    #[test]
    fn request_reader_matches_hyper(pieces in proptest::collection::vec(0..PIECES.len(), 1..24)) {
        let text: Vec<u8> = pieces.into_iter().flat_map(|piece| PIECES[piece]).copied().collect();
        targets::requests(&text);
    }
}

/// How many requests are tried.
const CASES: u32 = 300;
