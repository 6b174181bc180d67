//! [`Page`]: a page of the manual, and what can be asked about it.

use std::path::{Path, PathBuf};

/// All pages.
pub const ALL: [&str; 6] = [
    "wqclient.8",
    "wqcontroller-api.7",
    "wqcontroller-onebot.7",
    "wqcontroller.8",
    "wqcontroller.toml.5",
    "wqctl.1",
];

/// Where a file of the project is.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the project.
pub fn source(path: &str) -> String {
    let path = project(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code of a source file without its tests.
pub fn code(path: &str) -> String {
    source(path).split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
}

/// The string literals of code.
pub fn literals(code: &str) -> Vec<&str> {
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

/// A page, in mdoc(7).
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

impl Page {
    pub fn read(name: &str) -> Self {
        let path = project("man").join(name);
        Self { text: source(&format!("man/{name}")), path }
    }

    /// What stands under a heading, up to the next one.
    pub fn section(&self, heading: &str) -> &str {
        let beginning = format!(".Sh {heading}\n");
        let rest = self.text.split_once(&beginning).unwrap_or_else(|| panic!("there is no {heading}")).1;
        rest.split("\n.Sh ").next().unwrap()
    }

    /// What each use of a macro is about, wherever in a line it stands: the words up to the next macro.
    pub fn macros(&self, name: &str) -> Vec<String> {
        macros(&self.text, name)
    }

    /// The whole text as a reader sees it, more or less: without macros, on one line.
    pub fn plain(&self) -> String {
        plain(&self.text)
    }
}

/// See [`Page::plain`].
pub fn plain(text: &str) -> String {
    let is_macro = |word: &&str| word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
    let lines = text.lines().map(|line| match line.strip_prefix('.') {
        Some(rest) => rest.split(' ').filter(|word| !is_macro(word)).collect::<Vec<_>>().join(" "),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join(" ").replace("\\(dq", "\"").replace("\\&", "").replace("\\ ", " ")
}

/// See [`Page::macros`]. What stands with commas between counts one by one.
pub fn macros(text: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix('.')) {
        let words: Vec<&str> = line.split(' ').collect();
        let is_macro = |word: &str| word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
        let mut at = 0;
        while at < words.len() {
            if words[at] != name {
                at += 1;
                continue;
            }
            let mut about = Vec::new();
            at += 1;
            // `Fl Fl flag` is one of its own.
            while at < words.len() && (!is_macro(words[at]) || (name == "Fl" && words[at] == "Fl")) {
                about.push(words[at]);
                at += 1;
            }
            let about = about.join(" ");
            found
                .extend(about.split(" , ").map(|one| one.trim_matches([' ', ',', ';', ':', '.']).to_owned()));
        }
    }
    found.retain(|about| about.len() > 1 || about.chars().all(char::is_alphanumeric));
    found
}
