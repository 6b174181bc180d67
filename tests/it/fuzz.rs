//! The inputs of the fuzz targets, one by one: what was found once is never found again, and the targets themselves
//! stay in order where there is no fuzzer.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

type Target = fn(&[u8]);

/// Every target, by its name.
const TARGETS: [(&str, Target); 6] = [
    ("answers", targets::answers),
    ("config", targets::config),
    ("headers", targets::headers),
    ("params", targets::params),
    ("registry_file", targets::registry_file),
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
fn every_input_of_the_corpora_is_borne() {
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
fn every_target_is_run_and_replayed() {
    let binaries: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(names("fuzz_targets"), binaries);
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
    }
}
