//! The layer rule: `use crate::` points up the list in src/lib.rs only.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of src/lib.rs.
fn layers() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let module = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    text.lines().filter_map(module).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every path that follows a `crate::`, as far as its second part; a list in braces counts as each of its items.
fn references(code: &str) -> Vec<String> {
    let code: String = code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
    let mut found = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let part_of_a_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !part_of_a_word {
            expand("", &code[at + word.len()..], &mut found);
        }
    }
    found.iter().map(|path| path.split("::").take(2).collect::<Vec<_>>().join("::")).collect()
}

/// Adds the path, or the list of paths, that `rest` begins with.
fn expand(prefix: &str, rest: &str, found: &mut Vec<String>) {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
    let path = format!("{prefix}{}", &rest[..end]);
    let Some(list) = rest[end..].strip_prefix('{') else {
        return found.push(path);
    };
    let mut depth = 0;
    let mut item = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !list[item..at].trim().is_empty() {
                    expand(&path, list[item..at].trim(), found);
                }
                item = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_import_points_up() {
    let layers = layers();
    assert!(layers.len() > 5, "src/lib.rs is not read right: {layers:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let own = first.strip_suffix(".rs").unwrap_or(first);
        if matches!(own, "lib" | "main" | "bin") {
            continue;
        }
        let place = |module: &str| layers.iter().position(|layer| layer == module);
        let own_place = place(own).unwrap_or_else(|| panic!("{} is not in src/lib.rs", inside.display()));
        for reference in references(&fs::read_to_string(&file).unwrap()) {
            let module = reference.split("::").next().unwrap();
            let up = place(module).is_some_and(|other| other <= own_place);
            let forbidden = own == "client"
                && (matches!(module, "registry" | "supervisor") || reference.starts_with("http::control"));
            if !up || forbidden {
                wrong.push(format!("{}: crate::{reference}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layer rule:\n{}", wrong.join("\n"));
}

#[test]
fn model_and_wire_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root.join("model"), &mut files);
    rust_files(&root.join("wire"), &mut files);
    for file in files {
        let code = fs::read_to_string(&file).unwrap();
        for word in
            ["tokio", "std::fs", "std::net", "std::process", "std::env", "Instant::now", "SystemTime::now"]
        {
            assert!(
                !code.lines().any(|line| line.split("//").next().unwrap().contains(word)),
                "{word} in {file:?}"
            );
        }
    }
}

/// The variables by which tests reach into the program are read in debug builds only; `make` looks into what it built.
#[test]
fn test_hooks_are_in_debug_builds_only() {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut hooks = 0;
    for file in files {
        let code = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = code.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.contains("WQCONTROLLER_TEST_")) {
            // The function that the line stands in begins at the margin, below its attributes.
            let is_margin = |line: &str| line.starts_with(|c: char| c.is_alphabetic());
            let begin = (0..at).rev().find(|at| is_margin(lines[*at])).unwrap();
            let attributes = lines[..begin].iter().rev().take_while(|line| line.starts_with("#["));
            assert!(
                attributes.into_iter().any(|line| *line == "#[cfg(debug_assertions)]"),
                "{}:{} is in a release as well",
                file.display(),
                at + 1
            );
            hooks += 1;
        }
    }
    assert!(hooks > 0, "no hook is found where there are some");
}

#[test]
fn the_rule_itself_sees_what_it_must() {
    let code = "use crate::http::{serve, control::{self, x}};\nuse crate::{model::name, registry};\n// crate::daemon\n\
                fn f(x: &crate::config::Settings) {} pub(crate) mod y; mycrate::z";
    let expected =
        ["http::serve", "http::control", "http::control", "model::name", "registry", "config::Settings"];
    assert_eq!(references(code), expected);
}

/// The modules of src/http, each above those that may import it.
const HTTP: [&str; 12] = [
    "timer",
    "log_limit",
    "body",
    "etag",
    "server",
    "request",
    "auth",
    "proxy",
    "metrics",
    "page",
    "v1",
    "control",
];

#[test]
fn http_modules_import_only_modules_above() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let place = |module: &str| HTTP.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let own = first.strip_suffix(".rs").unwrap_or(first);
        if own == "mod" {
            continue;
        }
        let own_place = place(own).unwrap_or_else(|| panic!("{own} is not listed here"));
        for reference in references(&fs::read_to_string(&file).unwrap()) {
            let Some(module) = reference.strip_prefix("http::") else { continue };
            if place(module).is_none_or(|other| other > own_place) {
                wrong.push(format!("{}: crate::{reference}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the order of src/http:\n{}", wrong.join("\n"));
}
